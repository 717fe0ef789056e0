"""What `import dynabert_hf` brings in beside the stock classes; told by a process that has imported nothing else."""

import sys

import transformers

from helpers import FAMILIES, HEADS

STOCK = [f"{family}{head}" for family in FAMILIES for head in ("Config", *HEADS)]
for name in STOCK:
    getattr(transformers, name)
before = set(sys.modules)

import dynabert_hf  # noqa: E402, F401

OURS = set(sys.modules) - before


def tell():
    print(*sorted(OURS))
