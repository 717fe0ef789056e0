"""One step over many sizes, evaluation over all of them, and what is refused before any work."""

import contextlib
import copy
import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.backbones import make_backbone, make_stock
from helpers.recipes import run_recipe
from helpers.tiny import TINY, make_batch, make_model, make_small
from helpers.trainers import FirstGradients, StopAt, accuracy, make_dataset, make_trainer
from safetensors.torch import load_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    EarlyStoppingCallback,
    TrainerCallback,
    default_data_collator,
)

from dynabert_hf import DynaBertTrainer, DynaBertTrainingArguments, LayerShape, specialise
from dynabert_hf.training.accounting import LossLog
from dynabert_hf.training.arguments import RECOMPUTE, decisive

MASKED = ("input_ids", "attention_mask")


def test_evaluation_names_every_size_the_mean_and_the_worst(tmp_path):
    trainer = make_trainer(tmp_path, compute_metrics=accuracy)
    metrics = trainer.evaluate()
    sizes = trainer.model.config.subnetworks
    values = [metrics[f"eval_{size}_accuracy"] for size in sizes]
    losses = [metrics[f"eval_{size}_loss"] for size in sizes]
    assert metrics["eval_mean_accuracy"] == pytest.approx(np.mean(values))
    assert metrics["eval_worst_accuracy"] == min(values)
    assert metrics["eval_worst_loss"] == max(losses)
    for size, value in zip(sizes, values, strict=True):
        with trainer.model.subnetwork(size), torch.no_grad():
            logits = trainer.model(**{k: torch.tensor(v) for k, v in make_dataset()[:].items()}).logits
        assert value == (logits.argmax(-1) == torch.tensor(make_dataset()["labels"])).float().mean()


def test_prediction_covers_every_size(tmp_path):
    trainer = make_trainer(tmp_path)
    predictions = trainer.predict(make_dataset()).predictions
    assert list(predictions) == [str(size) for size in trainer.model.config.subnetworks]
    assert predictions["w0.5-d0.5"].shape == (8, 3)
    assert not np.allclose(predictions["w0.5-d0.5"], predictions["w1-d1"])


def test_after_training_every_example_is_evaluated(tmp_path):
    """Also where the last batch of training was not full, by whose length accelerate would cut all others."""
    trainer = make_trainer(tmp_path, train_dataset=make_dataset(10), num_train_epochs=1, max_steps=-1)
    trainer.train()
    assert len(trainer.train_dataset) % trainer.args.train_batch_size
    predictions = trainer.predict(make_dataset(8)).predictions
    assert {len(logits) for logits in predictions.values()} == {8}


@pytest.mark.parametrize("settings", [{}, {"batch_eval_metrics": True}])
def test_a_last_batch_that_is_not_full_counts_by_its_sentences(tmp_path, settings):
    data, counted = make_dataset(9), []

    def batch_accuracy(prediction, compute_result=False):
        counted.append(len(prediction.label_ids))
        return {"accuracy": 0.5}

    metrics_of = batch_accuracy if settings else accuracy
    trainer = make_trainer(
        tmp_path, eval_dataset=data, compute_metrics=metrics_of, per_device_eval_batch_size=4, **settings
    )
    metrics = trainer.evaluate()
    loss = trainer.model.eval()(**{name: torch.tensor(column) for name, column in data[:].items()}).loss
    assert metrics["eval_w1-d1_loss"] == pytest.approx(loss.item(), abs=1e-6)
    assert "eval_mean_accuracy" in metrics
    assert not settings or counted[:3] == [4, 4, 1]


def test_evaluation_leaves_the_active_size(tmp_path):
    trainer = make_trainer(tmp_path, model=make_small().set_active(width=0.5))
    trainer.evaluate()
    assert str(trainer.model.active) == "w0.5-d1"


@pytest.mark.parametrize(("stage", "parts"), [("depth", ("logit_loss", "hidden_loss")), ("finetune", ("loss",))])
def test_logs_tell_the_losses_of_every_size(tmp_path, stage, parts):
    trainer = make_trainer(tmp_path, stage)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert {f"{size}_{part}" for size in trainer.model.config.subnetworks for part in parts} <= logged.keys()


