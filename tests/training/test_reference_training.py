"""Importance, rewiring and training against the values of the published implementation."""

import copy

import pytest
import torch
from datasets import Dataset
from helpers.reference import NAMES, batch_of, load_elastic, load_expected, load_spec, load_weights

from dynabert_hf import DynaBertTrainer, DynaBertTrainingArguments, measure_importance, rewire


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def test_importance_equals_the_published_values(name):
    expected = load_expected(name)
    importance = measure_importance(load_elastic(name), [batch_of(expected, 0)], progress=False)
    for kind in ("heads", "neurons"):
        ours, theirs = getattr(importance, kind), expected[f"importance.{kind}"]
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.max().item())
        assert torch.equal(ours.argsort(descending=True), theirs.argsort(descending=True))


def test_rewired_weights_and_outputs_equal_the_published_ones(name):
    expected = load_expected(name)
    model = load_elastic(name)
    rewire(model, measure_importance(model, [batch_of(expected, 0)], progress=False))
    for key, value in load_weights(name, "rewired").items():
        assert torch.equal(model.state_dict()[key], value), key
    for subnetwork in model.config.subnetworks:
        prefix = f"rewired.w{subnetwork.width:g}.d{subnetwork.depth:g}"
        with model.subnetwork(subnetwork), torch.no_grad():
            output = model(**batch_of(expected, 0))
        torch.testing.assert_close(output.logits, expected[f"{prefix}.logits"], rtol=0, atol=2e-5)
        torch.testing.assert_close(output.loss, expected[f"{prefix}.loss"], rtol=0, atol=2e-5)


def train(name, tmp_path, student, teacher, **kwargs):
    """Three steps as the reference ran them: plain SGD on batches 1 to 3 in order."""
    spec, expected = load_spec(name), load_expected(name)
    batches = [batch_of(expected, index) for index in (1, 2, 3)]
    rows = {key: torch.cat([batch[key] for batch in batches]).tolist() for key in batches[0]}
    args = DynaBertTrainingArguments(
        output_dir=tmp_path,
        optim="sgd",
        learning_rate=spec["sgd_lr"],
        max_grad_norm=spec["max_grad_norm"],
        lr_scheduler_type="constant",
        num_train_epochs=1,
        per_device_train_batch_size=6,
        train_sampling_strategy="sequential",
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        **kwargs,
    )
    trainer = DynaBertTrainer(student, teacher, args, train_dataset=Dataset.from_dict(rows))
    trainer.train()
    return trainer


def assert_logged_losses_equal(trainer, name, stage):
    """Every loss of every sub-network and the gradient norm of every step, as far as the stage logs them."""
    is_regression = load_spec(name)["config"]["num_labels"] == 1
    compared = 0
    for key, value in load_expected(name).items():
        if not key.startswith(f"{stage}.step"):
            continue
        step, rest = key.removeprefix(f"{stage}.step").split(".", 1)
        logged = trainer.state.log_history[int(step)]
        if rest == "grad_norm":
            ours = logged["grad_norm"]
        else:
            size, loss = rest.rsplit(".", 1)
            if (loss == "loss" and stage != "stage3") or (loss == "logit_loss" and is_regression):
                continue  # the weighted sum is not logged; the published code gives regression no logit loss
            ours = logged[f"{size.replace('.d', '-d')}_{loss}"]
        assert ours == pytest.approx(value.item(), rel=1e-5, abs=2e-6), key  # logs are rounded to six digits
        compared += 1
    assert compared > 3 * len(trainer.plan)


def assert_weights_equal(model, name, file):
    weights = model.state_dict()
    for key, value in load_weights(name, file).items():
        torch.testing.assert_close(weights[key], value, rtol=0, atol=1e-5, msg=key)


def loss_weights(name):
    """The published code gives regression no logit loss."""
    return {"logit_weight": 0.0} if load_spec(name)["config"]["num_labels"] == 1 else {}


def test_width_stage_reproduces_the_published_training(name, tmp_path):
    student = load_elastic(name, "rewired")
    trainer = train(name, tmp_path, student, load_elastic(name), stage="width", **loss_weights(name))
    assert_logged_losses_equal(trainer, name, "stage1")
    assert_weights_equal(student, name, "after_stage1")


@pytest.mark.parametrize("teacher_width", ["same", "full"])
def test_depth_stage_reproduces_the_published_training(name, teacher_width, tmp_path):
    student = load_elastic(name, "after_stage1")
    trainer = train(
        name,
        tmp_path,
        student,
        copy.deepcopy(student),
        stage="depth",
        teacher_width=teacher_width,
        hidden_matching="published",
        **loss_weights(name),
    )
    assert_logged_losses_equal(trainer, name, f"stage2{teacher_width}")
    assert_weights_equal(student, name, f"after_stage2_{teacher_width}_width_teacher")


def test_final_finetuning_reproduces_the_published_training(name, tmp_path):
    student = load_elastic(name, "after_stage1")
    trainer = train(name, tmp_path, student, None, stage="finetune")
    assert_logged_losses_equal(trainer, name, "stage3")
    assert_weights_equal(student, name, "after_final_finetuning")
