"""A run that is killed goes on as if it had not been, and what would go wrong is said before work is lost."""

import errno
import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from helpers import recovery_worker
from helpers.forks import run_forked
from helpers.recipes import run_recipe
from helpers.tiny import make_small, make_tokenizer
from helpers.trainers import StopAt, make_dataset, make_trainer
from safetensors.torch import load_file
from torch.utils.data import RandomSampler
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback
from transformers.trainer_pt_utils import LengthGroupedSampler

from dynabert_hf.training.checkpoints import broken_part, last_whole_checkpoint
from dynabert_hf.training.order import EpochSampler

STEPWISE = {
    "max_steps": 6,
    "save_strategy": "steps",
    "save_steps": 2,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "logging_steps": 100,
}


@pytest.mark.parametrize(
    ("moments", "kills"),
    [("chosen", 6)]
    + [pytest.param(*each, marks=pytest.mark.slow) for each in (("defaults", 9), ("best", 9), ("random", 5))],
)
def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(tmp_path, moments, kills):
    (printed,) = run_forked(recovery_worker.main, tmp_path, moments)
    assert printed.count("killed") >= kills
    for step in ("2-width", "3-depth", "4-finetune", "."):
        whole, resumed = (
            load_file(tmp_path / name / step / "model" / "model.safetensors") for name in ("whole", "killed")
        )
        assert all(torch.equal(resumed[weight], whole[weight]) for weight in whole), step
    tables = [(tmp_path / name / "model" / "results.json").read_text() for name in ("whole", "killed")]
    assert tables[0] == tables[1]
    assert not list(tmp_path.glob("killed/**/*partial*"))


def stepwise_trainer(folder, stage="depth", widths=(0.5, 1.0), **kwargs):
    dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    model = make_small(stock=dropout, widths=list(widths))
    return make_trainer(folder, stage, model, **{**STEPWISE, **kwargs})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished training with three checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    stepwise_trainer(folder).train()
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.parametrize(
    ("stage", "given"),
    [
        ("width", {}),
        ("depth", {"train_sampling_strategy": "group_by_length"}),
        ("finetune", {}),
        ("finetune", {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}),
    ],
)
def test_resuming_by_hand_gives_the_weights_of_a_run_that_never_stopped(tmp_path, stage, given):
    """Step 4 is the end of the first epoch of four batches; steps 3 and 6 are within epochs."""
    settings = {"strategy": "sandwich", "max_steps": 10, "save_steps": 3, **given}
    whole = stepwise_trainer(tmp_path, stage, **settings)
    whole.train()
    for step in (3, 6):
        resumed = stepwise_trainer(tmp_path, stage, **settings)
        resumed.train(resume_from_checkpoint=tmp_path / f"checkpoint-{step}")
        after = resumed.model.state_dict()
        assert all(torch.equal(after[name], weight) for name, weight in whole.model.state_dict().items()), step


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_stream_goes_on_in_the_pass_in_which_it_stopped(tmp_path, accumulated):
    """A pass has three batches; transformers looks in the first pass for the place, and began a later one anew."""
    stream = make_dataset(6).to_iterable_dataset().shuffle(seed=0, buffer_size=4)
    settings = {"train_dataset": stream, "gradient_accumulation_steps": accumulated, "save_steps": 1, "max_steps": 6}
    whole = stepwise_trainer(tmp_path, "finetune", **settings)
    whole.train()
    for step in (2, 3, 5):
        resumed = stepwise_trainer(tmp_path, "finetune", **settings)
        resumed.train(resume_from_checkpoint=tmp_path / f"checkpoint-{step}")
        after = resumed.model.state_dict()
        assert all(torch.equal(after[name], weight) for name, weight in whole.model.state_dict().items()), step


def test_the_end_of_a_pass_of_a_stream_is_not_measured_twice(tmp_path):
    """A run that went on from there measured it again, and early stopping counted it again."""
    stream = make_dataset(6).to_iterable_dataset()
    settings = {"train_dataset": stream, "save_strategy": "epoch", "eval_strategy": "epoch", "max_steps": 6}
    stepwise_trainer(tmp_path, "finetune", **settings).train()
    resumed = stepwise_trainer(tmp_path, "finetune", **settings)
    resumed.train(resume_from_checkpoint=tmp_path / "checkpoint-3")
    assert [log["step"] for log in resumed.state.log_history if "eval_mean_loss" in log] == [3, 6]


