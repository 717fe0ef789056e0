"""The folder of a run: what binds it, what a finished one keeps, and what a second call does."""

import json
import os
from functools import partial

import pytest
import torch
from helpers.backbones import make_stock
from helpers.recipes import make_sentences, make_teacher, run_recipe
from helpers.tiny import make_tokenizer
from helpers.trainers import StopAt
from safetensors.torch import load_file
from transformers import DataCollatorForLanguageModeling
from transformers import default_data_collator as collate

from dynabert_hf import DynaBertConfig, DynaBertTrainer
from dynabert_hf.sizes.evaluation import store_metrics

EPOCHS = {"max_steps": -1, "num_train_epochs": 3, "learning_rate": 1e-2}


def interrupt(tmp_path, step, **kwargs):
    with pytest.raises(KeyboardInterrupt):
        run_recipe(tmp_path, callbacks=[StopAt(step)], **kwargs)


def weights(folder):
    return load_file(folder / "run" / "model" / "model.safetensors")


def assert_equal(one, two):
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_run_goes_on_under_arguments_that_decide_no_weight(tmp_path):
    run_recipe(tmp_path / "whole", **EPOCHS)
    interrupt(tmp_path / "cut", 5, **EPOCHS)
    other = {
        "logging_steps": 7,
        "dataloader_num_workers": 1,
        "disable_tqdm": False,
        "per_device_eval_batch_size": 3,
        "save_total_limit": 2,
        "report_to": [],
    }
    run_recipe(tmp_path / "cut", **{**EPOCHS, **other}, eval_dataset=make_sentences(4))
    assert_equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_what_decides_weights_is_refused_once_there_is_a_checkpoint(tmp_path, monkeypatch):
    interrupt(tmp_path, 5, **EPOCHS)
    with pytest.raises(ValueError, match=r"holds a run with {'learning_rate': 0\.01}, now {'learning_rate': 0\.02} is"):
        run_recipe(tmp_path, **{**EPOCHS, "learning_rate": 2e-2})
    with pytest.raises(ValueError, match=r"{'examples_in_a_step': 4}, now {'examples_in_a_step': 8} is asked"):
        run_recipe(tmp_path, **EPOCHS, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match=r"{'steps': \['1-rewired', '3-depth'\]}, now {'steps': \['1-rewired', '2-w"):
        run_recipe(tmp_path, **EPOCHS, stages=("width", "depth"), stage_arguments={"depth": {"teacher_width": "full"}})
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")  # as accelerate launch tells it
    with pytest.raises(ValueError, match=r"{'mixed_precision': 'no'}, now {'mixed_precision': 'bf16'} is asked"):
        run_recipe(tmp_path, **EPOCHS)


def test_arguments_may_change_as_long_as_a_stage_has_left_nothing(tmp_path):
    """As after running out of memory in the first step."""
    interrupt(tmp_path / "cut", 1, max_steps=2, learning_rate=1e-3)
    result = run_recipe(tmp_path / "cut", max_steps=3, learning_rate=1e-2, per_device_train_batch_size=2)
    expected = run_recipe(tmp_path / "new", max_steps=3, learning_rate=1e-2, per_device_train_batch_size=2)
    assert_equal(result.model.state_dict(), expected.model.state_dict())
    with pytest.raises(ValueError, match=r"{'model': '\w+', .*'learning_rate': 0\.01"):
        run_recipe(tmp_path / "cut", make_teacher(num_labels=3), max_steps=3)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        ({"widths": ()}, "widths is empty"),
        ({"widths": (0.5,)}, r"leave out the full size\. Possible are .* Add 1\.0"),
        ({"depths": (0.01, 1.0)}, "leaves no layer"),
        ({"kept_layers": {"0.5": [0, 9, 10]}}, "kept_layers"),
        ({"max_importance_samples": 0}, r"max_importance_samples=0 is not possible\. Give at least 1"),
        ({"max_importance_samples": 4.5}, r"max_importance_samples=4\.5 is not possible\. .* a whole number"),
        ({"compute_metrics": "accuracy"}, r"compute_metrics='accuracy' cannot be called\. Give a function"),
        ({"data_collator": "default"}, "data_collator='default' cannot be called"),
        (
            {"importance_labels": "guessed"},
            r"importance_labels='guessed' is unknown\. Possible is one of 'data', 'predictions'",
        ),
    ],
)
def test_a_call_that_is_refused_writes_nothing(tmp_path, first, message):
    with pytest.raises((ValueError, TypeError), match=message):
        run_recipe(tmp_path, **first)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_keeps_its_result_and_no_more(tmp_path):
    run_recipe(tmp_path, stages=("width", "depth"), finetune=True, **EPOCHS)
    folder = tmp_path / "run"
    left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    of_stages = [name for name in left if not name.startswith("model/")]
    assert of_stages == [
        "1-rewired/importance.safetensors",
        *(f"{stage}/{name}" for stage in ("2-width", "3-depth", "4-finetune")
          for name in ("history.csv", "history.json")),
        "run.json",
    ]  # fmt: skip
    assert [name for name in left if name.endswith("model.safetensors")] == ["model/model.safetensors"]


