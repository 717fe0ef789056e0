"""Evaluation and prediction equal a plain loop over the rows in order, whatever training's arguments say."""

import copy
import weakref

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset
from helpers.plain_loop import HEADS, assert_equal_rows, elastic, pad, plain_loop, ragged_rows
from helpers.sentences import WORDS, make_texts
from helpers.tiny import make_batch, make_model, make_tokenizer
from helpers.trainers import accuracy, make_dataset, make_trainer
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification, DataCollatorForLanguageModeling, Trainer

from dynabert_hf import DynaBertForSequenceClassification, DynaBertTrainer, SubNetwork, SubNetworkError
from dynabert_hf.data.masking import MaskedOnce
from dynabert_hf.sizes.metrics import metrics_by_size
from dynabert_hf.tasks import task_of
from dynabert_hf.training.collated_batches import CollatedBatches, CountedRows
from dynabert_hf.training.ordered_evaluation import OrderedEvaluation, evaluate_one_size, unchanged

SETTINGS = {
    "default": {},
    "by length": {"train_sampling_strategy": "group_by_length"},
    "without the last": {"dataloader_drop_last": True},
    "split": {"accelerator_config": {"split_batches": True, "even_batches": False}},
    "by worker": {"dataloader_num_workers": 2, "dataloader_persistent_workers": True},
    "all at once": {"per_device_eval_batch_size": 50},
}


def make_evaluator(tmp_path, model, **settings):
    arguments = {"per_device_eval_batch_size": 4, "train_dataset": None, "eval_dataset": None, "data_collator": pad}
    return make_trainer(tmp_path, "finetune", model, **{**arguments, **settings})


@pytest.mark.parametrize(
    ("head", "setting"),
    [
        *((head, "default") for head in HEADS),
        *(("ForTokenClassification", one) for one in SETTINGS if one != "default"),
    ],
)
def test_evaluation_equals_a_plain_loop_over_the_rows(tmp_path, head, setting):
    model, rows = elastic(head), ragged_rows(head)
    trainer = make_evaluator(tmp_path, model, **SETTINGS[setting])
    data = Dataset.from_list(rows) if setting != "default" else rows
    predicted = trainer.predict(data)
    metrics = trainer.evaluate(data)
    for size in model.config.subnetworks:
        with model.subnetwork(size):
            expected, loss = plain_loop(model, rows)
        assert_equal_rows(predicted.predictions[str(size)], expected)
        assert predicted.metrics[f"test_{size}_loss"] == pytest.approx(loss, abs=1e-6)
        assert metrics[f"eval_{size}_loss"] == pytest.approx(loss, abs=1e-6)
    if head != "ForQuestionAnswering":
        for found, row in zip(predicted.label_ids, rows, strict=True):
            np.testing.assert_allclose(found.flatten()[: np.size(row["labels"])], row["labels"])


@pytest.mark.parametrize("to", ["evaluate", "predict"])
def test_classes_in_another_order_are_said_of_data_that_come_late(tmp_path, caplog, to):
    model = copy.deepcopy(elastic("ForSequenceClassification"))
    names = [f"{to} {number}" for number in range(model.config.num_labels)]  # a message is said once
    model.config.id2label = dict(enumerate(names))
    rows = Dataset.from_list(ragged_rows("ForSequenceClassification"))
    trainer = make_evaluator(tmp_path, model)
    getattr(trainer, to)(rows.cast_column("labels", ClassLabel(names=names)))
    assert "calls its classes" not in caplog.text
    getattr(trainer, to)(rows.cast_column("labels", ClassLabel(names=names[::-1])))
    assert f"calls its classes {names[::-1]}, in this order" in caplog.text


