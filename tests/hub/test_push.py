"""Cards say what was measured, and pushes to a Hub on this machine come back as they were."""

import json
import logging
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import huggingface_hub
import pytest
import torch
from helpers.cards import make_facts
from helpers.hub_server import TOKEN
from helpers.published import publish_as_the_authors_did
from helpers.tiny import make_batch, make_model
from huggingface_hub import ModelCard
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertTokenizer

from dynabert_cli import main
from dynabert_hf import (
    DynaBertForSequenceClassification,
    DynaBertTrainer,
    DynaBertTrainingArguments,
    LayerShape,
    SizeRecord,
    SubNetworkError,
)
from dynabert_hf.hub.card import write_model_card
from dynabert_hf.hub.push import push_folder, push_subnetworks
from dynabert_hf.model.shipping import push
from dynabert_hf.training.checkpoints import broken_part

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings(
    "ignore:Use 'content=:DeprecationWarning"
)  # huggingface_hub to its HTTP library


def test_published_checkpoint_is_loaded_by_id(hub, tmp_path):
    model = make_model(stock={"num_labels": 2})
    publish_as_the_authors_did(tmp_path / "published", model)
    huggingface_hub.create_repo("huawei-noah/DynaBERT_SST-2")
    huggingface_hub.upload_folder(repo_id="huawei-noah/DynaBERT_SST-2", folder_path=tmp_path / "published")
    loaded = DynaBertForSequenceClassification.from_pretrained("huawei-noah/DynaBERT_SST-2", active_width=0.5)
    assert str(loaded.active) == "w0.5-d1"
    for (name, ours), (_, theirs) in zip(loaded.named_parameters(), model.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name


def test_a_size_of_a_pushed_model_loads_with_the_package(hub):
    make_model().push_to_hub("me/model")
    size = {"active_width": 0.5, "active_depth": 0.5}
    model = AutoModelForSequenceClassification.from_pretrained("me/model", **size, only_active=True)
    assert type(model) is DynaBertForSequenceClassification
    assert (str(model.active), len(model.bert.encoder.layer)) == ("w0.5-d0.5", 3)


def test_a_model_is_pushed_to_a_branch_that_is_made_for_it(hub, tmp_path):
    model = make_model()
    model.push_to_hub("me/model", revision="trial")
    model.save_pretrained(tmp_path, push_to_hub=True, repo_id="me/model", revision="second")
    assert hub.files("me/model") == {}
    assert hub.files("me/model", "trial") == hub.files("me/model", "second")
    loaded = AutoModelForSequenceClassification.from_pretrained("me/model", revision="trial")
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)


def test_what_is_saved_in_shards_is_pushed_so(hub, tmp_path):
    make_model().save_pretrained(tmp_path, push_to_hub=True, repo_id="me/model", max_shard_size="20KB")
    shards = {path.name for path in tmp_path.glob("*.safetensors")}
    assert len(shards) > 1
    assert {name for name in hub.files("me/model") if name.endswith(".safetensors")} == shards


def test_tags_of_a_model_are_pushed_unless_others_are_given(hub):
    model = make_model()
    model.push_to_hub("me/none")
    assert "README.md" not in hub.files("me/none")
    model.add_model_tags(["reviews"])
    model.push_to_hub("me/own")
    model.push_to_hub("me/given", tags=["short"])
    found = [ModelCard(hub.files(f"me/{name}")["README.md"].decode()).data.tags for name in ("own", "given")]
    assert found == [["reviews"], ["short"]]


def test_tags_go_to_the_pull_request_that_the_model_goes_to(hub):
    make_model().push_to_hub("me/model", create_pr=True, tags=["short"])
    assert hub.files("me/model") == {}
    files = hub.files("me/model", "refs/pr/1")
    assert "model.safetensors" in files
    assert ModelCard(files["README.md"].decode()).data.tags == ["short"]


