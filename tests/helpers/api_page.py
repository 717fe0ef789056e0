"""The page of all public names, `docs/api.md`, made of the first paragraphs of their docstrings: `make api`."""

import inspect

import dynabert_hf
from dynabert_hf import ElasticConfigMixin
from dynabert_hf.families import elastic_classes
from helpers import ROOT

PAGE = ROOT / "docs" / "api.md"
HEADING = """# All public names

What `from dynabert_hf import …` gives, by room. `help(name)` tells arguments, shapes, units, errors and sources.
`make api` writes this page from the docstrings.

Most programs need few of them: `train_dynabert` trains all sizes, and the Auto classes of transformers load the result.
`set_active`, `share` and `extract` choose a size. `profile` and `recommend` measure and choose, and `export_onnx` and
`push_folder` export and publish.
"""
ROOMS = {
    "model": "The elastic model",
    "families": "Families",
    "data": "Text",
    "onnx": "ONNX",
    "sizes": "What sizes cost and achieve, and which to take",
    "hub": "Cards and pushes",
    "training": "Training",
}
WITH_METHODS = (
    "ElasticModelMixin",
    "SubNetwork",
    "LabelledText",
    "OnnxModel",
    "ProfileTable",
    "LatencyController",
    "Importance",
    "RecipeResult",
)
"""Classes whose methods a user calls."""

OF_CONFIGURATION = (
    "subnetworks",
    "active",
    "num_active_layers",
    "stored_layers",
    "holds",
    "resolve",
    "extract",
    "from_backbone",
    "to_backbone",
)


def summary(thing):
    """The first paragraph of a docstring."""
    return " ".join(inspect.getdoc(thing).split("\n\n")[0].split())


def methods_of(owner):
    """What a class defines by a docstring of its own, in the order of the code."""
    for name, value in vars(owner).items():
        plain = next((getattr(value, of) for of in ("__func__", "fget", "func") if hasattr(value, of)), value)
        if not name.startswith("_") and inspect.isfunction(plain) and plain.__doc__:
            yield name, plain


def table(headings, rows):
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"


def classes_table():
    """A row a family, with the heads that it has."""
    families = {}
    for each in elastic_classes():
        prefix = each.config_class.__name__.removesuffix("Config")
        families.setdefault(prefix, ["Config"]).append(each.__name__.removeprefix(prefix))
    rows = [[f"`{prefix}…`", ", ".join(f"`{head}`" for head in heads)] for prefix, heads in families.items()]
    return table(["family", "classes"], rows)


def room_table(room):
    rows = []
    for name in dynabert_hf.__all__:
        thing = getattr(dynabert_hf, name)
        if thing.__module__.split(".")[1] != room or ".modeling_" in thing.__module__:
            continue
        rows.append([f"`{name}`", summary(thing)])
        if name in WITH_METHODS:
            rows += [[f"`{name}.{method}`", summary(code)] for method, code in methods_of(thing)]
    return table(["name", "what it is"], rows)


def make_page():
    parts = [HEADING]
    for room, title in ROOMS.items():
        parts.append(f"## {title}\n")
        if room == "model":
            parts.append(
                "Every family has classes of its own, such as `DynaBertForSequenceClassification`, with the methods\n"
                "of `ElasticModelMixin`. The Auto classes of transformers know them.\n"
            )
            parts.append(classes_table())
        parts.append(room_table(room))
        if room == "model":
            parts.append("Every configuration has the fields that `help(ElasticConfigMixin)` lists, and these:\n")
            known = dict(methods_of(ElasticConfigMixin))
            parts.append(
                table(["name", "what it is"], [[f"`config.{name}`", summary(known[name])] for name in OF_CONFIGURATION])
            )
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(make_page())
