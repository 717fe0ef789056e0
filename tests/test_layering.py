"""A module imports only from strictly lower levels."""

import ast
from pathlib import Path

import pytest

LEVELS = {
    "subnetwork": 0,
    "new_folder": 0,
    "configuration_dynabert": 1,
    "elastic": 1,
    "checkpoint": 1.5,
    "copies": 1.5,
    "elastic_model": 2,
    "shared_prefixes": 3,
    "modeling_dynabert": 3,
    "modeling_dynaroberta": 3,
    "rewiring": 4,
    "distillation": 4,
    "training_args": 4,
    "progress": 4,
    "training_checks": 4.5,
    "recovery": 4,
    "counting": 4,
    "model_card": 4.5,
    "onnx_model": 4,
    "onnx_weights": 4,
    "trainer": 5,
    "search": 5,
    "evaluation": 5,
    "onnx_export": 5,
    "onnx_quantization": 5,
    "serving": 5.5,
    "profile_table": 5.5,
    "runtimes": 5.5,
    "profiling": 6,
    "hub": 6,
    "plots": 6,
    "results": 6.5,
    "recipe": 7,
    "cli_tables": 7,
    "cli": 8,
    "__init__": 8,
}
MODULES = sorted(Path(__file__).parent.parent.glob("dynabert_hf/*.py"))


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield from [node.module] if node.module else [name.name for name in node.names]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_only_from_lower_levels(path):
    level = LEVELS[path.stem]
    for module in imported_modules(path):
        assert LEVELS[module.split(".")[0]] < level, f"{path.name} imports {module}"