@pytest.mark.parametrize("by", ["folder", "trainer"])
def test_no_branch_is_made_for_a_pull_request_that_is_pushed_to(hub, folder, tmp_path, by):
    """The Hub refuses to make a branch of that name."""
    make_model().push_to_hub("me/trained", create_pr=True)
    if by == "folder":
        push_folder(folder, "me/trained", revision="refs/pr/1")
    else:
        make_trainer(tmp_path / "run").push_to_hub(revision="refs/pr/1")
    assert hub.requests["POST branch"] == 0
    assert {"README.md", "model.safetensors"} <= hub.files("me/trained", "refs/pr/1").keys()
    assert hub.files("me/trained") == {}


def test_tags_join_those_of_the_card_of_the_branch(hub, folder):
    """Not those of main, whose card tells of another model."""
    push_folder(folder, "me/model")
    push_folder(folder, "me/model", revision="trial")
    before = hub.files("me/model", "trial")["README.md"].decode()
    make_model().push_to_hub("me/model", revision="trial", tags=["elastic", "short"])
    after = hub.files("me/model", "trial")["README.md"].decode()
    assert after == before.replace("- distillation\n", "- distillation\n- short\n")
    assert 'revision="trial"' in after
    make_model().push_to_hub("me/model", revision="second", tags=["short"])
    assert "revision=" not in hub.files("me/model", "second")["README.md"].decode()  # a branch begins as main is


def make_tokenizer():
    return BertTokenizer(vocab={token: index for index, token in enumerate(["[UNK]", "[PAD]", "[CLS]", "[SEP]", "a"])})


