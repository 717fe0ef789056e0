"""Where weights are: moved, loaded to a device, spread over several places, brought in for each pass."""

import gc

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from helpers.backbones import HEADS, make_backbone
from helpers.devices import to
from helpers.tiny import make_batch, make_model

from dynabert_hf import DynaBertForSequenceClassification, export_onnx, load_onnx

pytestmark = pytest.mark.gpu

SIZES = ("w0.25-d0.5", "w0.5-d1", "w1-d1")
CLOSE = {"rtol": 0, "atol": 2e-5}
"""Between a GPU and a CPU, in float32 without TF32: sums of a few dozen numbers in another order."""


def logits(model, size, device):
    with torch.no_grad():
        return model.set_active(size)(**to(device, make_batch())).logits.cpu()


@pytest.fixture
def expected():
    return {size: logits(make_model(), size, "cpu") for size in SIZES}


def check(model, device, expected):
    for size, theirs in expected.items():
        torch.testing.assert_close(logits(model, size, device), theirs, **CLOSE, msg=size)


@pytest.mark.parametrize("family", HEADS)
def test_every_family_gives_there_what_it_gives_on_a_cpu(family, device):
    """With and without gradients: ModernBERT's fused blocks then take other products."""
    model = make_backbone(family)
    expected = {size: logits(model, size, "cpu") for size in SIZES}
    model.to(device)
    check(model, device, expected)
    for size, theirs in expected.items():
        with_gradients = model.set_active(size)(**to(device, make_batch())).logits
        torch.testing.assert_close(with_gradients.detach().cpu(), theirs, **CLOSE, msg=size)


def test_a_model_moves_there_and_back_with_those_that_share_its_weights(device, expected):
    model = make_model()
    shared = model.share("w0.5-d1")
    if device.type == "cuda":
        gc.collect()
        torch._C._cuda_clearCublasWorkspaces()
    before = torch.cuda.memory_allocated() if device.type == "cuda" else 0
    check(model, "cpu", expected)
    model.to(device)
    assert {parameter.device.type for parameter in shared.parameters()} == {device.type}
    check(shared, device, expected)
    check(model, device, expected)
    model.to("cpu")
    check(model, "cpu", expected)
    check(shared, "cpu", expected)
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch._C._cuda_clearCublasWorkspaces()
        assert torch.cuda.memory_allocated() == before  # no kept slice holds what the weights have left


def test_extracted_sizes_stay_where_the_model_is(device, expected):
    model = make_model().to(device)
    for size, theirs in expected.items():
        extracted = model.extract(size)
        assert {tensor.device.type for tensor in (*extracted.parameters(), *extracted.buffers())} == {device.type}
        torch.testing.assert_close(logits(extracted, size, device), theirs, **CLOSE)


def test_a_model_is_exported_from_where_it_is(device, expected, tmp_path):
    pytest.importorskip("onnxscript")
    model = make_model().to(device)
    export_onnx(model, tmp_path / "onnx", size="w0.25-d0.5")
    assert model.device.type == device.type
    given = load_onnx(tmp_path / "onnx")(**make_batch())["logits"]
    torch.testing.assert_close(torch.from_numpy(given), expected["w0.25-d0.5"], **CLOSE)


def test_a_checkpoint_loads_to_a_device_whole_or_in_part(device, expected, tmp_path):
    make_model().save_pretrained(tmp_path)
    place = {"device_map": {"": str(device)}}
    whole = DynaBertForSequenceClassification.from_pretrained(tmp_path, **place).eval()
    assert whole.device.type == device.type
    check(whole, device, expected)
    part = {"active_width": 0.5, "active_depth": 1.0, "only_active": True}
    small = DynaBertForSequenceClassification.from_pretrained(tmp_path, **part, **place).eval()
    assert small.device.type == device.type
    torch.testing.assert_close(logits(small, "w0.5-d1", device), expected["w0.5-d1"], **CLOSE)


def test_a_checkpoint_is_spread_over_a_device_the_cpu_and_a_disk(device, expected, tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    layers = {f"bert.encoder.layer.{index}": [str(device), "cpu", "disk"][index // 2] for index in range(6)}
    places = {"bert.embeddings": str(device), **layers, "bert.pooler": "cpu", "classifier": str(device)}
    model = DynaBertForSequenceClassification.from_pretrained(
        tmp_path / "model", device_map=places, offload_folder=str(tmp_path / "disk")
    ).eval()
    check(model, device, expected)


def test_weights_are_brought_from_memory_or_disk_for_each_pass(device, expected, tmp_path):
    from_memory, from_disk = make_model(), make_model()
    cpu_offload(from_memory, execution_device=device)
    disk_offload(from_disk, str(tmp_path), execution_device=device)
    for model in (from_memory, from_disk):
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
        check(model, device, expected)
