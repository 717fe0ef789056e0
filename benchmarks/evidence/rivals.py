"""Separately compressed models of the same size: what DynaBERT has to beat.

Those with `"start": "teacher"` are cut from the rewired teacher and trained alone, on labels or by the teacher. Those
with `"start": "pre-trained"` are the usual practice, the first layers of the pre-trained model fine-tuned on labels: as
many whole layers as the size has floating-point operations, rounded up.
"""

import math

import embedded
import torch
from transformers import BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from dynabert_hf import DynaBertForSequenceClassification, LayerShape, SubNetwork
from dynabert_hf.training.distillation import logit_loss, match_hidden_states

from .beyond import HIDDEN_LOSSES
from .jobs import Job
from .scoring import CpuClock
from .teacher import DROPOUTS, collator, data_of, elastic_of, importance_of, outputs_of, teacher_of, validation_of


class DistilledAlone(Trainer):
    """Trains one small model from the outputs of the teacher, with the losses of the recipe.

    Args:
        outputs: `TeacherOutputs` of the training sentences.
        layers: The teacher's hidden states to compare with.
        kind: Settings of the rival: `hidden_weight`, `hidden_form` and `label_weight` as in `BeyondArguments`.
    """

    def __init__(self, *args, outputs, layers, kind, **kwargs):
        super().__init__(*args, **kwargs)
        self.outputs, self.layers, self.kind = outputs, layers, kind

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        rows = inputs.pop("index").tolist()
        logits, states = self.outputs.of(rows, self.layers)
        student = model(**inputs, output_hidden_states=True)
        hidden_loss = HIDDEN_LOSSES[self.kind.get("hidden_form", "sum")]
        hidden = hidden_loss(student.hidden_states, states, inputs["attention_mask"])
        loss = logit_loss(student.logits, logits) + self.kind["hidden_weight"] * hidden
        return loss + self.kind.get("label_weight", 0.0) * student.loss


def untrained(study, job, kind, size):
    """The small model before training."""
    if kind["start"] == "pre-trained":
        backbone = BertForSequenceClassification.from_pretrained(embedded.model_folder(), num_labels=2)
        model = DynaBertForSequenceClassification.from_backbone(backbone)
        config = model.config
        shape = (config.num_attention_heads, config.intermediate_size)
        count = math.ceil(size.width * size.depth * config.num_hidden_layers)
        return model.extract([LayerShape(index, *shape) for index in range(count)])
    teacher, _ = teacher_of(study, job)
    dropout = {name: kind["dropout"] for name in DROPOUTS if "dropout" in kind}
    return elastic_of(teacher, importance_of(study, job, teacher), **dropout).extract(size)


def train_rival(study, job):
    """Train the rival that a job names, `kind/size/learning rate` or with `/equal-cpu`, and score it on validation."""
    kind_name, size, rate, *budget = job.name.split("/")
    size = SubNetwork.parse(size)
    settings = study.settings["rivals"]
    kind = settings["kinds"][kind_name]
    data = data_of(study, job)
    set_seed(job.seed)
    model = untrained(study, job, kind, size)
    steps = {"num_train_epochs": study.settings["epochs"][job.num_train], **settings.get("limits", {})}
    if budget:
        steps = {"max_steps": _affordable_steps(study, job)}
    folder = study.models / job.file_name.removesuffix(".json")
    args = TrainingArguments(
        folder / "training",
        **steps,
        learning_rate=float(rate),
        per_device_train_batch_size=32,
        warmup_steps=0.1,
        train_sampling_strategy="group_by_length",
        save_strategy="no",
        report_to="none",
        logging_steps=50,
        dataloader_pin_memory=torch.accelerator.is_available(),
        remove_unused_columns=not kind["distilled"],
        seed=job.seed,
    )
    common = {"train_dataset": data["train"], "data_collator": collator()}
    if kind["distilled"]:
        kept = [layer.index for layer in model.config.stored_layers]
        trainer = DistilledAlone(
            model,
            args,
            outputs=outputs_of(study, (job.num_train, job.seed)),
            layers=match_hidden_states(kept, num_layers=model.config.num_hidden_layers),
            kind=kind,
            **common,
        )
    else:
        trainer = Trainer(model, args, **common)
    with CpuClock() as clock:
        trainer.train()
    model.save_pretrained(folder / "model")
    return {
        "kind": kind_name,
        "size": str(size),
        "learning_rate": float(rate),
        "steps": trainer.state.global_step,
        "cpu_seconds": {"training": clock.seconds},
        "model": str((folder / "model").relative_to(study.models)),
        "validation": validation_of(study, job, model),
    }


def _affordable_steps(study, job):
    """Steps that cost a twelfth of the DynaBERT run, by the cost of a step of the same rival.

    That is the lowest that was measured with any learning rate: a busy machine must not cost the rival steps.
    """
    arm = study.settings["rivals"]["equal_cpu_of"]
    run = study.result(Job(arm, job.num_train, job.seed)) or study.result(Job(arm, job.num_train, 0))
    kind, size, *_ = job.name.split("/")
    alike = [study.result(Job(name, job.num_train, job.seed)) for name in study.rivals(job.num_train, kind, size)]
    costs = [result["cpu_seconds"]["training"] / result["steps"] for result in alike if result]
    if run is None or not costs:
        raise ValueError(f"{job} needs the results of {arm} and of the same rival at equal epochs. Queue them before.")
    share = sum(run["cpu_seconds"].values()) / 12
    return max(1, round(share / min(costs)))