def test_own_matching_compares_a_kept_layer_with_the_same_layer_of_the_teacher(tmp_path):
    """At full width the layers that run unchanged have no loss; only the last of each depth has one."""
    model = make_model(widths=[1.0])
    teacher = copy.deepcopy(model)
    rows = make_dataset(4)
    batch = {name: torch.tensor(column) for name, column in rows[:].items()}
    with torch.no_grad():
        target = teacher(**batch, output_hidden_states=True).hidden_states
        with model.subnetwork(depth=0.5):  # layers 0, 2 and 4
            states = model(**batch, output_hidden_states=True).hidden_states
    mask = batch["attention_mask"][..., None] / batch["attention_mask"].sum(1)[:, None, None]
    by_hand = {
        matching: sum(
            (mask * (states[ours] - target[theirs]) ** 2).sum() / (4 * 32) for ours, theirs in enumerate(matched)
        )
        for matching, matched in {"own": (0, 1, 3, 6), "published": (0, 2, 4, 6)}.items()
    }
    for matching, expected in by_hand.items():
        trainer = make_trainer(
            tmp_path,
            model=copy.deepcopy(model),
            teacher=teacher,
            train_dataset=rows,
            max_steps=1,
            teacher_width="full",
            hidden_matching=matching,
        )
        trainer.train()
        assert trainer.state.log_history[0]["w1-d0.5_hidden_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert by_hand["own"] < by_hand["published"]


@pytest.mark.parametrize("metric", ["mean_accuracy", "eval_worst_accuracy", "eval_w0.5-d0.5_accuracy", "eval_mean_mse"])
def test_the_best_checkpoint_is_chosen_by_any_metric_and_early_stopping_too(tmp_path, metric):
    """One evaluation without a better one ends the training, and the best weights are there again."""

    def measure(prediction):
        return {**accuracy(prediction), "mse": float(np.square(prediction.predictions).mean())}

    trainer = make_trainer(
        tmp_path,
        compute_metrics=measure,
        callbacks=[EarlyStoppingCallback(1)],
        max_steps=10,
        learning_rate=0.1,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model=metric,
    )
    trainer.train()
    name = metric if metric.startswith("eval_") else f"eval_{metric}"
    measured = [logs[name] for logs in trainer.state.log_history if name in logs]
    best = min(measured) if metric.endswith("mse") else max(measured)
    assert trainer.state.best_metric == best
    assert trainer.state.best_global_step == 1 + measured.index(best)
    assert trainer.state.global_step == trainer.state.best_global_step + 1 < 10
    kept = load_file(tmp_path / f"checkpoint-{trainer.state.best_global_step}" / "model.safetensors")
    assert all(torch.equal(trainer.model.state_dict()[name], weight) for name, weight in kept.items())
    assert trainer.evaluate()[name] == best


@pytest.mark.parametrize(("stage", "label_weight"), [("width", 0.0), ("depth", 0.5), ("finetune", 0.0)])
def test_accumulating_two_batches_of_eight_equals_one_of_sixteen(tmp_path, stage, label_weight):
    """The first eight sentences are padded to 7 tokens, the others to 5."""
    gradients = []
    for batch, steps in ((16, 1), (8, 2)):
        first = FirstGradients()
        trainer = make_trainer(
            tmp_path,
            stage,
            train_dataset=[*pad(make_dataset(8), 7), *pad(make_dataset(8), 5)],
            data_collator=pad_together,
            callbacks=[first],
            max_steps=1,
            label_weight=label_weight,
            train_sampling_strategy="sequential",
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=steps,
        )
        trainer.train()
        gradients.append(first.gradients)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("head", "smoothing"),
    [
        ("ForSequenceClassification", 0.1),
        ("ForTokenClassification", 0.0),
        ("ForQuestionAnswering", 0.0),  # transformers smooths labels of classes alone
    ],
)
def test_the_loss_on_labels_is_added_with_its_weight(tmp_path, head, smoothing):
    labels = make_dataset()["labels"]
    own = {
        "ForSequenceClassification": {"labels": labels},
        "ForTokenClassification": {"labels": [[label] * 3 + [-100] * 4 for label in labels]},
        "ForQuestionAnswering": {"start_positions": labels, "end_positions": [label + 1 for label in labels]},
    }[head]
    train = Dataset.from_dict({**make_dataset().remove_columns("labels").to_dict(), **own})
    gradients = {}
    for name, stage, weights in (
        ("distilled", "depth", {}),
        ("labels", "finetune", {}),
        ("both", "depth", {"label_weight": 0.5}),
    ):
        first = FirstGradients()
        trainer = make_trainer(
            tmp_path / name,
            stage,
            model=make_small(head, stock={"num_labels": 2 if "Question" in head else 3}),
            train_dataset=train,
            eval_dataset=None,
            callbacks=[first],
            max_steps=1,
            max_grad_norm=0.0,
            label_smoothing_factor=smoothing,
            train_sampling_strategy="sequential",
            **weights,
        )
        trainer.train()
        gradients[name] = first.gradients
    assert f"{trainer.plan[0].student}_label_loss" in trainer.state.log_history[0]
    for name, gradient in gradients["both"].items():
        expected = gradients["distilled"][name] + 0.5 * gradients["labels"][name]
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6, msg=name)


def test_a_weight_of_labels_that_are_missing_is_refused(tmp_path):
    trainer = make_trainer(tmp_path, train_dataset=make_dataset().remove_columns("labels"), label_weight=0.5)
    message = (
        r"label_weight=0.5 needs labels, but a batch has \['attention_mask', 'input_ids'\]. Name the column .*labels"
    )
    with pytest.raises(ValueError, match=message):
        trainer.train()


@pytest.mark.parametrize("stage", ["depth", "finetune"])
def test_half_precision_gives_about_the_same_gradient_for_whole_weights(tmp_path, stage):
    gradients = []
    for bf16 in (False, True):
        first = FirstGradients()
        model = make_small()
        trainer = make_trainer(tmp_path, stage, model, bf16=bf16, max_steps=1, callbacks=[first])
        trainer.train()
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}
        gradients.append(torch.cat([gradient.flatten() for gradient in first.gradients.values()]))
    assert not torch.equal(*gradients)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def pad(dataset, length):
    """Examples cut or left at a length, with what is padding by their masks."""
    return [{name: row[name][:length] if name != "labels" else row[name] for name in row} for row in dataset]


def pad_together(rows):
    longest = max(len(row["input_ids"]) for row in rows)
    filled = [{**row, **{name: row[name] + [0] * (longest - len(row[name])) for name in MASKED}} for row in rows]
    return default_data_collator(filled)


def test_a_sandwich_holds_the_smallest_the_largest_and_others_drawn_anew(tmp_path):
    drawn = []
    for seed in (1, 2):
        trainer = make_trainer(tmp_path, model=make_model(), strategy="sandwich", seed=seed)
        draws = []
        for step in range(20):
            trainer.state.global_step = step
            draw = [str(pair.student) for pair in trainer.pairs_of_step()]
            assert draw == [str(pair.student) for pair in trainer.pairs_of_step()]
            assert (len(draw), draw[0], draw[-1]) == (4, "w0.25-d0.5", "w1-d1")
            draws.append(tuple(draw))
        assert len(set(draws)) > 10
        drawn.append(draws)
    assert drawn[0] != drawn[1]


def test_a_log_has_the_losses_of_those_sizes_that_were_trained_since_the_last(tmp_path):
    trainer = make_trainer(tmp_path, "width", make_model(), strategy="sandwich", num_random_subnetworks=1,
                           max_steps=4, logging_steps=1)  # fmt: skip
    trainer.train()
    logged = {entry["step"]: entry for entry in trainer.state.log_history if "loss" in entry}
    drawn = set()
    for step, entry in logged.items():
        trainer.state.global_step = step - 1
        sizes = tuple(str(pair.student) for pair in trainer.pairs_of_step())
        names = [name.removesuffix("_logit_loss") for name in entry if name.endswith("_logit_loss")]
        assert tuple(names) == sizes
        drawn.add(sizes)
    assert (len(logged), len(drawn)) == (4, 2)


def test_the_teacher_does_not_change(tmp_path):
    trainer = make_trainer(tmp_path)
    before = copy.deepcopy(trainer.teacher).state_dict()
    trainer.train()
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.teacher.state_dict().items())
    assert not trainer.teacher.training
    assert all(parameter.grad is None for parameter in trainer.teacher.parameters())


