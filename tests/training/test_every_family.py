"""Every family goes through the recipe: importance, rewiring, a step of training, the table and the saved model."""

import math

import pytest
import torch
from helpers.backbones import CONFIGS, make_backbone, make_stock, of_layers, run
from helpers.recipes import make_sentences, run_recipe

from dynabert_hf import measure_importance
from dynabert_hf.families import elastic_class_of, family_name
from dynabert_hf.training.rewiring import Importance

GRID = {"widths": (0.5, 1.0), "depths": (0.5, 1.0)}
EVERY = {"per_device_eval_batch_size": 4, "learning_rate": 1e-3}
SIZES = ["w0.5-d0.5", "w0.5-d1", "w1-d0.5", "w1-d1"]
USUAL = ("DistilBert", "MPNet", "DebertaV2", "ModernBert", "EuroBert")
"""Other names, a table shared by layers, remembered heads, fused parts, shared keys: each kind of layer once."""


@pytest.mark.parametrize(
    "family", [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_the_recipe_makes_every_size_of_every_family(tmp_path, family):
    layers = of_layers(family, 2)
    teacher = make_stock(family, **layers)
    result = run_recipe(tmp_path, teacher, keep_stages=True, **EVERY, **GRID)
    assert sorted(row.name for row in result.rows) == SIZES
    assert all(math.isfinite(value) for row in result.rows for value in row.metrics.values())

    rows = {name: torch.tensor(column) for name, column in make_sentences().to_dict().items()}
    batches = [
        dict(zip(rows, part, strict=True)) for part in zip(*(each.split(4) for each in rows.values()), strict=True)
    ]
    expected = measure_importance(make_backbone(family, **layers), batches, progress=False)
    rewired = tmp_path / "run" / "1-rewired"
    found = Importance.load(rewired / "importance.safetensors")
    torch.testing.assert_close(found.heads, expected.heads, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.neurons, expected.neurons, rtol=1e-4, atol=1e-6)
    elastic_class = elastic_class_of(teacher)
    for ours, theirs in zip(run(elastic_class.from_pretrained(rewired / "model")), run(teacher), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)

    reloaded = elastic_class.from_pretrained(tmp_path / "run" / "model").eval()
    for size in SIZES:
        (loaded,), (trained,) = (run(model.set_active(size)) for model in (reloaded, result.model.eval()))
        assert trained.isfinite().all()
        torch.testing.assert_close(loaded, trained, rtol=0, atol=1e-6)  # lies elsewhere in memory, which rounds
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert f"One {family_name(elastic_class.__name__)} that holds 4 usable sizes" in card
    assert not torch.equal(run(result.model.set_active("w1-d1"))[0], run(teacher)[0])
