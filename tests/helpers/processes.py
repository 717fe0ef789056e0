"""Scripts on two processes."""

import os
import subprocess
import sys

from helpers import ROOT

CONFIGURATION = ROOT / "examples" / "accelerate" / "multi_cpu.yaml"


def launch(script, *arguments):
    """What a script prints on two processes."""
    # On a CPU, `accelerate launch` starts two processes in one world only with both this variable and MULTI_GPU.
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGURATION)]
    command += ["--main_process_port", "0", str(script), *map(str, arguments)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout
