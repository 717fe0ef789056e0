"""Fresh views in training: student and teacher read the same, and a run that goes on reads what it would have."""

import copy

import pytest
import torch
from helpers.recipes import make_sentences, run_recipe
from helpers.tiny import make_model, make_tokenizer
from helpers.trainers import make_dataset, make_trainer
from transformers import TrainerCallback

from dynabert_hf import specialise
from dynabert_hf.data.views import FreshViews

TOKENIZER = make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(5, 99))])
ALL = ["mask", "delete", "swap", "splice"]


def read_by(model, into):
    """Keep the texts that a model reads."""

    def keep(module, args, kwargs):
        ids, mask = kwargs["input_ids"], kwargs["attention_mask"].bool()
        into.append([row[real].tolist() for row, real in zip(ids, mask, strict=True)])

    model.register_forward_pre_hook(keep, with_kwargs=True)


def trainer_with_views(tmp_path, **kwargs):
    settings = {"views": ALL, "view_probability": 0.9, "processing_class": TOKENIZER, "max_steps": 4}
    return make_trainer(tmp_path, **{"seed": 7, "teacher_width": "full", **settings, **kwargs})


def test_student_and_teacher_read_the_same_view_which_is_that_of_the_epoch(tmp_path):
    trainer = trainer_with_views(tmp_path)
    trainer.looks_at_teachers = False  # which would read the rows of evaluation
    by_student, by_teacher = [], []
    read_by(trainer.model, by_student)
    read_by(trainer.teacher, by_teacher)
    trainer.train()
    assert len(by_teacher) == 4
    assert all(by_student[4 * step : 4 * step + 4] == [by_teacher[step]] * 4 for step in range(4))  # of four sizes
    data = make_dataset()
    views = FreshViews(ALL, TOKENIZER, make_model(), probability=0.9, seed=7, dataset=data)
    batch = {name: torch.tensor(data[name]) for name in ("input_ids", "attention_mask")}
    for epoch in (0, 1):
        view = views(batch, epoch=epoch)
        ids, real = view["input_ids"], view["attention_mask"].bool()
        expected = [row[own].tolist() for row, own in zip(ids, real, strict=True)]
        seen = by_teacher[2 * epoch] + by_teacher[2 * epoch + 1]
        assert sorted(seen) == sorted(expected)
    assert by_teacher[0] + by_teacher[1] != by_teacher[2] + by_teacher[3]


def test_an_epoch_that_was_ended_early_leaves_its_views_to_none_after_it(tmp_path):
    class EndsFirst(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_epoch_stop = state.global_step == 1

    trainer = trainer_with_views(tmp_path, callbacks=[EndsFirst()])
    trainer.looks_at_teachers = False
    read = []
    read_by(trainer.teacher, read)
    trainer.train()
    data = make_dataset()
    views = FreshViews(ALL, TOKENIZER, make_model(), probability=0.9, seed=7, dataset=data)
    view = views({name: torch.tensor(data[name]) for name in ("input_ids", "attention_mask")}, epoch=1)
    real = view["attention_mask"].bool()
    expected = [row[own].tolist() for row, own in zip(view["input_ids"], real, strict=True)]
    assert len(read) == 3
    assert sorted(read[1] + read[2]) == sorted(expected)


def test_a_run_that_goes_on_within_an_epoch_reads_what_it_would_have(tmp_path):
    whole = trainer_with_views(tmp_path / "whole", max_steps=5, per_device_train_batch_size=2)
    whole.train()
    settings = {"save_strategy": "steps", "save_steps": 3, "per_device_train_batch_size": 2}
    trainer_with_views(tmp_path / "run", max_steps=5, **settings).train()
    resumed = trainer_with_views(tmp_path / "run", max_steps=5, dataloader_num_workers=0, **settings)
    resumed.train(resume_from_checkpoint=tmp_path / "run" / "checkpoint-3")
    weights = whole.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in resumed.model.state_dict().items())
    other = trainer_with_views(tmp_path / "run", max_steps=5, view_probability=0.5, **settings)
    with pytest.raises(ValueError, match=r"is of a training with .*views"):
        other.train(resume_from_checkpoint=tmp_path / "run" / "checkpoint-3")


def test_the_recipe_has_views_in_distillation_alone(tmp_path):
    result = run_recipe(tmp_path, processing_class=TOKENIZER, views=["mask", "swap"], finetune=True)
    assert [stage["views"] for stage in result.stages.values()] == [["mask", "swap"], None]


def test_a_size_is_distilled_on_with_views(tmp_path):
    model, seen = make_model(), []
    reader = copy.deepcopy(model)
    read_by(reader, seen)
    settings = {"train_dataset": make_sentences(), "processing_class": TOKENIZER, "output_dir": tmp_path}
    specialise(model, "w0.5-d0.5", teacher=reader, views=["delete"], view_probability=1.0, use_cpu=True, **settings)
    assert {len(text) for batch in seen for text in batch} == {6}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": ["mask"], "view_probability": 0.0}, r"view_probability=0.0 is not possible. Give a number above 0"),
        ({"views": "mask"}, r"views='mask' is not possible. Give a list of some of 'mask', 'delete'"),
        ({"views": ["splice"], "label_weight": 0.5}, r"'splice' puts parts of two .*Leave 'splice' out"),
    ],
)
def test_what_cannot_be_is_refused_by_the_arguments(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        trainer_with_views(tmp_path, **settings)


def test_views_without_a_teacher_have_no_effect_which_is_said(tmp_path, caplog):
    trainer = trainer_with_views(tmp_path, stage="finetune")
    assert "views have no effect" in caplog.text
    assert trainer._views is None