def test_a_teacher_is_asked_once_at_a_size_also_where_sizes_are_listed(tmp_path):
    """They stand by their share of the network, so that those of one width do not follow one another."""
    trainer = make_trainer(tmp_path, model=make_small(sizes=["w0.75-d0.5"]), max_steps=1)
    assert [pair.teacher.width for pair in trainer.plan] == [0.5, 0.75, 0.5, 1.0, 1.0]
    trainer.looks_at_teachers, asked = False, []
    trainer.teacher.register_forward_hook(lambda module, *_: asked.append(str(module.active)))
    trainer.train()
    assert asked == ["w0.5-d1", "w0.75-d1", "w1-d1"]


def test_values_of_deberta_are_compared_row_by_row_beside_labels(tmp_path):
    """It flattens them where it is given labels, and they were taken for the logits of one text."""
    rows = make_dataset().map(lambda row: {"labels": float(row["labels"])})
    logged = []
    for weight in (0.0, 0.5):
        teacher = make_stock("DebertaV2", num_labels=1, num_hidden_layers=2)
        model = make_backbone("DebertaV2", widths=(1.0,), depths=(1.0,), num_labels=1, num_hidden_layers=2)
        with torch.no_grad():
            teacher.classifier.bias += 1
        settings = {"train_dataset": rows, "eval_dataset": None, "label_weight": weight, "max_steps": 1}
        trainer = make_trainer(tmp_path, "width", model, teacher, **settings)
        trainer.train()
        logged.append(trainer.state.log_history[0]["w1-d1_logit_loss"])
    assert logged == pytest.approx([1.0, 1.0], abs=1e-5)


def test_model_and_teacher_can_be_pickled_after_training(tmp_path):
    """transformers hooks layers to record their states, by functions that cannot."""
    trainer = make_trainer(tmp_path)
    trainer.train()
    for model in (trainer.model, trainer.teacher):
        again = pickle.loads(pickle.dumps(model))
        states = [each(**make_batch(), output_hidden_states=True).hidden_states for each in (again, model)]
        assert [len(own) for own in states] == [3, 3]
        assert all(map(torch.equal, *states))


def test_a_loss_that_is_not_a_number_stops_before_it_reaches_the_weights(tmp_path):
    trainer = make_trainer(tmp_path)
    with torch.no_grad():
        trainer.teacher.classifier.bias.fill_(torch.nan)
    before = copy.deepcopy(trainer.model).state_dict()
    with pytest.raises(
        FloatingPointError, match=r"loss of w0\.5-d0\.5 is nan at step 0, on the batch that begins with"
    ):
        trainer.train()
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.state_dict().items())


class _NanBackward(torch.autograd.Function):
    """Nothing forward, NaN backward, as the root of 0 has it."""

    @staticmethod
    def forward(ctx, states):
        return states.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.nan


@pytest.mark.parametrize("max_grad_norm", [1.0, 0.0])
def test_gradients_that_are_not_finite_beside_finite_losses_reach_no_weight(tmp_path, max_grad_norm):
    def loss(outputs, labels, num_items_in_batch):
        return torch.nn.functional.cross_entropy(_NanBackward.apply(outputs.logits), labels)

    trainer = make_trainer(tmp_path, "finetune", compute_loss_func=loss, max_grad_norm=max_grad_norm)
    before = copy.deepcopy(trainer.model).state_dict()
    with pytest.raises(FloatingPointError, match="norm of the gradients is nan at step 0, though all losses are fin"):
        trainer.train()
    assert all(torch.equal(weight, before[name]) for name, weight in trainer.model.state_dict().items())


def test_a_loss_of_layer_shapes_that_is_not_finite_names_them_as_they_are_given():
    log, size = LossLog(), (LayerShape(0, 2, 24), LayerShape(5, 1, 12))
    log.expect_finite(size, torch.tensor(torch.inf), {"labels": torch.tensor([2])})
    with pytest.raises(FloatingPointError, match=r"The loss of l0h2n24-l5h1n12 is inf at step 7, on the batch"):
        log.check_finite(7, None, lambda tensor, reduction: tensor)


