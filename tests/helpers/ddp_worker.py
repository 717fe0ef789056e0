"""Trains on one process and on two, and saves gradients and weights."""

import copy
import shutil

import pytest
import torch
from accelerate import PartialState
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoTokenizer

from dynabert_hf import DynaBertTrainer, DynaBertTrainingArguments, specialise, train_dynabert
from dynabert_hf.training.arguments import RECOMPUTE
from helpers.recipes import GRID, make_teacher
from helpers.sentences import WORDS, make_pairs, make_texts, save_encoder
from helpers.tiny import make_small, make_tokenizer
from helpers.trainers import FirstGradients, make_dataset

CASES = [("width", 1, False), ("depth", 1, False), ("depth", 1, True), ("depth", 2, True), ("finetune", 2, False)]
"""Stage, steps of accumulation, activation checkpointing."""
STEPS = 3


def case_name(stage, accumulation, checkpointing):
    return f"{stage}-{accumulation}-{'recomputed' if checkpointing else 'kept'}"


def make_trainer(
    folder, stage, accumulation, checkpointing, *, num_processes, trainer_class=DynaBertTrainer, **arguments
):
    """For three steps of sixteen sentences of ragged lengths."""
    model = make_small()
    teacher = None if stage == "finetune" else copy.deepcopy(model)
    settings = {
        "stage": stage,
        "optim": "sgd",
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "max_steps": STEPS,
        "per_device_train_batch_size": 16 // num_processes // accumulation,
        "gradient_accumulation_steps": accumulation,
        RECOMPUTE: checkpointing,
        "train_sampling_strategy": "random",
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
    }
    args = DynaBertTrainingArguments(folder, **{**settings, **arguments})
    return trainer_class(model, teacher, args, train_dataset=make_dataset(48))


def train(folder, stage, accumulation, checkpointing, *, num_processes, reverse=False):
    """Weights at the end, and the gradients of the first step."""
    trainer = make_trainer(
        folder, stage, accumulation, checkpointing, num_processes=num_processes, ddp_find_unused_parameters=False
    )
    first = FirstGradients()
    trainer.add_callback(first)
    if reverse:
        trainer.plan = tuple(reversed(trainer.plan))
    trainer.train()
    if num_processes > 1:
        assert isinstance(trainer.model_wrapped, DistributedDataParallel)
    if trainer.teacher is not None:
        assert isinstance(trainer.teacher, type(trainer.model))  # replicated: not wrapped, not sharded
        assert not trainer.teacher.training
        assert all(parameter.grad is None for parameter in trainer.teacher.parameters())
    return {f"weight of {name}": weight for name, weight in trainer.model.state_dict().items()} | {
        f"gradient of {name}": gradient for name, gradient in first.gradients.items()
    }


def run_recipe(folder, *, num_processes):
    """Three stages with the recipe's defaults, three steps each, sizes drawn at random."""
    return train_dynabert(
        make_teacher(num_labels=3),
        train_dataset=make_dataset(24),
        eval_dataset=make_dataset(8),
        **GRID,
        stages=("width", "depth"),
        dropout=None,
        finetune=True,
        keep_stages=True,
        output_dir=folder,
        strategy="sandwich",
        num_random_subnetworks=1,
        num_train_epochs=1,
        optim="sgd",
        learning_rate=0.05,
        per_device_train_batch_size=8 // num_processes,
        per_device_eval_batch_size=4,
        use_cpu=True,
        disable_tqdm=True,
    )


def run_encoder(folder, *, num_processes):
    """A sentence encoder, and one size alone; similarities are those within the batch of a process, and left out."""
    encoder = folder / f"encoder-{num_processes}"
    with PartialState().main_process_first():
        if not encoder.exists():
            save_encoder(encoder)
    settings = {
        "similarity_weight": 0.0,
        "max_steps": 2,
        "optim": "sgd",
        "learning_rate": 0.05,
        "per_device_train_batch_size": 8 // num_processes,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    result = train_dynabert(
        str(encoder),
        train_dataset=make_texts(18),
        eval_dataset=make_pairs(7),
        widths=(0.5, 1.0),
        depths=(0.5, 1.0),
        output_dir=folder / f"sizes-{num_processes}",
        per_device_eval_batch_size=4,
        **settings,
    )
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    small = specialise(
        result.model, "w0.5-d0.5", train_dataset=make_texts(18), processing_class=tokenizer, warmup_steps=0, **settings
    )
    if PartialState().is_main_process:
        small.save_pretrained(folder / f"small-{num_processes}")


def run_by_length(folder, *, num_processes):
    """One size alone, on rows of several lengths, which by default are grouped by them."""
    rows = [{"input_ids": row["input_ids"][: sum(row["attention_mask"])]} for row in make_dataset(48)]
    settings = {"num_train_epochs": 1, "optim": "sgd", "learning_rate": 0.05, "warmup_steps": 0}
    settings |= {"per_device_train_batch_size": 8 // num_processes, "use_cpu": True, "disable_tqdm": True}
    tokenizer = make_tokenizer(WORDS)
    small = specialise(make_small(), "w0.5-d0.5", train_dataset=rows, processing_class=tokenizer, **settings)
    if PartialState().is_main_process:
        small.save_pretrained(folder / f"by-length-{num_processes}")


def resume(folder, *, num_processes):
    """Three steps, then the third again after a stop: with dropout on as many processes, without on those after one.

    The second process has an output folder without checkpoints, as a shared disk may show it for a while.
    """
    for dropout, before in ((0.1, num_processes), (0.0, 1)):
        whole, resumed = (
            make_trainer(
                folder / f"steps-{number}-{dropout}",
                *CASES[1],
                num_processes=num_processes,
                save_strategy="steps",
                save_steps=2,
            )
            for number in (num_processes, before)
        )
        for module in (*whole.model.modules(), *resumed.model.modules()):
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
        whole.train()
        PartialState().wait_for_everyone()
        if PartialState().is_main_process:
            shutil.rmtree(f"{resumed.args.output_dir}/checkpoint-{STEPS}")
        else:
            resumed.args.output_dir = f"{folder}/nothing"
        PartialState().wait_for_everyone()
        resumed.train(resume_from_checkpoint=True)
        if PartialState().is_main_process:
            for name, trainer in (("whole", whole), ("resumed", resumed)):
                save_file(trainer.model.state_dict(), folder / f"{name}-{num_processes}-{dropout}.safetensors")


def main(folder, num_processes):
    for case in CASES:
        tensors = train(folder, *case, num_processes=num_processes)
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            save_file(tensors, folder / f"{case_name(*case)}-{num_processes}.safetensors")
    run_recipe(folder / f"recipe-{num_processes}", num_processes=num_processes)
    run_encoder(folder, num_processes=num_processes)
    run_by_length(folder, num_processes=num_processes)
    resume(folder, num_processes=num_processes)
    if num_processes > 1:
        assert torch.distributed.get_world_size() == num_processes
        assert torch.distributed.get_backend() == "gloo"
        with pytest.raises(RuntimeError, match="finished reduction"):
            train(folder, "depth", 1, False, num_processes=num_processes, reverse=True)
        print("reversed order failed")
        with pytest.raises(OSError, match="is another folder for process") as caught:
            run_recipe(folder / f"own-{PartialState().process_index}", num_processes=num_processes)
        print(caught.value)
