"""The fine-tuned teacher of a training part, its importance, and what it says about every training sentence."""

import json
from functools import cache

import embedded
import numpy as np
import quickstart
import torch
from torch.utils.data import DataLoader
from transformers import BertForSequenceClassification, DataCollatorWithPadding, set_seed

from dynabert_hf import DynaBertForSequenceClassification, measure_importance, rewire
from dynabert_hf.training.rewiring import Importance

from .data import load, tokenizer
from .jobs import ALL, Job
from .scoring import CpuClock, score

NUM_IMPORTANCE = 1024
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


def collator():
    return DataCollatorWithPadding(tokenizer())


def data_of(study, job):
    """The splits that a job uses."""
    settings = study.settings
    return load(job.num_train, job.seed if job.num_train != ALL else 0, settings["num_validation"])


def teacher_of(study, job):
    """The fine-tuned model of the job's training part and seed, trained as the demo does, and its CPU seconds."""
    folder = study.models / f"teacher-{job.num_train}-{job.seed}"
    with study.lock(folder.name, wait=True):
        if not (folder / "cpu.json").exists():
            data = data_of(study, job).remove_columns("index")
            set_seed(job.seed)
            with CpuClock() as clock:
                quickstart.fine_tune(
                    embedded.model_folder(),
                    data,
                    tokenizer(),
                    {"folder": folder, "teacher": study.settings["teacher"]},
                    job.seed,
                )
            (folder / "cpu.json").write_text(json.dumps(clock.seconds))
    model = BertForSequenceClassification.from_pretrained(folder / "teacher").eval()
    return model, json.loads((folder / "cpu.json").read_text())


def train_teacher(study, job):
    """Make the teacher of a training part and seed, and score it on validation."""
    teacher, seconds = teacher_of(study, job)
    return {
        "model": f"teacher-{job.num_train}-{job.seed}/teacher",
        "cpu_seconds": {"training": seconds},
        "validation": validation_of(study, job, teacher),
    }


def validation_of(study, job, model, sizes=None):
    """Scores on the validation part; none of what was trained on all of the data, of which it is a part."""
    return {} if job.num_train == ALL else score(model, data_of(study, job)["validation"], collator(), sizes)


def importance_of(study, job, teacher):
    """Importance of the teacher's heads and neurons, measured once on training sentences."""
    path = study.models / f"teacher-{job.num_train}-{job.seed}" / "importance.safetensors"
    with study.lock(f"importance-{job.num_train}-{job.seed}", wait=True):
        if not path.exists():
            measure_on(data_of(study, job)["train"], teacher).save(path)
    return Importance.load(path)


def measure_on(split, model):
    """Importance of a model's heads and neurons on the first sentences of a split."""
    split = split.remove_columns("index").select(range(min(NUM_IMPORTANCE, len(split))))
    return measure_importance(model, DataLoader(split, batch_size=32, collate_fn=collator()), progress=False)


def elastic_of(teacher, importance=None, **config):
    """An elastic copy of the teacher, rewired where an importance is given."""
    model = DynaBertForSequenceClassification.from_backbone(teacher, **config)
    return model if importance is None else rewire(model, importance)


class TeacherOutputs:
    """Logits and hidden states of the teacher for every training sentence, computed once.

    Args:
        teacher: The fine-tuned model.
        split: The training sentences.
    """

    def __init__(self, teacher, split):
        self.logits = torch.zeros(len(split), teacher.config.num_labels)
        self.states = [None] * len(split)
        lengths = [len(ids) for ids in split["input_ids"]]
        order = np.argsort(lengths, kind="stable")
        for start in range(0, len(order), 128):
            rows = order[start : start + 128]
            batch = collator()([split[int(row)] for row in rows])
            with torch.no_grad():
                output = teacher(batch["input_ids"], batch["attention_mask"], output_hidden_states=True)
            self.logits[rows] = output.logits
            states = torch.stack(output.hidden_states, 1).half()
            for row, state in zip(rows, states, strict=True):
                self.states[row] = state[:, : lengths[row]].clone()

    def of(self, rows, layers):
        """Logits `(batch, labels)` and the hidden states of some layers, each `(batch, seq, hidden)`, padded with 0."""
        states = [self.states[row].transpose(0, 1) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True).float()
        return self.logits[rows], [padded[:, :, layer] for layer in layers]


@cache
def outputs_of(study, job_key):
    """Cached per process: what the teacher of `(num_train, seed)` says."""
    num_train, seed = job_key
    job = Job("teacher", num_train, seed)
    teacher, _ = teacher_of(study, job)
    return TeacherOutputs(teacher, data_of(study, job)["train"])