class OwnStep(DynaBertTrainer):
    """Has a step of its own, as a subclass of transformers' trainer may."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = model(**self._prepare_inputs(inputs)).loss
        self.accelerator.backward(loss)
        return loss.detach()


def test_a_subclass_may_have_a_step_of_its_own(tmp_path):
    settings = {"optim": "sgd", "learning_rate": 0.1, "max_steps": 1, "max_grad_norm": 0.0}
    made = make_trainer(tmp_path, "finetune", per_device_train_batch_size=8, **settings)
    before = copy.deepcopy(made.model.eval())  # of no dropout
    before(**make_dataset().with_format("torch")[:]).loss.backward()
    OwnStep(made.model, None, made.args, train_dataset=make_dataset()).train()
    expected = before.classifier.weight - 0.1 * before.classifier.weight.grad
    assert made.model.classifier.weight.allclose(expected, atol=1e-6)


def stock(**kwargs):
    return BertForSequenceClassification(BertConfig(**{**TINY, "num_hidden_layers": 2, "num_labels": 3, **kwargs}))


def stock_in_two_places():
    model = stock()
    model.classifier.to("meta")
    return model


@pytest.mark.parametrize(
    ("stage", "teacher", "message"),
    [
        ("width", None, "Stage 'width' has no teacher. Give teacher=the fine-tuned model"),
        ("depth", None, "Stage 'depth' has no teacher. Give teacher=the result of stage 'width'"),
        ("depth", stock(), "narrows its teacher .* BertForSequenceClassification has one size"),
        ("width", stock(vocab_size=50), "teacher has vocab_size=50, the model 99"),
        ("width", stock(num_labels=2), "teacher has num_labels=2, the model 3"),
        ("width", stock().bfloat16(), r"teacher is in torch\.bfloat16, the model in torch\.float32\. Load both with"),
        ("width", stock().to("meta"), r"teacher is on the devices \['meta'\]\. It has to be in memory as a whole"),
        ("width", stock_in_two_places(), r"teacher is on the devices \['cpu', 'meta'\].* load it without device_map"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(tmp_path, stage, teacher, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, stage, teacher=teacher)


def test_a_teacher_that_is_the_model_is_refused(tmp_path):
    model = make_small()
    with pytest.raises(ValueError, match=r"shares weights with the model.*copy\.deepcopy"):
        make_trainer(tmp_path, model=model, teacher=model)


def test_a_model_of_one_size_is_refused(tmp_path):
    with pytest.raises(TypeError, match="BertForSequenceClassification, which has one size only"):
        make_trainer(tmp_path, model=stock())


def test_a_teacher_of_whom_nothing_is_learned_is_refused(tmp_path):
    nothing = {"logit_weight": 0.0, "hidden_weight": 0.0}
    message = "logit_weight and hidden_weight are 0, so nothing would be learned from the teacher"
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, **nothing)
    with pytest.raises(ValueError, match=message):
        run_recipe(tmp_path, stage_arguments={"depth": nothing}, stages=("width", "depth"))
    with pytest.raises(ValueError, match=message):
        specialise(make_small(), "w0.5-d0.5", train_dataset=make_dataset(), **nothing)
    assert not (tmp_path / "run").exists()


def test_another_teacher_takes_another_trainer(tmp_path):
    trainer = make_trainer(tmp_path, teacher=(given := make_small()))
    assert trainer.teacher is given
    with pytest.raises(AttributeError, match="teacher"):
        trainer.teacher = make_small()


def test_arguments_without_a_stage_are_refused():
    with pytest.raises(TypeError, match=r"args is a NoneType\. Give DynaBertTrainingArguments"):
        DynaBertTrainer(make_model())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stage": "both"}, "stage='both' is unknown. Possible is one of 'width', 'depth', 'finetune'"),
        ({"train_sampling_strategy": "by_length"}, "train_sampling_strategy='by_length' is unknown. Possible"),
        ({"strategy": "all"}, "strategy='all' is unknown"),
        ({"hidden_weight": -1.0}, "hidden_weight=-1.0 is not possible"),
        ({"label_weight": -1.0}, "label_weight=-1.0 is not possible"),
        ({"logit_weight": float("nan")}, "logit_weight=nan is not possible"),
    ],
)
def test_an_impossible_argument_is_refused(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        DynaBertTrainingArguments(tmp_path, **given)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("torch_compile", {"torch_compile": True}),
        ("torch_compile", {"torch_compile_backend": "eager"}),
        ("torch_compile", {"torch_compile_mode": "default"}),
        ("parallelism_config", {"parallelism_config": object()}),
        ("use_liger_kernel", {"use_liger_kernel": True}),
        ("ddp_static_graph", {"ddp_static_graph": True}),
        ("enable_jit_checkpoint", {"enable_jit_checkpoint": True}),
        ("fsdp", {"fsdp": True, "fsdp_config": {"version": 1}}),
        ("deepspeed", {"deepspeed": "zero2.json"}),
    ],
)
def test_an_engine_that_would_train_wrongly_is_refused(tmp_path, name, given):
    with pytest.raises(ValueError, match=rf"{name} was asked for.* not possible in training: .* Possible are one proc"):
        DynaBertTrainingArguments(tmp_path, **given)


def test_a_file_that_asks_for_the_first_version_of_fsdp_is_refused(tmp_path):
    path = tmp_path / "fsdp.json"
    path.write_text('{"fsdp_version": 1}')
    with pytest.raises(ValueError, match=r"fsdp was asked for.* not possible in training: of FSDP only version 2"):
        DynaBertTrainingArguments(tmp_path, fsdp=True, fsdp_config=str(path))


@pytest.mark.parametrize("optim", ["lomo", "adalomo", "galore_adamw_layerwise", "apollo_adamw_layerwise"])
def test_an_optimiser_that_steps_within_a_backward_pass_is_refused(tmp_path, optim):
    message = rf"optim='{optim}' changes weights within a backward pass.*before the step. Possible.* Give 'adamw_torch'"
    with pytest.raises(ValueError, match=message):
        DynaBertTrainingArguments(tmp_path, optim=optim)


def test_what_saves_memory_instead_is_named_as_this_release_of_transformers_names_it(tmp_path):
    with pytest.raises(ValueError, match=rf"bf16=True, {RECOMPUTE}=True and gradient_acc") as refused:
        DynaBertTrainingArguments(tmp_path, torch_compile=True)
    named = dict.fromkeys(re.findall(r"(\w+)=True", str(refused.value)), True)
    assert DynaBertTrainingArguments(tmp_path, use_cpu=True, **named).gradient_checkpointing


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("fsdp", "ACCELERATE_USE_FSDP", "true"),
        ("deepspeed", "ACCELERATE_USE_DEEPSPEED", "true"),
        ("parallelism_config", "ACCELERATE_USE_PARALLELISM_CONFIG", "true"),
        ("torch_compile", "ACCELERATE_DYNAMO_BACKEND", "INDUCTOR"),
    ],
)
def test_an_engine_that_the_launcher_asks_for_is_refused(tmp_path, name, variable, value, monkeypatch):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=rf"{name} was asked for, by an argument or by `accelerate launch`, but"):
        DynaBertTrainingArguments(tmp_path)


def test_the_weights_of_the_losses_are_the_papers_unless_given(tmp_path):
    weights = {stage: DynaBertTrainingArguments(tmp_path, stage=stage).hidden_weight for stage in ("width", "depth")}
    assert weights == {"width": 0.1, "depth": 1.0}
    assert DynaBertTrainingArguments(tmp_path, hidden_weight=0.7).hidden_weight == 0.7


def test_arguments_with_another_stage_have_its_weight_of_hidden_states_unless_one_was_given(tmp_path):
    args = DynaBertTrainingArguments(tmp_path, stage="width", use_cpu=True)
    assert replace(args, stage="depth").hidden_weight == 1.0
    assert replace(replace(args, seed=3), stage="finetune").hidden_weight == 0.0
    own = DynaBertTrainingArguments(tmp_path, stage="width", hidden_weight=0.1, use_cpu=True)
    assert replace(own, stage="depth").hidden_weight == 0.1
    for each in (args, own):
        each.stage = "depth"
    assert (args.hidden_weight, own.hidden_weight) == (1.0, 0.1)
    with pytest.raises(ValueError, match=r"stage='all' is unknown"):
        args.stage = "all"


def test_a_metric_that_is_named_later_has_its_direction_unless_one_was_given(tmp_path):
    """The checkpoint with the lowest accuracy was the best."""
    for name, is_greater in (("eval_mean_accuracy", True), ("loss", False)):
        args = DynaBertTrainingArguments(tmp_path, use_cpu=True)
        args.metric_for_best_model = name
        assert args.greater_is_better is is_greater
    args = DynaBertTrainingArguments(tmp_path, greater_is_better=False, use_cpu=True)
    args.metric_for_best_model = "accuracy"
    assert args.greater_is_better is False


@pytest.mark.parametrize(
    ("settings", "greater_is_better"),
    [
        ({"load_best_model_at_end": True}, False),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, False),
        ({"metric_for_best_model": "eval_matched_w0.5-d1_rmse"}, False),
        ({"metric_for_best_model": "worst_accuracy"}, True),
        ({"metric_for_best_model": "my_loss", "greater_is_better": True}, True),
        ({}, None),
    ],
)
def test_the_direction_of_the_metric_to_choose_by_is_told_or_in_its_name(tmp_path, settings, greater_is_better):
    args = DynaBertTrainingArguments(tmp_path, eval_strategy="epoch", save_strategy="epoch", use_cpu=True, **settings)
    assert args.greater_is_better is greater_is_better


def test_the_best_checkpoint_is_loaded_without_further_words(tmp_path):
    trainer = make_trainer(
        tmp_path,
        load_best_model_at_end=True,
        eval_strategy="epoch",
        save_strategy="epoch",
        max_steps=-1,
        num_train_epochs=1,
    )
    trainer.train()
    assert trainer.state.best_metric == trainer.state.log_history[-2]["eval_mean_loss"]


def test_a_metric_that_an_evaluation_lacks_is_named_and_the_work_is_kept(tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 2, "max_steps": 4, "compute_metrics": accuracy}
    trainer = make_trainer(tmp_path, metric_for_best_model="mean_f1", **settings)
    with pytest.raises(ValueError, match=r"'mean_f1' did not come .*'eval_mean_accuracy'.*checkpoint-2'"):
        trainer.train()
    whole = make_trainer(tmp_path / "whole", metric_for_best_model="accuracy", **settings)
    whole.train()
    resumed = make_trainer(tmp_path, metric_for_best_model="accuracy", **settings)
    assert resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2")).global_step == 4
    weights = whole.model.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in resumed.model.state_dict().items())


@pytest.mark.parametrize("asked", ["accuracy", "eval_w0.3-d1_loss"])
def test_a_metric_that_cannot_come_is_refused_before_training(tmp_path, asked):
    with pytest.raises(ValueError, match=rf"metric_for_best_model='{asked}' will not come"):
        make_trainer(tmp_path, eval_strategy="epoch", metric_for_best_model=asked)
    message = r"w1-d1 is none of the sizes that are evaluated, w0\.5-d1\. Give one of them, or"
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, eval_strategy="epoch", metric_for_best_model="w1-d1_loss", eval_sizes=["w0.5-d1"])


def test_the_worst_of_a_metric_is_in_the_direction_that_the_arguments_tell(tmp_path):
    values = iter(np.linspace(0.1, 0.9, 4))
    trainer = make_trainer(
        tmp_path,
        compute_metrics=lambda _: {"hurt": next(values)},
        metric_for_best_model="worst_hurt",
        greater_is_better=False,
    )
    assert trainer.evaluate()["eval_worst_hurt"] == 0.9


@pytest.mark.parametrize(("asked", "best"), [("a_hurt", 0.3), ("eval_b_worst_hurt", 0.6)])
def test_the_best_checkpoint_is_chosen_by_one_of_several_evaluation_sets(tmp_path, asked, best):
    """Each evaluation measures set a, then b, at the two sizes each."""
    values = iter([0.5, 0.5, 0.6, 0.6, 0.2, 0.4, 0.7, 0.7, *[0.9] * 4])
    trainer = make_trainer(
        tmp_path,
        model=make_small(depths=[1.0]),
        compute_metrics=lambda _: {"hurt": next(values)},
        eval_dataset={"a": make_dataset(), "b": make_dataset()},
        max_steps=3,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model=asked,
        greater_is_better=False,
    )
    trainer.train()
    assert trainer.state.best_metric == pytest.approx(best, abs=1e-12)


def test_metrics_that_are_no_numbers_are_reported_by_size(tmp_path):
    def report(prediction):
        return {"classes": {"f1": 0.5}, "nothing": None, "share": np.float64(0.25)}

    metrics = make_trainer(tmp_path, compute_metrics=report).evaluate()
    assert metrics["eval_w0.5-d1_classes"] == {"f1": 0.5}
    assert metrics["eval_mean_share"] == 0.25
    assert "eval_mean_classes" not in metrics
    assert "eval_mean_nothing" not in metrics


@pytest.mark.parametrize("is_stream", [True, False])
def test_data_sets_without_a_length_train_and_evaluate(tmp_path, is_stream):
    class Rows(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(make_dataset())

    data = make_dataset().to_iterable_dataset() if is_stream else Rows()
    trainer = make_trainer(tmp_path, train_dataset=data, eval_dataset=data, per_device_eval_batch_size=5)
    assert trainer.train().global_step == 2
    loss = trainer.model(**{name: torch.tensor(column) for name, column in make_dataset()[:].items()}).loss
    assert trainer.evaluate()["eval_w1-d1_loss"] == pytest.approx(loss.item(), abs=1e-6)


@pytest.mark.parametrize(("stage", "label_weight"), [("finetune", 0.0), ("width", 0.5)])
def test_a_batch_without_a_labelled_token_adds_nothing(tmp_path, stage, label_weight):
    rows = [{**row, "labels": [0] * 7 if number < 4 else [-100] * 7} for number, row in enumerate(make_dataset())]
    trainer = make_trainer(
        tmp_path,
        stage,
        make_small("ForTokenClassification"),
        train_dataset=rows,
        eval_dataset=None,
        label_weight=label_weight,
        train_sampling_strategy="sequential",
    )
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert losses[0] > 0
    assert np.isfinite(losses).all()
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


@pytest.mark.parametrize("problem_type", [None, "multi_label_classification"])
def test_float_labels_of_several_classes_are_distilled_one_by_one(tmp_path, problem_type):
    rows = [{**row, "labels": [1.0, 0.0, 1.0]} for row in make_dataset()]
    model, teacher = make_small(), make_small()
    for each in (model, teacher):
        each.config.problem_type = problem_type
    with torch.no_grad():
        teacher.classifier.weight.neg_()
    trainer = make_trainer(
        tmp_path,
        model=model,
        teacher=teacher,
        train_dataset=rows,
        eval_dataset=None,
        hidden_weight=0.0,
        teacher_width="full",
    )
    [batch] = [default_data_collator(rows[:4])]
    ours, theirs = (
        each.eval()(**{k: v for k, v in batch.items() if k != "labels"}).logits for each in (model, teacher)
    )
    each = torch.nn.functional.binary_cross_entropy_with_logits(ours, theirs.sigmoid(), reduction="none")
    expected = each.sum(1).mean()
    full = trainer.plan[-1]
    loss = trainer.pair_loss(model, batch, full, teacher(**{k: v for k, v in batch.items() if k != "labels"}))
    torch.testing.assert_close(loss, expected)


def test_an_encoder_without_a_head_distils_its_hidden_states(tmp_path):
    with pytest.raises(ValueError, match=r"DynaBertModel has no head.*logit_weight=0"):
        make_trainer(tmp_path, model=make_small("Model"))
    data = make_dataset().remove_columns("labels")
    trainer = make_trainer(tmp_path, model=make_small("Model"), logit_weight=0, train_dataset=data, eval_dataset=None)
    trainer.train()
    assert trainer.state.log_history[0]["w0.5-d0.5_hidden_loss"] > 0


def test_distillation_takes_sentences_whose_labels_are_hidden(tmp_path):
    hidden = make_dataset().remove_columns("labels").add_column("labels", [-1] * 8)
    make_trainer(tmp_path, train_dataset=hidden).train()
    for given in ({"stage": "finetune"}, {"label_weight": 0.5}):
        with pytest.raises(ValueError, match="train_dataset has the label -1 in row 0"):
            make_trainer(tmp_path, train_dataset=hidden, **given)


def test_an_optimiser_that_has_modes_is_put_into_that_of_training(tmp_path):
    class Moded(torch.optim.SGD):
        is_training = False

        def train(self):
            self.is_training = True

        def step(self, *args, **kwargs):
            assert self.is_training
            super().step(*args, **kwargs)

    trainer = make_trainer(tmp_path)
    trainer.optimizer = Moded(trainer.model.parameters(), lr=0.01)
    trainer.train()


def test_several_devices_in_one_process_are_refused(tmp_path, monkeypatch):
    args = DynaBertTrainingArguments(tmp_path, stage="finetune", use_cpu=True)
    monkeypatch.setattr(DynaBertTrainingArguments, "n_gpu", 2)
    told = r"has 2 devices.*DataParallel.*start 2 processes by accelerate.*CUDA_VISIBLE"
    with pytest.raises(ValueError, match=told):
        DynaBertTrainingArguments(tmp_path, stage="finetune", use_cpu=True)
    with pytest.raises(ValueError, match=told):  # as where the number of devices is set later
        DynaBertTrainer(make_model(), None, args, train_dataset=make_dataset())


def test_a_process_that_does_not_know_of_those_it_was_launched_with_is_refused(tmp_path, monkeypatch):
    """As torchrun starts them where there is no GPU and nobody says use_cpu: each trained, and wrote over the other."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ValueError, match=r"launched as one of 2 .*but is alone: .*torchrun, on a CPU with use_cpu=True"
    ):
        DynaBertTrainingArguments(tmp_path, use_cpu=False)


