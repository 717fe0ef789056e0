"""All that two processes do in the default suite, in one start: they evaluate, then they train."""

import os

import torch

from helpers import ddp_worker, evaluation_worker
from helpers.forks import run_forked


def main(folder, num_processes):
    for worker in (evaluation_worker, ddp_worker):
        place = folder / worker.__name__.rpartition(".")[2]
        place.mkdir(exist_ok=True)
        worker.main(place, num_processes)


def join_and_run(folder, num_processes):
    """Meet the other processes by a file, then do all as one of them; accelerate takes the group as it is."""
    rank = int(os.environ["RANK"])
    torch.distributed.init_process_group("gloo", f"file://{folder}/group", rank=rank, world_size=num_processes)
    main(folder, num_processes)
    torch.distributed.destroy_process_group()


def start(folder, num_processes=2):
    """What the processes printed, each by itself."""
    size = str(num_processes)
    world = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "ACCELERATE_USE_CPU": "true"}
    ranks = [{**world, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(num_processes)]
    return run_forked(join_and_run, folder, num_processes, environments=ranks)
