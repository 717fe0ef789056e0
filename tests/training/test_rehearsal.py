"""What only a trainer finds out is said before a run has done anything."""

import warnings

import pytest
import torch
from helpers.backbones import make_stock
from helpers.recipes import make_sentences, make_teacher, run_recipe
from transformers import EarlyStoppingCallback

from dynabert_hf import SubNetworkError
from dynabert_hf.training.arguments import RECOMPUTE

PLATEAU = {"eval_strategy": "steps", "eval_steps": 1, "lr_scheduler_type": "reduce_lr_on_plateau"}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"lr_scheduler_type": "cosine_with_min_lr"}, ValueError, r"'depth' cannot begin with .*min_lr.* Change what"),
        ({"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": -1.0})}, ValueError, "Invalid learning rate"),
        ({"optimizer_cls_and_kwargs": (torch.optim.SGD, {"rate": 1.0})}, ValueError, "rate"),
        ({"adam_beta1": 2.0}, ValueError, r"arguments: Invalid beta parameter at index 0: 2\.0\. Change what"),
        ({"report_to": "nowhere"}, ValueError, r"arguments: nowhere is not supported, only .*\. Change what that"),
        ({"optim": "galore_adamw"}, (ImportError, ValueError), "GaLore|optim_target_modules"),
        ({"eval_strategy": "epoch", "eval_dataset": None}, ValueError, "eval_dataset"),
        ({"callbacks": [EarlyStoppingCallback()]}, ValueError, r"Early stopping is not .*metric_for_best_model.* Give"),
        ({"eval_sizes": ["half"]}, SubNetworkError, "'half' is not a size|half"),
        ({"save_strategy": "best"}, ValueError, "metric_for_best_model"),
        ({"stage_arguments": {"depth": {"lr_scheduler_type": "warmup_stable_decay"}}}, ValueError, "num_decay_steps"),
    ],
)
def test_what_a_stage_cannot_begin_with_is_said_before_any_work(tmp_path, given, error, message):
    with pytest.raises(error, match=message):
        run_recipe(tmp_path, **given)
    assert not (tmp_path / "run").exists()


def test_activation_checkpointing_that_a_family_lacks_is_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match=r"MPNet.* does not support (activation|gradient) checkpointing"):
        run_recipe(tmp_path, make_stock("MPNet", num_labels=2), **{RECOMPUTE: True})
    assert not (tmp_path / "run").exists()


def test_a_misspelt_metric_of_ones_own_is_refused_before_rewiring(tmp_path):
    calls = []

    def compute_metrics(prediction):
        calls.append(len(prediction.predictions))
        return {"f1_of_joy": 0.5}

    known = r"\['loss', 'f1_of_joy'\]"
    with pytest.raises(
        ValueError, match=rf"best_model='mean_f1_of_jo' will not come .*: metrics of a size are {known}"
    ):
        run_recipe(tmp_path, **PLATEAU, metric_for_best_model="mean_f1_of_jo", compute_metrics=compute_metrics)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]
    assert set(calls) == {8}  # whole, since what it returns may depend on the rows
    given = {"metric_for_best_model": "f1_of_joy", "eval_sizes": ["w1-d1"], "compute_metrics": compute_metrics}
    result = run_recipe(tmp_path, **PLATEAU, **given)
    assert result.teacher_metrics["f1_of_joy"] == 0.5


@pytest.mark.parametrize("hidden", [False, True])
def test_a_metric_that_will_not_come_is_refused_before_rewiring(tmp_path, hidden):
    data = make_sentences(8).remove_columns("labels") if hidden else make_sentences(8)
    known = r"\[\]" if hidden else r"\['loss', 'accuracy'\]"
    with pytest.raises(ValueError, match=rf"best_model='f1' will not come .*: metrics of a size are {known}"):
        run_recipe(tmp_path, **PLATEAU, metric_for_best_model="f1", eval_dataset=data)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]
    if not hidden:
        run_recipe(tmp_path, **PLATEAU, metric_for_best_model="worst_accuracy", eval_sizes=["w1-d1"])


def replaced_head(teacher):
    teacher.classifier = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
    return teacher


def quantised(teacher):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # until torchao takes the place of this way
        return torch.ao.quantization.quantize_dynamic(teacher, {torch.nn.Linear})


@pytest.mark.parametrize("change", [replaced_head, quantised])
def test_a_model_that_cannot_be_copied_is_refused_before_any_work(tmp_path, change):
    with pytest.raises(
        ValueError, match=r"has no tensor .*a quantised or pruned layer or one of your own has its place"
    ):
        run_recipe(tmp_path, change(make_teacher()))
    assert not (tmp_path / "run").exists()


def test_a_quantised_model_may_teach_and_is_told_from_others(tmp_path):
    one = run_recipe(tmp_path, taught_by=quantised(make_teacher()))
    again = run_recipe(tmp_path, taught_by=quantised(make_teacher()))  # the same run, which is finished
    assert torch.equal(one.model.classifier.weight, again.model.classifier.weight)
    other = make_teacher()
    other.classifier.weight.data.neg_()
    with pytest.raises(ValueError, match=r"holds a run with \{'teacher':"):
        run_recipe(tmp_path, taught_by=quantised(other))


@pytest.mark.parametrize("number", [0, -1, float("nan")])
@pytest.mark.parametrize("name", ["num_train_epochs", "learning_rate"])
def test_a_stage_that_learns_nothing_is_refused(tmp_path, name, number):
    with pytest.raises(ValueError, match=rf"{name}={number} trains nothing.* rewired alone call measure_importance"):
        run_recipe(tmp_path, **{"max_steps": -1, name: number})
    assert not (tmp_path / "run").exists()


def test_a_stage_of_no_step_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"max_steps=0 trains nothing\. Possible is a number above 0, such as 100; for"
    ):
        run_recipe(tmp_path, max_steps=0)
    assert not (tmp_path / "run").exists()
