"""Trainers of tiny models, and their data."""

import copy
from functools import cache

import torch
from datasets import Dataset
from transformers import TrainerCallback

from dynabert_hf import DynaBertTrainer, DynaBertTrainingArguments
from helpers.tiny import make_small

TRAINER_ARGUMENTS = (
    "compute_metrics",
    "callbacks",
    "train_dataset",
    "eval_dataset",
    "data_collator",
    "processing_class",
    "compute_loss_func",
    "optimizers",
)


class FirstGradients(TrainerCallback):
    """Keeps copies of the gradients of the first optimiser step."""

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        if state.global_step == 0:
            self.gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


class LastGradients(TrainerCallback):
    """Keeps copies of the gradients of the last optimiser step, after a scaler has taken its scale out."""

    def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
        self.gradients = {name: parameter.grad.cpu().clone() for name, parameter in model.named_parameters()}


class StopAt(TrainerCallback):
    """Interrupts training after a step, as somebody does at the keyboard."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@cache
def make_dataset(size=8):
    generator = torch.Generator().manual_seed(0)
    lengths = [3 + row % 4 for row in range(size)]
    return Dataset.from_dict(
        {
            "input_ids": [torch.randint(5, 99, (7,), generator=generator).tolist() for _ in lengths],
            "attention_mask": [[1] * length + [0] * (7 - length) for length in lengths],
            "labels": [row % 3 for row in range(size)],
        }
    )


def make_trainer(tmp_path, stage="depth", model=None, teacher="copy", **kwargs):
    model = model or make_small()
    if teacher == "copy":
        teacher = None if stage == "finetune" else copy.deepcopy(model)
    trainer_kwargs = {name: kwargs.pop(name) for name in TRAINER_ARGUMENTS if name in kwargs}
    settings = {
        "max_steps": 2,
        "disable_tqdm": True,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
    }
    args = DynaBertTrainingArguments(tmp_path, stage=stage, **{**settings, **kwargs})
    return DynaBertTrainer(
        model, teacher, args, **{"train_dataset": make_dataset(), "eval_dataset": make_dataset(), **trainer_kwargs}
    )


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}