@pytest.mark.parametrize("as_list", [True, False])
def test_rows_with_hidden_labels_are_predicted_and_not_scored(tmp_path, as_list):
    model, rows = elastic("ForSequenceClassification"), ragged_rows("ForSequenceClassification")
    hidden = [{**row, "labels": None} for row in rows]
    trainer = make_evaluator(tmp_path, model, compute_metrics=accuracy)
    predicted = trainer.predict(hidden if as_list else Dataset.from_list(hidden))
    expected, _ = plain_loop(model, rows)
    assert_equal_rows(predicted.predictions["w1-d1"], expected)
    assert predicted.label_ids is None
    assert not any("accuracy" in name or "loss" in name for name in predicted.metrics)


def test_labels_that_some_rows_lack_are_refused_before_anything_is_measured(tmp_path):
    """Their rows counted as wrong."""
    rows = ragged_rows("ForSequenceClassification")
    rows[3]["labels"] = None
    trainer = make_evaluator(tmp_path, elastic("ForSequenceClassification"), compute_metrics=accuracy)
    for name, measure in {
        "eval_dataset": lambda: trainer.evaluate(rows),
        r"eval_dataset\['dev'\]": lambda: trainer.evaluate({"dev": Dataset.from_list(rows)}),
        "test_dataset": lambda: trainer.predict(rows),
    }.items():
        with pytest.raises(ValueError, match=rf"{name} has no label in 'labels' of row 3\. Give every row one"):
            measure()
    hidden = [{**row, "labels": -1} for row in rows]
    with pytest.raises(ValueError, match=r"test_dataset has the label -1 in row 0\. Possible .* marks hidden labels"):
        trainer.predict(hidden)