def test_a_search_for_hyperparameters_is_refused_with_what_to_do(tmp_path):
    args = DynaBertTrainingArguments(tmp_path, stage="finetune", use_cpu=True)
    with pytest.raises(ValueError, match=r"model_init was given.*Possible is model=.*a trainer in each trial"):
        DynaBertTrainer(args=args, model_init=make_model)
    with pytest.raises(ValueError, match=r"hyperparameter_search was called.*eval_mean_loss"):
        make_trainer(tmp_path, "finetune").hyperparameter_search()


def other_teacher():
    teacher = make_small()
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.mul_(1.05)
    return teacher


def test_hidden_states_alone_leave_the_head_and_its_flags(tmp_path):
    """The head gets no gradient, and would be decayed or waited for otherwise."""
    model = make_small()
    model.bert.embeddings.position_embeddings.weight.requires_grad_(False)
    flags = {name: weight.requires_grad for name, weight in model.named_parameters()}
    before = copy.deepcopy(model.state_dict())
    trainer = make_trainer(tmp_path, model=model, teacher=other_teacher(), logit_weight=0.0, weight_decay=0.1)
    trainer.train()
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == flags
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    untaught = {name for name in before if "pooler" in name or name.startswith("classifier") or "position_emb" in name}
    assert changed == before.keys() - untaught