AT_HOME = (
    "optimizer.pt",
    "training_args.bin",
    ".secret",
    "checkpoint-3/model.safetensors",
    "0-teacher/model/model.safetensors",
)
"""What a training leaves in its folder beside the model."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder as a training leaves it: model, tokenizer, card, and what is nobody else's business."""
    folder = tmp_path_factory.mktemp("trained")
    model = make_model()
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    write_model_card(folder, make_facts(model))
    (folder / "checkpoint-3").mkdir()
    (folder / "0-teacher" / "model").mkdir(parents=True)
    for name in AT_HOME:
        (folder / name).write_text(TOKEN)
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of it for one test."""
    return shutil.copytree(trained, tmp_path / "folder")


def contents(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_pushed_folder_is_complete_and_keeps_its_secrets(hub, folder):
    before = contents(folder)
    push_folder(folder, "me/model", revision="trial")
    files = hub.files("me/model", "trial")
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "elastic_model.py"} <= set(files)
    assert not set(files) & set(AT_HOME)
    assert TOKEN.encode() not in b"".join(files.values())
    assert "AutoModelForTokenClassification" in json.loads(files["config.json"])["auto_map"]
    assert hub.files("me/model") == {}
    assert contents(folder) == before
    assert AutoTokenizer.from_pretrained("me/model", revision="trial").tokenize("a") == ["a"]


def test_the_example_on_a_pushed_card_loads_what_was_pushed(hub, folder, tmp_path, monkeypatch, capsys):
    before = contents(folder)
    push_folder(folder, "model", revision="trial")
    assert contents(folder) == before
    card = hub.files("me/model", "trial")["README.md"].decode()
    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(re.search(r"```python\n(.*?)```", card, re.DOTALL)[1], scope)
    assert scope["model"].name_or_path == "me/model"
    assert (str(scope["model"].active), scope["tokenizer"].tokenize("a")) == ("w0.25-d0.5", ["a"])
    assert "score" in capsys.readouterr().out
    own = (folder / "README.md").read_text()
    assert card == own.replace('"path/to/this/folder"', '"me/model", revision="trial"')
    assert own.count("path/to/this/folder") == 2


@pytest.mark.parametrize("kind", ["create", "preupload", "batch", "upload", "commit"])
def test_network_failure_is_explained_and_the_retry_works(hub, folder, kind, caplog):
    caplog.set_level(logging.DEBUG)
    before = contents(folder)
    hub.failures[kind] = 1000
    with pytest.raises(ConnectionError, match=r"Pushing to 'me/model' failed: .* Nothing on this machine was changed"):
        push_folder(folder, "me/model")
    assert contents(folder) == before
    assert not hub.repositories.get("me/model") or hub.files("me/model") == {}
    hub.failures.clear()
    push_folder(folder, "me/model")
    assert hub.files("me/model")["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert TOKEN not in caplog.text


def test_without_network_both_pushes_end_their_sentences_once(folder, monkeypatch):
    error = huggingface_hub.errors.OfflineModeIsEnabled("Offline mode is enabled.")
    for place in ("huggingface_hub.HfApi.create_repo", "dynabert_hf.model.shipping.create_repo"):
        monkeypatch.setattr(place, Mock(side_effect=error))
    with pytest.raises(ConnectionError, match=r"failed: Offline mode is enabled\. Nothing on this machine"):
        push_folder(folder, "me/model")
    with pytest.raises(ConnectionError, match=r"failed: Offline mode is enabled\. The model is as it was"):
        make_model().push_to_hub("me/model")


def test_network_failure_of_the_model_itself_is_explained(hub):
    model = make_model()
    hub.failures["upload"] = 1000
    with pytest.raises(
        ConnectionError, match=r"Pushing to 'me/model' failed: .* The model is as it was\. See .* twice"
    ):
        model.push_to_hub("me/model")
    hub.failures.clear()
    model.push_to_hub("me/model")
    assert "model.safetensors" in hub.files("me/model")


def test_short_interruption_of_an_upload_is_survived(hub, folder):
    hub.failures["upload"] = 2
    push_folder(folder, "me/model")
    assert hub.files("me/model")["model.safetensors"] == (folder / "model.safetensors").read_bytes()


def test_what_was_sent_is_not_sent_again(hub, folder):
    hub.failures["commit"] = 1000
    with pytest.raises(ConnectionError):
        push_folder(folder, "me/model")
    sent = hub.requests["PUT upload"]
    assert sent > 0
    hub.failures.clear()
    push_folder(folder, "me/model")
    assert hub.requests["PUT upload"] == sent


def test_wrong_token_is_explained_and_not_repeated(hub, folder):
    with pytest.raises(ConnectionError, match=r"Pushing to 'me/model' failed: .*401(.|\n)*`hf auth login`") as refused:
        push_folder(folder, "me/model", token="hf_wrongwrongwrongwrongwrong")
    assert "hf_wrong" not in str(refused.value)


def test_folder_without_an_elastic_model_is_not_pushed(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        push_folder(tmp_path, "me/model")
    make_model().to_backbone().save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds a model of type 'bert', which has one size only"):
        push_folder(tmp_path, "me/model")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "weights.bin").touch()  # of an ONNX export
    with pytest.raises(FileNotFoundError, match=r"has no weights, .* nobody could load it\. .* `hf upload`"):
        push_folder(tmp_path, "me/model")
    assert not hub.requests


@pytest.mark.parametrize("repo_id", ["me/model", "me/model-{size}"], ids=["branches", "repositories"])
def test_pushed_sizes_stand_alone_and_name_their_parent(hub, repo_id):
    model = make_model()
    facts = make_facts(model, title="Reviews")
    sizes = ["w0.25-d0.5", "w0.5-d1", "l0h1n7-l3h2n5"]
    facts = replace(facts, sizes=(*facts.sizes, SizeRecord.counted(model, sizes[2], {"accuracy": 0.625})))
    done = push_subnetworks(model, repo_id, sizes, facts=facts, parent="me/model", processing_class=make_tokenizer())
    assert list(done) == sizes
    for size in sizes:
        place = {"repo": repo_id.replace("{size}", size), "revision": "main" if "{" in repo_id else size}
        loaded = DynaBertForSequenceClassification.from_pretrained(place["repo"], revision=place["revision"])
        with model.subnetwork(size), torch.no_grad():
            # The rounding of float32 in another memory layout.
            torch.testing.assert_close(loaded(**make_batch()).logits, model(**make_batch()).logits, atol=1e-5, rtol=0)
        files = hub.files(place["repo"], place["revision"])
        assert {"elastic_model.py", "tokenizer.json"} <= set(files)
        assert json.loads(files["config.json"])["extracted_from"]["parent"] == "me/model"
        card = ModelCard(files["README.md"].decode())
        assert card.data.base_model == "me/model"
        assert "https://huggingface.co/me/model" in card.text
        assert [line.split()[1] for line in card.text.splitlines() if line.startswith("| `")][:1] == [f"`{size}`"]
        assert [each.metric_name for each in card.data.eval_results] == [f"accuracy of {size}"]


@pytest.mark.parametrize("is_moved", [False, True])
def test_pushing_an_extracted_model_does_not_tell_the_folder_of_its_parent(hub, tmp_path, is_moved):
    make_model().save_pretrained(tmp_path / "secret-place")
    small = DynaBertForSequenceClassification.from_pretrained(tmp_path / "secret-place").extract("w0.25-d0.5")
    assert "secret-place" in small.config.extracted_from["parent"]
    small.save_pretrained(tmp_path / "small")
    if is_moved:
        (tmp_path / "secret-place").rename(tmp_path / "elsewhere")
    small.push_to_hub("me/pushed")
    push_folder(tmp_path / "small", "me/folder")
    for repo_id in ("me/pushed", "me/folder"):
        files = hub.files(repo_id)
        assert json.loads(files["config.json"])["extracted_from"]["size"] == "w0.25-d0.5"
        assert b"secret-place" not in b"".join(files.values())


def test_the_branch_of_a_size_has_no_table_and_no_pictures_of_all_sizes(hub, tmp_path):
    model, tables = make_model(), ["results.json", "results.csv", "pareto.png", "grid.png"]
    model.save_pretrained(tmp_path)
    for name in (*tables, "notes.txt"):
        (tmp_path / name).write_text("of all sizes")
    push_folder(tmp_path, "me/model")
    push_subnetworks(model, "me/model", ["w0.25-d0.5"])
    assert {*tables, "notes.txt"} <= set(hub.files("me/model"))
    assert {*tables, "notes.txt"} & set(hub.files("me/model", "w0.25-d0.5")) == {"notes.txt"}


def test_card_of_a_pushed_size_has_the_metrics_that_the_model_remembers(hub):
    model = make_model()
    model.config.metrics = {"w0.25-d0.5": {"accuracy": 0.8125, "loss": None}, "teacher": {"accuracy": 0.9}}
    push_subnetworks(model, "me/model", ["w0.25-d0.5"])
    card = ModelCard(hub.files("me/model", "w0.25-d0.5")["README.md"].decode())
    assert [(result.metric_type, result.metric_value) for result in card.data.eval_results] == [("accuracy", 0.8125)]
    assert "# DynaBERT, w0.25-d0.5\n" in card.text
    rows = {
        line.split("|")[1].strip(" `"): line.split("|")[4].strip() for line in card.text.splitlines() if "| " in line
    }
    assert (rows["w0.25-d0.5"], rows["teacher"]) == ("0.8125", "0.9000")
    push_subnetworks(model, "me/model", ["w0.25-d0.5"], facts=make_facts(model))
    card = ModelCard(hub.files("me/model", "w0.25-d0.5")["README.md"].decode())
    assert "# DynaBERT, Reviews, w0.25-d0.5\n" in card.text  # and not in so many sizes


def examples(page, language="python"):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_examples_of_the_pages_run(hub, tmp_path, monkeypatch):
    """As they stand, where the demo has been run and the authors' checkpoint is on the Hub."""
    model = make_model(stock={"vocab_size": 99, "max_position_embeddings": 64}, metrics={"w1-d1": {"accuracy": 0.8125}})
    folder = tmp_path / "outputs" / "demo" / "dynabert" / "model"
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    write_model_card(folder, make_facts(model))
    publish_as_the_authors_did(tmp_path / "published", make_model(stock={"num_labels": 2}))
    huggingface_hub.create_repo("huawei-noah/DynaBERT_SST-2")
    huggingface_hub.upload_folder(repo_id="huawei-noah/DynaBERT_SST-2", folder_path=tmp_path / "published")
    monkeypatch.chdir(tmp_path)
    [readme] = [code for code in examples("README.md") if "set_active(" in code and "outputs/demo" in code]
    scope = {}
    for code in [readme, *examples("docs/hub.md")]:
        exec(code, scope)
    assert {"main", "w0.5-d0.75", "w0.25-d0.5"} <= set(hub.repositories["you/dynabert-reviews"].refs)
    card = (tmp_path / "with-code" / "README.md").read_text()
    assert "batch 1, 32 tokens" in card
    [row] = [line for line in card.splitlines() if line.startswith("| `w1-d1` |")]
    assert (" | 0.8125 | " in row, row.endswith(" ms |")) == (True, True)
    for line in examples("docs/hub.md", "bash")[0].splitlines():
        main(shlex.split(line)[1:])
    assert len(hub.repositories["you/dynabert-reviews"].log) == 1 + 2 * 3