@pytest.mark.parametrize("kind", ["stream", "own"])
def test_data_that_can_only_be_iterated_are_in_order(tmp_path, kind):
    class Rows(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(ragged_rows("ForTokenClassification"))

    rows = list(Rows())
    data = Rows() if kind == "own" else Dataset.from_list(rows).to_iterable_dataset(num_shards=3)
    model = elastic("ForTokenClassification")
    trainer = make_evaluator(tmp_path, model, dataloader_num_workers=2)
    predicted = trainer.predict(data)
    expected, loss = plain_loop(model, rows)
    assert_equal_rows(predicted.predictions["w1-d1"], expected)
    assert predicted.metrics["test_w1-d1_loss"] == pytest.approx(loss, abs=1e-6)


def token_loss(outputs, labels, num_items_in_batch):
    return cross_entropy(outputs.logits.flatten(0, 1), labels.flatten(), reduction="sum") / num_items_in_batch


@pytest.mark.parametrize("settings", [{"compute_loss_func": token_loss}, {"label_smoothing_factor": 0.2}])
@pytest.mark.parametrize("stage", ["finetune", "depth"])
def test_a_loss_of_ones_own_is_a_mean_over_labelled_tokens(tmp_path, stage, settings):
    model, rows = elastic("ForTokenClassification"), ragged_rows("ForTokenClassification")
    batch = pad(rows)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = cross_entropy(
        logits.flatten(0, 1), batch["labels"].flatten(), label_smoothing=settings.get("label_smoothing_factor", 0.0)
    )
    trainer = make_trainer(
        tmp_path,
        stage,
        model,
        data_collator=pad,
        per_device_eval_batch_size=4,
        train_dataset=None,
        eval_dataset=rows,
        **settings,
    )
    assert trainer.evaluate()["eval_w1-d1_loss"] == pytest.approx(expected.item(), abs=1e-6)


def test_all_sizes_see_the_same_draws_of_a_collator(tmp_path):
    drawn = []

    def masking(rows):
        batch = pad(rows)
        batch["input_ids"][torch.rand(batch["input_ids"].shape) < 0.5] = 1
        drawn.append(batch)
        return batch

    model = elastic("ForSequenceClassification")
    predicted = make_evaluator(tmp_path, model, data_collator=masking).predict(ragged_rows("ForSequenceClassification"))
    assert len(drawn) == 3
    for size in model.config.subnetworks:
        with model.subnetwork(size), torch.no_grad():
            logits = torch.cat([model(**batch).logits for batch in drawn])
        np.testing.assert_allclose(predicted.predictions[str(size)], logits, rtol=0, atol=1e-5)


def test_all_evaluations_see_the_masks_of_a_seed(tmp_path):
    """Each went on where the one before had ended, and so did training."""
    tokenizer = make_tokenizer(WORDS)
    rows = [{"input_ids": ids} for ids in tokenizer(make_texts(9))["input_ids"]]
    collator = DataCollatorForLanguageModeling(tokenizer, seed=3)
    expected = [collator(rows[at : at + 4]) for at in (0, 4, 8)]
    collator = DataCollatorForLanguageModeling(tokenizer, seed=3)
    first = collator(rows[:4])
    trainer = make_evaluator(tmp_path, elastic("ForMaskedLM"), data_collator=collator, eval_dataset=rows)
    for _ in range(2):
        found = list(trainer.collate(trainer.get_eval_dataloader()).loader)
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close({name: ours[name] for name in theirs}, dict(theirs), rtol=0, atol=0)
    assert torch.equal(first["labels"], expected[0]["labels"])
    assert torch.equal(collator(rows[4:8])["labels"], expected[1]["labels"])


def test_a_loss_of_no_item_is_no_number():
    rows = CountedRows(CollatedBatches(None, own_rows=(2,), rows=(2,), fill_to=2), 1)
    rows.add(torch.tensor(0.0), 0)  # as of rows of which no token has a label
    assert np.isnan(rows.mean_loss())


def test_words_are_masked_by_the_seed_of_the_arguments(tmp_path):
    tokenizer, model = make_tokenizer(WORDS), elastic("ForMaskedLM")
    rows = [{"input_ids": ids} for ids in tokenizer(make_texts(9))["input_ids"]]
    own = {"data_collator": None, "processing_class": tokenizer, "eval_dataset": rows, "seed": 7}
    trainer = make_evaluator(tmp_path, model, **own)
    found = [row for batch in trainer.collate(trainer.get_eval_dataloader()).loader for row in batch["labels"].tolist()]
    masked = MaskedOnce(rows, task_of(model).collator(tokenizer), seed=7)
    for row, one in zip(found, masked.rows(), strict=True):
        assert row[: len(one["labels"])] == one["labels"]


def test_evaluation_draws_nothing_that_training_would_draw(tmp_path, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    trainer = make_evaluator(
        tmp_path, elastic("ForSequenceClassification"), eval_dataset=make_dataset(), data_collator=None
    )
    seeded.clear()
    before = torch.get_rng_state()
    trainer.evaluate()
    assert torch.equal(torch.get_rng_state(), before)
    assert not seeded


@pytest.mark.parametrize("form", [np.array, np.float32, torch.tensor, lambda value: np.array([value])])
def test_a_metric_is_a_number_whatever_holds_it(tmp_path, form):
    def measure(prediction):
        return {"share": form(0.25), "counts": np.array([1, 2])}

    model = elastic("ForSequenceClassification")
    told = {"eval_dataset": make_dataset(), "data_collator": None, "compute_metrics": measure}
    found = make_evaluator(tmp_path, model, **told).evaluate()
    assert found["eval_w0.5-d0.5_share"] == found["eval_mean_share"] == found["eval_worst_share"] == 0.25
    assert metrics_by_size(found)["w0.5-d0.5"]["share"] == 0.25
    assert isinstance(found["eval_w0.5-d0.5_share"], float)
    assert found["eval_w0.5-d0.5_counts"].tolist() == [1, 2]
    assert "eval_mean_counts" not in found


@pytest.mark.parametrize("extra", ["output_hidden_states", "output_attentions"])
def test_metrics_get_the_predictions_of_the_head_alone(tmp_path, extra):
    seen = []

    def measure(prediction):
        seen.append(prediction.predictions.shape)
        return accuracy(prediction)

    models = [elastic("ForSequenceClassification") for _ in range(2)]
    models[1].set_attn_implementation("eager")
    setattr(models[1].config, extra, True)
    plain, told = (
        make_evaluator(
            tmp_path, model, compute_metrics=measure, eval_dataset=make_dataset(), data_collator=None
        ).evaluate()
        for model in models
    )
    assert set(seen) == {(8, 3)}
    assert told["eval_w0.5-d0.5_accuracy"] == plain["eval_w0.5-d0.5_accuracy"]
    assert told["eval_w0.5-d0.5_loss"] == pytest.approx(plain["eval_w0.5-d0.5_loss"], abs=1e-6)


def state_of(model):
    """Weights and their gradients, and number formats."""
    tensors = {**model.state_dict(keep_vars=True), **{weight: weight.grad for weight in model.parameters()}}
    return {name: (tensor.dtype, tensor.clone()) for name, tensor in tensors.items()}


@pytest.mark.parametrize("settings", [{}, {"bf16_full_eval": True}, {"fp16_full_eval": True}])
def test_what_is_measured_is_as_before(tmp_path, settings):
    model = elastic("ForSequenceClassification").set_active(width=0.5).train()
    model.bert.encoder.layer[0].eval()
    stock = BertForSequenceClassification(
        BertConfig(hidden_size=32, num_attention_heads=4, intermediate_size=48, num_labels=3)
    ).train()
    trainer = make_evaluator(tmp_path, model, eval_dataset=make_dataset(), data_collator=None, **settings)
    for each, measure in (
        (model, trainer.evaluate),
        (stock, lambda: evaluate_one_size(stock, trainer.args, eval_dataset=make_dataset())),
    ):
        for weight in each.parameters():
            weight.grad = torch.full_like(weight, 0.1)
        weights, modes = state_of(each), [module.training for module in each.modules()]
        config, parameters = copy.deepcopy(each.config.to_dict()), list(each.parameters())
        loss = next(value for name, value in measure().items() if name.endswith("loss"))
        assert np.isfinite(loss)
        for name, (dtype, tensor) in state_of(each).items():
            assert dtype == weights[name][0]
            assert torch.equal(tensor, weights[name][1]), name
        assert all(one is two for one, two in zip(each.parameters(), parameters, strict=True))
        assert [module.training for module in each.modules()] == modes
        assert each.config.to_dict() == config
    assert str(model.active) == "w0.5-d1"


def test_states_of_a_model_without_a_head_are_recorded_once_however_often_it_was_measured():
    """Its second training had two of each, of which the first half were compared with a student's."""
    model, inputs = make_model(head="Model"), make_batch()
    before = model(**inputs, output_hidden_states=True).hidden_states
    for measured in (model, make_model(head="Model")):
        for _ in range(2):
            with unchanged(measured), torch.no_grad():
                states = measured(**inputs, output_hidden_states=True).hidden_states
            assert len(states) == 7
            assert all(map(torch.equal, states, before))


def test_half_precision_is_what_is_measured_if_asked(tmp_path):
    model = elastic("ForSequenceClassification")
    rows = make_dataset()
    whole, half = (
        make_evaluator(tmp_path, model, data_collator=None, **settings).predict(rows).predictions["w1-d1"]
        for settings in ({}, {"bf16_full_eval": True})
    )
    assert not np.array_equal(whole, half)
    np.testing.assert_allclose(whole, half, atol=0.05)


def test_mixed_precision_is_measured_however_often_and_on_every_set(tmp_path):
    """transformers prepares a model once, which then was as before: all but the first were measured in float32."""
    model, rows = elastic("ForSequenceClassification"), make_dataset()
    whole, mixed = (
        make_evaluator(tmp_path, model, data_collator=None, eval_dataset={"a": rows, "b": rows}, bf16=is_mixed)
        for is_mixed in (False, True)
    )
    first, second, exact = (each.evaluate() for each in (mixed, mixed, whole))
    assert first["eval_a_mean_loss"] == first["eval_b_mean_loss"] == second["eval_a_mean_loss"]
    assert first["eval_a_mean_loss"] != exact["eval_a_mean_loss"]
    mixed.compute_metrics = lambda found: found["nothing"]
    with pytest.raises(TypeError):
        mixed.evaluate()
    mixed.compute_metrics = None
    assert mixed.evaluate()["eval_a_mean_loss"] == first["eval_a_mean_loss"]
    assert not hasattr(model, "_original_forward")


def test_a_model_of_one_size_is_measured_in_the_same_way(tmp_path):
    rows = ragged_rows("ForTokenClassification")
    model = elastic("ForTokenClassification")
    args = make_evaluator(tmp_path, model, dataloader_drop_last=True).args
    stock = model.to_backbone()
    metrics = evaluate_one_size(stock, args, eval_dataset=rows, data_collator=pad)
    assert metrics["eval_loss"] == pytest.approx(plain_loop(stock.eval(), rows)[1], abs=1e-6)


def test_some_sizes_are_measured_if_asked(tmp_path):
    model = elastic("ForSequenceClassification")
    trainer = make_evaluator(
        tmp_path, model, eval_dataset={"one": make_dataset(), "two": make_dataset(5)}, data_collator=None
    )
    every = trainer.evaluate()
    some = trainer.evaluate(sizes=["w0.5-d1", SubNetwork()])
    losses = [every["eval_two_w0.5-d1_loss"], every["eval_two_w1-d1_loss"]]
    assert {name for name in some if name.endswith("loss")} == {
        f"eval_{data}_{what}_loss" for data in ("one", "two") for what in ("w0.5-d1", "w1-d1", "mean", "worst")
    }
    assert some["eval_two_mean_loss"] == pytest.approx(np.mean(losses))
    for sizes in (["w0.5-d1"], np.array(["w0.5-d1"])):
        assert list(trainer.predict(make_dataset(), sizes=sizes).predictions) == ["w0.5-d1"]
    assert list(trainer.predict(make_dataset()).predictions) == [str(size) for size in model.config.subnetworks]


def test_training_measures_the_sizes_of_its_argument(tmp_path):
    trainer = make_trainer(tmp_path, "finetune", eval_sizes=["w0.5-d1"], eval_strategy="epoch", num_train_epochs=1)
    trainer.train()
    names = {name for log in trainer.state.log_history for name in log if name.startswith("eval_") and "loss" in name}
    assert names == {"eval_w0.5-d1_loss", "eval_mean_loss", "eval_worst_loss"}
    with pytest.raises(ValueError, match=r"w1-d1 is no size|w0.5-d1"):
        make_trainer(
            tmp_path, "finetune", eval_sizes=["w0.5-d1"], eval_strategy="epoch", metric_for_best_model="w1-d1_loss"
        )


def test_sizes_that_are_measured_and_not_trained_are_told_of(tmp_path, caplog):
    """They counted in the mean, by which the best checkpoint is chosen, and no table showed them."""
    told = "eval_sizes names w0.75-d1, which the model can run but is not trained at. Means"
    trainer = make_trainer(tmp_path, "finetune", eval_sizes=["w0.75-d1", "w1-d1"])
    assert [record.message.startswith(told) for record in caplog.records].count(True) == 1
    asked = trainer.evaluate()
    assert asked["eval_mean_loss"] == np.mean([asked["eval_w0.75-d1_loss"], asked["eval_w1-d1_loss"]])
    caplog.clear()
    make_trainer(tmp_path, "finetune", eval_sizes=["w0.5-d1"]).evaluate(sizes=["w0.75-d1"])
    assert "eval_sizes" not in caplog.text
    with pytest.raises(SubNetworkError, match="2"):
        make_trainer(tmp_path, "finetune", eval_sizes=["w2-d1"])


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("w1-d1", "sizes='w1-d1' is no list of sizes. Possible are lists such as"),
        ([], "at least one size"),
        (np.array([]), "at least one size"),
        (7, "sizes=7 is no list of sizes"),
        (["w2-d1"], "2"),
    ],
)
def test_sizes_that_are_not_possible_are_refused(tmp_path, sizes, message):
    with pytest.raises(SubNetworkError, match=message):
        make_evaluator(tmp_path, elastic("ForSequenceClassification")).evaluate(make_dataset(), sizes=sizes)


