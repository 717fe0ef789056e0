"""Every head goes through the recipe with the batches and metrics of its task."""

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from helpers.recipes import SHALLOW, make_sentences, run_recipe
from helpers.tiny import BACKBONE_CONFIGS, make_batch, make_small
from helpers.trainers import make_trainer
from transformers import BertTokenizer, EvalPrediction

from dynabert_hf.tasks import task_of

SIZES = {"widths": (0.5, 1.0), "depths": (1.0,)}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(94))]
TOKENIZER = BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}, model_max_length=20)


def make_teacher(head, **config):
    torch.manual_seed(0)
    model = getattr(transformers, f"Bert{head}")(BACKBONE_CONFIGS["Bert"](**{**SHALLOW, **config}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def make_rows(head, size, seed=0):
    """Ragged rows with the labels of a head."""
    draw = np.random.default_rng(seed)
    rows = []
    for row in range(size):
        length = 3 + row % 5
        ids = draw.integers(5, 99, length).tolist()
        row = {"input_ids": ids}
        if head == "ForTokenClassification":
            row["labels"] = [-100, *draw.integers(0, 3, length - 2).tolist(), -100]
        elif head == "ForQuestionAnswering":
            row |= {"start_positions": 1, "end_positions": int(draw.integers(1, length))}
        elif head == "ForMultipleChoice":
            row = {"input_ids": [ids, ids[::-1][:-1], ids[1:]], "labels": int(draw.integers(0, 3))}
        elif head == "ForMaskedLM":
            row["labels"] = [-100, ids[1], *[-100] * (length - 2)]
            ids[1] = 4
        else:
            row["labels"] = int(draw.integers(0, 3))
        rows.append(row)
    return Dataset.from_list(rows)


def plain_metrics(model, rows):
    """The metrics of a model over the rows one by one, without padding."""
    task, outputs = task_of(model), []
    for row in rows:
        with torch.no_grad():
            result = model(**{name: torch.tensor([value]) for name, value in row.items()})
        outputs.append([result[name][0].numpy() for name in task.outputs])
    predictions = [stacked(column) for column in zip(*outputs, strict=True)]
    labels = [stacked([np.array(row[name]) for row in rows]) for name in task.label_names]
    return task.metrics(model)(
        EvalPrediction(*(each[0] if len(each) == 1 else tuple(each) for each in (predictions, labels)))
    )


def stacked(arrays):
    """Arrays of different lengths as one, -100 where one is shorter."""
    if not arrays[0].ndim:
        return np.stack(arrays)
    shape = np.max([array.shape for array in arrays], axis=0)
    return np.stack(
        [np.pad(a, [(0, n - m) for n, m in zip(shape, a.shape, strict=True)], constant_values=-100) for a in arrays]
    )


def unpadded_choices(row):
    """The choices of a row, padded to the longest of the row alone."""
    return {**TOKENIZER.pad({"input_ids": row["input_ids"]}), "labels": row["labels"]}


@pytest.mark.parametrize(
    ("head", "num_labels"),
    [
        ("ForSequenceClassification", 3),
        ("ForTokenClassification", 3),
        ("ForQuestionAnswering", 2),
        ("ForMultipleChoice", 2),
        ("ForMaskedLM", 2),
    ],
)
def test_metrics_of_every_head_are_those_of_its_rows_one_by_one(tmp_path, head, num_labels):
    teacher, rows = make_teacher(head, num_labels=num_labels), make_rows(head, 9, seed=1)
    result = run_recipe(
        tmp_path,
        teacher,
        train_dataset=make_rows(head, 12),
        eval_dataset=rows,
        processing_class=TOKENIZER,
        per_device_eval_batch_size=4,
        **SIZES,
    )
    one_by_one = rows.to_list()
    if head == "ForMultipleChoice":
        one_by_one = [unpadded_choices(row) for row in one_by_one]
    expected = plain_metrics(teacher, one_by_one)
    assert {name: result.teacher_metrics[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    for row in result.rows:
        with result.model.eval().subnetwork(row.size):
            expected = plain_metrics(result.model, one_by_one)
        assert {name: row.metrics[name] for name in expected} == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"importance_labels": "data"},
            "train_dataset has the columns .* but no labels, by which .* labelled rows as importance_dataset",
        ),
        ({"importance_dataset": make_sentences(4).remove_columns("labels")}, "importance_dataset .* but no labels"),
        (
            {"importance_dataset": make_sentences(4), "finetune": True},
            "train_dataset has no labels, but stage 'finetune' learns from them",
        ),
        (
            {"importance_dataset": make_sentences(4), "label_weight": 0.5},
            "train_dataset has no labels, but label_weight=0.5",
        ),
        (
            {"importance_dataset": make_sentences(4), "stage_arguments": {"depth": {"label_weight": 0.5}}},
            "train_dataset has no labels, but label_weight=0.5",
        ),
    ],
)
def test_labels_are_asked_for_where_they_are_needed(tmp_path, given, message):
    train = make_sentences().remove_columns("labels")
    with pytest.raises(ValueError, match=message):
        run_recipe(tmp_path, train_dataset=train, **given)
    assert not (tmp_path / "run").exists()


