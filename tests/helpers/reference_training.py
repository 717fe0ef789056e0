"""Trains as the published implementation did for the reference values, and compares with what it logged and saved."""

import copy

import pytest
import torch
from datasets import Dataset

from dynabert_hf import DynaBertTrainer, DynaBertTrainingArguments
from helpers.reference import batch_of, load_elastic, load_expected, load_spec, load_weights


def train(name, tmp_path, student, teacher, *, use_cpu=True, **kwargs):
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
        use_cpu=use_cpu,
        **kwargs,
    )
    trainer = DynaBertTrainer(student, teacher, args, train_dataset=Dataset.from_dict(rows))
    trainer.train()
    assert student.device.type == args.device.type
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
        torch.testing.assert_close(weights[key].cpu(), value, rtol=0, atol=1e-5, msg=key)


def check_width_stage(name, tmp_path, **kwargs):
    student = load_elastic(name, "rewired")
    trainer = train(name, tmp_path, student, load_elastic(name), stage="width", **_loss_weights(name), **kwargs)
    assert_logged_losses_equal(trainer, name, "stage1")
    assert_weights_equal(student, name, "after_stage1")


def check_depth_stage(name, tmp_path, teacher_width, **kwargs):
    student = load_elastic(name, "after_stage1")
    settings = {"stage": "depth", "teacher_width": teacher_width, "hidden_matching": "published", **kwargs}
    trainer = train(name, tmp_path, student, copy.deepcopy(student), **settings, **_loss_weights(name))
    assert_logged_losses_equal(trainer, name, f"stage2{teacher_width}")
    assert_weights_equal(student, name, f"after_stage2_{teacher_width}_width_teacher")


def check_finetuning(name, tmp_path, **kwargs):
    student = load_elastic(name, "after_stage1")
    trainer = train(name, tmp_path, student, None, stage="finetune", **kwargs)
    assert_logged_losses_equal(trainer, name, "stage3")
    assert_weights_equal(student, name, "after_final_finetuning")


def _loss_weights(name):
    """The published code gives regression no logit loss."""
    return {"logit_weight": 0.0} if load_spec(name)["config"]["num_labels"] == 1 else {}