def test_the_mode_and_device_of_the_teacher_are_as_before(tmp_path):
    teacher = make_small().train()
    teacher.bert.encoder.layer[1].eval()
    modes = [module.training for module in teacher.modules()]
    trainer = make_trainer(tmp_path, teacher=teacher)
    assert [module.training for module in teacher.modules()] == modes
    trainer.train()
    assert [module.training for module in teacher.modules()] == modes
    with torch.no_grad():
        teacher.classifier.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError):
        trainer.train()
    assert [module.training for module in teacher.modules()] == modes


def test_a_step_looks_at_its_losses_once(tmp_path, monkeypatch):
    """Of all sub-networks and accumulated batches together, before the optimiser steps."""
    looked = []
    trainer = make_trainer(tmp_path, gradient_accumulation_steps=2, per_device_train_batch_size=2, max_steps=2)
    check = trainer._losses.check_finite
    monkeypatch.setattr(
        trainer._losses, "check_finite", lambda *args: looked.append(len(trainer._losses._unchecked)) or check(*args)
    )
    trainer.train()
    assert looked == [8, 8]


class RunsOutOfMemoryOnce(DynaBertTrainer):
    """Fails once, within the second step, as a device does whose memory is full."""

    has_failed = False

    def pair_loss(self, model, inputs, pair, teacher):
        if self.state.global_step == 1 and pair is self.plan[1] and not self.has_failed:
            self.has_failed = True
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return super().pair_loss(model, inputs, pair, teacher)


