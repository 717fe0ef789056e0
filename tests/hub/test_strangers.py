"""Models that carry their code, loaded where this package is not installed: from folders and from a Hub.

Python, torch and transformers take seconds to start, so one process looks at all that the default run has to show.
"""

import huggingface_hub
import pytest
import torch
from helpers.backbones import HEADS
from helpers.hub_server import PART_SIZE, TOKEN
from helpers.strangers import OF_OTHER_FAMILIES, SOME_MODELS, check_report, note_expected, run_stranger, save_models
from helpers.tiny import make_batch, make_model

from dynabert_hf import DynaBertForSequenceClassification
from dynabert_hf.hub.push import push_folder

pytestmark = pytest.mark.filterwarnings(
    "ignore:Use 'content=:DeprecationWarning"
)  # huggingface_hub to its HTTP library


@pytest.fixture
def elsewhere(hub, tmp_path):
    """The environment of another machine that knows this Hub."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": "",
        "DO_NOT_TRACK": "1",
    }


def push_twice(hub, folder):
    """Push a model, tag it, change and push it again; return the places to load from, with what they have to give."""
    model = make_model(stock={"vocab_size": 3000})  # large enough to be sent in parts
    commits = []
    for name in ("First", "Second"):
        model.push_to_hub("me/model", commit_message=name)
        commits.append(hub.repositories["me/model"].find("main"))
        model.save_pretrained(folder / "local")
        local = DynaBertForSequenceClassification.from_pretrained(folder / "local")
        note_expected(local, make_batch(), folder / f"{name}.pt", cuts=False)
        with torch.no_grad():
            model.classifier.bias += 1
    huggingface_hub.create_tag("me/model", tag="v1", revision=commits[0])
    assert len(hub.files("me/model")["model.safetensors"]) > 2 * PART_SIZE
    assert hub.repositories["me/model"].log == ["initial commit", "First", "Second"]
    revisions = {"v1": "First", commits[0]: "First", "main": "Second"}
    return [f"me/model@{revision}={folder / name}.pt" for revision, name in revisions.items()]


def test_models_in_folders_and_a_pushed_model_by_id_and_revision_run(hub, elsewhere, tmp_path):
    folders, places = save_models(tmp_path, SOME_MODELS), push_twice(hub, tmp_path)
    report = run_stranger(*folders, *places, cwd=tmp_path, **elsewhere)
    check_report(report[: len(folders)], folders)
    for row in report[len(folders) :]:
        assert row["class"].startswith("transformers_modules.me.model")
        assert row["equal_sizes"] == 12
    assert TOKEN.encode() not in b"".join(hub.files("me/model").values())


@pytest.mark.slow
@pytest.mark.parametrize("family", HEADS)
def test_every_head_of_a_family_runs(tmp_path, family):
    folders = save_models(tmp_path, [(family, head) for head in HEADS[family]])
    check_report(run_stranger(*folders, cwd=tmp_path), folders)


@pytest.mark.slow
def test_other_families_are_loaded_from_the_hub(hub, elsewhere, tmp_path):
    folders = save_models(tmp_path, OF_OTHER_FAMILIES)
    for folder in folders:
        push_folder(folder, f"me/{folder.name}")
    places = [f"me/{folder.name}={folder / 'expected.pt'}" for folder in folders]
    check_report(run_stranger(*places, cwd=tmp_path, **elsewhere), folders)
