"""How much of a training batch is padding, in the order of the recipe and in one drawn at random.

    python -m benchmarks.padding
    python -m benchmarks.padding --source nyu-mll/glue=FOLDER --source mteb/banking77=FOLDER --backbone FOLDER

Printed is the share of tokens that packing the rows of a batch into one could leave out, over an epoch of each task.
"""

import argparse

import torch
from transformers import AutoTokenizer
from transformers.trainer_pt_utils import LengthGroupedSampler

from benchmarks.glue_study.data import load_rows
from benchmarks.glue_study.jobs import SCORE
from benchmarks.glue_study.plan import PLAN
from benchmarks.glue_study.tables import markdown

ROWS_A_BATCH = 32


def share_of_padding(lengths, order):
    """The share of padding among the tokens of all batches."""
    batches = torch.as_tensor(lengths)[torch.as_tensor(order)].split(ROWS_A_BATCH)
    return 1 - sum(lengths) / sum(len(batch) * int(batch.max()) for batch in batches)


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.padding", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=sorted(PLAN.tasks), default=list(PLAN.tasks))
    parser.add_argument("--backbone", default=PLAN.backbones["minilm"].name, help="whose tokenizer is taken")
    parser.add_argument("--source", action="append", default=[], metavar="ID=FOLDER", help="read a folder for an id")
    given = parser.parse_args()
    sources = dict(each.split("=", 1) for each in given.source)
    tokenizer, table = AutoTokenizer.from_pretrained(given.backbone), []
    for name in given.tasks:
        task = PLAN.tasks[name]
        rows = load_rows(task, SCORE, 0, tokenizer, source=sources.get(task.dataset)).train
        lengths = [len(ids) for ids in rows["input_ids"]]
        draw = torch.Generator().manual_seed(0)
        grouped = list(LengthGroupedSampler(ROWS_A_BATCH, lengths=lengths, generator=draw))
        at_random = torch.randperm(len(lengths), generator=draw)
        shares = [f"{100 * share_of_padding(lengths, order):.1f} %" for order in (grouped, at_random)]
        table.append([name, len(lengths), f"{sum(lengths) / len(lengths):.1f}", *shares])
    print(markdown(["task", "rows", "tokens a row", "padding, grouped by length", "padding, at random"], table))


if __name__ == "__main__":
    main()