@pytest.mark.parametrize("stops_epochs", [False, True])
def test_a_pass_that_ended_after_its_last_checkpoint_is_measured_when_training_goes_on(tmp_path, stops_epochs):
    """transformers leaves its end out, and so a plateau schedule has one evaluation less."""
    settings = {
        "max_steps": -1,
        "num_train_epochs": 3,
        "save_steps": 1,
        "eval_strategy": "epoch",
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"patience": -1, "factor": 0.5},  # at every evaluation
        "metric_for_best_model": "mean_loss",
        "callbacks": [_StopsEpochs()] * stops_epochs,
    }
    whole = stepwise_trainer(tmp_path, "finetune", **settings)
    whole.train()
    ends = [log["step"] for log in whole.state.log_history if "eval_mean_loss" in log]
    assert ends == ([2, 4, 6] if stops_epochs else [4, 8, 12])
    assert whole.optimizer.param_groups[0]["lr"] == 1e-2 / 8
    for step in ends:
        resumed = stepwise_trainer(tmp_path, "finetune", **settings)
        resumed.train(resume_from_checkpoint=tmp_path / f"checkpoint-{step}")
        assert [log["step"] for log in resumed.state.log_history if "eval_mean_loss" in log] == ends
        after = resumed.model.state_dict()
        assert all(torch.equal(after[name], weight) for name, weight in whole.model.state_dict().items()), step


@pytest.mark.parametrize("sampler", [RandomSampler, lambda data: LengthGroupedSampler(2, data)])
def test_the_order_of_the_data_is_that_of_seed_and_epoch(sampler):
    data, epoch = make_dataset(12), [0]
    order = EpochSampler(sampler(data), seed=3, epoch=lambda: epoch[0])
    first = list(order)
    torch.rand(5)  # what dropout draws in other amounts on each process
    assert list(order) == first
    assert sorted(first) == list(range(12))
    epoch[0] = 1
    assert list(order) != first
    assert len(order) == 12


def test_a_random_order_is_that_of_stock_training(tmp_path):
    seen = []
    for trainer_class in (type(make_trainer(tmp_path)), Trainer):
        trainer = make_trainer(tmp_path, "finetune")
        stock = trainer_class(
            trainer.model, args=trainer.args, train_dataset=trainer.train_dataset, data_collator=trainer.data_collator
        )
        stock.state.epoch = 0
        seen.append([batch["input_ids"].tolist() for batch in stock.get_train_dataloader()])
    assert seen[0] == seen[1]


class _StopsEpochs(TrainerCallback):
    """Ends each epoch after two steps."""

    def on_step_end(self, args, state, control, **kwargs):
        control.should_epoch_stop = state.global_step % 2 == 0


def test_batches_of_balanced_cost_are_drawn_by_the_seed(tmp_path):
    """Of transformers' own sampler, as its releases have it, all seeds have one order."""
    settings = {"train_sampling_strategy": "batch_rebalance", "train_dataset": make_dataset(32)}
    try:
        trainers = [make_trainer(tmp_path, seed=seed, **settings) for seed in (1, 2, 1)]
    except ValueError:
        pytest.skip("this release of transformers does not balance batches")
    one, other, again = ([batch["input_ids"].tolist() for batch in each.get_train_dataloader()] for each in trainers)
    assert one == again != other


