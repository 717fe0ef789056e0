"""Trains one stage in the process group that the environment tells of, and saves gradients and weights."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn.parallel import DistributedDataParallel

from helpers.ddp_worker import make_trainer
from helpers.trainers import FirstGradients


def train(folder, stage, device, *, num_processes, **arguments):
    """Weights at the end, and the gradients of the first step."""
    settings = {"use_cpu": device == "cpu", "ddp_find_unused_parameters": False, **arguments}
    trainer = make_trainer(folder, stage, 1, False, num_processes=num_processes, **settings)
    first = FirstGradients()
    trainer.add_callback(first)
    if num_processes == 1 and torch.distributed.is_initialized():  # where accelerate wraps no model on a GPU
        trainer.model_wrapped = DistributedDataParallel(trainer.model.to(trainer.args.device))
    trainer.train()
    assert trainer.args.device.type == device
    if torch.distributed.is_initialized():
        assert isinstance(trainer.model_wrapped, DistributedDataParallel)
    tensors = {f"weight of {name}": weight for name, weight in trainer.model.state_dict().items()}
    return {**tensors, **{f"gradient of {name}": gradient for name, gradient in first.gradients.items()}}


def main(folder, device, backend, num_processes):
    for stage in ("width", "depth", "finetune"):
        tensors = train(folder / stage, stage, device, num_processes=num_processes, ddp_backend=backend)
        assert torch.distributed.get_backend() == backend
        assert torch.distributed.get_world_size() == num_processes
        if torch.distributed.get_rank() == 0:
            save_file(tensors, folder / f"{stage}.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
