"""Data that cannot be trained on is refused before any work."""

import os
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from helpers.recipes import run_recipe
from helpers.tiny import make_model, make_tokenizer
from helpers.trainers import make_dataset, make_trainer
from torch.utils.data import TensorDataset
from transformers import TrainerCallback
from transformers.utils import logging

from dynabert_hf import DynaBertTrainer, DynaBertTrainingArguments, specialise
from dynabert_hf.training.checks import check_enough


def labelled(labels):
    return Dataset.from_list([{"input_ids": [5, 6], "labels": label} for label in labels])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_dataset": make_dataset(0)}, "train_dataset is empty. Give at least one example"),
        ({"train_dataset": []}, "train_dataset is empty"),
        ({"eval_dataset": make_dataset(0)}, "eval_dataset is empty"),
        ({"eval_dataset": {"matched": make_dataset(2), "mismatched": make_dataset(0)}}, r"\['mismatched'\] is empty"),
        ({"train_dataset": labelled([0, 5])}, "train_dataset has the label 5 in row 1"),
        ({"eval_dataset": labelled([0, -1])}, "eval_dataset has the label -1 in row 1"),
    ],
)
def test_the_trainer_refuses_data_before_training(tmp_path, given, message):
    args = DynaBertTrainingArguments(tmp_path, stage="finetune", use_cpu=True, report_to="none")
    with pytest.raises(ValueError, match=message):
        DynaBertTrainer(make_model(), None, args, **given)


def test_the_recipe_refuses_labels_before_it_makes_a_folder(tmp_path):
    with pytest.raises(
        ValueError, match=r"train_dataset has the label 2 in row 1\. Possible for this model are 0 to 1"
    ):
        run_recipe(tmp_path, train_dataset=labelled([0, 2]))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"num_random_subnetworks": 3},
            "strategy='grid' trains every size in every step. Give strategy='sandwich', or",
        ),
        ({"view_probability": 0.9}, "there are no views. Give some, such as ['mask'], or leave it out"),
        ({"vector_loss": "mse"}, "only sentence encoders learn vectors. Leave it out"),
        ({"similarity_weight": 0.0}, "only sentence encoders learn vectors. Leave it out"),
    ],
)
def test_a_setting_that_nothing_heeds_is_said_by_trainer_recipe_and_specialise(tmp_path, caplog, given, why):
    [(name, value)] = given.items()
    told = f"{name}={value!r} has no effect: {why}"

    def count():
        logging.warning_once.cache_clear()
        found = sum(record.message.startswith(told) for record in caplog.records)
        caplog.clear()
        return found

    count()
    make_trainer(tmp_path, **given)
    assert count() == 1
    make_trainer(tmp_path, "finetune", **given)
    make_trainer(tmp_path, strategy="sandwich", processing_class=make_tokenizer(["film"]), views=["mask"],
        num_random_subnetworks=3, view_probability=0.9)  # fmt: skip
    assert count() == 0
    (tmp_path / "run" / "model").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds a folder 'model'"):  # which is checked last
        run_recipe(tmp_path, **{"strategy": "grid", **given})
    assert count() == 1
    if name != "num_random_subnetworks":
        with pytest.raises(ValueError, match="train_dataset is empty"):
            specialise(make_model(), "w0.5-d1", train_dataset=make_dataset(0), **given)
        assert count() == 1


@pytest.mark.parametrize(
    ("size", "given", "message"),
    [
        (1, {}, "train_dataset has 1 examples for 2 processes"),
        (9, {"rows_in_a_batch": 1}, r"A batch of 1 cannot be split over 2 processes\. Give a per_device"),
        (9, {"dataloader_drop_last": True}, "has 9 examples, a batch of all processes 16.*no"),
    ],
)
def test_too_little_for_the_processes_is_refused(size, given, message):
    args = {"rows_in_a_batch": 16, "world_size": 2, "dataloader_drop_last": False, **given}
    with pytest.raises(ValueError, match=message):
        check_enough(make_dataset(size), SimpleNamespace(**args))


def test_as_many_examples_as_processes_are_enough():
    args = SimpleNamespace(rows_in_a_batch=2, world_size=2, dataloader_drop_last=True)
    check_enough(make_dataset(2), args)
    check_enough(iter([]), args)


def test_the_trainer_refuses_a_training_without_a_full_batch(tmp_path):
    with pytest.raises(ValueError, match=r"has 8 examples, a batch of all processes 9.* there would be no step at all"):
        make_trainer(tmp_path, per_device_train_batch_size=9, dataloader_drop_last=True)


def test_an_argument_of_a_later_stage_is_checked_before_the_first(tmp_path):
    with pytest.raises(ValueError, match="strategy='all' is unknown"):
        run_recipe(tmp_path, stage_arguments={"depth": {"strategy": "all"}})
    assert not (tmp_path / "run").exists()


def test_weights_in_half_precision_are_told_of(tmp_path, caplog):
    args = DynaBertTrainingArguments(tmp_path, stage="finetune", use_cpu=True, report_to="none", learning_rate=3e-5)
    DynaBertTrainer(make_model(), None, args, train_dataset=make_dataset())
    assert not caplog.text
    DynaBertTrainer(make_model().bfloat16(), None, args, train_dataset=make_dataset())
    assert "is in torch.bfloat16. Most steps of learning_rate=3e-05 are too small to change such weights" in caplog.text
    assert "Load it with dtype=torch.float32; bf16=True then" in caplog.text


def test_labels_that_the_model_does_not_take_are_refused(tmp_path):
    message = r"label_names=\['label'\] was given.* takes no 'label'.* are called \['labels'\] in a batch.* Leave"
    with pytest.raises(ValueError, match=message):
        run_recipe(tmp_path, label_names=["label"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, label_names=["label"])
    assert "eval_mean_loss" in make_trainer(tmp_path, label_names=["labels"]).evaluate()


@pytest.mark.parametrize("stage", ["depth", "finetune"])
def test_an_optimiser_of_another_model_is_refused(tmp_path, stage):
    optimizer = torch.optim.SGD(make_model().parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"holds no weight of the model.* very model that is trained.* Make it so"):
        make_trainer(tmp_path, stage, optimizers=(optimizer, None))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["a text"] * 8, r"has the str 'a text' as its first row.* Possible are rows that map .* Give a datasets"),
        (TensorDataset(torch.ones(8, 3)), r"has the tuple .* as its first row.* or the data_collator"),
        ("train.csv", r"has the str 't' as its first row"),
        (make_dataset().with_format("arrow"), r"has the Table [\s\S]* Give dataset\.with_format\(None\)"),
        (make_dataset().to_pandas(), r"is a DataFrame, which has no row number 0.* Dataset\.from_pandas"),
    ],
)
@pytest.mark.parametrize("name", ["train_dataset", "eval_dataset"])
def test_rows_that_are_no_mappings_are_refused(tmp_path, data, message, name):
    with pytest.raises(ValueError, match=f"{name} {message}"):
        run_recipe(tmp_path, **{name: data})
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=f"{name} {message}"):
        make_trainer(tmp_path, **{name: data})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"per_device_eval_batch_size": 0}, r"eval_batch_size=0 is not possible\. Give a whole number of at least 1"),
        ({"gradient_accumulation_steps": 0}, "accumulation_steps=0 is not possible"),
        ({"eval_accumulation_steps": 0}, "eval_accumulation_steps=0 is not possible"),
        ({"dataloader_num_workers": -1}, r"workers=-1 is not possible\. Give a whole number of at least 0"),
        ({"num_random_subnetworks": 1.5}, r"subnetworks=1\.5 is not possible"),
        ({"max_steps": 2.5}, r"max_steps=2\.5 is not possible"),
        ({"max_grad_norm": None}, "max_grad_norm=None is not possible. Give a number, 0 for none"),
        ({"num_train_epochs": "1"}, "num_train_epochs='1' is not possible. Give a number"),
        ({"neftune_noise_alpha": -1}, r"neftune_noise_alpha=-1 is not possible\. Give a number of at least 0"),
        ({"label_smoothing_factor": 2.0}, r"factor=2\.0 is not possible\. Give a number from 0 to 1"),
        ({"weight_decay": float("nan")}, r"weight_decay=nan is not possible\. Give a number of at least 0"),
        ({"seed": -1}, r"seed=-1 is not possible\. Give a whole number from 0 to 4294967295"),
        ({"seed": 2**32}, "seed=4294967296 is not possible"),
        ({"dataloader_num_workers": 1, "dataloader_prefetch_factor": 0}, "prefetch_factor=0 is not possible"),
        ({"dataloader_persistent_workers": True}, r"num_workers=0 has none\. Give it at least 1, or leave"),
        ({"data_seed": "1"}, r"data_seed='1' is a text\. Possible is a number; give it without quotes"),
        ({"adam_beta1": "0.9"}, r"adam_beta1='0\.9' is a text\. Possible is a number"),
        ({"warmup_steps": "10"}, r"warmup_steps='10' is a text\. Possible is a number"),
        ({"logit_weight": "1"}, r"logit_weight='1' is a text\. Possible is a number"),
        ({"use_cpu": "false"}, r"use_cpu='false' is a text\. Possible is True or False; give it without quotes"),
    ],
)
def test_numbers_at_which_a_step_or_an_evaluation_would_end_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        DynaBertTrainingArguments("nowhere", **given)


