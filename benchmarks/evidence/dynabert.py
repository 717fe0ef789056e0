"""Training an arm: all sizes together, in the stages that the arm names."""

import copy
import hashlib
import json
from dataclasses import fields

import numpy as np
import torch

from dynabert_hf import (
    DynaBertForSequenceClassification,
    DynaBertTrainer,
    DynaBertTrainingArguments,
    SubNetwork,
    rewire,
)

from .beyond import BeyondArguments, BeyondTrainer
from .scoring import CpuClock, score
from .teacher import (
    DROPOUTS,
    collator,
    data_of,
    elastic_of,
    importance_of,
    measure_on,
    teacher_of,
    validation_of,
)

BEYOND = {field.name for field in fields(BeyondArguments)} - {field.name for field in fields(DynaBertTrainingArguments)}

NUM_LAYER_SENTENCES = 512


def train_arm(study, job):
    """Train an arm in all its stages and score it on validation; stages that arms have in common are trained once."""
    arm = study.arm(job.name)
    data = data_of(study, job)
    teacher, _ = teacher_of(study, job)
    config = {name: arm["dropout"] for name in DROPOUTS if "dropout" in arm}
    if arm.get("kept_layers") == "measured":
        arm["kept_layers"] = least_missed_layers(teacher, data["train"])
    if "kept_layers" in arm:
        config["kept_layers"] = arm["kept_layers"]
    importance = importance_of(study, job, teacher) if arm.get("rewire", True) else None
    elastic = elastic_of(teacher, importance, **config)
    history = [
        job.num_train,
        job.seed,
        arm.get("rewire", True),
        arm.get("dropout"),
        *arm.get("kept_layers", {}).items(),
    ]
    cpu_seconds, steps, width_result = {}, {}, teacher
    if arm.get("arguments", {}).get("attention_weight"):
        elastic.set_attn_implementation("eager")
        width_result = copy.deepcopy(elastic)  # the teacher, its heads in the student's order
    for own in arm["stages"]:
        epochs = {"num_train_epochs": study.settings["epochs"][job.num_train]}
        settings = {**arm.get("arguments", {}), "stage": own["stage"], **epochs, **own}
        history.append(settings)
        folder = study.models / "stages" / hashlib.sha256(json.dumps(history).encode()).hexdigest()[:16]
        with study.lock(folder.name, wait=True):
            if not (folder / "cost.json").exists():
                source = None if own["stage"] == "finetune" else width_result
                training = {name: value for name, value in settings.items() if name != "rewire_again"}
                if settings.get("rewire_again"):
                    again = measure_on(data["train"], elastic)
                    rewire(elastic, again)
                    rewire(source, again)  # the narrowed teacher of stage depth, still in the student's order
                cost = _train_stage(elastic, source, training, folder, data["train"], job.seed)
                (folder / "cost.json").write_text(json.dumps(cost))
        cost = json.loads((folder / "cost.json").read_text())
        cpu_seconds[own["stage"]], steps[own["stage"]] = cost["cpu_seconds"], cost["steps"]
        elastic = DynaBertForSequenceClassification.from_pretrained(folder / "model")
        if own["stage"] == "width":
            width_result = copy.deepcopy(elastic)
    sizes = [size for size in elastic.config.subnetworks if str(size) in study.settings["validation_sizes"]]
    return {
        "arm": arm,
        "cpu_seconds": cpu_seconds,
        "steps": steps,
        "model": str(folder.relative_to(study.models) / "model"),
        "validation": validation_of(study, job, elastic, sizes),
    }


def least_missed_layers(teacher, split):
    """For each depth the layers to keep: those left when the least missed goes first, one after the other.

    What is missed least is the layer without which the fine-tuned model has the lowest loss on the sentences.
    """
    elastic = elastic_of(teacher)
    split = split.select(range(min(NUM_LAYER_SENTENCES, len(split))))
    kept, by_depth = elastic.config.resolve(SubNetwork()), {}
    counts = {len(elastic.config.resolve(SubNetwork(depth=depth))): depth for depth in elastic.config.depths}
    while len(kept) > min(counts):
        rests = [tuple(layer for layer in kept if layer != left_out) for left_out in kept]
        losses = [score(elastic, split, collator(), [rest])[str(rest)]["loss"] for rest in rests]
        kept = rests[int(np.argmin(losses))]
        if len(kept) in counts:
            by_depth[f"{counts[len(kept)]:g}"] = [layer.index for layer in kept]
    return by_depth


def _train_stage(elastic, teacher, settings, folder, split, seed):
    """One stage, in place and saved; what it cost."""
    is_beyond = bool(BEYOND & settings.keys())
    arguments_class, trainer_class = (
        (BeyondArguments, BeyondTrainer) if is_beyond else (DynaBertTrainingArguments, DynaBertTrainer)
    )
    args = arguments_class(
        output_dir=str(folder / "training"),
        warmup_steps=0.1,
        train_sampling_strategy="group_by_length",
        logging_steps=25,
        save_strategy="no",
        report_to="none",
        dataloader_pin_memory=torch.accelerator.is_available(),
        seed=seed,
        **settings,
    )
    train = split.remove_columns("index")
    trainer = trainer_class(elastic, teacher, args, train_dataset=train, data_collator=collator())
    with CpuClock() as clock:
        trainer.train()
    elastic.save_pretrained(folder / "model")
    return {"cpu_seconds": clock.seconds, "steps": trainer.state.global_step, "log": trainer.state.log_history}
