"""DDP on one device: one process over nccl, and two over gloo that share it, train what a plain process trains."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from helpers import ROOT, one_device_worker
from safetensors.torch import load_file

pytestmark = pytest.mark.gpu


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def launch(folder, device, backend, num_processes):
    """Start every process as the first one of a machine of its own: all take the first device."""
    world = {"WORLD_SIZE": str(num_processes), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "PYTHONPATH": path}
    where = {"ACCELERATE_USE_CPU": "true"} if device.type == "cpu" else {}
    command = [sys.executable, one_device_worker.__file__, folder, device.type, backend, num_processes]
    workers = [
        subprocess.Popen(
            [*map(str, command)],
            env={**os.environ, **world, **address, **where, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(num_processes)
    ]
    for worker in workers:
        told, _ = worker.communicate(timeout=500)
        assert worker.returncode == 0, told[-3000:]


@pytest.mark.parametrize(("backend", "num_processes"), [("nccl", 1), ("gloo", 1), ("gloo", 2)])
def test_processes_on_one_device_train_what_a_plain_one_trains(backend, num_processes, device, tmp_path):
    if (backend, device.type) == ("nccl", "cpu"):
        pytest.skip("nccl joins GPUs only")
    launch(tmp_path, device, backend, num_processes)
    for stage in ("width", "depth", "finetune"):
        expected = one_device_worker.train(tmp_path / "plain", stage, device.type, num_processes=1)
        trained = load_file(tmp_path / f"{stage}.safetensors")
        assert trained.keys() == expected.keys()
        for name, tensor in expected.items():
            tolerance = 1e-6 if name.startswith("gradient") else 1e-5  # sums of half batches, after five steps
            torch.testing.assert_close(trained[name], tensor.cpu(), rtol=0, atol=tolerance, msg=f"{stage}: {name}")