def test_an_epoch_after_one_that_was_stopped_early_has_its_own_order(tmp_path):
    def rows_of(trainer_class):
        settings = {"num_train_epochs": 2, "max_steps": -1, "per_device_train_batch_size": 2}
        ours, rows = make_trainer(tmp_path, "finetune", **settings), []

        def noted(examples):
            rows.extend(each["input_ids"] for each in examples)
            return ours.data_collator(examples)

        given = {"args": ours.args, "train_dataset": ours.train_dataset, "callbacks": [_StopsEpochs()]}
        trainer_class(ours.model, data_collator=noted, **given).train()
        return rows

    seen = [rows_of(trainer_class) for trainer_class in (type(make_trainer(tmp_path)), Trainer)]
    assert seen[0] == seen[1]
    assert seen[0][:4] != seen[0][len(seen[0]) // 2 :][:4]


def test_an_epoch_that_was_stopped_early_is_over_after_resuming(tmp_path):
    """transformers divides the steps by those of a whole epoch, and went on in one that had been over."""
    settings = {"num_train_epochs": 3, "max_steps": -1, "save_steps": 1, "callbacks": [_StopsEpochs()]}
    whole = stepwise_trainer(tmp_path, "finetune", **settings)
    whole.train()
    assert whole.state.global_step == 6
    for step in (2, 3, 5):
        resumed = stepwise_trainer(tmp_path, "finetune", **settings)
        resumed.train(resume_from_checkpoint=tmp_path / f"checkpoint-{step}")
        assert resumed.state.global_step == 6
        after = resumed.model.state_dict()
        assert all(torch.equal(after[name], weight) for name, weight in whole.model.state_dict().items()), step


def test_resuming_from_the_end_trains_no_more_unless_asked(folder):
    whole = load_file(folder / "checkpoint-6" / "model.safetensors")
    for max_steps in (6, 7):
        resumed = stepwise_trainer(folder, max_steps=max_steps)
        resumed.train(resume_from_checkpoint=folder / "checkpoint-6")
        assert resumed.state.global_step == max_steps
        is_same = all(torch.equal(resumed.model.state_dict()[name], weight) for name, weight in whole.items())
        assert is_same == (max_steps == 6)


@pytest.mark.parametrize("eval_on_start", [False, True])
def test_early_stopping_counts_on_after_resuming(tmp_path, eval_on_start):
    settings = {
        "eval_on_start": eval_on_start,
        "max_steps": 40,
        "eval_strategy": "steps",
        "eval_steps": 2,
        "metric_for_best_model": "eval_worst_loss",
        "load_best_model_at_end": True,
        "learning_rate": 1.0,
    }
    whole = stepwise_trainer(tmp_path, "width", callbacks=[EarlyStoppingCallback(2)], **settings)
    whole.train()
    best, end = whole.state.best_global_step, whole.state.global_step
    assert end == best + 4 < 40  # two evaluations, each two steps after the last, without a better one
    for step in (best, best + 2, end):
        resumed = stepwise_trainer(tmp_path, "width", callbacks=[EarlyStoppingCallback(2)], **settings)
        resumed.train(resume_from_checkpoint=tmp_path / f"checkpoint-{step}")
        assert (resumed.state.best_global_step, resumed.state.global_step) == (best, end)
        after = resumed.model.state_dict()
        assert all(torch.equal(after[name], weight) for name, weight in whole.model.state_dict().items())


def test_true_resumes_from_the_last_whole_checkpoint(folder):
    (folder / "checkpoint-6" / "optimizer.pt").unlink()
    assert last_whole_checkpoint(folder) == folder / "checkpoint-4"
    resumed, steps = stepwise_trainer(folder), []
    resumed.add_callback(on_step_begin(lambda state: steps.append(state.global_step)))
    resumed.train(resume_from_checkpoint=True)
    assert steps == [4, 5]
    assert broken_part(folder / "checkpoint-6") is None


def on_step_begin(act):
    class Callback(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            act(state)

    return Callback()


def test_a_model_whose_training_was_stopped_has_no_noise_left(tmp_path):
    trainer = make_trainer(tmp_path, "finetune", neftune_noise_alpha=5.0, callbacks=[StopAt(1)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    model, ids = trainer.model.train(), torch.tensor([[5, 6, 7]])
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_true_without_a_whole_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no whole checkpoint to resume from\. Train without"):
        stepwise_trainer(tmp_path).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: (folder / "optimizer.pt").unlink(),
            r"its optimizer\.pt is missing\. Resume from .*checkpoint-4",
        ),
        (
            lambda folder: os.truncate(folder / "model.safetensors", 99),
            r"its model\.safetensors has 99 bytes of \d+,\d+",
        ),
        (
            lambda folder: (folder / "dynabert_checkpoint.json").unlink(),
            r"no dynabert_checkpoint\.json, which is written",
        ),
        (lambda folder: os.truncate(folder / "dynabert_checkpoint.json", 20), r"it has no dynabert_checkpoint\.json"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(folder, damage, message):
    damage(folder / "checkpoint-6")
    with pytest.raises(ValueError, match=message):
        stepwise_trainer(folder).train(resume_from_checkpoint=str(folder / "checkpoint-6"))


def test_a_checkpoint_without_the_state_of_the_optimiser_is_refused(tmp_path):
    stepwise_trainer(tmp_path, "width", save_only_model=True).train()
    with pytest.raises(ValueError, match=r"without the state of the optimiser \(save_only_model=True\)\. There is no"):
        stepwise_trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            {"stage": "width", "hidden_weight": 1.0},
            r"is of a training with \{'stage': 'depth'\}, this one has \{'stage': 'width'\}\. Resume",
        ),
        ({"label_weight": 0.5}, "with {'label_weight': 0.0}, this one has {'label_weight': 0.5}"),
        ({"logit_weight": 0.5}, "with {'logit_weight': 1.0}, this one has {'logit_weight': 0.5}"),
        ({"hidden_weight": 0.5}, "with {'hidden_weight': 1.0}, this one has {'hidden_weight': 0.5}"),
        ({"hidden_matching": "own"}, "with {'hidden_matching': 'published'}, this one has {'hidden_matching': 'own'}"),
        ({"teacher_width": "full"}, "with {'teacher_width': 'same'}, this one has {'teacher_width': 'full'}"),
        ({"strategy": "sandwich"}, "with {'strategy': 'grid'}, this one has {'strategy': 'sandwich'}"),
        (
            {"num_random_subnetworks": 1},
            "with {'num_random_subnetworks': 2}, this one has {'num_random_subnetworks': 1}",
        ),
        ({"seed": 1}, "with {'seed': 42}, this one has {'seed': 1}"),
        ({"vector_loss": "mse"}, "with {'vector_loss': 'cosine'}, this one has {'vector_loss': 'mse'}"),
        ({"similarity_weight": 0.5}, "this one has {'similarity_weight': 0.5}"),
        (
            {"views": ["delete"], "view_probability": 0.25, "processing_class": make_tokenizer(["[UNK]", "[PAD]"])},
            r"\{'views': None\}, this one has \{'views': \['delete', 0\.25\]\}",
        ),
        ({"widths": (0.25, 1.0)}, r"with \{'widths': \[0\.5, 1\.0\]\}, this one has \{'widths': \[0\.25, 1\.0\]\}"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(trained, tmp_path, other, message):
    trainer = stepwise_trainer(tmp_path, **other)
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        trainer.train(resume_from_checkpoint=str(trained / "checkpoint-6"))
    assert all(torch.equal(trainer.model.state_dict()[name], weight) for name, weight in before.items())


def test_a_checkpoint_of_a_training_by_another_teacher_is_refused(trained, tmp_path):
    others = [make_small(widths=(0.5, 1.0)) for _ in range(2)]
    others[1].classifier.bias.data += 1
    stepwise_trainer(tmp_path, teacher=others[0]).train(resume_from_checkpoint=trained / "checkpoint-4")
    with pytest.raises(
        ValueError, match=r"of a training with \{'teacher': \['\w{16}'\]\}, this one has \{'teacher': \["
    ):
        stepwise_trainer(tmp_path, teacher=others[1]).train(resume_from_checkpoint=trained / "checkpoint-4")


@pytest.mark.parametrize("other", [{}, {"max_steps": 8}, {"learning_rate": 1e-5, "logging_steps": 1, "max_steps": 8}])
def test_arguments_that_changed_are_named_when_training_goes_on(trained, tmp_path, caplog, other):
    logging.getLogger("dynabert_hf").propagate = True
    trainer = stepwise_trainer(tmp_path, **other)
    with caplog.at_level("WARNING"):
        trainer.train(resume_from_checkpoint=str(trained / "checkpoint-4"))
    said = r"was trained with {'learning_rate': 0.01}, now {'learning_rate': 1e-05} is asked. As in transformers'"
    assert (said in caplog.text) == ("learning_rate" in other)
    assert "was trained with" not in caplog.text.replace(said, "")
    assert trainer.optimizer.param_groups[0]["lr"] == 0.01  # which is what the warning says


def test_batches_that_leave_other_rows_out_are_named_when_training_goes_on(tmp_path, caplog):
    """Of 11 rows an epoch has five batches of 2, or two of 4; a step has 4 rows in either case."""
    settings = {"train_dataset": make_dataset(11), "dataloader_drop_last": True, "max_steps": 2}
    stepwise_trainer(tmp_path, gradient_accumulation_steps=2, **settings).train()
    resumed = stepwise_trainer(tmp_path, per_device_train_batch_size=4, **settings)
    resumed.train(resume_from_checkpoint=tmp_path / "checkpoint-2")
    assert "was trained with {'examples_in_a_batch': 2}, now {'examples_in_a_batch': 4} is asked" in caplog.text


def test_another_number_of_rows_is_named_when_training_goes_on(trained, tmp_path, caplog):
    logging.getLogger("dynabert_hf").propagate = True
    before = len(stepwise_trainer(tmp_path).train_dataset)
    resumed = stepwise_trainer(tmp_path, train_dataset=make_dataset(before + 4))
    resumed.train(resume_from_checkpoint=trained / "checkpoint-4")
    assert f"was trained with {{'num_rows': {before}}}, now {{'num_rows': {before + 4}}} is asked" in caplog.text


def test_old_checkpoints_leave_only_when_the_new_one_is_whole(tmp_path):
    trainer = stepwise_trainer(tmp_path, "width", save_total_limit=1)
    trainer.train()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["checkpoint-6"]
    seal = json.loads((tmp_path / "checkpoint-6" / "dynabert_checkpoint.json").read_text())
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "model.safetensors"} <= set(
        seal["files"]
    )


def test_the_best_checkpoint_is_named_as_it_is_on_disk(tmp_path):
    trainer = stepwise_trainer(tmp_path, eval_strategy="steps", eval_steps=2, metric_for_best_model="eval_mean_loss")
    trainer.train()
    state = json.loads((tmp_path / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / f"checkpoint-{state['best_global_step']}")
    assert Path(state["best_model_checkpoint"]).is_dir()


WITH_THE_BEST = {
    "max_steps": 6,
    "save_total_limit": 1,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "metric_for_best_model": "score",
    "load_best_model_at_end": True,
}


def trainer_whose_best_is_step_2(folder):
    scores = {}
    trainer = stepwise_trainer(folder, compute_metrics=lambda prediction: scores["score"](prediction), **WITH_THE_BEST)
    scores["score"] = lambda prediction: {"score": float(-trainer.state.global_step)}
    return trainer


def stop_after_five_steps(folder):
    """Train for so long, and leave the best checkpoint and the last one."""
    trainer = trainer_whose_best_is_step_2(folder)
    trainer.add_callback(StopAt(5))
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_metrics_are_of_the_checkpoint_that_is_loaded_where_a_better_evaluation_was_not_saved(tmp_path, caplog):
    scores = {1: 0.5, 2: 0.6, 3: 0.9, 4: 0.7}
    trainer = stepwise_trainer(
        tmp_path,
        compute_metrics=lambda prediction: {"score": scores[trainer.state.global_step]},
        **{**WITH_THE_BEST, "max_steps": 4, "eval_steps": 1, "save_steps": 2},
    )
    assert "save_steps=2 leaves out evaluations of eval_steps=1" in caplog.text
    trainer.train()
    kept = load_file(tmp_path / "checkpoint-2" / "model.safetensors")
    assert all(torch.equal(trainer.model.state_dict()[name], weight) for name, weight in kept.items())
    assert {own["score"] for own in trainer.model.config.metrics.values()} == {0.6}


@pytest.mark.parametrize("how", ["copied", "named from another folder", "resumed by its whole path"])
def test_the_best_checkpoint_is_found_where_the_run_lies_now(tmp_path, monkeypatch, how):
    at_first = tmp_path / "first"
    stop_after_five_steps(at_first)
    expected = load_file(at_first / "checkpoint-2" / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    now, resume = Path("first"), True
    if how == "copied":
        now = Path(shutil.copytree(at_first, tmp_path / "second"))
        (at_first / "checkpoint-2" / "model.safetensors").unlink()  # that run goes on, too, and removed it
    elif how == "resumed by its whole path":
        resume = str(at_first / "checkpoint-4")
    trainer = trainer_whose_best_is_step_2(now)
    trainer.train(resume_from_checkpoint=resume)
    assert trainer.state.best_model_checkpoint == str(now / "checkpoint-2")
    assert [path.name for path in now.glob("checkpoint-*")] == ["checkpoint-2"]
    assert all(torch.equal(trainer.model.state_dict()[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize("is_measured_on_others", [False, True])
def test_what_was_measured_of_the_best_checkpoint_is_known_after_resuming(tmp_path, is_measured_on_others):
    stop_after_five_steps(tmp_path)
    trainer = trainer_whose_best_is_step_2(tmp_path)
    others = make_dataset(3)
    if is_measured_on_others:
        trainer.add_callback(on_step_begin(lambda state: trainer.evaluate(others) if state.global_step == 5 else None))
    trainer.train(resume_from_checkpoint=True)
    metrics, card = trainer.model.config.metrics, (tmp_path / "README.md").read_text()
    if is_measured_on_others:
        assert metrics is None
        return
    [logged] = (entry for entry in trainer.state.log_history if entry["step"] == 2 and "eval_mean_score" in entry)
    assert set(metrics) == {"w0.5-d0.5", "w0.5-d1", "w1-d0.5", "w1-d1"}
    for size, own in metrics.items():
        assert own == {name: logged[f"eval_{size}_{name}"] for name in ("score", "loss")}
    assert card.count("| -2.0000 |") == 5  # the mean is another row


def test_a_run_killed_while_an_old_checkpoint_is_removed_goes_on_from_the_new_one(trained, tmp_path):
    folder = shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(folder / "checkpoint-6")
    (folder / "checkpoint-2" / "optimizer.pt").unlink()  # half removed, and touched later than its successor
    resumed = stepwise_trainer(folder, save_total_limit=1)
    resumed.train(resume_from_checkpoint=last_whole_checkpoint(folder))
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-6"]
    whole = load_file(trained / "checkpoint-6" / "model.safetensors")
    assert all(torch.equal(resumed.model.state_dict()[name], weight) for name, weight in whole.items())


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt", "dynabert_checkpoint.json"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path, file):
    """Writing to /dev/full fails as it does on a full disk; weights are renamed into place, which a folder refuses."""

    def fill_the_disk(state):
        if state.global_step == 3:
            (tmp_path / "_partial" / "checkpoint-4").mkdir(parents=True)
            path = tmp_path / "_partial" / "checkpoint-4" / file
            path.symlink_to("/dev/full") if file != "model.safetensors" else path.mkdir()

    trainer = stepwise_trainer(tmp_path, "width", save_total_limit=1)
    trainer.add_callback(on_step_begin(fill_the_disk))
    full = r"checkpoint of step 4 could not be written .*checkpoint-2', is kept\. Make room"
    with pytest.raises(OSError, match=full):
        trainer.train()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["checkpoint-2"]
    resumed = stepwise_trainer(tmp_path, "width")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 6


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/run' cannot be written to: .*Not a directory.* Nothing was trained"):
        stepwise_trainer(tmp_path / "file" / "run")
    with pytest.raises(OSError, match=r"file/run' cannot be written to: .*Not a directory.* Nothing was trained"):
        run_recipe(tmp_path / "file")


def test_a_full_disk_is_seen_before_training(tmp_path, monkeypatch):
    trainer = stepwise_trainer(tmp_path)
    trainer.add_callback(on_step_begin(lambda state: pytest.fail("trained")))
    full = lambda **where: open("/dev/full", "wb", buffering=0)  # noqa: E731, SIM115
    monkeypatch.setattr("dynabert_hf.files.tempfile.NamedTemporaryFile", full)
    with pytest.raises(OSError, match=r"cannot be written to: .*No space left on device\. Nothing was trained"):
        trainer.train()


def test_a_stage_that_cannot_be_saved_keeps_its_checkpoints(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dynabert_hf.DynaBertForSequenceClassification.save_pretrained", save_on_a_full_disk)
        with pytest.raises(
            OSError, match=r"1-rewired/model' could not be written: .*No space left.* is kept\. Make room"
        ):
            run_recipe(tmp_path)
    assert not (tmp_path / "run" / "1-rewired" / "model").exists()
    assert len(run_recipe(tmp_path).rows) == 4


def save_on_a_full_disk(model, folder):
    Path(folder).mkdir()
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_loss_that_is_not_a_number_leaves_the_last_checkpoint(tmp_path):
    trainer = stepwise_trainer(tmp_path)

    def poison(state):
        if state.global_step == 3:
            trainer.teacher.classifier.bias.data.fill_(torch.nan)

    trainer.add_callback(on_step_begin(poison))
    with pytest.raises(
        FloatingPointError, match=r"loss of w0\.5-d0\.5 is nan at step 3, on the batch that begins with"
    ):
        trainer.train()
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