def test_size_that_does_not_exist_pushes_nothing(hub):
    model = make_model()
    with pytest.raises(SubNetworkError, match="leaves no attention head"):
        push_subnetworks(model, "me/model", ["w0.5-d0.5", "w0.01-d0.5"])
    layers = tuple(LayerShape(index, 4, 12 + index) for index in range(6))
    with pytest.raises(ValueError, match="maximum length is 96"):
        push_subnetworks(model, f"me/{'m' * 60}-{{size}}", ["w0.5-d0.5", layers])
    with pytest.raises(ValueError, match=r"sizes=\[\] is no list of sizes\. Possible are lists such as \['w1-d1'\]"):
        push_subnetworks(model, "me/model", [])
    assert not hub.requests


def test_failure_between_sizes_names_what_is_done(hub, monkeypatch):
    upload = huggingface_hub.HfApi.upload_folder

    def upload_until_the_second(self, *, revision, **kwargs):
        hub.failures["commit"] = 1000 * (revision == "w0.5-d0.5")
        return upload(self, revision=revision, **kwargs)

    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_until_the_second)
    with pytest.raises(ConnectionError, match=r"Pushed before: w0\.25-d0\.5; not pushed: w0\.5-d0\.5, w1-d0\.5\."):
        push_subnetworks(make_model(), "me/model", ["w0.25-d0.5", "w0.5-d0.5", "w1-d0.5"])