def test_the_predictions_of_one_size_are_let_go_before_the_next(tmp_path):
    alive = []

    def measure(prediction):
        alive.append(weakref.ref(prediction.predictions))
        assert [one() is not None for one in alive].count(True) == 1
        return {}

    trainer = make_evaluator(
        tmp_path, elastic("ForSequenceClassification"), compute_metrics=measure, data_collator=None
    )
    trainer.evaluate(make_dataset())
    assert len(alive) == 4


def test_no_data_to_evaluate_on_are_refused(tmp_path):
    trainer = make_evaluator(tmp_path, elastic("ForSequenceClassification"))
    with pytest.raises(ValueError, match=r"There is no data set to evaluate on\. Give eval_dataset"):
        trainer.evaluate()
    with pytest.raises(ValueError, match=r"test_dataset is empty\. Give at least one example"):
        trainer.predict([])


def test_batches_for_importance_are_whole_and_in_order(tmp_path):
    model = elastic("ForSequenceClassification")
    args = make_evaluator(tmp_path, model, dataloader_drop_last=True, train_sampling_strategy="group_by_length").args
    batches = list(OrderedEvaluation(model, args, data_collator=pad).get_eval_dataloader(ragged_rows("Regression")))
    assert torch.cat([batch["labels"] for batch in batches]).tolist() == pytest.approx([row / 7 for row in range(9)])


