"""Two processes give what one process gives."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

WORKER = Path(__file__).with_name("ddp_worker.py")
CASES = [(stage, steps) for stage in ("width", "depth", "finetune") for steps in (1, 2)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder with the weights that one process and two processes trained, and what the two printed."""
    folder = tmp_path_factory.mktemp("ddp")
    # On a CPU, `accelerate launch` starts two processes in one world only with both the variable and --multi_gpu.
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(WORKER.parent.parent)}
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--main_process_port", "0", "--mixed_precision", "no", "--num_machines", "1", "--dynamo_backend", "no"]
    printed = ""
    for start, num_processes in (([sys.executable], 1), (launch, 2)):
        command = [*start, str(WORKER), str(folder), str(num_processes)]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr[-3000:]
        printed = ran.stdout
    return folder, printed


@pytest.mark.parametrize(("stage", "accumulation"), CASES)
def test_two_processes_train_the_weights_of_one(trained, stage, accumulation):
    one, two = (load_file(trained[0] / f"{stage}-{accumulation}-{number}.safetensors") for number in (1, 2))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-6, msg=name)


def test_without_the_full_network_last_two_processes_fail(trained):
    assert trained[1].count("reversed order failed") == 2