def make_trainer(folder, model=None, **given):
    batch = make_batch(batch=4)
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor(number % 3)}
        for number, (ids, mask) in enumerate(zip(batch["input_ids"], batch["attention_mask"], strict=True))
    ]
    settings = {"stage": "finetune", "max_steps": 1, "use_cpu": True, "report_to": "none", "disable_tqdm": True}
    args = DynaBertTrainingArguments(str(folder), **settings, hub_model_id="me/trained", hub_token=TOKEN, **given)
    return DynaBertTrainer(model or make_model(), None, args, train_dataset=rows, processing_class=make_tokenizer())


def test_trainer_pushes_code_and_no_token(hub, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    trainer = make_trainer(tmp_path / "run")
    trainer.train()
    trainer.push_to_hub()
    files = hub.files("me/trained")
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "elastic_model.py"} <= set(files)
    assert json.loads(files["config.json"])["auto_map"]["AutoModel"] == "modeling_dynabert.DynaBertModel"
    assert trainer.args.hub_token == TOKEN
    for name, content in files.items():
        assert TOKEN.encode() not in content, name
    assert TOKEN not in caplog.text
    loaded = DynaBertForSequenceClassification.from_pretrained("me/trained")
    assert torch.equal(loaded.classifier.weight, trainer.model.classifier.weight)


def test_what_a_trainer_pushes_while_training_has_its_code(hub, tmp_path):
    saves = {"save_strategy": "steps", "save_steps": 1, "hub_strategy": "checkpoint"}
    trainer = make_trainer(tmp_path / "run", push_to_hub=True, **saves)
    trainer.train()
    files, code = hub.files("me/trained"), {"elastic_model.py", "modeling_dynabert.py"}
    assert code <= set(files)
    assert {f"last-checkpoint/{name}" for name in code} <= set(files)
    for config in ("config.json", "last-checkpoint/config.json"):
        assert json.loads(files[config])["auto_map"]["AutoModel"] == "modeling_dynabert.DynaBertModel"
    assert broken_part(tmp_path / "run" / "checkpoint-1") is None


@pytest.mark.parametrize("given", [{"hub_revision": "draft"}, {}], ids=["by the arguments", "by the call"])
def test_a_trainer_makes_the_branch_that_it_pushes_to_and_its_card_names_it(hub, tmp_path, given):
    trainer = make_trainer(tmp_path / "run", **given)
    trainer.train()
    trainer.push_to_hub(revision=None if given else "draft")
    assert set(hub.repositories["me/trained"].refs) == {"main", "draft"}
    assert not hub.files("me/trained")
    card = hub.files("me/trained", "draft")["README.md"].decode()
    assert card.count('"me/trained", revision="draft"') == 2