def test_by_default_only_the_folders_of_what_was_trained_are_made(tmp_path):
    run_recipe(tmp_path, keep_stages=True, save_strategy="epoch", **EPOCHS)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["1-rewired", "3-depth", "model", "run.json"]
    assert (tmp_path / "run" / "3-depth" / "model" / "model.safetensors").exists()
    assert (tmp_path / "run" / "3-depth" / "checkpoint-9" / "optimizer.pt").exists()


def test_a_second_call_returns_the_result_and_leaves_the_files(default_run, finished, monkeypatch):
    first = default_run[0]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in _files(finished / "run" / "model")}
    monkeypatch.setattr(DynaBertTrainer, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    second = run_recipe(finished)
    assert [row.metrics for row in second.rows] == [row.metrics for row in first.rows]
    assert second.teacher_metrics == first.teacher_metrics
    assert second.stages == first.stages
    assert_equal(second.model.state_dict(), first.model.state_dict())
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before


def _files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_finished_run_is_measured_on_other_data_without_touching_its_weights(tmp_path):
    run_recipe(tmp_path, eval_dataset=None)
    path = tmp_path / "run" / "model" / "model.safetensors"
    before = path.stat().st_mtime_ns
    result = run_recipe(tmp_path, eval_dataset=make_sentences(10))
    again = run_recipe(tmp_path / "other", eval_dataset=make_sentences(10))
    assert [row.metrics for row in result.rows] == [row.metrics for row in again.rows]
    folders = [tmp_path / "run" / "model", tmp_path / "other" / "run" / "model"]
    one, two = ((folder / "README.md").read_text().partition("\n# ")[2] for folder in folders)
    assert one
    assert one == two
    for name in ("results.json", "config.json"):
        one, two = (json.loads((folder / name).read_text()) for folder in folders)
        assert one == two, name
    assert path.stat().st_mtime_ns == before


def test_a_second_call_keeps_other_metrics_that_were_stored_since_and_what_the_card_says_beside(finished):
    folder = finished / "run" / "model"
    store_metrics(folder / "config.json", {"w1-d1": {"loss": 9.0, "macro_f1": 0.125}}, "7 rows of test.csv")
    card = folder / "README.md"
    card.write_text(card.read_text() + "\nA word of mine.\n")
    result = run_recipe(finished)
    config = DynaBertConfig.from_pretrained(folder)
    assert config.metrics["w1-d1"] == {**result.rows[-1].metrics, "macro_f1": 0.125}
    rows = dict.fromkeys(result.rows[-1].metrics, "8 rows of the evaluation data")
    assert config.metric_rows["w1-d1"] == {**rows, "macro_f1": "7 rows of test.csv"}
    assert result.model.config.metrics == config.metrics
    shown = card.read_text()
    assert "| 0.1250 |" in shown
    assert f"{result.rows[-1].metrics['loss']:.4f}" in shown
    assert shown.endswith("A word of mine.\n")
    before = card.read_bytes(), (folder / "config.json").read_bytes()
    assert run_recipe(finished, eval_dataset=None).model.config.metrics == config.metrics
    assert (card.read_bytes(), (folder / "config.json").read_bytes()) == before


def test_a_measurement_that_was_interrupted_is_written_by_the_next_call(tmp_path, monkeypatch):
    run_recipe(tmp_path, eval_dataset=None)
    with monkeypatch.context() as patch:
        patch.setattr("dynabert_hf.training.publishing.refresh_card", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(tmp_path, eval_dataset=make_sentences(10))
    folder = tmp_path / "run" / "model"
    result = run_recipe(tmp_path, eval_dataset=make_sentences(10))
    assert DynaBertConfig.from_pretrained(folder).metrics["w1-d1"] == result.rows[-1].metrics
    assert f"{result.rows[-1].metrics['loss']:.4f}" in (folder / "README.md").read_text()


def test_a_finished_run_takes_the_names_that_labels_have_now(finished):
    weights = (finished / "run" / "model" / "model.safetensors").read_bytes()
    teacher = make_teacher(id2label={0: "dull", 1: "fine"}, label2id={"dull": 0, "fine": 1})
    result = run_recipe(finished, teacher)
    assert result.model.config.id2label == {0: "dull", 1: "fine"}
    config = DynaBertConfig.from_pretrained(finished / "run" / "model")
    assert (config.id2label, config.label2id) == ({0: "dull", 1: "fine"}, {"dull": 0, "fine": 1})
    assert config.metrics["w1-d1"] == result.rows[-1].metrics
    assert (finished / "run" / "model" / "model.safetensors").read_bytes() == weights


def test_a_run_that_goes_on_takes_the_names_that_labels_have_now(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(DynaBertTrainer, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(tmp_path, stages=("width", "depth"))
    names = {0: "dull", 1: "fine"}
    result = run_recipe(tmp_path, make_teacher(id2label=names), stages=("width", "depth"))
    assert result.model.config.id2label == names


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


def test_a_run_killed_before_its_stages_were_removed_removes_them_when_called_again(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dynabert_hf.training.run_folder.shutil.rmtree", lambda *args, **kwargs: None)
        run_recipe(tmp_path)
    assert (tmp_path / "run" / "3-depth" / "model").exists()
    run_recipe(tmp_path)
    assert not (tmp_path / "run" / "3-depth" / "model").exists()


def test_a_model_of_ones_own_in_the_folder_is_not_overwritten(tmp_path):
    make_teacher().save_pretrained(tmp_path / "run" / "model")
    before = os.listdir(tmp_path / "run" / "model")
    with pytest.raises(ValueError, match=r"holds a folder 'model' that no run of the recipe left.* Give another"):
        run_recipe(tmp_path)
    assert os.listdir(tmp_path / "run" / "model") == before


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("optimizer", {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.1})}),
        ("importance_labels", {"importance_labels": "predictions"}),
        ("max_importance_samples", {"max_importance_samples": 5}),
        ("importance_dataset", {"importance_dataset": make_sentences(8)}),
        ("hidden_dropout_prob", {"dropout": 0.3}),
        ("teacher", {"taught_by": make_teacher(hidden_size=48)}),
    ],
)
def test_what_else_decides_the_order_of_heads_or_the_steps_of_a_stage_is_another_run(finished, name, other):
    with pytest.raises(ValueError, match=rf"holds a run with {{'{name}': .*}}, now {{'{name}': .* is asked"):
        run_recipe(finished, **other)


def test_the_seed_that_drew_the_rows_for_importance_binds_what_was_ordered_by_it(tmp_path):
    interrupt(tmp_path, 1, max_importance_samples=5)
    with pytest.raises(ValueError, match=r"holds a run with {'seed': 42}, now {'seed': 7} is asked"):
        run_recipe(tmp_path, max_importance_samples=5, seed=7)
    interrupt(tmp_path / "all", 1)  # where none was drawn, as no stage has left anything
    run_recipe(tmp_path / "all", seed=7)
    run_recipe(tmp_path / "whole", seed=7)
    assert_equal(weights(tmp_path / "all"), weights(tmp_path / "whole"))


def test_another_loss_on_labels_is_another_run(tmp_path):
    def weighted(outputs, labels, num_items_in_batch=None, factor=2):
        return factor * torch.nn.functional.cross_entropy(outputs.logits, labels)

    def twice(outputs, labels, num_items_in_batch=None):
        return weighted(outputs, labels)

    run_recipe(tmp_path / "one", label_weight=0.5, compute_loss_func=twice)
    run_recipe(tmp_path / "one", label_weight=0.5, compute_loss_func=twice)
    with pytest.raises(ValueError, match=r"holds a run with {'compute_loss_func': '.*twice'}, now .*None"):
        run_recipe(tmp_path / "one", label_weight=0.5)
    run_recipe(tmp_path / "two", label_weight=0.5, compute_loss_func=partial(weighted, factor=2))
    with pytest.raises(ValueError, match=r"'compute_loss_func': \['.*weighted', {'factor': 2}\]}, now .*{'factor': 3}"):
        run_recipe(tmp_path / "two", label_weight=0.5, compute_loss_func=partial(weighted, factor=3))


def test_a_collator_that_masks_otherwise_is_another_run(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(5, 99))]
    teacher, tokenizer = make_stock("Bert", "ForMaskedLM", num_hidden_layers=2), make_tokenizer(words)
    rows = make_sentences().remove_columns("labels")

    def run(share):
        masking = DataCollatorForLanguageModeling(tokenizer, mlm_probability=share)
        return run_recipe(tmp_path, teacher, train_dataset=rows, eval_dataset=None, data_collator=masking)

    run(0.5)
    run(0.5)
    with pytest.raises(
        ValueError, match=r"holds a run with \{'data_collator': \['DataCollatorForLanguageModeling'.*0\.5"
    ):
        run(0.3)