def test_a_metric_called_loss_is_the_one_that_was_returned(tmp_path):
    """As in transformers, whose own trainer lets it stand in the place of the mean loss."""
    trainer = make_trainer(tmp_path, compute_metrics=lambda found: {"loss": float(found.predictions.max())})
    measured, predictions = trainer.evaluate(), trainer.predict(make_dataset()).predictions
    for name, logits in predictions.items():
        assert measured[f"eval_{name}_loss"] == pytest.approx(float(logits.max()), abs=1e-6)
    stock = Trainer(trainer.model, trainer.args, eval_dataset=make_dataset(), compute_metrics=trainer.compute_metrics)
    assert stock.evaluate()["eval_loss"] == measured["eval_w1-d1_loss"]


@pytest.mark.parametrize("found", [None, 0.5, {1: 0.5}])
def test_metrics_that_are_no_dictionary_of_names_are_refused(tmp_path, found):
    trainer = make_trainer(tmp_path, compute_metrics=lambda prediction: found)
    with pytest.raises(TypeError, match=r"compute_metrics returned .* Possible is a dictionary from the names"):
        trainer.evaluate()


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (
            lambda trainer: trainer.evaluate("c"),
            r"eval_dataset='c' names no data set .* was given \['a', 'b'\]\. Give one",
        ),
        (
            lambda trainer: trainer.evaluate({"a": make_dataset(), "c": None}),
            r"eval_dataset\['c'\] is None, .* leave it",
        ),
        (lambda trainer: trainer.evaluate({}), r"eval_dataset is a dictionary of no data set, .* Give a data set"),
        (
            lambda trainer: trainer.evaluate({0: trainer.eval_dataset["a"]}),
            r"eval_dataset has a set called 0\. .*letter",
        ),
        (lambda trainer: trainer.evaluate({"": trainer.eval_dataset["a"]}), r"eval_dataset has a set called ''\. "),
        (lambda trainer: trainer.predict(None), r"test_dataset is None\. Give a data set"),
        (
            lambda trainer: trainer.predict({"a": make_dataset()}),
            r"dict of \['a'\]\. .* data\['a'\], or call predict for",
        ),
    ],
)
def test_what_is_no_data_set_to_measure_on_is_named(tmp_path, measure, message):
    """A set that is None was measured on another: on what the trainer itself was given."""
    sets = {"a": make_dataset(), "b": make_dataset(5)}
    trainer = make_trainer(tmp_path, "finetune", train_dataset=None, eval_dataset=sets)
    with pytest.raises(ValueError, match=message):
        measure(trainer)
    with pytest.raises(ValueError, match=r"eval_dataset='a' names no data set .* was given no set by name"):
        make_trainer(tmp_path, "finetune").evaluate("a")
    with pytest.raises(ValueError, match=r"eval_dataset\['a'\] is None"):
        make_trainer(tmp_path, "finetune", eval_dataset={"a": None})


