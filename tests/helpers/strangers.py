"""Models that carry their code, run by somebody who has not this package."""

import json
import os
import subprocess
import sys

import torch

from dynabert_hf.model.subnetwork import size_name
from helpers import HELPERS
from helpers.backbones import irregular, make_backbone
from helpers.tiny import batch_for

STRANGER = HELPERS / "stranger.py"


def outputs(model, inputs):
    with torch.no_grad():
        return [output for output in model(**inputs).to_tuple() if isinstance(output, torch.Tensor)]


def run_stranger(*folders, cwd, **environment):
    """Run stranger.py, in which this package cannot be imported, on folders or Hub ids."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "HF_MODULES_CACHE": str(cwd / "modules"),
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    done = subprocess.run(
        [sys.executable, str(STRANGER), *map(str, folders)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def save_with_expected(folder, family, head, *, cuts):
    """A model with its code, and beside it the inputs and the outputs of every size.

    The outputs are those of the model as loaded from the folder: matrix products round by the alignment of the weights
    in memory, which in a mapped file is another than in a fresh model, stock or elastic.
    """
    model = make_backbone(family, head, num_labels=2)
    if hasattr(model.config, "head_orders"):
        model.config.head_orders = [[2, 0, 3, 1], [3, 2, 1, 0]] * 3
    model.save_pretrained(folder, with_code=True)
    model = type(model).from_pretrained(folder)
    note_expected(model, batch_for(head), folder / "expected.pt", cuts=cuts)


def note_expected(model, inputs, path, *, cuts):
    """Save what a stranger has to find: the outputs of every size, and with `cuts` a size to cut out beside them."""
    expected = {}
    for subnetwork in model.config.subnetworks:
        with model.subnetwork(subnetwork):
            expected[str(subnetwork)] = outputs(model, inputs)
    _, head, rest = type(model).__name__.partition("For")
    known = {"auto_class": f"AutoModel{head}{rest}", "inputs": inputs, "expected": expected}
    torch.save({**known, "irregular": size_name(irregular(model)) if cuts else None}, path)


OF_OTHER_FAMILIES = [
    ("Roberta", "ForMaskedLM"),
    ("ModernBert", "ForTokenClassification"),
    ("DebertaV2", "ForSequenceClassification"),
]
"""Positions that begin elsewhere, layers with fused parts, layers that remember how many heads they have."""

SOME_MODELS = [*(("Bert", head) for head in ("Model", "ForSequenceClassification", "ForMaskedLM")), *OF_OTHER_FAMILIES]


def save_models(folder, models):
    """A folder for each family and head given, as `save_with_expected` leaves it; one head of each family is cut."""
    last = dict(models)
    for family, head in models:
        (folder / f"{family}{head}").mkdir()
        save_with_expected(folder / f"{family}{head}", family, head, cuts=head == last[family])
    return [folder / f"{family}{head}" for family, head in models]


def check_report(report, folders):
    """Every head was loaded by its Auto class and is the same at every size, one of each family also when cut out."""
    assert any("cut_difference" in row for row in report)
    for folder, row in zip(folders, report, strict=True):
        assert row["class"].startswith("transformers_modules."), row
        assert row["class"].endswith(f"Dyna{folder.name}")
        assert row["equal_sizes"] == 12
        if "cut_difference" in row:
            # One product of a fused part and one of each of its blocks round differently.
            assert row["cut_difference"] <= (1e-5 if "Modern" in folder.name else 1e-6)
            assert row["base_class"].endswith(f"{folder.name.split('For')[0].removesuffix('Model')}Model")
            assert set(row["saved_again"]) >= {"config.json", "model.safetensors", "elastic_model.py"}
