"""Where these tests run: on the device that DYNABERT_TEST_DEVICE names, `cuda` or, to check the tests, `cpu`."""

import os

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS adds up in an order of the moment
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # else its processes outlive the test that began them

import pytest
import torch

DEVICE = os.environ.get("DYNABERT_TEST_DEVICE")


@pytest.fixture(scope="session")
def device():
    """The device under test, in the precision of float32 itself."""
    if DEVICE not in ("cuda", "cpu"):
        pytest.skip("tests of a GPU: `make test-gpu` runs them, and `make test-gpu DEVICE=cpu` what a CPU can")
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip(f"torch {torch.__version__} sees no CUDA device")
    assert torch.get_float32_matmul_precision() == "highest", "TF32 keeps 10 bits of each factor"
    return torch.device(DEVICE)


@pytest.fixture
def card(device):
    """A CUDA device, for what a CPU does not have."""
    if device.type != "cuda":
        pytest.skip("a CPU has nothing of the kind")
    return device


@pytest.fixture
def deterministic():
    """Operations that add up in an order of the moment are replaced, or fail.

    But for cuDNN's attention, which takes half precision: it does so without a word, and is turned off here.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cuda.cudnn_sdp_enabled()
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.enable_cudnn_sdp(False)
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.backends.cuda.enable_cudnn_sdp(before[1])


@pytest.fixture(params=["bf16", "fp16"])
def mixed(request, device):
    """The argument of a trainer that asks for a half-precision format."""
    if request.param == "fp16" and device.type == "cpu":
        pytest.skip("accelerate scales the gradients of float16 on GPUs only")
    return request.param