class PredictsAlone(DynaBertTrainer):
    """Has a prediction step as people write it, without that of a superclass."""

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            outputs = model(**inputs)
        return outputs.loss, outputs.logits, inputs["labels"]


def test_a_prediction_step_of_ones_own_predicts_every_row(tmp_path):
    """Rows were counted in ours, so every batch was cut to the rows of the last one, and the loss was NaN."""
    rows = make_dataset(11)
    plain = make_trainer(tmp_path, "finetune", compute_metrics=accuracy, per_device_eval_batch_size=4)
    own = PredictsAlone(plain.model, None, plain.args, compute_metrics=accuracy)
    expected, measured = plain.evaluate(rows), own.evaluate(rows)
    assert {name: measured[name] for name in expected if "accuracy" in name} == {
        name: value for name, value in expected.items() if "accuracy" in name
    }
    assert measured["eval_mean_loss"] == pytest.approx(expected["eval_mean_loss"], abs=1e-6)
    predictions = own.predict(rows).predictions
    for size, values in plain.predict(rows).predictions.items():
        assert np.array_equal(predictions[size], values)


def test_a_batch_of_the_callers_own_is_predicted_before_and_after_an_evaluation(tmp_path):
    """The rows of an evaluation were looked for where none had run, and in the last one where it was over."""
    trainer = make_trainer(tmp_path, "finetune", compute_metrics=accuracy)
    model, batch = trainer.model.eval(), {**make_batch(), "labels": torch.tensor([1, 0])}
    with torch.no_grad():
        expected = model(**batch)
    before = trainer.gather_function
    for _ in range(2):
        loss, logits, labels = trainer.prediction_step(model, dict(batch), prediction_loss_only=False)
        assert loss.item() == pytest.approx(expected.loss.item(), abs=1e-6)
        assert torch.equal(logits, expected.logits)
        assert torch.equal(labels, batch["labels"])
        trainer.evaluate()
        assert trainer.gather_function == before


