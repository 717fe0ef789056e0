"""What any version saved loads in this one, and computes the same."""

import pytest
import torch
import transformers
from helpers import HEADS
from helpers.saved import EXTRACTED, METRICS, SAVED, SAVED_HEADS, SIZES, tensors_of
from safetensors.torch import load_file

FOLDERS = sorted(path.parent for path in SAVED.glob("*/*/expected.safetensors"))
INPUTS = ("input_ids", "attention_mask")


def load(folder, saved):
    head = next(head for head in HEADS if folder.name.endswith(head))
    auto = getattr(transformers, "AutoModel" if head == "Model" else head.replace("For", "AutoModelFor"))
    return auto.from_pretrained(saved).eval()


def assert_computes(model, expected, size):
    outputs = tensors_of(model, {name: expected[name] for name in INPUTS})
    names = {name.partition("/")[2] for name in expected if name.startswith(f"{size}/")}
    assert outputs.keys() == names
    for name in names:
        torch.testing.assert_close(outputs[name], expected[f"{size}/{name}"], rtol=0, atol=1e-6)


def test_every_version_saved_each_family_and_head():
    versions = {folder.parent.name for folder in FOLDERS}
    assert "0.1.0" in versions
    for version in versions:
        saved = {folder.name for folder in FOLDERS if folder.parent.name == version}
        assert saved >= {f"{family}{head}" for family, heads in SAVED_HEADS.items() for head in heads}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: f"{folder.parent.name}-{folder.name}")
def test_a_saved_model_computes_what_it_did(folder):
    expected, model = load_file(folder / "expected.safetensors"), load(folder, folder)
    assert str(model.active) == SIZES[-1]
    assert model.config.metrics == METRICS
    for size in SIZES:
        assert_computes(model.set_active(size), expected, size)
    assert_computes(load(folder, folder / "extracted"), expected, EXTRACTED)
