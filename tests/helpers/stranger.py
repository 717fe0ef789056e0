"""Somebody who has transformers and torch, but not this package; run by the tests in a process of its own.

Prints, for each folder or Hub id given, what was loaded and for how many sizes the outputs are equal to the last bit.
"""

import json
import sys
import tempfile
from importlib.abc import MetaPathFinder
from pathlib import Path


class _NotInstalled(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "dynabert_hf":
            raise ModuleNotFoundError(f"No module named {name!r}")


sys.meta_path.insert(0, _NotInstalled())

import torch  # noqa: E402
import transformers  # noqa: E402


def run(model, inputs):
    with torch.no_grad():
        return [output for output in model(**inputs).to_tuple() if isinstance(output, torch.Tensor)]


def equal(ours, theirs):
    return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


def cut(model, size, inputs):
    """How far the outputs of a shared, an extracted and a reloaded model of a size are from those of `model` there."""
    alike = model.share(size)
    small = model.extract(size)
    with tempfile.TemporaryDirectory() as folder:
        small.save_pretrained(folder)
        auto_class = getattr(transformers, _auto_name(model))
        reloaded = auto_class.from_pretrained(folder, trust_remote_code=True)
    expected = run(model.set_active(size), inputs)
    return max(
        (ours - theirs).abs().max().item()
        for each in (alike, small, reloaded)
        for ours, theirs in zip(run(each, inputs), expected, strict=True)
    )


def _auto_name(model):
    _, head, rest = type(model).__name__.partition("For")
    return f"AutoModel{head}{rest}"


def visit(place):
    """`place` is a folder, or `id@revision=file` for the Hub, the file with the inputs and the outputs to expect."""
    place, _, path = place.partition("=")
    place, _, revision = place.partition("@")
    known = torch.load(path or Path(place) / "expected.pt")
    auto_class = getattr(transformers, known["auto_class"])
    model = auto_class.from_pretrained(place, revision=revision or None, trust_remote_code=True)
    equal_sizes = 0
    for size, expected in known["expected"].items():
        equal_sizes += equal(run(model.set_active(size), known["inputs"]), expected)
    found = {"class": f"{type(model).__module__}.{type(model).__qualname__}", "equal_sizes": equal_sizes}
    return found | (cut_and_saved(model, known) if known["irregular"] else {})


def cut_and_saved(model, known):
    """What sizes that are cut out of a model give, and what it is when it is saved again."""
    small, smaller = list(known["expected"])[4], list(known["expected"])[1]
    difference = max(
        cut(model, known["irregular"], known["inputs"]),  # layers that differ
        cut(model.extract(small), smaller, known["inputs"]),
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved_again = sorted(path.name for path in Path(folder).iterdir())
        base = transformers.AutoModel.from_pretrained(folder, trust_remote_code=True)
    return {"base_class": type(base).__qualname__, "cut_difference": difference, "saved_again": saved_again}


if __name__ == "__main__":
    report = [visit(place) for place in sys.argv[1:]]
    assert "dynabert_hf" not in sys.modules
    print(json.dumps(report))
