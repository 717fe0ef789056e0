"""What belongs to each head: how its examples become batches, and how its predictions are scored."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.tiny import make_model
from sklearn.metrics import f1_score
from transformers import BertForNextSentencePrediction, BertForTokenClassification, BertTokenizer, EvalPrediction

from dynabert_hf import DynaElectraForPreTraining, task_metrics
from dynabert_hf.families import ModelTypeError
from dynabert_hf.task_metrics import has_entities, scores_of_words
from dynabert_hf.tasks import SENTENCE_ENCODER, TASKS, task_of

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(94))]
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


@pytest.fixture
def tokenizer():
    return BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)})


def named(names):
    return {"num_labels": len(names), "id2label": dict(enumerate(names))}


def metrics_of(head, logits, labels, **stock):
    model = make_model(head=head, stock=stock)
    return task_of(model).metrics(model)(EvalPrediction(logits, labels))


@pytest.mark.parametrize("head", TASKS)
def test_a_model_its_class_and_its_name_have_one_task(head):
    model = make_model(head=head, stock={"num_labels": 2})
    assert task_of(model) == task_of(type(model)) == task_of(type(model).__name__) == TASKS[head]
    inputs = torch.tensor([[5, 6, 7]])
    shape = (1, 1, 3) if head == "ForMultipleChoice" else (1, 3)
    outputs = model(input_ids=inputs.view(shape))
    assert set(TASKS[head].outputs) <= set(outputs)


def test_a_class_of_the_users_own_has_the_task_of_the_class_that_it_extends():
    class Tagger(BertForTokenClassification):
        pass

    assert task_of(Tagger).pipeline == "token-classification"


@pytest.mark.parametrize("model_class", [BertForNextSentencePrediction, DynaElectraForPreTraining])
def test_a_head_without_a_task_is_refused(model_class):
    name = model_class.__name__  # a caller's choice, which the command line tells in one line
    with pytest.raises(ModelTypeError, match=rf"{name} is no class .* Possible are .*ForMaskedLM.*Give"):
        task_of(model_class)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("labels", ["labels", "label", None])
def test_a_batch_of_tagged_words_is_padded_with_labels_that_do_not_count(tokenizer, labels, monkeypatch, side):
    monkeypatch.setattr(tokenizer, "padding_side", side)
    examples = [
        {"input_ids": [2, 7, 3], labels: [-100, 1, -100]},
        {"input_ids": [2, 7, 8, 9, 3], labels: [0, 1, 2, 0, 1]},
    ]
    if labels is None:
        examples = [{"input_ids": example["input_ids"]} for example in examples]
    before = [dict(example) for example in examples]
    batch = task_of("BertForTokenClassification").collator(tokenizer)(examples)
    assert batch["input_ids"].tolist() == [[2, 7, 3, 0, 0], [2, 7, 8, 9, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    if labels:
        assert batch[labels].tolist() == [[-100, 1, -100, -100, -100], [0, 1, 2, 0, 1]]
    assert (examples, tokenizer.padding_side) == (before, side)


@pytest.mark.parametrize("labels", ["labels", "label", None])
def test_choices_of_any_length_become_one_batch(tokenizer, labels):
    examples = [{"input_ids": [[5], [6, 7]], labels: 1}, {"input_ids": [[8, 9, 5], [6]], labels: 0}]
    if labels is None:
        examples = [{"input_ids": example["input_ids"]} for example in examples]
    before = [dict(example) for example in examples]
    batch = task_of("BertForMultipleChoice").collator(tokenizer)(examples)
    assert batch["input_ids"].tolist() == [[[5, 0, 0], [6, 7, 0]], [[8, 9, 5], [6, 0, 0]]]
    assert batch["attention_mask"].tolist() == [[[1, 0, 0], [1, 1, 0]], [[1, 1, 1], [1, 0, 0]]]
    assert batch["labels"].tolist() == [1, 0] if labels else "labels" not in batch
    assert examples == before


@pytest.mark.parametrize("side", ["right", "left"])
def test_spans_keep_their_positions(tokenizer, monkeypatch, side):
    monkeypatch.setattr(tokenizer, "padding_side", side)
    examples = [{"input_ids": [2, 7, 3], "start_positions": 1, "end_positions": 1}, {"input_ids": [2, 7, 8, 9, 3]}]
    examples[1] |= {"start_positions": 2, "end_positions": 3}
    batch = task_of("BertForQuestionAnswering").collator(tokenizer)(examples)
    assert batch["input_ids"].tolist() == [[2, 7, 3, 0, 0], [2, 7, 8, 9, 3]]
    assert (batch["start_positions"].tolist(), batch["end_positions"].tolist()) == ([1, 2], [1, 3])
    assert tokenizer.padding_side == side


def test_choices_of_another_number_are_refused_in_a_batch(tokenizer):
    examples = [{"input_ids": [[5], [6]], "labels": 0}, {"input_ids": [[5], [6], [7]], "labels": 2}]
    with pytest.raises(ValueError, match=r"rows of 2 to 3 choices\. The head needs .* Add wrong choices"):
        task_of("BertForMultipleChoice").collator(tokenizer)(examples)


def test_a_tokenizer_without_padding_is_refused_before_any_batch(tokenizer):
    tokenizer.pad_token = None
    for head in ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice"):
        with pytest.raises(ValueError, match=r"no padding token, so .* Possible is any token .* Set one, or"):
            task_of(f"Bert{head}").collator(tokenizer)


def test_text_is_masked_and_what_was_masked_before_is_kept(tokenizer):
    torch.manual_seed(0)
    collate = task_of("BertForMaskedLM").collator(tokenizer)
    batch = collate([{"input_ids": [2, *range(10, 90), 3]}, {"input_ids": [2, 5, 3]}])
    counts = batch["labels"] != -100
    assert 4 < counts.sum() < 24
    assert not counts[:, 0].any()  # special tokens
    assert not counts[1, 3:].any()  # padding
    changed = torch.where(counts, batch["labels"], batch["input_ids"])
    assert changed[0].tolist() == [2, *range(10, 90), 3]
    masked = [
        {"input_ids": [2, 4, 3], "labels": [-100, 9, -100]},
        {"input_ids": [2, 4, 7, 3], "labels": [-100, 9, -100, 1]},
    ]
    batch = collate(masked)
    assert batch["input_ids"].tolist() == [[2, 4, 3, 0], [2, 4, 7, 3]]
    assert batch["labels"].tolist() == [[-100, 9, -100, -100], [-100, 9, -100, 1]]


@pytest.mark.parametrize("head", TASKS)
def test_without_a_tokenizer_equal_rows_are_stacked(head):
    batch = TASKS[head].collator(None)([{"input_ids": [5, 6]}, {"input_ids": [7, 8]}])
    assert batch["input_ids"].tolist() == [[5, 6], [7, 8]]


def test_metrics_of_classes():
    logits = np.array([[2.0, -1.0, 0.5], [-2.0, 1.0, -0.5]])
    for labels in (np.array([0, 2]), np.array([[0], [2]])):
        assert metrics_of("ForSequenceClassification", logits, labels) == {"accuracy": 0.5}
    hidden = (np.zeros((2, 7, 32)),)
    assert metrics_of("ForSequenceClassification", (logits, hidden), np.array([0, 1])) == {"accuracy": 1.0}


@pytest.mark.parametrize("problem", ["multi_label_classification", None])
def test_metrics_of_several_labels_equal_those_of_scikit_learn(problem):
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(40, 3)), generator.integers(0, 2, (40, 3)).astype(float)
    found = metrics_of("ForSequenceClassification", logits, labels, num_labels=3, problem_type=problem)
    assert list(found) == ["micro_f1", "accuracy"]
    assert found["micro_f1"] == pytest.approx(f1_score(labels, logits > 0, average="micro"))
    assert found["accuracy"] == pytest.approx(np.mean((logits > 0) == labels))
    silent = metrics_of("ForSequenceClassification", -np.abs(logits), labels, num_labels=3, problem_type=problem)
    assert silent["micro_f1"] == 0


def test_metrics_of_values():
    one = metrics_of(
        "ForSequenceClassification", np.array([[1.0], [3.0], [2.0]]), np.array([1.0, 2.0, 3.0]), num_labels=1
    )
    assert one == {"pearson": pytest.approx(0.5), "mse": pytest.approx(2 / 3)}
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(40, 2)), generator.normal(size=(40, 2))
    two = metrics_of("ForSequenceClassification", logits, labels, num_labels=2, problem_type="regression")
    expected = [np.corrcoef(logits[:, column], labels[:, column])[0, 1] for column in range(2)]
    assert two == {"pearson": pytest.approx(np.mean(expected)), "mse": pytest.approx(np.mean((logits - labels) ** 2))}
    same = metrics_of("ForSequenceClassification", np.ones((3, 1)), np.array([1.0, 2.0, 3.0]), num_labels=1)
    assert same["pearson"] == 0


def one_hot(ids, size):
    return np.eye(size)[np.array(ids)]


def test_metrics_of_tags_that_are_no_entities():
    labels = np.array([[-100, 0, 1, -100], [-100, 2, -100, -100]])
    logits = one_hot([[0, 0, 2, 2], [1, 2, 0, 0]], 3)
    assert metrics_of("ForTokenClassification", logits, labels) == {"accuracy": pytest.approx(2 / 3)}
    assert metrics_of("ForTokenClassification", logits, np.full((2, 4), -100)) == {"accuracy": 0.0}


def test_metrics_of_entities_equal_those_of_seqeval():
    library = pytest.importorskip("seqeval.metrics")
    generator = np.random.default_rng(0)
    true, found = (generator.integers(0, 5, (30, 9)) for _ in range(2))
    found = np.where(generator.random((30, 9)) < 0.7, true, found)
    labels = np.where(generator.random((30, 9)) < 0.2, -100, true)
    texts = [
        [
            [TAGS[tag] for tag, label in zip(row, own, strict=True) if label != -100]
            for row, own in zip(ids, labels, strict=True)
        ]
        for ids in (true, found)
    ]
    metrics = metrics_of("ForTokenClassification", one_hot(found, 5), labels, **named(TAGS))
    assert list(metrics) == ["f1", "accuracy"]
    assert metrics["f1"] == library.f1_score(*texts)
    assert metrics["accuracy"] == library.accuracy_score(*texts)
    assert metrics_of("ForTokenClassification", one_hot([[0, 0]], 5), np.array([[0, 0]]), **named(TAGS))["f1"] == 0


def test_metrics_of_entities_with_the_marks_of_bilou_equal_those_of_seqeval_with_that_scheme():
    """They were not taken for entities, and seqeval itself joins two neighbours of one kind unless it is told."""
    f1_score = pytest.importorskip("seqeval.metrics").f1_score
    scheme = pytest.importorskip("seqeval.scheme").BILOU
    tags = ["O", "B-X", "I-X", "L-X", "U-X", "B-Y", "I-Y", "L-Y", "U-Y"]
    generator = np.random.default_rng(0)
    parts = [[0], [4], [8], [1, 3], [1, 2, 3], [5, 7], [5, 6, 6, 7]]

    def row():
        drawn = [tag for number in generator.integers(0, len(parts), 12) for tag in parts[number]]
        return (drawn + [0] * 12)[: len(drawn) // 12 * 12]

    rows = [(true, found) for true, found in ((row(), row()) for _ in range(200)) if len(true) == len(found) == 24]
    rows = [(true, found) for true, found in rows if {true[-1], found[-1]} <= {0, 3, 4, 7, 8}]
    true, found = (np.array(each) for each in zip(*rows, strict=True))
    texts = [[[tags[tag] for tag in own] for own in ids] for ids in (true, found)]
    metrics = metrics_of("ForTokenClassification", one_hot(found, len(tags)), true, **named(tags))
    assert 0 < metrics["f1"] == f1_score(*texts, mode="strict", scheme=scheme)


def test_without_seqeval_the_extra_is_named(monkeypatch):
    warnings = []
    monkeypatch.setattr(task_metrics.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(task_metrics.logger, "warning_once", warnings.append)
    metrics = metrics_of("ForTokenClassification", one_hot([[0, 1]], 5), np.array([[0, 2]]), **named(TAGS))
    assert metrics == {"accuracy": 0.5}
    assert 'pip install "dynabert_hf[metrics]"' in warnings[0]


@pytest.mark.parametrize(
    ("names", "entities"),
    [
        (TAGS, True),
        (["O", "S-X", "E-X"], True),
        (["O", "U-X", "L-X"], True),
        (["LABEL_0", "LABEL_1"], False),
        (["NOUN", "O"], False),
        (["O"], False),
    ],
)
def test_entities_are_told_by_the_names_of_the_labels(names, entities):
    assert has_entities(make_model(head="ForTokenClassification", stock=named(names)).config) == entities


def test_metrics_of_spans():
    starts = np.array([[0, 9, 0, 0], [0, 0, 0, 9], [9, 0, 0, 0], [0, 8, 0, 9.0]])
    ends = np.array([[0, 0, 9, 0], [0, 9, 0, 8], [9, 0, 0, 0], [0, 0, 9, 0.0]])
    # Found: 1 to 2, 3 to 3 (an end is not before its start), the first token, which says no answer, and 1 to 2.
    labels = (np.array([1, 2, 0, 2]), np.array([2, 3, 0, 3]))
    expected = [1.0, 2 / 3, 1.0, 0.5]
    assert metrics_of("ForQuestionAnswering", (starts, ends), labels) == {
        "f1": pytest.approx(np.mean(expected)),
        "exact_match": 0.5,
    }


def test_metrics_of_choices():
    logits = np.array([[2.0, -1.0, 0.5], [-2.0, 1.0, -0.5]])
    assert metrics_of("ForMultipleChoice", logits, np.array([0, 2])) == {"accuracy": 0.5}


@pytest.mark.parametrize("is_reduced", [True, False])
def test_metrics_of_masked_words_are_those_of_the_loss(is_reduced):
    model = make_model(head="ForMaskedLM")
    inputs, labels = torch.randint(5, 99, (4, 7)), torch.randint(5, 99, (4, 7))
    labels[:, ::2] = -100
    with torch.no_grad():
        loss, logits = model(input_ids=inputs, labels=labels).to_tuple()[:2]
    labels[0, 1] = logits[0, 1].argmax()
    with torch.no_grad():
        loss = model(input_ids=inputs, labels=labels).loss.item()
    kept = task_of(model).preprocess_logits((logits,), labels) if is_reduced else logits
    found = task_of(model).metrics(model)(EvalPrediction(kept.numpy(), labels.numpy()))
    right = (logits.argmax(-1) == labels)[labels != -100]
    assert found == {
        "accuracy": pytest.approx(right.float().mean()),
        "perplexity": pytest.approx(math.exp(loss), rel=1e-5),
    }
    assert scores_of_words(logits, labels).shape == (4, 7, 2)


def test_default_metrics_take_batches_that_were_left_apart():
    metrics = task_of("BertForTokenClassification").metrics(make_model(head="ForTokenClassification"))
    draw = np.random.default_rng(0)
    logits = [draw.normal(size=(2, 5, 3)), draw.normal(size=(1, 7, 3))]
    labels = [draw.integers(0, 3, (2, 5)), draw.integers(0, 3, (1, 7))]
    right = sum((one.argmax(-1) == two).sum() for one, two in zip(logits, labels, strict=True))
    assert metrics(EvalPrediction(predictions=logits, label_ids=labels)) == {"accuracy": pytest.approx(right / 17)}


@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForMultipleChoice"])
def test_rows_of_several_lengths_are_not_stacked_without_a_tokenizer(head):
    collate = task_of(head).collator(None)
    one, two = [[[5, 6], [7, 8]], [[5, 6], [7]]] if head == "ForMultipleChoice" else [[5, 6, 7], [5, 6]]
    assert collate([{"input_ids": one, "labels": 1}] * 2)["input_ids"].tolist() == [one, one]
    with pytest.raises(ValueError, match=r"A batch has rows of \d to \d tokens, and nothing .* Give the tokenizer"):
        collate([{"input_ids": one}, {"input_ids": two}])


@pytest.mark.parametrize("form", [None, "numpy", "torch"])
def test_pairs_of_tokenised_texts_are_a_batch_in_every_format_of_a_data_set(tokenizer, form):
    pairs = [{"input_ids": [[2, 5, 3], [2, 5, 6, 3]], "labels": 0.5}, {"input_ids": [[2, 3], [2, 7, 3]], "labels": 1.0}]
    batch = SENTENCE_ENCODER.collator(tokenizer)(list(Dataset.from_list(pairs).with_format(form)))
    assert batch["input_ids"].tolist() == [[[2, 5, 3, 0], [2, 5, 6, 3]], [[2, 3, 0, 0], [2, 7, 3, 0]]]
    assert batch["labels"].tolist() == [0.5, 1.0]