def test_after_memory_ran_out_training_logs_its_own_losses_alone(tmp_path):
    """Where nothing is learned, a smaller batch found by trial logs what it logs when it is asked for, as on cards."""
    logs = []
    for trainer_class, batch in ((RunsOutOfMemoryOnce, 4), (DynaBertTrainer, 3)):
        settings = {"per_device_train_batch_size": batch, "learning_rate": 0.0, "logging_steps": 3, "max_steps": 3}
        made = make_trainer(tmp_path / str(batch), auto_find_batch_size=batch == 4, **settings)
        trainer = trainer_class(made.model, made.teacher, made.args, train_dataset=make_dataset())
        trainer.train()
        [entry] = [{**each} for each in trainer.state.log_history if "loss" in each]
        logs.append({name: value for name, value in entry.items() if name != "grad_norm"})
        card = (tmp_path / str(batch) / "README.md").read_text()
        assert "| `per_device_train_batch_size` | 3 |" in card
        assert ("| `auto_find_batch_size` | True |" in card) is (batch == 4)
    assert logs[0] == logs[1]
    assert len([name for name in logs[0] if name.endswith("hidden_loss")]) == 4


def test_gradients_may_be_synchronised_at_every_batch(tmp_path):
    trained = []
    for number, settings in enumerate(({}, {"gradient_accumulation_kwargs": {"sync_each_batch": True}})):
        given = {"accelerator_config": settings, "gradient_accumulation_steps": 2}
        trainer = make_trainer(tmp_path / str(number), per_device_train_batch_size=2, **given)
        trainer.train()
        trained.append(trainer.model.state_dict())
    assert all(torch.equal(weight, trained[1][name]) for name, weight in trained[0].items())


def test_batches_of_a_step_of_which_accelerate_is_told_count(tmp_path):
    told = {"gradient_accumulation_kwargs": {"num_steps": 4}}
    args = DynaBertTrainingArguments(tmp_path, accelerator_config=told, per_device_train_batch_size=2, use_cpu=True)
    assert (args.gradient_accumulation_steps, decisive(args)["examples_in_a_step"]) == (4, 8)
    assert replace(args, seed=3).gradient_accumulation_steps == 4
    for number in range(2):  # of one dictionary
        trainer = make_trainer(tmp_path / str(number), accelerator_config=told, per_device_train_batch_size=2)
        trainer.train()
        assert trainer.state.epoch == 2  # 2 steps of 8 of the 8 rows
    assert told == {"gradient_accumulation_kwargs": {"num_steps": 4}}
    with pytest.raises(ValueError, match=r"num_steps=0 is not possible\. Give a whole number of at least 1"):
        DynaBertTrainingArguments(
            tmp_path, accelerator_config={"gradient_accumulation_kwargs": {"num_steps": 0}}, use_cpu=True
        )


@pytest.mark.parametrize("name", ["train_dataset", "eval_dataset"])
def test_text_is_refused_with_the_way_to_tokenise_it(tmp_path, name):
    text = Dataset.from_dict({"text": ["w5 w6"] * 8, "label": [0, 1] * 4})
    message = r"has the columns \['label', 'text'\] but no 'input_ids'\. Tokenise it first"
    with pytest.raises(ValueError, match=name + " " + message):
        make_trainer(tmp_path, **{name: text})
    trainer = make_trainer(tmp_path)
    for call in (trainer.evaluate, trainer.predict):
        with pytest.raises(ValueError, match=message):
            call(text)


def test_a_page_of_another_kind_keeps_its_place_at_the_end_of_training(tmp_path, caplog):
    page = tmp_path / "README.md"
    page.write_text("# My project\n")
    trainer = make_trainer(tmp_path, max_steps=1)
    trainer.train()
    assert page.read_text() == "# My project\n"
    assert f"{str(page)!r} is no card of an elastic model, and stays as it is. Give an output_dir" in caplog.text
    trainer.create_model_card()
    page.write_text(page.read_text().replace("4 sizes", "5 sizes"))
    trainer.train()  # which replaces a card
    assert "# DynaBERT in 4 sizes" in page.read_text()


def test_a_model_whose_training_was_stopped_is_saved_with_what_is_measured_then(tmp_path):
    trainer = make_trainer(tmp_path, compute_metrics=accuracy, callbacks=[StopAt(1)])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    measured = trainer.evaluate()
    trainer.save_model()
    stored = json.loads((tmp_path / "config.json").read_text())["metrics"]
    assert {size: own["accuracy"] for size, own in stored.items()} == {
        str(size): measured[f"eval_{size}_accuracy"] for size in trainer.model.config.subnetworks
    }


@pytest.mark.parametrize("asked", ["pos_hurt", "pos_mean_hurt", "eval_neg_worst_hurt", "neg_w1-d1_hurt"])
def test_a_metric_of_an_evaluation_set_is_better_in_the_direction_of_the_metric(tmp_path, asked):
    """Of a set called `neg` the loss was taken for a negative loss, and what was told held for no set or for one."""
    settings = {"metric_for_best_model": asked, "greater_is_better": False, "eval_strategy": "epoch"}
    sets = {"pos": make_dataset(4), "neg": make_dataset(6)}
    hurt = {"compute_metrics": lambda found: {"hurt": float(found.predictions.max())}}
    trainer = make_trainer(tmp_path, "finetune", eval_dataset=sets, **settings, **hurt)
    trainer.train()
    trainer.save_model()
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["metric_directions"] == dict.fromkeys(("pos_hurt", "neg_hurt", "neg_loss"), "lower")
    card = tmp_path / "README.md"
    assert "Lower is better for pos_hurt and neg_hurt and pos_loss and neg_loss." in card.read_text()
    trainer.create_model_card(directions={"pos_hurt": "lower"})
    assert "Lower is better for pos_hurt and pos_loss." in card.read_text()


