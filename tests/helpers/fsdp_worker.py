"""Trains on two processes that shard the weights by FSDP, and goes on from a checkpoint."""

import sys
from pathlib import Path

import torch
from accelerate import DistributedType, PartialState
from safetensors.torch import save_file

from dynabert_hf import DynaBertTrainer
from helpers.ddp_worker import make_trainer


class ShardedTrainer(DynaBertTrainer):
    """accelerate shards on accelerators only, so these processes pass for such; they compute on the CPU, over gloo."""

    def __init__(self, model, teacher, args, **kwargs):
        assert args.world_size == 2
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_XPU
        super().__init__(model, teacher, args, **kwargs)
        assert self.accelerator.is_fsdp2


def train(folder, stage, name, *, resume_from_checkpoint=None, **arguments):
    trainer = make_trainer(
        folder / stage,
        stage,
        2,
        False,
        num_processes=2,
        trainer_class=ShardedTrainer,
        fsdp=True,
        fsdp_config={"transformer_layer_cls_to_wrap": ["BertLayer"]},
        **arguments,
    )
    trainer.train(resume_from_checkpoint=resume_from_checkpoint)
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if torch.distributed.get_rank() == 0:
        save_file(weights, folder / f"{name}.safetensors")
    torch.distributed.barrier()


def main(folder):
    for stage in ("width", "depth", "finetune"):
        train(folder, stage, stage)
    saving = {"optim": "adamw_torch", "save_strategy": "steps", "save_steps": 2}  # torch loads no state of plain SGD
    train(folder, "depth", "whole", **saving)
    train(folder, "depth", "resumed", resume_from_checkpoint=folder / "depth" / "checkpoint-2", **saving)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