class NamesItsOutputs(DynaBertTrainer):
    """Returns predictions under a name of its own, of which transformers takes all but the loss."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        return (outputs.loss, {"loss": outputs.loss, "outputs": outputs.logits}) if return_outputs else outputs.loss


class GivesATuple(DynaBertTrainer):
    """Returns the outputs as a tuple, of which transformers takes all but the first."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        return (outputs.loss, outputs.to_tuple()) if return_outputs else outputs.loss


@pytest.mark.parametrize("kind", [NamesItsOutputs, GivesATuple])
def test_predictions_under_another_name_are_those_of_the_head(tmp_path, kind):
    plain = make_trainer(tmp_path, "finetune", compute_metrics=accuracy)
    own = kind(plain.model, None, plain.args, compute_metrics=accuracy)
    predictions = own.predict(make_dataset()).predictions
    for size, values in plain.predict(make_dataset()).predictions.items():
        assert np.array_equal(predictions[size], values)
    assert own.evaluate(make_dataset())["eval_mean_accuracy"] == plain.evaluate()["eval_mean_accuracy"]


def test_a_forward_pass_of_ones_own_may_take_inputs_and_labels_alone(tmp_path):
    class TakesLittle(DynaBertForSequenceClassification):
        def forward(self, input_ids, attention_mask=None, labels=None):
            return super().forward(input_ids, attention_mask, labels=labels)

    plain = make_trainer(tmp_path, "finetune", compute_metrics=accuracy)
    model = TakesLittle(plain.model.config)
    model.load_state_dict(plain.model.state_dict())
    own = make_trainer(tmp_path, "finetune", model, compute_metrics=accuracy)
    found, expected = own.evaluate(), plain.evaluate()
    names = [name for name in expected if name.endswith(("_loss", "_accuracy"))]
    assert [found[name] for name in names] == [expected[name] for name in names]
    predictions = own.predict(make_dataset().remove_columns("labels")).predictions
    assert np.array_equal(predictions["w0.5-d1"], plain.predict(make_dataset()).predictions["w0.5-d1"])
    own.train()