class Dropping:
    """A collator that leaves out tokens."""

    def __init__(self, share):
        self.share, self.batches = share, 0

    def collate(self, rows):
        self.batches += 1
        return collate(rows)

    __call__ = collate


def dropping(rows, share):
    return collate(rows)


@pytest.mark.parametrize(
    "make", [lambda share: partial(dropping, share=share), Dropping, lambda share: Dropping(share).collate]
)
def test_a_collator_with_other_settings_is_another_run(make, tmp_path):
    run_recipe(tmp_path, data_collator=(first := make(0.3)))
    run_recipe(tmp_path, data_collator=first)  # which has counted since
    run_recipe(tmp_path, data_collator=make(0.3))
    message = r"holds a run with \{'data_collator': \['[dD]ropping.*0\.3\}\]\}, now .*0\.5\}\]"
    with pytest.raises(ValueError, match=message):
        run_recipe(tmp_path, data_collator=make(0.5))


class Collator(dict):
    """A collator whose class has no signature, as its parent has none."""

    def __call__(self, rows):
        return collate(rows)


def test_a_collator_without_a_signature_goes_by_its_name(tmp_path):
    run_recipe(tmp_path, data_collator=Collator(share=0.3))
    with pytest.raises(ValueError, match=r"holds a run with \{'data_collator': 'Collator'\}, now .*None"):
        run_recipe(tmp_path)


def test_a_teacher_that_saw_labels_since_is_no_other_teacher(tmp_path):
    teacher = make_teacher()
    run_recipe(tmp_path, teacher)
    assert teacher.config.problem_type is None
    teacher(input_ids=torch.tensor([[5, 6]]), labels=torch.tensor([1]))
    assert teacher.config.problem_type == "single_label_classification"
    run_recipe(tmp_path, teacher)
