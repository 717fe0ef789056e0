"""Learns fresh views from a larger teacher, on one process or on two, and saves weights and projections."""

import sys
from pathlib import Path

from safetensors.torch import save_file

from dynabert_hf import DynaBertTrainer, DynaBertTrainingArguments
from helpers.backbones import make_stock
from helpers.tiny import make_model, make_tokenizer
from helpers.trainers import make_dataset

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def main(folder, num_processes):
    args = DynaBertTrainingArguments(
        folder,
        stage="depth",
        teacher_width="full",
        views=["mask", "delete", "swap", "splice"],
        view_probability=0.9,
        optim="sgd",
        learning_rate=0.05,
        max_steps=4,
        per_device_train_batch_size=16 // num_processes,
        train_sampling_strategy="random",
        use_cpu=True,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
    )
    trainer = DynaBertTrainer(
        make_model(widths=[0.5, 1.0], depths=[0.5, 1.0]),
        make_stock("Bert", hidden_size=48, num_hidden_layers=9, intermediate_size=64),
        args,
        train_dataset=make_dataset(48),
        processing_class=make_tokenizer([*SPECIAL, *(f"w{number}" for number in range(5, 99))]),
    )
    trainer.train()
    if trainer.is_world_process_zero():
        projections = {f"to teacher: {name}": value for name, value in trainer._projections.state_dict().items()}
        weights = {**trainer.model.state_dict(), **projections}
        save_file(
            {name: value.clone() for name, value in weights.items()}, Path(folder) / f"{num_processes}.safetensors"
        )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
