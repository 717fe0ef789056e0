"""What a person sees of a run while it goes on, and what it leaves to look at."""

import csv
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.recipes import run_recipe
from helpers.tiny import make_batch, make_model, make_tokenizer
from helpers.trainers import accuracy, make_dataset, make_trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import PrinterCallback, TrainerCallback

from dynabert_hf import DynaRobertaForSequenceClassification, specialise
from dynabert_hf.training.callbacks import SizeProgressCallback, log_line, parse_logged_name, save_history


@pytest.fixture
def terminal(monkeypatch):
    """Bars are drawn as in a terminal."""
    monkeypatch.setattr("dynabert_hf.training.callbacks.is_terminal", lambda: True)


@pytest.fixture
def often(terminal, monkeypatch):
    """Bars show every size, however fast it is trained."""
    monkeypatch.setattr("dynabert_hf.training.callbacks._SECONDS_BETWEEN_SHOWS", 0)


def bars_of(text):
    return text.replace("\r", "\n").splitlines()


def test_an_evaluation_before_the_first_step_has_a_line_and_one_outside_of_training_has_none(tmp_path, capsys):
    trainer = make_trainer(tmp_path, eval_on_start=True)
    trainer.evaluate()
    assert "loss" not in capsys.readouterr().out
    trainer.train()
    assert "\nStage depth, step 0 of 2: eval_mean_loss" in f"\n{capsys.readouterr().out}"


def test_the_bar_shows_the_stage_and_every_size_in_work(tmp_path, capsys, often):
    trainer = make_trainer(tmp_path, "depth", disable_tqdm=False)
    trainer.train()
    bars = [bar for bar in bars_of(capsys.readouterr().err) if bar.startswith("Stage depth")]
    assert any("/2 " in bar for bar in bars)
    for size in trainer.model.config.subnetworks:
        assert any(f", {size}]" in bar for bar in bars), size


def test_the_bar_is_drawn_only_a_few_times_a_second(tmp_path, capsys, monkeypatch):
    clock = itertools.count(step=0.001)  # as if showing a size took a millisecond
    monkeypatch.setattr("dynabert_hf.training.callbacks.time", SimpleNamespace(monotonic=lambda: next(clock)))
    progress = SizeProgressCallback()
    trainer = make_trainer(tmp_path)
    progress.on_train_begin(trainer.args, trainer.state, trainer.control)
    sizes = trainer.model.config.subnetworks * 150
    for size in sizes:
        progress.show_size(size)
    drawn = [bar for bar in bars_of(capsys.readouterr().err) if ", w" in bar]
    progress.on_train_end(trainer.args, trainer.state, trainer.control)
    assert 1 <= len(drawn) < len(sizes) / 10


def test_one_bar_goes_over_the_evaluation_of_all_sizes(tmp_path, capsys, terminal):
    trainer = make_trainer(tmp_path, model=make_model(), disable_tqdm=False, per_device_eval_batch_size=4)
    trainer.evaluate()
    trainer.evaluate(sizes=["w0.5-d0.5", "w1-d1"])
    bars = [bar for bar in bars_of(capsys.readouterr().err) if bar.startswith("Evaluating")]
    assert sum(" 0/24 " in bar for bar in bars) == 1  # one start: 2 batches of 12 sizes
    assert any(" 24/24 " in bar for bar in bars)
    assert bars[-1].startswith("Evaluating 2 sizes: 100%")
    assert " 4/4 " in bars[-1]
    assert all(bar.startswith(("Evaluating 12 sizes:", "Evaluating 2 sizes:")) for bar in bars)


def test_lines_beside_the_bar_name_the_stage_and_no_single_sizes(tmp_path, capsys, terminal):
    trainer = make_trainer(tmp_path, disable_tqdm=False, compute_metrics=accuracy, eval_strategy="epoch")
    trainer.train()
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("Stage depth, step 1 of 2: loss ") for line in lines)
    assert any("eval_worst_accuracy" in line for line in lines)
    assert not any("w0.5" in line or "eval_runtime" in line for line in lines)


@pytest.mark.parametrize("disable_tqdm", [False, True])
def test_redirected_there_is_a_line_a_logged_step_and_nothing_else(tmp_path, capsys, disable_tqdm):
    trainer = make_trainer(
        tmp_path,
        disable_tqdm=disable_tqdm,
        compute_metrics=accuracy,
        eval_strategy="steps",
        eval_steps=1,
    )
    trainer.train()
    trainer.evaluate()
    shown = capsys.readouterr()
    assert shown.err == ""
    logged = [entry for entry in trainer.state.log_history if entry["step"]]
    assert len(shown.out.splitlines()) == len(logged) == 6  # two steps, each evaluated; the end; evaluated again
    first = next(entry["loss"] for entry in logged if "loss" in entry)
    assert shown.out.startswith(f"Stage depth, step 1 of 2: loss {first:.4g}, ")
    assert "w0.5" not in shown.out


def test_lines_are_turned_off_as_those_of_transformers_are(tmp_path, capsys):
    trainer = make_trainer(tmp_path)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "make", [lambda: make_model(widths=[1.0], depths=[1.0]), lambda: make_model().extract("w0.5-d0.75")]
)
def test_a_line_about_one_size_names_no_stage(make):
    state = SimpleNamespace(global_step=3, max_steps=9)
    args, model = SimpleNamespace(stage="finetune"), make()
    assert log_line(args, state, {"loss": 0.5}, model) == "Training, step 3 of 9: loss 0.5"


