"""The tests of GPUs are right as far as a CPU can tell: they pass on one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_tests_of_gpus_pass_on_a_cpu_where_it_has_what_they_need():
    command = ["make", "test-gpu", "DEVICE=cpu", f"GPU_PYTHON={sys.executable}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert " passed" in ran.stdout.splitlines()[-1]
