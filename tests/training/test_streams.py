"""Data whose rows cannot be read before they are used: streams, and rows that are made on demand."""

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.plain_loop import elastic, ragged_rows
from helpers.tiny import make_small, make_tokenizer
from helpers.trainers import accuracy, make_dataset, make_trainer
from transformers import default_data_collator

from dynabert_hf import specialise

BASE = [dict(row) for row in make_dataset()]


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


class OnDemand(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        return self.rows[number]


def with_text(rows):
    """Rows of words that a transform tokenises when they are asked for; it hands on the words, too."""
    words = Dataset.from_list([{"words": " ".join(map(str, row["input_ids"])), "mark": row["labels"]} for row in rows])

    def tokenise(rows):
        ids = [[int(word) for word in text.split()] for text in rows["words"]]
        return {**rows, "input_ids": ids, "attention_mask": [[1] * len(each) for each in ids], "labels": rows["mark"]}

    return words.with_transform(tokenise)


def changed(number, rows=BASE, **values):
    """Rows of which one has other values."""
    return [{**row, **values} if at == number else row for at, row in enumerate(rows)]


def train(tmp_path, rows, stage="finetune", kind=Stream, **kwargs):
    settings = {"eval_dataset": None, "train_sampling_strategy": "sequential", **kwargs}
    return make_trainer(tmp_path, stage, train_dataset=kind(rows), **settings).train()


def evaluator(tmp_path, **kwargs):
    return make_trainer(tmp_path, "finetune", train_dataset=None, eval_dataset=None, compute_metrics=accuracy, **kwargs)


@pytest.mark.parametrize("how", ["random", "group_by_length", "specialise"])
def test_rows_that_a_transform_makes_train_as_those_that_are_held(tmp_path, how):
    """Of the columns that the transform reads, those without a namesake among the model's inputs were taken from it."""
    names = ("input_ids", "attention_mask", "labels")
    made = with_text(BASE)
    held = Dataset.from_list([{name: row[name] for name in names} for row in made])
    weights = []
    for data in (held, made):
        if how == "specialise":
            told = {"train_dataset": data, "max_steps": 2, "per_device_train_batch_size": 4, "use_cpu": True}
            model = specialise(make_small(), "w0.5-d0.5", disable_tqdm=True, train_sampling_strategy="random", **told)
        else:
            trainer = make_trainer(tmp_path, train_dataset=data, eval_dataset=None, train_sampling_strategy=how)
            trainer.train()
            model = trainer.model
        weights.append(model.state_dict())
    for name, weight in weights[0].items():
        assert torch.equal(weight, weights[1][name]), name


class Endless(OnDemand):
    """Has rows of any number, as one that computes them may, so that iteration would never end."""

    def __getitem__(self, number):
        assert number < 1000, "read without end"
        return self.rows[number % len(self.rows)]


def test_lengths_are_read_of_as_many_rows_as_there_are(tmp_path):
    """Batches of one length were never begun: transformers iterates over the data set."""
    settings = {"eval_dataset": None, "train_sampling_strategy": "group_by_length"}
    rows = [{"input_ids": [5] * (3 + number % 5), "labels": number % 3} for number in range(16)]
    orders = [
        list(make_trainer(tmp_path, train_dataset=kind(rows), **settings)._get_train_sampler())
        for kind in (Dataset.from_list, OnDemand, Endless)
    ]
    assert sorted(orders[0]) == list(range(16))
    assert orders[0] == orders[1] == orders[2]


WRONG = {
    "no class": ({"labels": 7}, r"has the label 7 in row 2\. Possible for this model are 0 to 2"),
    "between two": ({"labels": 1.5}, r"has the label 1\.5 in row 2\. Possible for this model are 0 to 2"),
    "hidden": ({"labels": -100}, r"has the label -100 in row 2\. .* marks hidden labels"),
    "missing": ({"labels": None}, r"has no label in 'labels' of row 2\. Give every row one"),
    "a name": ({"labels": "good"}, r"Column 'labels' holds values of different kinds: .* Give every row values"),
    "unknown token": ({"input_ids": [500] * 7}, r"has 500 in 'input_ids' of row 2\. Possible .* are 0 to 98"),
    "too long": ({"input_ids": [5] * 30, "attention_mask": [1] * 30}, r"has 30 tokens in row 2\. .* positions for 20"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("kind", [Stream, OnDemand])
def test_a_row_that_the_model_cannot_learn_is_named_before_its_batch_is_trained_on(tmp_path, wrong, kind):
    """A label between two classes was taken for the lower, one that is missing was left out."""
    values, message = WRONG[wrong]
    with pytest.raises(ValueError, match=f"A batch of train_dataset:? {message}"):
        train(tmp_path, changed(2, **values), kind=kind)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_row_that_cannot_be_measured_is_named_before_anything_is(tmp_path, wrong):
    values, message = WRONG[wrong]
    rows = Stream(changed(2, **values))
    trainer = evaluator(tmp_path)
    with pytest.raises(ValueError, match=f"The stream to evaluate on:? {message}"):
        trainer.evaluate(rows)
    with pytest.raises(ValueError, match=f"The stream to evaluate on:? {message}"):
        trainer.evaluate({"dev": rows})
    trainer.eval_dataset = rows
    with pytest.raises(ValueError, match=f"The stream to evaluate on:? {message}"):
        trainer.evaluate()
    with pytest.raises(ValueError, match=f"A batch of the data to evaluate on:? {message}"):
        trainer.evaluate(OnDemand(changed(2, **values)))


@pytest.mark.parametrize("rows", [[], iter(())])
def test_a_stream_that_has_ended_is_empty(tmp_path, rows):
    for measure in (evaluator(tmp_path).evaluate, evaluator(tmp_path).predict):
        with pytest.raises(ValueError, match=r"is empty\. Give at least one example"):
            measure(Stream(rows))


def test_labels_that_distillation_does_not_look_at_may_be_anything(tmp_path):
    hidden = train(tmp_path / "hidden", changed(2, labels=-1), "width").training_loss
    assert hidden == train(tmp_path / "known", BASE, "width").training_loss


@pytest.mark.parametrize("several", [False, True])
def test_batches_without_a_label_are_distilled_where_labels_have_a_weight(tmp_path, several):
    """The first of two batches has none, and adds no loss on labels; the second adds what it adds in a list."""
    model = make_small(stock={"problem_type": "multi_label_classification"} if several else {})
    label = [0.0, 1.0, 1.0] if several else 2
    rows = [{**row, "labels": None if number < 4 else label} for number, row in enumerate(BASE)]
    losses = {}
    for kind in (Stream, list):
        folder = tmp_path / kind.__name__
        trainer = make_trainer(
            *(folder, "width", model),
            train_dataset=kind(rows),
            eval_dataset=None,
            label_weight=0.5,
            learning_rate=0.0,
            train_sampling_strategy="sequential",
        )
        trainer.train()
        losses[kind] = [log["w1-d1_label_loss"] for log in trainer.state.log_history if "loss" in log]
    assert losses[Stream] == losses[list]
    assert losses[list][0] == 0 < losses[list][1]


def test_a_batch_of_a_stream_may_hold_no_labelled_token(tmp_path):
    rows = [{**row, "labels": [-100 if number < 4 else 1] * 7} for number, row in enumerate(BASE)]
    assert np.isfinite(train(tmp_path, rows, model=make_small("ForTokenClassification")).training_loss)
    first = [{**row, "labels": [-100 if number == 0 else 1] * 7} for number, row in enumerate(BASE)]
    assert np.isfinite(train(tmp_path, first, model=make_small("ForTokenClassification"), kind=OnDemand).training_loss)


def test_a_stream_with_hidden_labels_is_predicted_and_not_scored(tmp_path):
    """It was scored as if every answer were wrong."""
    hidden, trainer = [{**row, "labels": None} for row in BASE], evaluator(tmp_path)
    predicted, expected = trainer.predict(Stream(hidden)), trainer.predict(BASE)
    for size, rows in expected.predictions.items():
        np.testing.assert_array_equal(predicted.predictions[size], rows)
    assert predicted.label_ids is None
    assert not any("accuracy" in name or "loss" in name for name in predicted.metrics)


def test_a_stream_of_texts_has_the_masks_of_a_list(tmp_path):
    """They depended on the batches."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(94))]
    rows = [{"input_ids": row["input_ids"]} for row in ragged_rows("ForTokenClassification", 9)]
    trainer = make_trainer(
        *(tmp_path, "finetune", elastic("ForMaskedLM")),
        train_dataset=None,
        eval_dataset=None,
        processing_class=make_tokenizer(words),
        per_device_eval_batch_size=4,
    )
    metrics = [trainer.evaluate(data) for data in (rows, Stream(rows))]
    losses = [{name: value for name, value in each.items() if name.endswith("_loss")} for each in metrics]
    assert losses[0] == losses[1]


def test_a_collator_of_ones_own_may_make_the_columns_of_a_stream(tmp_path):
    def collate(rows):
        return default_data_collator([BASE[row["number"]] for row in rows])

    rows = [{"number": number} for number in range(8)]
    own = train(tmp_path, rows, data_collator=collate, remove_unused_columns=False)
    assert own.training_loss == train(tmp_path, BASE).training_loss


def test_batches_at_the_end_of_a_stream_that_fill_no_step_are_left_out(tmp_path):
    """transformers takes no step for them, and their gradients and losses were added to those of the next step."""
    rows, trained = make_dataset(11), []
    for number, data in enumerate((Stream([*rows]), rows.select(range(8)))):
        settings = {"gradient_accumulation_steps": 2, "max_steps": 3, "train_sampling_strategy": "sequential"}
        trainer = make_trainer(tmp_path / str(number), "finetune", train_dataset=data, **settings)
        trainer.train()
        losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
        trained.append((losses, trainer.model.state_dict()))
    (ours, weights), (expected, others) = trained
    assert ours == expected
    assert len(ours) == 3
    assert all(torch.equal(weights[name], weight) for name, weight in others.items())
    with pytest.raises(ValueError, match=r"train_dataset ended after 2 batches, and gradient_accumulation_steps=4 are"):
        train(tmp_path, BASE, gradient_accumulation_steps=4)


def test_arguments_without_effect_on_a_stream_are_told_of(tmp_path, caplog):
    """transformers passes over them: the last batch, which is not full, was trained on."""
    settings = {"dataloader_drop_last": True, "max_steps": 3, "train_sampling_strategy": "group_by_length"}
    told = "Without effect on train_dataset: dataloader_drop_last=True and train_sampling_strategy='group_by_length'."
    for kind in (list, Stream):
        caplog.clear()
        train(tmp_path, [*make_dataset(11)], kind=kind, **settings)
        assert (told in caplog.text) is (kind is Stream)
    caplog.clear()
    train(tmp_path, BASE, train_sampling_strategy="random")
    assert "Without effect" not in caplog.text