@pytest.fixture
def made(monkeypatch):
    """Of every repository that is made whether it is private."""
    made, create = [], huggingface_hub.HfApi.create_repo

    def create_repo(self, *args, private=None, **kwargs):
        made.append(private)
        return create(self, *args, private=private, **kwargs)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    return made


def test_a_model_its_space_and_its_sizes_are_private_if_asked(hub, tmp_path, made):
    folder = str(tmp_path / "model")
    make_model().save_pretrained(folder)
    push_folder(folder, "me/model", private=True, space=True)
    push_subnetworks(make_model(), "me/{size}", ["w0.5-d0.5", "w1-d1"], private=True)
    assert made == [True] * 4
    assert main(["push", folder, "me/other", "--private", "--space"]) == 0
    assert main(["push", folder, "me/third", "--private", "--size", "w0.5-d0.5"]) == 0
    assert made == [True] * 7
    assert main(["push", folder, "me/open"]) == 0
    assert made[7:] == [None]


@pytest.mark.parametrize(
    ("given", "by_call", "expected"), [(None, None, None), (True, None, True), (None, True, True), (True, False, False)]
)
def test_a_trainer_makes_a_private_repository_if_asked(hub, tmp_path, made, given, by_call, expected):
    trainer = make_trainer(tmp_path / "run", hub_private_repo=given)
    trainer.push_to_hub(private=by_call)
    assert made[0] is expected
    assert trainer.args.hub_private_repo is given
    assert "model.safetensors" in hub.files("me/trained")


@pytest.mark.parametrize("kind", ["create", "commit"])
def test_network_failure_of_a_trainer_is_explained_and_the_retry_works(hub, tmp_path, kind):
    trainer = make_trainer(tmp_path / "run")
    hub.failures[kind] = 1000
    with pytest.raises(ConnectionError, match=r"'me/trained' failed: .*What was saved lies in .*run'\. See whether"):
        trainer.push_to_hub()
    hub.failures[kind] = 0
    trainer.push_to_hub()
    assert "model.safetensors" in hub.files("me/trained")


@pytest.mark.parametrize("first", [None, "50KB"], ids=["whole", "sharded"])
@pytest.mark.parametrize("by", ["model", "folder"])
def test_weights_of_an_earlier_push_are_not_loaded_in_the_place_of_new_ones(hub, tmp_path, by, first):
    model, sizes = make_model(), {None: {}, "50KB": {"max_shard_size": "50KB"}}
    second = "50KB" if first is None else None
    model.push_to_hub("me/model", **sizes[first])
    with torch.no_grad():
        model.classifier.weight += 1
    if by == "model":
        model.push_to_hub("me/model", **sizes[second])
    else:
        model.save_pretrained(tmp_path / "model", **sizes[second])
        push_folder(tmp_path / "model", "me/model")
    model.save_pretrained(tmp_path / "alone", **sizes[second])
    weights = {path.name for path in (tmp_path / "alone").glob("model*")}
    assert {name for name in hub.files("me/model") if name.startswith("model") and ".safetensors" in name} == weights
    loaded = DynaBertForSequenceClassification.from_pretrained("me/model")
    assert torch.equal(loaded.classifier.weight, model.classifier.weight)


def test_a_size_takes_the_place_of_the_weights_of_all_sizes_on_its_branch(hub):
    model = make_model()
    model.push_to_hub("me/model", max_shard_size="50KB")
    push_subnetworks(model, "me/model", ["w0.5-d0.5"])
    assert [name for name in hub.files("me/model", "w0.5-d0.5") if ".safetensors" in name] == ["model.safetensors"]
    assert len([name for name in hub.files("me/model") if ".safetensors" in name]) > 2


def test_a_pushed_adapter_leaves_the_weights_of_the_model(hub, tmp_path):
    make_model().push_to_hub("me/model")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"an adapter")
    push(tmp_path, "me/model")
    assert {"adapter_model.safetensors", "model.safetensors"} <= set(hub.files("me/model"))