def test_an_evaluation_without_labels_says_that_it_measured_nothing(tmp_path, caplog):
    trainer = make_trainer(tmp_path, "finetune", compute_metrics=accuracy)
    assert trainer.evaluate()["eval_mean_accuracy"] > 0
    assert "Nothing was measured" not in caplog.text
    unlabelled = make_dataset().remove_columns("labels")
    assert not metrics_by_size(trainer.evaluate(unlabelled))
    trainer.predict(unlabelled)
    trainer.evaluate(unlabelled)
    assert caplog.text.count("Nothing was measured: losses and metrics need labels in the batches, called labels") == 1


@pytest.mark.parametrize("name", ["mean", "w0.5-d0.5", "dev_worst", "l0h2n24_dev"])
def test_a_set_that_is_called_as_sizes_are_is_refused(tmp_path, name):
    """Its loss at w1-d1 was read as the mean `w1-d1_loss` of all sizes, or as a metric of that size."""
    sets, message = {"dev": make_dataset(), name: make_dataset()}, rf"has a set {name!r}.* without 'mean', 'worst' or a"
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, "finetune", eval_dataset=sets)
    trainer = make_trainer(tmp_path, "finetune")
    with pytest.raises(ValueError, match=message):
        trainer.evaluate(sets)
    metrics = trainer.evaluate({"meaning": make_dataset(), "w3-d3": make_dataset()})
    assert {name.partition("_loss")[0] for name in metrics_by_size(metrics)["w1-d1"]} == {"meaning", "w3-d3"}


def test_ignored_outputs_that_metrics_need_are_refused_before_anything_runs(tmp_path):
    message = r"ignore_keys=\['logits'\] leaves out all that .* predicts, \['logits'\], so compute_metrics would have"
    trainer = make_trainer(tmp_path, "finetune", compute_metrics=accuracy, eval_strategy="epoch")
    for run in (
        lambda: trainer.evaluate(ignore_keys=["logits"]),
        lambda: trainer.predict(make_dataset(), ignore_keys=["logits"]),
        lambda: trainer.train(ignore_keys_for_eval=["logits"]),
    ):
        with pytest.raises(ValueError, match=message):
            run()
    assert trainer.state.global_step == 0
    plain, same = (trainer.evaluate(ignore_keys=keys) for keys in (None, ["hidden_states"]))
    assert same["eval_worst_accuracy"] == plain["eval_worst_accuracy"]
    trainer.compute_metrics = None
    assert trainer.evaluate(ignore_keys=["logits"])["eval_mean_loss"] == plain["eval_mean_loss"]


def test_choices_of_several_lengths_are_refused_where_metrics_want_the_inputs(tmp_path):
    rows = ragged_rows("ForMultipleChoice", 4)
    settings = {
        "compute_metrics": lambda found: {"ids": float(sum((each * (each > 0)).sum() for each in found.inputs))},
        "include_for_metrics": ["inputs"],
    }
    model = elastic("ForMultipleChoice")
    each_alone = make_evaluator(tmp_path, model, per_device_eval_batch_size=1, **settings)
    with pytest.raises(ValueError, match=r"choices of \d to \d tokens, .* Pad all rows to one length .*concat_batches"):
        each_alone.evaluate(rows)
    total = sum(np.sum(row["input_ids"]) for row in rows)
    at_once = make_evaluator(tmp_path, model, **settings)
    in_lists = make_evaluator(tmp_path, model, per_device_eval_batch_size=1, eval_do_concat_batches=False, **settings)
    for trainer in (at_once, in_lists):
        assert trainer.evaluate(rows)["eval_worst_ids"] == total
