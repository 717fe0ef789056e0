"""Training data of which only some rows have a label."""

import copy

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.recipes import SHALLOW, make_teacher, run_recipe
from helpers.tiny import make_model, make_tokenizer
from helpers.trainers import make_trainer
from torch.nn import functional
from transformers import BertConfig, BertForTokenClassification

from dynabert_hf import DynaBertTrainer, DynaBertTrainingArguments

IDS = [[2, 7, 8, 3], [2, 9, 9, 3], [2, 5, 6, 3], [2, 6, 5, 3]]
KINDS = {
    "class": ({"num_labels": 3}, [1, None, 2, None]),
    "value": ({"num_labels": 1}, [0.5, None, -1.0, None]),
    "labels": (
        {"num_labels": 2, "problem_type": "multi_label_classification"},
        [[1.0, 0.0], None, [1.0, 1.0], None],
    ),
}


def without_keys(labels):
    """Rows of which those without a label lack its key."""
    return [
        {"input_ids": ids, **({} if label is None else {"labels": label})}
        for ids, label in zip(IDS, labels, strict=True)
    ]


def label_losses(
    tmp_path,
    config,
    labels,
    as_rows=lambda labels: Dataset.from_dict({"input_ids": IDS, "labels": labels}),
    trainer_class=DynaBertTrainer,
    **given,
):
    """The loss on labels of each size in the one step of a training."""
    model = make_model(stock={**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    args = DynaBertTrainingArguments(
        str(tmp_path), stage="width", label_weight=1.0, max_steps=1, per_device_train_batch_size=4, logging_steps=1,
        report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no", learning_rate=0.0, **given,
    )  # fmt: skip
    rows = as_rows(labels)
    trainer = trainer_class(model, copy.deepcopy(model), args, train_dataset=rows)
    trainer.train()
    return model, trainer.state.log_history[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_on_labels_is_the_mean_over_the_rows_that_have_one(tmp_path, kind):
    config, labels = KINDS[kind]
    model, logged = label_losses(tmp_path, config, labels)
    own = [0, 2]
    true = torch.tensor([labels[row] for row in own])
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([IDS[row] for row in own])).logits
    by_hand = {
        "class": lambda: functional.cross_entropy(logits, true),
        "value": lambda: functional.mse_loss(logits[:, 0], true),
        "labels": lambda: functional.binary_cross_entropy_with_logits(logits, true),
    }[kind]()
    assert logged["w1-d1_label_loss"] == pytest.approx(by_hand.item(), rel=1e-5)


class WithOwnLoss(DynaBertTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = functional.l1_loss(outputs.logits[:, 0], labels)
        return (loss, outputs) if return_outputs else loss


def test_a_loss_of_ones_own_is_not_replaced_where_values_are_missing(tmp_path):
    config, labels = KINDS["value"]
    with pytest.raises(ValueError, match=r"WithOwnLoss\.compute_loss would be called with NaN.*compute_loss_func"):
        label_losses(tmp_path, config, labels, trainer_class=WithOwnLoss)
    model, logged = label_losses(tmp_path, config, [0.5, 2.0, -1.0, 0.0], trainer_class=WithOwnLoss)
    with torch.no_grad():
        by_hand = functional.l1_loss(model(input_ids=torch.tensor(IDS)).logits[:, 0], torch.tensor([0.5, 2, -1, 0]))
    assert logged["w1-d1_label_loss"] == pytest.approx(by_hand.item(), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_may_lack_the_key_of_its_label_also_the_first(tmp_path, kind):
    config, labels = KINDS[kind]
    turned = labels[1:] + labels[:1]
    with_none, without_key = (
        label_losses(tmp_path / name, config, turned, **how)[1]["w1-d1_label_loss"]
        for name, how in (("none", {}), ("no-key", {"as_rows": without_keys}))
    )
    assert without_key == with_none > 0


def logged_however_divided(tmp_path, model, rows, accumulated):
    """What a step of eight rows, which changes no weight, logs as one batch, and as so many."""
    losses = []
    for steps in (1, accumulated):
        trainer = make_trainer(
            tmp_path, "width", model, train_dataset=rows, eval_dataset=None, label_weight=1.0, max_steps=1,
            per_device_train_batch_size=8 // steps, gradient_accumulation_steps=steps, learning_rate=0.0,
        )  # fmt: skip
        trainer.train()
        losses.append(trainer.state.log_history[0])
    return losses


def assert_alike(losses, by_hand):
    for logged in losses:
        assert logged["w1-d1_label_loss"] == pytest.approx(by_hand.item(), rel=1e-5)
    assert losses[0]["grad_norm"] == pytest.approx(losses[1]["grad_norm"], rel=1e-5)


ANSWERS = {"start_positions": [0, 1, None, 2, None, None, None, None], "end_positions": [1, 3, None, 2] + [None] * 4}


@pytest.mark.parametrize("accumulated", [2, 4])
def test_answers_that_some_rows_have_count_alike_however_a_step_is_divided(tmp_path, accumulated):
    """A batch without any was NaN, and one of a single answer weighed as much as one of three."""
    rows = Dataset.from_dict({"input_ids": IDS + [ids[::-1] for ids in IDS], **ANSWERS})
    model = make_model(head="ForQuestionAnswering", stock={"num_labels": 2})
    losses = logged_however_divided(tmp_path, model, rows, accumulated)
    own = [0, 1, 3]
    true = {name: torch.tensor([ends[row] for row in own]) for name, ends in ANSWERS.items()}
    by_hand = model.eval()(input_ids=torch.tensor(rows[own]["input_ids"]), **true).loss
    assert_alike(losses, by_hand)


@pytest.mark.parametrize("accumulated", [2, 4])
def test_values_that_some_rows_have_count_alike_however_a_step_is_divided(tmp_path, accumulated):
    values = [0.5, None, -1.0, 2.0, None, None, None, 1.5]
    rows = Dataset.from_dict({"input_ids": IDS + [ids[::-1] for ids in IDS], "labels": values})
    model = make_model(stock={"num_labels": 1})
    losses = logged_however_divided(tmp_path, model, rows, accumulated)
    own = [0, 2, 3, 7]
    said = model.eval()(input_ids=torch.tensor(rows[own]["input_ids"])).logits[:, 0]
    by_hand = functional.mse_loss(said, torch.tensor(rows[own]["labels"]))
    assert_alike(losses, by_hand)


def test_distillation_does_not_look_at_labels_that_are_there_in_some_rows(tmp_path):
    draw = np.random.default_rng(0)
    rows = Dataset.from_dict({"input_ids": [draw.integers(5, 90, 6).tolist() for _ in range(16)]})
    half = rows.add_column("labels", [row % 2 if row % 3 else None for row in range(16)])
    results = [
        run_recipe(tmp_path / str(number), make_teacher(), train_dataset=each, eval_dataset=None, widths=(0.5, 1.0))
        for number, each in enumerate((rows, half))
    ]
    states = [result.model.state_dict() for result in results]
    assert all(torch.equal(weight, states[1][name]) for name, weight in states[0].items())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"finetune": True}, r"train_dataset has no label in 'labels' of row 1\. Give every row one"),
        ({"importance_labels": "data"}, r"train_dataset has no label in 'labels' of row 1"),
    ],
)
def test_where_every_row_needs_a_label_the_first_without_is_named(tmp_path, given, message):
    rows = Dataset.from_dict({"input_ids": IDS, "labels": [0, None, 1, 1]})
    with pytest.raises(ValueError, match=message):
        run_recipe(tmp_path, make_teacher(), train_dataset=rows, eval_dataset=None, **given)
    assert not (tmp_path / "run").exists()


