"""What a person sees of a run while it goes on, and what it leaves to look at."""

import csv
import json

import pytest
from helpers.trainers import accuracy, make_trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback

from dynabert_hf.training.callbacks import SizeProgressCallback, parse_logged_name, save_history


@pytest.fixture
def often(monkeypatch):
    """Bars show every size, however fast it is trained."""
    monkeypatch.setattr("dynabert_hf.training.callbacks._SECONDS_BETWEEN_SHOWS", 0)


def bars_of(text):
    return text.replace("\r", "\n").splitlines()


def test_the_bar_shows_the_stage_and_every_size_in_work(tmp_path, capsys, often):
    trainer = make_trainer(tmp_path, "depth", disable_tqdm=False)
    trainer.train()
    bars = [bar for bar in bars_of(capsys.readouterr().err) if bar.startswith("Stage depth")]
    assert any("/2 " in bar for bar in bars)
    for size in trainer.model.config.subnetworks:
        assert any(f", {size}]" in bar for bar in bars), size


def test_the_bar_is_drawn_only_a_few_times_a_second(tmp_path, capsys):
    progress = SizeProgressCallback()
    trainer = make_trainer(tmp_path)
    progress.on_train_begin(trainer.args, trainer.state, trainer.control)
    sizes = trainer.model.config.subnetworks * 50
    for size in sizes:
        progress.show_size(size)
    drawn = [bar for bar in bars_of(capsys.readouterr().err) if ", w" in bar]
    progress.on_train_end(trainer.args, trainer.state, trainer.control)
    assert 1 <= len(drawn) < len(sizes) / 10


def test_the_bar_of_an_evaluation_names_its_size(tmp_path, capsys):
    trainer = make_trainer(tmp_path, disable_tqdm=False)
    trainer.evaluate()
    shown = capsys.readouterr().err
    for size in trainer.model.config.subnetworks:
        assert f"Evaluating {size}" in shown


def test_lines_beside_the_bar_tell_totals_and_no_single_sizes(tmp_path, capsys):
    trainer = make_trainer(tmp_path, disable_tqdm=False, compute_metrics=accuracy, eval_strategy="epoch")
    trainer.train()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert any("'loss'" in line for line in lines)
    assert any("'eval_worst_accuracy'" in line for line in lines)
    assert not any("w0.25" in line for line in lines)


def test_without_bars_nothing_is_shown(tmp_path, capsys, often):
    make_trainer(tmp_path).train()
    assert capsys.readouterr().err == ""


def test_a_callback_of_ones_own_stays(tmp_path):
    class Mine(SizeProgressCallback):
        pass

    class Other(TrainerCallback):
        pass

    trainer = make_trainer(tmp_path, callbacks=[Mine(), Other()])
    assert {Mine, Other} <= {type(callback) for callback in trainer.callback_handler.callbacks}


def test_tensorboard_groups_the_scalars_of_the_sizes_by_metric(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    trainer = make_trainer(
        tmp_path, report_to="tensorboard", compute_metrics=accuracy, eval_strategy="steps", eval_steps=1
    )
    trainer.train()
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    sizes = trainer.model.config.subnetworks
    groups = ("train_logit_loss", "train_hidden_loss", "eval_accuracy", "eval_loss")
    assert {f"{group}/{size}" for group in groups for size in sizes} <= tags
    assert {"train/loss", "train/learning_rate", "eval/mean_accuracy", "eval/worst_accuracy"} <= tags
    assert not any("w0.25" in tag.split("/")[0] for tag in tags)
    logged = [entry["eval_w0.5-d0.75_accuracy"] for entry in trainer.state.log_history if "eval_runtime" in entry]
    found = events.Scalars("eval_accuracy/w0.5-d0.75")
    assert [event.step for event in found] == [1, 2]
    assert [event.value for event in found] == pytest.approx(logged)


def test_the_history_holds_every_value_that_was_logged(tmp_path):
    trainer = make_trainer(tmp_path, compute_metrics=accuracy, eval_strategy="steps", eval_steps=1)
    trainer.train()
    logs = trainer.state.log_history
    assert json.loads((tmp_path / "history.json").read_text()) == logs
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert len(rows) == sum(len(set(entry) - {"step", "epoch"}) for entry in logs)
    named = {(row["step"], row["split"], row["size"], row["metric"]): float(row["value"]) for row in rows}
    first = next(entry for entry in logs if "eval_loss" not in entry and "loss" in entry)
    assert named["1", "train", "w0.5-d1", "logit_loss"] == first["w0.5-d1_logit_loss"]
    assert ("2", "eval", "w0.25-d0.5", "accuracy") in named
    assert ("2", "eval", "", "worst_accuracy") in named
    assert ("2", "train", "", "runtime") in named


def test_a_value_that_is_not_finite_is_empty_in_the_history(tmp_path):
    save_history([{"step": 1, "epoch": 0.5, "eval_w0.5-d1_pearson": float("nan"), "loss": 1.0}], tmp_path)
    assert json.loads((tmp_path / "history.json").read_text(), parse_constant=pytest.fail)
    assert "1,0.5,eval,w0.5-d1,pearson,\n" in (tmp_path / "history.csv").read_text().replace("\r", "")


@pytest.mark.parametrize("name", ["loss", "eval_mean_accuracy", "eval_w0.5_accuracy", "w0.5-d0.5"])
def test_a_name_without_a_size_is_of_none(name):
    assert parse_logged_name(name) is None
