"""The command `store-outputs`."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from rich.console import Console

from ..data.labelled_text import tokenised_texts
from ..training.stored_outputs import store_teacher_outputs
from ..training.teacher import load_teacher
from .inputs import fastest_device, needed_tokenizer, read_at_once, refused_by_name
from .tables import print_json


def store_outputs(arguments: Namespace, console: Console) -> None:
    """What a fine-tuned model says of texts, in a folder that stands for it in a training."""
    with refused_by_name(arguments.teacher, OSError):
        teacher: Any = load_teacher(arguments.teacher)[0]
    tokenizer = needed_tokenizer(arguments.teacher)
    rows = tokenised_texts(arguments.file, teacher, tokenizer, text_columns=arguments.text_column)
    store_teacher_outputs(
        teacher.to(fastest_device()),
        rows,
        arguments.output,
        processing_class=tokenizer,
        hidden_states=arguments.hidden_states,
        dtype=arguments.dtype,
        batch_size=arguments.eval_batch_size,
    )
    unit = read_at_once(teacher)
    if arguments.json:
        print_json({"folder": arguments.output, unit: len(rows)})
        return
    console.print(f"{arguments.output}: outputs of {len(rows)} {unit}", soft_wrap=True)