TOKENIZER = make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(5, 99))])
OF_WORDS = [[0, 1, 2], None, [2, 1, 0], [1, 0, 2]]
"""Tags of the words of `IDS`, which have one token more."""


@pytest.mark.parametrize("door", ["trainer", "stream", "recipe"])
def test_tags_of_words_that_would_tell_wrongly_which_tokens_teach_are_refused(tmp_path, door):
    rows = Dataset.from_dict({"input_ids": IDS, "labels": OF_WORDS})
    told = r"3 values of 'labels' for 4 tokens in row 0\. Give one for every token, -100 where it does not count"
    own = {"processing_class": TOKENIZER, "eval_dataset": None}

    def train():
        if door == "recipe":
            teacher = BertForTokenClassification(BertConfig(**SHALLOW))
            run_recipe(tmp_path, teacher, train_dataset=rows, importance_labels="predictions", **own)
        else:
            data = rows.to_iterable_dataset() if door == "stream" else rows
            model = make_model(head="ForTokenClassification")
            make_trainer(tmp_path, model=model, train_dataset=data, **own).train()

    with pytest.raises(ValueError, match=told):
        train()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("labels", [[[9, -100, -100, 9], None, [5] * 4, [-100] * 4], [None] * 4])
def test_numbers_that_no_class_has_may_tell_which_tokens_teach(tmp_path, labels):
    """In a row without any label all of its tokens teach, and its padding does not."""
    rows = [{"input_ids": ids, "labels": label} for ids, label in zip(IDS, labels, strict=True)]
    rows[1]["input_ids"] = IDS[1][:2]
    model = make_model(head="ForTokenClassification")
    teacher = copy.deepcopy(model)
    with torch.no_grad():
        teacher.classifier.weight.mul_(1.5)
    wanted = []
    for row in rows:
        ids = torch.tensor([row["input_ids"]])
        with torch.no_grad():
            ours, theirs = model.eval()(input_ids=ids).logits[0], teacher.eval()(input_ids=ids).logits[0]
        counts = [label != -100 for label in row["labels"] or row["input_ids"]]
        counts = counts if any(counts) else [True] * 4
        wanted.append(-(theirs.softmax(-1) * ours.log_softmax(-1)).sum(-1)[torch.tensor(counts)].mean().item())
    data = {"train_dataset": rows, "eval_dataset": None, "processing_class": TOKENIZER}
    trainer = make_trainer(tmp_path, model=model, teacher=teacher, max_steps=1, **data)
    trainer.train()
    logged = next(entry for entry in trainer.state.log_history if "w1-d1_logit_loss" in entry)
    assert logged["w1-d1_logit_loss"] == pytest.approx(np.mean(wanted), rel=1e-5)