def test_a_notebook_has_bars_of_all_sizes_and_no_table_with_a_column_for_each(tmp_path, monkeypatch, capsys):
    class Table(TrainerCallback):
        """Stands for what transformers shows in notebooks."""

    for module in ("transformers.trainer", "dynabert_hf.training.callbacks"):
        monkeypatch.setattr(f"{module}.DEFAULT_PROGRESS_CALLBACK", Table)
    monkeypatch.setattr("dynabert_hf.training.callbacks.is_in_notebook", lambda: True)
    trainer = make_trainer(tmp_path, disable_tqdm=False, eval_strategy="epoch", per_device_eval_batch_size=4)
    trainer.train()
    assert not any(isinstance(callback, Table) for callback in trainer.callback_handler.callbacks)
    assert "Evaluating 4 sizes: 100%|██████████| 8/8" in capsys.readouterr().err


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
        tmp_path,
        report_to="tensorboard",
        compute_metrics=accuracy,
        eval_strategy="steps",
        eval_steps=1,
    )
    trainer.train()
    events = EventAccumulator(str(tmp_path / "events" / tmp_path.name))  # a folder a training
    events.Reload()
    tags = set(events.Tags()["scalars"])
    sizes = trainer.model.config.subnetworks
    groups = ("train_logit_loss", "train_hidden_loss", "eval_accuracy", "eval_loss")
    assert {f"{group}/{size}" for group in groups for size in sizes} <= tags
    assert {"train/loss", "train/learning_rate", "eval/mean_accuracy", "eval/worst_accuracy"} <= tags
    assert not any("w0.5" in tag.split("/")[0] for tag in tags)
    logged = [entry["eval_w0.5-d1_accuracy"] for entry in trainer.state.log_history if "eval_runtime" in entry]
    found = events.Scalars("eval_accuracy/w0.5-d1")
    assert [event.step for event in found] == [1, 2]
    assert [event.value for event in found] == pytest.approx(logged)


def test_tensorboard_leaves_out_metrics_that_are_no_numbers_and_shows_texts(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    found = {"report": {"LABEL_0": {"f1": 0.25}}, "note": "fine", "f1": np.float32(0.25)}
    settings = {"compute_metrics": lambda prediction: found, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 1}
    make_trainer(tmp_path, report_to="tensorboard", **settings).train()
    events = EventAccumulator(str(tmp_path / "events" / tmp_path.name))  # a folder a training
    events.Reload()
    assert [event.value for event in events.Scalars("eval_f1/w0.5-d1")] == [0.25]
    assert "eval/w0.5-d1_note/text_summary" in events.Tags()["tensors"]
    assert not any("report" in tag for tag in events.Tags()["scalars"])
    assert "so we dropped this attribute" in caplog.text


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
    assert ("2", "eval", "w0.5-d0.5", "accuracy") in named
    assert ("2", "eval", "", "worst_accuracy") in named
    assert ("2", "train", "", "runtime") in named


def test_a_value_that_is_not_finite_is_empty_in_the_history(tmp_path):
    save_history([{"step": 1, "epoch": 0.5, "eval_w0.5-d1_pearson": float("nan"), "loss": 1.0}], tmp_path)
    assert json.loads((tmp_path / "history.json").read_text(), parse_constant=pytest.fail)
    assert "1,0.5,eval,w0.5-d1,pearson,\n" in (tmp_path / "history.csv").read_text().replace("\r", "")


@pytest.mark.parametrize("name", ["loss", "eval_mean_accuracy", "eval_w0.5_accuracy", "w0.5-d0.5"])
def test_a_name_without_a_size_is_of_none(name):
    assert parse_logged_name(name) is None


class Averaging(torch.optim.SGD):
    """An optimiser whose weights to use are those that it steps from, plus 1."""

    is_training = True

    def train(self):
        self.move(-1.0, to=True)

    def eval(self):
        self.move(1.0, to=False)

    @torch.no_grad()
    def move(self, by, *, to):
        if self.is_training is not to:
            for group in self.param_groups:
                for weight in group["params"]:
                    weight.add_(by)
        self.is_training = to


def test_weights_to_use_are_left_by_optimisers_that_have_others_to_step_from(tmp_path):
    moved, stayed = (
        run_recipe(
            tmp_path / optimizer.__name__,
            max_steps=1,
            optimizer_cls_and_kwargs=(optimizer, {"lr": 0.0}),
            eval_dataset=None,
        ).model.state_dict()
        for optimizer in (Averaging, torch.optim.SGD)
    )
    for name, weight in stayed.items():
        assert torch.allclose(moved[name], weight + 1, atol=1e-6), name


@pytest.mark.parametrize("is_alone", [False, True], ids=["all sizes", "one size"])
def test_a_roberta_is_loaded_with_the_positions_that_it_learned_whatever_pads(tmp_path, is_alone):
    model = make_model("Roberta", stock={"pad_token_id": 1, "num_hidden_layers": 2})
    tokenizer = make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])  # which pads with 0
    if is_alone:
        settings = {"max_steps": 1, "use_cpu": True, "disable_tqdm": True}
        model = specialise(model, "w0.5-d1", train_dataset=make_dataset(), processing_class=tokenizer, **settings)
    else:
        make_trainer(tmp_path, model=model, processing_class=tokenizer).train()
    model.save_pretrained(tmp_path / "saved")
    loaded = DynaRobertaForSequenceClassification.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        ours, theirs = (each.eval()(**make_batch()).logits for each in (model, loaded))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)  # lies elsewhere in memory, which rounds
