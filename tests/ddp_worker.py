"""Trains a few steps in every stage and saves the weights; run alone, and by `accelerate launch` with two processes."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_model
from safetensors.torch import save_file
from test_trainer import make_dataset
from torch.nn.parallel import DistributedDataParallel

from dynabert_hf import DynaBertTrainer, DynaBertTrainingArguments

CASES = [(stage, steps) for stage in ("width", "depth", "finetune") for steps in (1, 2)]


def train(folder, stage, accumulation, *, num_processes, reverse=False):
    model = make_model()
    teacher = None if stage == "finetune" else copy.deepcopy(model)
    args = DynaBertTrainingArguments(
        folder,
        stage=stage,
        optim="sgd",
        learning_rate=0.05,
        lr_scheduler_type="constant",
        max_steps=3,
        per_device_train_batch_size=8 // num_processes // accumulation,
        gradient_accumulation_steps=accumulation,
        gradient_checkpointing=accumulation == 2,
        train_sampling_strategy="sequential",
        ddp_find_unused_parameters=False,
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
    )
    trainer = DynaBertTrainer(model, teacher, args, train_dataset=make_dataset(24))
    if reverse:
        trainer.plan = tuple(reversed(trainer.plan))
    trainer.train()
    if num_processes > 1:
        assert isinstance(trainer.model_wrapped, DistributedDataParallel)
    return model


def main(folder, num_processes):
    for stage, accumulation in CASES:
        model = train(folder, stage, accumulation, num_processes=num_processes)
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            save_file(model.state_dict(), Path(folder) / f"{stage}-{accumulation}-{num_processes}.safetensors")
    if num_processes > 1:
        assert torch.distributed.get_world_size() == num_processes
        with pytest.raises(RuntimeError, match="finished reduction"):
            train(folder, "depth", 1, num_processes=num_processes, reverse=True)
        print("reversed order failed")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
