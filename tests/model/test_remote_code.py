"""Models that carry their code: what is written, and that it is left unread where this package is installed.

tests/hub/test_strangers.py loads them where it is not.
"""

import ast
import json
import sys
from pathlib import Path

import pytest
from helpers.adapters import add_adapter
from helpers.tiny import make_model
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.dynamic_module_utils import check_imports, get_relative_imports

import dynabert_hf
from dynabert_hf.model.shipping import CORE_FILES, shipped_files

PACKAGE = Path(dynabert_hf.__file__).parent / "model"
SHIPPED_FILES = sorted(path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py")
AUTO_CLASSES = {"AutoConfig", *(auto_class.__name__ for auto_class in dynabert_hf.AUTO_CLASSES)}


def test_auto_map_names_every_head_of_the_family(tmp_path, family):
    make_model(family).save_pretrained(tmp_path, with_code=True)
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert set(auto_map) == AUTO_CLASSES - {"AutoModelForPreTraining"}
    for reference in auto_map.values():
        file, name = reference.split(".")
        assert (tmp_path / f"{file}.py").read_text().count(f"class {name}(") == 1
    assert {path.name for path in tmp_path.glob("*.py")} == {*CORE_FILES, f"modeling_dyna{family.lower()}.py"}


def test_installed_classes_win_and_no_remote_code_runs(tmp_path, family):
    make_model(family).save_pretrained(tmp_path, with_code=True)
    for name in shipped_files(type(make_model(family, "Model"))):
        (tmp_path / name).write_text("raise SystemExit('remote code ran')")
    for trust in (None, False, True):
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path, trust_remote_code=trust)
        assert type(model) is getattr(dynabert_hf, f"Dyna{family}ForSequenceClassification")
        config = AutoConfig.from_pretrained(tmp_path, trust_remote_code=trust)
        assert type(config) is type(model.config)


def test_saving_without_code_names_no_code(tmp_path):
    make_model().save_pretrained(tmp_path / "with", with_code=True)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "with")
    model.save_pretrained(tmp_path / "without")
    model.config.save_pretrained(tmp_path / "config")
    assert not list((tmp_path / "without").glob("*.py"))
    for folder in ("without", "config"):
        assert "auto_map" not in json.loads((tmp_path / folder / "config.json").read_text())


def test_only_the_main_process_writes_code(tmp_path):
    make_model().save_pretrained(tmp_path, is_main_process=False, with_code=True)
    written = {path.name for path in tmp_path.iterdir()}
    assert not written - {"model.safetensors"}  # before transformers 5.23 every process writes the weights


def test_a_model_of_which_only_the_adapter_is_saved_needs_no_code(tmp_path):
    model = make_model()
    add_adapter(model, target_modules=["query"])
    model.save_pretrained(tmp_path, with_code=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_code_changes_nothing_else_in_the_configuration(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path / "with", with_code=True)
    model.save_pretrained(tmp_path / "without")
    with_code, without = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("with", "without"))
    del with_code["auto_map"]
    assert with_code == without


@pytest.mark.parametrize("name", SHIPPED_FILES)
def test_shipped_file_can_be_copied(name):
    """The Hub copies files by a pattern on their text, and checks that every import is installed."""
    path = PACKAGE / name
    tree = ast.parse(path.read_text(encoding="utf-8"))
    relative = set()
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Try) or not any(
            isinstance(inner, ast.Import | ast.ImportFrom) for inner in ast.walk(node)
        ), "an optional import"
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, "an import from above the folder"
            assert node.module, "`from . import name` is not copied"
            assert "." not in node.module, "an import from a sub-folder"
            assert f"{node.module}.py" in SHIPPED_FILES
            relative.add(node.module)
            continue
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module]
        else:
            continue
        assert node in tree.body, "an import inside a function is an optional import"
        for module in modules:
            top = module.partition(".")[0]
            # transformers itself needs safetensors and huggingface_hub.
            assert top in sys.stdlib_module_names | {"torch", "transformers", "safetensors", "huggingface_hub"}, top
    # Their pattern finds in the text, docstrings included, exactly the relative imports there are.
    assert set(get_relative_imports(path)) == relative
    assert set(check_imports(path)) == relative


def test_shipped_files_are_those_that_a_family_needs(family):
    needed, found = {f"modeling_dyna{family.lower()}"}, set()
    while needed:
        name = needed.pop()
        found.add(f"{name}.py")
        needed |= {module for module in get_relative_imports(PACKAGE / f"{name}.py") if f"{module}.py" not in found}
    assert found == set(shipped_files(type(make_model(family, "Model"))))


def test_what_a_stranger_reads_before_trusting_it_grows_no_longer():
    files = shipped_files(type(make_model("Bert", "Model")))
    assert sum(len((PACKAGE / name).read_text().splitlines()) for name in files) <= 2048