def test_rows_that_nothing_pads_are_refused(tmp_path):
    ragged = make_rows("ForSequenceClassification", 8)
    teacher = make_teacher("ForSequenceClassification", num_labels=3)
    with pytest.raises(ValueError, match=r"train_dataset has rows of 3 to 7 tokens, and nothing that pads"):
        run_recipe(tmp_path, teacher, train_dataset=ragged, eval_dataset=None)


def test_answers_without_positions_are_asked_for(tmp_path):
    rows = make_rows("ForQuestionAnswering", 8)
    without = rows.remove_columns(["start_positions", "end_positions"])
    teacher = make_teacher("ForQuestionAnswering")
    told = {"eval_dataset": rows, "processing_class": TOKENIZER}
    with pytest.raises(ValueError, match=r"train_dataset has the columns .* but no labels.*end_positions"):
        run_recipe(tmp_path, teacher, train_dataset=without, importance_labels="data", **told)


@pytest.mark.parametrize(("head", "column"), [("ForTokenClassification", "label"), ("ForMultipleChoice", "label_ids")])
def test_labels_may_be_called_as_transformers_calls_them(tmp_path, head, column):
    rows = make_rows(head, 9)
    known = {"processing_class": TOKENIZER, "label_weight": 0.5, **SIZES}
    called = {name: rows.rename_column("labels", column) for name in ("train_dataset", "eval_dataset")}
    teacher = make_teacher(head, num_labels=3)
    one = run_recipe(tmp_path / "one", teacher, train_dataset=rows, eval_dataset=rows, **known)
    two = run_recipe(tmp_path / "two", teacher, **called, **known)
    assert [row.metrics for row in two.rows] == [row.metrics for row in one.rows]
    assert len(one.rows[0].metrics) >= 2
    pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_masks_of_ones_own_between_tokens_say_nothing_of_padding(tmp_path):
    """As of texts that are packed into one row; a mask of each row's tokens marks its padding."""
    mask = torch.block_diag(torch.ones(3, 3), torch.ones(4, 4)).bool().expand(2, 1, 7, 7)

    def collate(examples):
        return {"input_ids": torch.tensor([each["input_ids"] for each in examples]), "attention_mask": mask}

    model, rows = make_small("ForQuestionAnswering", stock={"num_labels": 2}), make_batch()["input_ids"]
    data = {"train_dataset": None, "eval_dataset": None, "data_collator": collate, "remove_unused_columns": False}
    trainer = make_trainer(tmp_path, "finetune", model, per_device_eval_batch_size=2, **data)
    (ours,) = trainer.predict([{"input_ids": row} for row in rows.tolist()], sizes=["w1-d1"]).predictions.values()
    with torch.no_grad():
        expected = model(input_ids=rows, attention_mask=mask, return_dict=False)
    for given, logits in zip(ours, expected, strict=True):
        np.testing.assert_allclose(given, logits.numpy(), rtol=0, atol=1e-6)
