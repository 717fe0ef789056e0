"""Rows of text as what a head reads, with labels in all rows or some."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from helpers.backbones import make_backbone
from helpers.tiny import make_model, make_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from dynabert_hf.data import encoding
from dynabert_hf.data.class_names import warn_of_other_order
from dynabert_hf.data.encoding import encoded, encoded_datasets
from dynabert_hf.data.labelled_text import tokenised_texts
from dynabert_hf.data.labels import CastLabels, check_labels
from dynabert_hf.data.masking import MaskedOnce
from dynabert_hf.data.reading import read_datasets
from dynabert_hf.data.text_columns import TextColumns
from dynabert_hf.tasks import MaskingCollator, task_of

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(90))]


@pytest.fixture
def tokenizer():
    return make_tokenizer(WORDS)


def named(*names, head="ForSequenceClassification", **fields):
    return make_model(head=head, stock={"num_labels": len(names), "id2label": dict(enumerate(names)), **fields})


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "camembert", "deberta-v2"])
def test_a_tokenizer_that_was_saved_nowhere_is_refused(tmp_path, family):
    """transformers makes one of special tokens, to which all words of all texts are unknown."""
    AutoConfig.for_model(family).save_pretrained(tmp_path)
    empty = AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"The tokenizer knows no words, only .*save it in the folder of the model"):
        read_datasets({"train_dataset": [{"text": "w1 w2", "label": 0}]}, make_model(), empty)


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
@pytest.mark.parametrize("form", [np.asarray, torch.tensor])
def test_labels_of_a_list_of_rows_may_be_arrays_of_numpy_and_torch(tokenizer, kind, form):
    labels = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    rows = [{"text": f"w{number}", "label": form(label)} for number, label in enumerate(labels)]
    found, _ = encoded_datasets({"train": rows}, named("a", "b", problem_type=kind), tokenizer)
    assert found["train"]["labels"][:] == labels


def test_texts_pairs_and_labels_are_found_by_their_usual_names(tokenizer):
    rows = Dataset.from_dict({"sentence1": ["w1", "w2"], "sentence2": ["w3", "w4 w5"], "label": ["no", "yes"]})
    [data], _ = (list(each.values()) for each in encoded_datasets({"train": rows}, named("no", "yes"), tokenizer))
    assert [tokenizer.decode(ids) for ids in data["input_ids"]] == [
        "[CLS] w1 [SEP] w3 [SEP]",
        "[CLS] w2 [SEP] w4 w5 [SEP]",
    ]
    assert data["labels"][:] == [0, 1]
    assert data["token_type_ids"][0] == [0, 0, 0, 1, 1]


class Drawn(torch.utils.data.Dataset):
    """Rows that are other ones whenever they are asked for, of which the label tells what the text is."""

    def __len__(self):
        return 20

    def __getitem__(self, row):
        if not 0 <= row < 20:
            raise IndexError(row)
        number = int(torch.randint(3, ()))
        return {"text": f"w{number}", "label": number}


@pytest.mark.parametrize(("is_transform", "ids"), [(False, [0, 1, 2]), (True, [2, 0, 1])])
def test_a_row_that_is_drawn_whenever_it_is_asked_for_keeps_its_label(tokenizer, is_transform, ids):
    """A transform leaves the names of classes to its data set."""

    def draw(batch):
        drawn = [Drawn()[0] for _ in batch["text"]]
        return {name: [row[name] for row in drawn] for name in batch}

    rows = Drawn()
    if is_transform:
        held = Dataset.from_dict({"text": ["w0"] * 20, "label": [0] * 20})
        held = held.cast_column("label", ClassLabel(names=["c", "a", "b"]))
        rows = held.with_transform(draw)
    model = named("a", "b", "c")
    found, _ = encoded_datasets({"train": rows}, model, tokenizer)
    read = [(tokenizer.decode(row["input_ids"][1:-1]), row["labels"]) for row in found["train"]]
    assert set(read) == {(f"w{number}", ids[number]) for number in range(3)}


def test_numbers_of_a_data_set_become_those_of_the_model_by_their_names(tokenizer):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["yes", "no"])})
    rows = Dataset.from_dict({"text": ["w1", "w2"], "label": [0, 1]}, features=features)
    assert [one["labels"] for one in encoded(rows, TextColumns(("text",), "label"), named("no", "yes"), tokenizer)] == [
        1,
        0,
    ]
    tags = Features({"tokens": Sequence(Value("string")), "tags": Sequence(ClassLabel(names=["X", "O"]))})
    rows = Dataset.from_dict({"tokens": [["w1", "w2"]], "tags": [[0, 1]]}, features=tags)
    tagger = named("O", "X", head="ForTokenClassification")
    assert encoded(rows, TextColumns(("tokens",), "tags"), tagger, tokenizer)[0]["labels"] == [-100, 1, 0, -100]


def test_other_labels_in_two_columns_are_told_of_unless_one_is_named(tokenizer, caplog):
    model, texts = named("no", "yes"), {"text": ["w1", "w2"], "labels": [0, 1]}

    def labels_beside(label, **told):
        caplog.clear()
        both = {"train": Dataset.from_dict({**texts, "label": label})}
        return encoded_datasets(both, model, tokenizer, **told)[0]["train"]["labels"][:]

    assert labels_beside([1, 1]) == [0, 1]
    assert "The columns 'labels' and 'label' have different labels, of which those of 'labels' are read." in caplog.text
    for label, told, read in (
        ([1, 1], {"label_column": "label"}, [1, 1]),
        (["no", "yes"], {}, [0, 1]),
        (["a sentence", "another"], {}, [0, 1]),
    ):
        assert labels_beside(label, **told) == read
        assert not caplog.text


LISTS = ClassLabel(names=["yes", "no"]), Sequence(Value("string"))
FORMATTED = {
    "ForSequenceClassification": ({"text": Value("string"), "label": LISTS[0]}, {"text": "w1", "label": 0}),
    "ForTokenClassification": ({"tokens": LISTS[1], "tags": Sequence(LISTS[0])}, {"tokens": ["w1"], "tags": [0]}),
    "ForMultipleChoice": (
        {"text": Value("string"), "choices": LISTS[1], "label": Value("int64")},
        {"text": "w1", "choices": ["w2", "w3"], "label": 1},
    ),
}


@pytest.mark.parametrize("form", ["numpy", "torch"])
@pytest.mark.parametrize("head", FORMATTED)
def test_text_is_read_alike_in_every_format_of_a_data_set(tokenizer, head, form):
    features, row = FORMATTED[head]
    rows, model = Dataset.from_list([row, row], features=Features(features)), named("no", "yes", head=head)
    found = [encoded_datasets({"train": each}, model, tokenizer)[0]["train"] for each in (rows, rows.with_format(form))]
    assert found[0].to_list() == found[1].to_list()
    assert 1 in np.ravel(found[0]["labels"][:])


MNLI = ["entailment", "neutral", "contradiction"]


@pytest.mark.parametrize(
    ("train", "evaluation", "read"),
    [
        ([0, 1, 2], [1, 2], [1, 2]),  # 0 is no name, so 1 and 2 are none either
        ([1, 2, 3], [1, 2], [0, 1]),
        ([1, 2], [2.0, 0.0], [2, 0]),
        (["1", "2"], [1, 2, 3], [0, 1, 2]),
        ([None, 0], [1, 2], [1, 2]),
    ],
)
def test_numbers_that_are_names_too_are_read_alike_in_all_data_sets(tokenizer, train, evaluation, read):
    given = {"train": train, "eval": evaluation}
    rows = {name: [{"text": "w1", "label": label} for label in own] for name, own in given.items()}
    found, _ = encoded_datasets(rows, named("1", "2", "3"), tokenizer)
    assert found["eval"]["labels"][:] == read
    rows = {name: [{"tokens": ["w1"] * len(own), "tags": own}] for name, own in given.items() if None not in own}
    if len(rows) == 2:
        found, _ = encoded_datasets(rows, named("1", "2", "3", head="ForTokenClassification"), tokenizer)
        assert found["eval"]["labels"][0] == [-100, *read, -100]


def rows_of_classes(names):
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    return Dataset.from_dict({"text": ["w1", "w2", "w3"], "label": [0, 1, 2]}, features=features)


def test_names_of_classes_are_the_same_in_small_and_capital_letters(tokenizer):
    rows, model = rows_of_classes(MNLI), named("CONTRADICTION", "NEUTRAL", "ENTAILMENT")
    assert encoded_datasets({"train": rows}, model, tokenizer)[0]["train"]["labels"][:] == [2, 1, 0]
    both = named("neutral", "Neutral", "entailment")  # which of them is NEUTRAL nobody knows
    of_text = encoded(rows, TextColumns(("text",), "label"), both, tokenizer)
    assert [one["labels"] for one in of_text] == [0, 1, 2]
    for ours, theirs in (("US us x", "Us uS x"), ("US us x", "Us x y"), ("B C a", "a A b c")):  # only case tells apart
        rows = rows_of_classes(ours.split())
        of_text = encoded(rows, TextColumns(("text",), "label"), named(*theirs.split()), tokenizer)
        assert [one["labels"] for one in of_text] == [0, 1, 2]


@pytest.mark.parametrize(
    ("train", "evaluation", "classes", "said"),
    [
        (MNLI, MNLI, ["LABEL_0", "LABEL_1", "LABEL_2"], None),
        (MNLI, MNLI[::-1], ["LABEL_0", "LABEL_1", "LABEL_2"], r"eval calls its classes \['contradiction.* and train"),
        (MNLI, MNLI[::-1], MNLI, None),  # each by its names
        (["yes", "maybe", "no"], ["yes", "maybe", "no"], MNLI, r"train calls its classes \['yes'.* and the Dyna"),
    ],
)
def test_numbers_that_stand_for_other_classes_are_said(tokenizer, caplog, train, evaluation, classes, said):
    named_rows = {"train": rows_of_classes(train), "eval": rows_of_classes(evaluation)}
    encoded_datasets(named_rows, named(*classes), tokenizer)
    if said is None:
        assert not caplog.records
    else:
        assert re.search(rf"{said}.* taken as they are\. If .*align_labels_with_mapping", caplog.text)


def test_of_tokenised_rows_another_order_than_the_models_is_said(caplog):
    rows = rows_of_classes(MNLI)
    warn_of_other_order({"eval_dataset": rows, "other": None}, named(*MNLI))
    assert not caplog.records
    warn_of_other_order({"eval_dataset": rows}, named("Contradiction", "Neutral", "Entailment"))
    assert "eval_dataset calls its classes ['entailment', 'neutral', 'contradiction']" in caplog.text
    caplog.clear()
    warn_of_other_order({"eval_dataset": rows_of_classes(["Polish", "polish", "x"])}, named("polish", "Polish", "x"))
    assert "eval_dataset calls its classes ['Polish', 'polish', 'x'], in this order" in caplog.text
    aligned = rows.align_labels_with_mapping({"Contradiction": 0, "Neutral": 1, "Entailment": 2}, "label")
    assert aligned["label"][:] == [2, 1, 0]


def test_choices_are_pairs_with_their_text(tokenizer):
    rows = [{"text": "w1", "choices": ["w2", "w3 w4"], "label": 1}]
    [one] = encoded(rows, TextColumns(("text", "choices"), "label"), make_model(head="ForMultipleChoice"), tokenizer)
    assert [tokenizer.decode(ids) for ids in one["input_ids"]] == [
        "[CLS] w1 [SEP] w2 [SEP]",
        "[CLS] w1 [SEP] w3 w4 [SEP]",
    ]


@pytest.mark.parametrize("num_labels", [1, 2])
def test_any_of_four_choices_may_be_right_whatever_classes_the_model_names(tokenizer, num_labels):
    model = make_model(head="ForMultipleChoice", stock={"num_labels": num_labels})
    rows = [{"text": "w1", "choices": ["w2", "w3", "w4", "w5"], "label": label} for label in (3, "2", 0.0, 1)]
    examples = encoded(rows, TextColumns(("text", "choices"), "label"), model, tokenizer, needs_labels=True)
    assert [one["labels"] for one in examples] == [3, 2, 0, 1]
    check_labels("data", examples, model)
    partly = encoded([rows[0], {**rows[1], "label": None}], TextColumns(("text", "choices"), "label"), model, tokenizer)
    assert [one["labels"] for one in partly] == [3, None]
    for label in (4, -1, "w2", 0.5):
        given = [{**rows[0], "label": None}, {**rows[0], "label": label}]
        with pytest.raises(ValueError, match=rf"Row 1 has the label {label!r} in column 'label', and 4 choices\. Give"):
            encoded(given, TextColumns(("text", "choices"), "label"), model, tokenizer)


@pytest.mark.parametrize(
    ("head", "rows", "message"),
    [
        ("ForSequenceClassification", {"body": ["w1"]}, r"no 'input_ids', nor a text by a usual name: text and .*Name"),
        ("ForTokenClassification", {"tokens": [["w1"]], "tags": [["X", "O"]]}, "Row 0 has the words .* Give two lists"),
        ("ForTokenClassification", {"tokens": [["w1"], ["w1", "w2"]], "tags": [["O"], ["O", "Y"]]}, "'Y' in row 1"),
        ("ForTokenClassification", {"tokens": [["w1"], ["w1", "w2"]], "tags": [["0"], ["1", "X"]]}, "'0' in row 0"),
        (
            "ForMultipleChoice",
            {"text": ["w1", "w2"], "choices": [["w1"], ["w1", "w2"]]},
            "Row 1 has the choices .*Give",
        ),
        (
            "ForMultipleChoice",
            {"text": ["w1", "w2"], "choices": [["w1", "w2"], ["w1", None]]},
            r"Row 1 .* has no text in column 'choices'\. Fill it",
        ),
        ("ForSequenceClassification", {"text": ["w1"], "label": [[1]]}, r"list \[1\] in row 0"),
        (
            "ForQuestionAnswering",
            {"question": ["w1"], "answers": ["w1"]},
            r"no 'input_ids', nor .*question and context",
        ),
    ],
)
def test_rows_that_cannot_be_read_are_refused(tokenizer, head, rows, message):
    model = named("O", "X", head=head) if head != "ForMultipleChoice" else make_model(head=head)
    with pytest.raises(ValueError, match=message):
        encoded_datasets({"train_dataset": Dataset.from_dict(rows)}, model, tokenizer)


def test_a_column_that_one_split_lacks_is_named(tokenizer):
    train = Dataset.from_dict({"text": ["w1"], "label": [0]})
    named_sets = {"train_dataset": train, "eval_dataset": Dataset.from_dict({"sentence": ["w1"]})}
    with pytest.raises(ValueError, match=r"eval_dataset has the columns \['sentence'\] but no 'text', .*train_dataset"):
        encoded_datasets(named_sets, make_model(), tokenizer)


@pytest.mark.parametrize(("first", "second"), [("label", "labels"), ("labels", "label"), ("tags", "ner_tags")])
def test_labels_under_two_usual_names_are_refused_unless_one_is_named(tokenizer, first, second):
    """Those of one data set were left out without a word."""
    of_tokens = "tags" in (first, second)
    text, labels = ("tokens", [[0], [1]]) if of_tokens else ("text", [0, 1])
    words = [["w1"], ["w2"]] if of_tokens else ["w1", "w2"]
    names = {"train_dataset": first, "eval_dataset": second}
    named_sets = {name: Dataset.from_dict({text: words, column: labels}) for name, column in names.items()}
    model = make_model(head="ForTokenClassification") if of_tokens else make_model()
    with pytest.raises(
        ValueError, match=r"_dataset has labels in '\w+', but another data set has them in '\w+'\. Give"
    ):
        encoded_datasets(named_sets, model, tokenizer)
    data, _ = encoded_datasets(named_sets, model, tokenizer, label_column=second)
    assert data["eval_dataset"]["labels"][1] == ([-100, 1, -100] if of_tokens else 1)
    assert "labels" not in data["train_dataset"].column_names


def test_labels_to_measure_on_are_found_beside_text_without_labels(tokenizer):
    texts, model = Dataset.from_dict({"text": ["w1", "w2"]}), make_model()
    for name, chosen in (("label", None), ("verdict", "verdict")):
        dev = Dataset.from_dict({"text": ["w1", "w3"], name: [1, 0]})
        named_sets = {"train_dataset": texts, "eval_dataset": dev}
        data, _ = encoded_datasets(named_sets, model, tokenizer, label_column=chosen)
        assert data["eval_dataset"]["labels"] == [1, 0]
        assert "labels" not in data["train_dataset"].column_names
    with pytest.raises(ValueError, match=r"train_dataset has the columns \['text'\] but no 'rating'\. Name one that"):
        encoded_datasets(named_sets, model, tokenizer, label_column="rating")


HALF = [
    ("ForSequenceClassification", {}, 1, -100),
    ("ForSequenceClassification", {"num_labels": 1}, 0.5, float("nan")),
    ("ForSequenceClassification", {"problem_type": "multi_label_classification"}, [1.0, 0.0, 1.0], [float("nan")] * 3),
    ("ForTokenClassification", {}, [-100, 2, -100], [-100] * 3),
    ("ForMultipleChoice", {}, 1, -100),
]


@pytest.mark.parametrize(("head", "config", "label", "missing"), HALF)
def test_a_row_without_a_label_gets_one_that_no_loss_counts(tokenizer, head, config, label, missing):
    model = make_model(head=head, stock={"num_labels": 3, **config})
    ids = [[2, 7, 3], [2, 8, 3]] if head == "ForMultipleChoice" else [2, 7, 3]
    rows = [{"input_ids": ids, "labels": label}, {"input_ids": ids, "labels": None}, {"input_ids": ids}]
    check_labels("rows", rows[:2], model, may_be_missing=True)
    with pytest.raises(ValueError, match=r"rows has no label in 'labels' of row 1\. Give every row one"):
        check_labels("rows", rows[:2], model)
    batch = CastLabels(task_of(model).collator(tokenizer), model)(rows)
    torch.testing.assert_close(batch["labels"][1].double(), torch.tensor(missing).double(), equal_nan=True)
    torch.testing.assert_close(batch["labels"][2], batch["labels"][1], equal_nan=True)
    torch.testing.assert_close(batch["labels"][0].double(), torch.tensor(label).double())
    assert rows[1]["labels"] is None
    for form in ("numpy", "torch"):  # which make NaN of a missing number
        held = list(Dataset.from_list(rows).with_format(form))
        again = CastLabels(task_of(model).collator(tokenizer), model)(held)
        torch.testing.assert_close(again["labels"], batch["labels"], equal_nan=True)


@pytest.mark.parametrize(
    ("head", "rows", "column", "label"),
    [
        ("ForTokenClassification", {"tokens": ["w1", "w2"]}, "tags", ["no", "yes"]),
        ("ForSequenceClassification", {"text": "w1"}, "label", ["yes"]),
        ("ForMultipleChoice", {"text": "w1", "choices": ["w2", "w3"]}, "label", 1),
        ("ForQuestionAnswering", {"question": "w1", "context": "w2 w3"}, "answers", ["w3"]),
    ],
)
def test_nothing_as_pandas_reads_it_from_json_is_no_label(tokenizer, tmp_path, head, rows, column, label):
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({**rows, **own}) for own in ({column: label}, {})))
    read = pd.read_json(tmp_path / "rows.jsonl", lines=True).to_dict("records")
    assert read[1][column] != read[1][column]
    model = named("no", "yes", head=head, problem_type="multi_label_classification")
    expected, _ = encoded_datasets(
        {"train_dataset": [{**rows, column: label}, {**rows, column: None}]}, model, tokenizer
    )
    found, _ = encoded_datasets({"train_dataset": read}, model, tokenizer)
    assert found["train_dataset"].to_list() == expected["train_dataset"].to_list()
    assert found["train_dataset"][1].get("labels", found["train_dataset"][1].get("start_positions")) is None


@pytest.mark.parametrize(
    ("config", "labels", "message"),
    [
        ({}, [None, "yes", None, "ye"], "has the label 'ye' in row 3"),
        ({}, ["", "ye"], "has the label 'ye' in row 1"),
        ({"problem_type": "multi_label_classification"}, [None, ["yes"], None, ["ye"]], "has the label 'ye' in row 3"),
        ({"problem_type": "multi_label_classification"}, [None, ["yes"], "no"], "has 'no' in row 2"),
    ],
)
def test_errors_count_all_rows_also_where_some_have_no_label(tokenizer, config, labels, message):
    rows = [{"text": "w1", "label": label} for label in labels]
    model = named("no", "yes", **config)
    model.config.problem_type = config.get("problem_type")
    with pytest.raises(ValueError, match=message):
        encoded(rows, TextColumns(("text",), "label"), model, tokenizer)


def test_a_masked_language_model_reads_all_of_a_long_text(tokenizer):
    rows = [{"text": "w1 w2 w3 w4 w5 w6 w7"}, {"text": "w8"}]
    model = make_model(head="ForMaskedLM")
    examples = encoded(rows, TextColumns(("text",), None), model, tokenizer, max_length=5)
    read = [tokenizer.decode(one["input_ids"]) for one in examples]
    assert read == ["[CLS] w1 w2 w3 [SEP]", "[CLS] w4 w5 w6 [SEP]", "[CLS] w7 [SEP]", "[CLS] w8 [SEP]"]
    assert all(set(one) == {"input_ids", "token_type_ids", "attention_mask"} for one in examples)


@pytest.mark.parametrize(("columns", "special"), [(("text",), 2), (("text", "text_pair"), 3)])
def test_a_length_without_room_for_text_is_refused(tokenizer, columns, special):
    rows, given = [dict.fromkeys(columns, "w1 w2")], (TextColumns(columns, None), make_model(), tokenizer)
    what = f"a {'text' if special == 2 else 'pair'} has {special} special tokens"
    for length in (0, 1, special):
        told = rf"max_length={length} leaves no text: {what}\. Possible are {special + 1} to 20 tokens\. Give as"
        with pytest.raises(ValueError, match=told):
            encoded(rows, *given, max_length=length)
    [row] = encoded(rows, *given, max_length=4)
    assert len(row["input_ids"]) == 4


@pytest.mark.parametrize(("known", "asked", "read"), [(None, None, 20), (None, 30, 30), (25, None, 25), (25, 30, 25)])
def test_texts_for_relative_positions_are_cut_where_one_asks_or_the_tokenizer_ends(tokenizer, known, asked, read):
    tokenizer.model_max_length = known or tokenizer.model_max_length
    model = make_backbone("DebertaV2", position_biased_input=False)
    [row] = encoded([{"text": "w1 " * 40}], TextColumns(("text",), None), model, tokenizer, max_length=asked)
    assert len(row["input_ids"]) == read


def test_masks_are_those_of_the_row_whatever_was_drawn_before(tokenizer, monkeypatch):
    rows = [{"input_ids": [2, *range(5, 60), 3]} for _ in range(3)]
    torch.manual_seed(5)
    state, seeded = torch.random.get_rng_state(), []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    first = MaskedOnce(rows, MaskingCollator(tokenizer), seed=0).rows()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not seeded  # of accelerators, whose dropout would repeat itself
    torch.manual_seed(6)
    assert MaskedOnce(rows, MaskingCollator(tokenizer), seed=0)[2] == first[2]
    assert first[0]["labels"] != first[1]["labels"]
    assert MaskedOnce(rows, MaskingCollator(tokenizer), seed=1)[0] != first[0]
    assert any(label != -100 for label in first[0]["labels"])


@pytest.mark.parametrize("form", ["numpy", "torch"])
def test_text_is_masked_alike_in_every_format_of_a_data_set(tokenizer, form):
    rows = Dataset.from_list([{"input_ids": [7] * each, "attention_mask": [1] * each} for each in (4, 55)])
    collate = MaskingCollator(tokenizer)
    found = [MaskedOnce(each, collate, seed=0).rows() for each in (rows, rows.with_format(form))]
    assert found[0] == found[1]
    assert collate(found[1])["input_ids"].shape == (2, 55)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (["w1", "w2"], r"Row 1 has the list \['w1', 'w2'\] in column 'text'\. Possible is one text a row\. Join"),
        ({"text": "w1"}, "has the dict .* name a column that holds texts"),
        (b"w1", "has the bytes b'w1'"),
        (float("nan"), "Row 1 .* has no text in column 'text'"),
    ],
)
def test_what_is_no_text_is_refused(tokenizer, text, message):
    with pytest.raises(ValueError, match=message):
        encoded([{"text": 5}, {"text": text}], TextColumns(("text",), None), make_model(), tokenizer)


def test_one_column_of_text_may_be_named_alone(tokenizer):
    data = [{"review": "w1 w2", "stars": 1}, {"review": "w3", "stars": 0}]
    how = {"label_column": "stars"}
    found = [
        encoded_datasets({"data": data}, make_model(), tokenizer, text_columns=named, **how)[0]["data"].to_list()
        for named in ("review", ["review"])
    ]
    assert found[0] == found[1]
    assert found[0][0]["labels"] == 1


def test_a_name_that_two_classes_have_names_neither(tokenizer):
    model = make_model(stock={"id2label": {0: "good", 1: "bad", 2: "good"}})
    with pytest.raises(ValueError, match=r"has the label 'good' in row 0\. The model knows .*the numbers of all"):
        encoded([{"text": "w1", "label": "good"}], TextColumns(("text",), "label"), model, tokenizer)
    [row] = encoded([{"text": "w1", "label": 2}], TextColumns(("text",), "label"), model, tokenizer)
    assert row["labels"] == 2


@pytest.mark.parametrize("adds_blank", [False, True])
def test_words_that_a_tokenizer_joins_are_said(tmp_path, monkeypatch, adds_blank):
    said = []
    monkeypatch.setattr(encoding.logger, "warning", said.append)
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(["a b"], trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=["<pad>"]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>")
    if adds_blank:  # as the warning says
        tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = True
    model = make_model(head="ForTokenClassification")
    [row] = encoded([{"tokens": ["a", "b"]}], TextColumns(("tokens",), None), model, tokenizer, max_length=9)
    pieces = tokenizer.convert_ids_to_tokens(row["input_ids"])
    assert "".join(pieces) == ("\u0120a\u0120b" if adds_blank else "ab")
    assert [each.partition(",")[0] for each in said] == (
        [] if adds_blank else ["The tokenizer splits a word of a list otherwise than the same word in a text"]
    )
    path = tmp_path / "rows.jsonl"
    path.write_text('{"tokens": ["a", "b"]}\n')
    [of_file] = tokenised_texts(path, model, tokenizer)  # for store-outputs and specialise
    assert of_file["input_ids"] == row["input_ids"]