def test_arguments_may_be_extended_by_types_that_cannot_be_looked_up(tmp_path):
    """As those that are imported under `TYPE_CHECKING`."""

    @dataclass
    class Own(DynaBertTrainingArguments):
        where: "Where | None" = None  # noqa: F821

    assert Own(tmp_path, use_cpu=True, where="here").where == "here"
    with pytest.raises(ValueError, match="data_seed='1' is a text"):
        Own(tmp_path, use_cpu=True, data_seed="1")


@pytest.mark.parametrize(
    "name", ["data_collator", "compute_metrics", "preprocess_logits_for_metrics", "compute_loss_func"]
)
def test_what_cannot_be_called_is_refused_before_training(tmp_path, name):
    args = DynaBertTrainingArguments(tmp_path, stage="finetune", use_cpu=True)
    with pytest.raises(TypeError, match=rf"{name}='accuracy' cannot be called\. Give a function, or leave it out"):
        DynaBertTrainer(make_model(), None, args, train_dataset=make_dataset(), **{name: "accuracy"})


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([3], r"callbacks has 3, which is no TrainerCallback\. Give instances or classes of it"),
        (["early"], "callbacks has 'early', which is no TrainerCallback"),
        ([TensorDataset], "callbacks has <class .*TensorDataset'>, which is no TrainerCallback"),
        (TrainerCallback(), r"callbacks=<.*> is no list\. Give a list of them, or leave it out"),
        ((TrainerCallback,), r"callbacks=\(<.*TrainerCallback'>,\) is no list\. Give a list"),  # nor a Trainer's
    ],
)
def test_what_is_no_callback_is_refused_before_any_work(tmp_path, callbacks, message):
    with pytest.raises(TypeError, match=message):
        run_recipe(tmp_path, callbacks=callbacks)
    with pytest.raises(TypeError, match=message):
        make_trainer(tmp_path, callbacks=callbacks)
    assert not [*tmp_path.iterdir()]


def test_fsdp_in_a_single_process_is_refused_and_leaves_the_environment_as_it_was(tmp_path, monkeypatch):
    """transformers set ACCELERATE_USE_FSDP before it refused, so that no arguments could be made afterwards."""
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")  # which arguments set
    before = dict(os.environ)
    with pytest.raises(ValueError, match=r"fsdp=.* was given in a process that was not launched with others"):
        make_trainer(tmp_path, "finetune", fsdp="full_shard", fsdp_config={"version": 2})
    assert dict(os.environ) == before
    make_trainer(tmp_path, "finetune")