def test_metrics_of_other_names_stay_where_a_model_is_measured_and_saved_until_it_is_trained(tmp_path):
    trainer = make_trainer(tmp_path, "finetune", eval_dataset=make_dataset(4))
    config, rows = trainer.model.config, "7 rows of test.csv"
    config.metrics = {"w1-d1": {"loss": 9.0, "macro_f1": 0.5}, "teacher": {"loss": 8.0}}
    config.metric_rows = {"w1-d1": {"loss": rows, "macro_f1": rows}, "teacher": {"loss": rows}}
    found = trainer.evaluate(sizes=["w1-d1", "w0.5-d1"])
    trainer.save_model()
    saved = json.loads((tmp_path / "config.json").read_text())
    of_size, of_full = ({"loss": found[f"eval_{size}_loss"]} for size in ("w0.5-d1", "w1-d1"))
    assert saved["metrics"] == {"w0.5-d1": of_size, "w1-d1": {**of_full, "macro_f1": 0.5}}
    assert saved["metric_rows"]["w1-d1"] == {"loss": "4 rows of the evaluation data", "macro_f1": rows}
    trainer.train()
    trainer.save_model()
    assert "macro_f1" not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("is_one_of_several", [False, True])
def test_sizes_that_were_measured_on_other_rows_before_are_left_out(tmp_path, is_one_of_several):
    """They stood beside the one that was measured last, as if they were of its rows."""
    near = "near_" if is_one_of_several else ""
    sets = {"near": make_dataset(4), "far": make_dataset(6)} if near else make_dataset(4)
    trainer = make_trainer(tmp_path, "finetune", eval_strategy="epoch", eval_dataset=sets)

    def stored(kind="metrics"):
        trainer.save_model()
        by_size = json.loads((tmp_path / "config.json").read_text())[kind]
        return {size: own[f"{near}loss"] for size, own in by_size.items() if f"{near}loss" in own}

    def measured(data, *sizes):
        found = trainer.evaluate({"near": data} if near and data is not None else data, sizes=sizes)
        return {size: found[f"eval_{near}{size}_loss"] for size in sizes}

    trainer.train()
    in_training = stored()
    assert stored() == measured(None, *in_training)
    assert {**in_training, **measured(None, "w1-d0.5")} == stored()  # once more, on the same rows
    other = make_dataset(5)
    trainer.compute_metrics = lambda found: found["nothing"]
    with pytest.raises(TypeError):
        measured(other, "w1-d0.5")
    trainer.compute_metrics = None
    assert stored() == in_training  # nothing was measured on the others
    found = measured(other, "w1-d0.5")
    assert found != {"w1-d0.5": in_training["w1-d0.5"]}
    assert stored() == found
    found |= measured(other, "w0.5-d1")
    trainer.log({"eval_w1-d1_own": 0.25})  # of a callback, say
    assert stored() == found
    rows = "5 rows (near) and 6 rows (far)" if near else "5 rows"
    assert stored("metric_rows") == dict.fromkeys(found, f"{rows} of the evaluation data")
    trainer.train()
    assert len(stored()) == len(in_training)


class Interrupted(TrainerCallback):
    """Stops what is going on as soon as an evaluation was logged, once it is told to."""

    is_on = False

    def on_evaluate(self, args, state, control, **kwargs):
        if self.is_on:
            raise KeyboardInterrupt


def losses_and_rows(trainer, folder):
    trainer.save_model()
    config = json.loads((folder / "config.json").read_text())
    losses = {size: own["loss"] for size, own in config["metrics"].items()}
    return losses, {own["loss"] for own in config["metric_rows"].values()}


@pytest.mark.parametrize("what", ["callback", "resuming"])
def test_metrics_of_other_rows_stay_apart_where_something_failed_after_they_were_logged(tmp_path, what):
    stop = Interrupted()
    trainer = make_trainer(tmp_path, "finetune", eval_strategy="epoch", callbacks=[stop])
    trainer.train()
    stop.is_on = what == "callback"
    with pytest.raises(KeyboardInterrupt) if stop.is_on else contextlib.nullcontext():
        trainer.evaluate(make_dataset(5), sizes=["w1-d0.5"])
    stop.is_on = False
    if what == "resuming":
        trainer.model.config.temperatures = {"w1-d1": 2.0}
        with pytest.raises(ValueError, match="Training cannot go on"):
            trainer.train(resume_from_checkpoint=tmp_path / "none")
        assert trainer.model.config.temperatures == {"w1-d1": 2.0}  # the weights are as before
    found = losses_and_rows(trainer, tmp_path)
    loss = trainer.evaluate(make_dataset(5), sizes=["w1-d0.5"])["eval_w1-d0.5_loss"]
    assert found == ({"w1-d0.5": loss}, {"5 rows of the evaluation data"})


@pytest.mark.parametrize("what", ["evaluate", "predict"])
def test_rows_are_counted_of_what_was_logged_since_training_began(tmp_path, what):
    trainer = make_trainer(tmp_path, "finetune", eval_strategy="epoch")
    if what == "evaluate":
        trainer.evaluate({"a": make_dataset(5), "b": make_dataset(4)})
    trainer.train()
    if what == "predict":
        trainer.predict(make_dataset(5), metric_key_prefix="eval")
    losses, rows = losses_and_rows(trainer, tmp_path)
    assert rows == {"8 rows of the evaluation data"}
    assert losses["w1-d1"] == trainer.evaluate()["eval_w1-d1_loss"]


def test_a_card_counts_the_rows_that_were_measured_last(tmp_path):
    card = tmp_path / "README.md"
    trainer = make_trainer(tmp_path, eval_strategy="epoch")
    trainer.train()
    assert "Metrics were measured on 8 rows of the evaluation data." in card.read_text()
    trainer.predict(make_dataset(3))
    trainer.evaluate(make_dataset(5))
    trainer.save_model()
    trainer.create_model_card()
    assert "Metrics were measured on 5 rows of the evaluation data." in card.read_text()
    assert json.loads((tmp_path / "config.json").read_text())["metric_rows"]["w1-d1"] == {
        "loss": "5 rows of the evaluation data"
    }
    other = make_trainer(tmp_path, eval_dataset={"near": make_dataset(4), "far": make_dataset(6)})
    other.train()
    other.evaluate()
    other.create_model_card()
    assert "Metrics were measured on 4 rows (near) and 6 rows (far) of the evaluation data." in card.read_text()
