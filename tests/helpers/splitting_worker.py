"""Loads an elastic EuroBERT, the one family with a plan for it, with its weights split over processes."""

import os

import torch

from dynabert_hf import DynaEuroBertForSequenceClassification, SubNetworkError
from helpers.forks import run_forked


def load(folder):
    """Print why it cannot be loaded, or that it was."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/group", rank=int(os.environ["RANK"]), world_size=2)
    try:
        DynaEuroBertForSequenceClassification.from_pretrained(folder, tp_plan="auto")
        print("loaded")
    except SubNetworkError as error:
        print(error)
    torch.distributed.destroy_process_group()


def start(folder):
    """What each of two processes printed."""
    return run_forked(
        load, folder, environments=[{"RANK": str(n), "LOCAL_RANK": str(n), "WORLD_SIZE": "2"} for n in (0, 1)]
    )
