"""The command `augment`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import AutoModelForMaskedLM, AutoTokenizer

from ..data.augmentation import WordReplacement
from ..data.augmented_files import augment_file, check_output, rows_to_augment
from ..data.labelled_text import usual_texts
from ..data.word_vectors import WordVectors
from .inputs import config_of, fastest_device, load_with_head
from .tables import print_json


def augment(arguments: Namespace, console: Console) -> None:
    """A file with changed copies of its texts."""
    check_output(Path(arguments.output))  # before the model is loaded
    model = _masked_lm(arguments)
    columns = arguments.text_column or usual_texts(arguments.file, model)
    settings: Any = {"text_columns": columns, "copies": arguments.copies, "seed": arguments.seed}
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    numbers: Any = {"num_candidates": arguments.candidates, "probability": arguments.probability}
    replacement = WordReplacement(model, tokenizer, **numbers)
    if arguments.word_vectors is not None:
        rows_to_augment(Path(arguments.file), Path(arguments.output), **settings)  # before minutes of reading vectors
        replacement.vectors = WordVectors.from_file(arguments.word_vectors)
    num_rows = augment_file(arguments.file, arguments.output, replacement, **settings)
    if arguments.json:
        print_json({"file": arguments.output, "rows": num_rows})
        return
    console.print(f"{arguments.output}: {num_rows} rows", soft_wrap=True)


def _masked_lm(arguments: Namespace) -> Any:
    """The model, on an accelerator if there is one; a checkpoint without its head is refused."""
    config_of(arguments.model)  # refused by its name
    dtype = torch.bfloat16 if arguments.bf16 else torch.float32
    wanted = "masked language model, such as bert-base-uncased"
    model = load_with_head(AutoModelForMaskedLM, arguments.model, wanted, dtype=dtype)
    return model.to(fastest_device()).eval()
