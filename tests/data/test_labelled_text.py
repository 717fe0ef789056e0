"""Labelled text: what a file says, and what predictions are measured by."""

import csv
import json

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from helpers.tiny import make_model, make_small, make_tokenizer
from helpers.trainers import make_trainer
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer

from dynabert_hf import LabelledText, measure_importance
from dynabert_hf.data import encoding

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "film", "null", "none", "7", "##7", "0", "##0"]
BAD, GOOD = "bad", "good"


@pytest.fixture
def tokenizer():
    return make_tokenizer(WORDS)


def model_of(names, **fields):
    return make_model(stock={"id2label": dict(enumerate(names)), "num_labels": len(names), **fields})


def write(folder, suffix, labels, texts=None):
    """A file of texts of one length, so that their order stays."""
    path = folder / f"texts{suffix}"
    rows = [{"text": text, "label": label} for text, label in zip(texts or ["film"] * len(labels), labels, strict=True)]
    with path.open("w", newline="") as file:
        if suffix == ".csv":
            csv.writer(file).writerows([["text", "label"], *(row.values() for row in rows)])
        else:
            file.write("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize(
    ("names", "labels", "ids"),
    [
        (["1", "0"], [0, 1], [1, 0]),
        (["1", "2", "3"], [1.0, 2.0], [0, 1]),
        (["1.0", "2.0", "3.0"], [1.0, 2.0], [0, 1]),
        (["None", "some"], ["some", "None"], [1, 0]),
        ([BAD, GOOD], [1, 0], [1, 0]),
        ([BAD, GOOD], [1.0, 0.0], [1, 0]),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_labels_are_names_where_all_of_them_are_and_else_numbers(tmp_path, tokenizer, suffix, names, labels, ids):
    text = LabelledText.from_file(write(tmp_path, suffix, labels), model_of(names), tokenizer)
    assert text.labels.tolist() == ids


def as_parquet(path, names):
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    Dataset.from_dict({"text": ["film", "film"], "label": [0, 1]}, features=features).to_parquet(path)
    return path


def test_a_data_set_in_memory_keeps_the_names_of_its_classes_as_parquet(tmp_path, tokenizer, caplog):
    path = as_parquet(tmp_path / "dev.parquet", [GOOD, BAD])
    assert LabelledText.from_file(path, model_of([BAD, GOOD]), tokenizer).labels.tolist() == [1, 0]
    assert not caplog.text


def test_numbers_of_a_file_that_names_other_classes_are_said(tmp_path, tokenizer, caplog):
    path = as_parquet(tmp_path / "others.parquet", [GOOD, "long"])
    assert LabelledText.from_file(path, model_of([BAD, GOOD]), tokenizer).labels.tolist() == [0, 1]
    assert f"others.parquet' calls its classes ['{GOOD}', 'long'], in this order, and the Dyna" in caplog.text
    caplog.clear()
    LabelledText.from_file(path, model_of(["LABEL_0", "LABEL_1"]), tokenizer)
    assert not caplog.text


def test_a_model_in_training_is_measured_without_dropout_and_trains_on(tmp_path, tokenizer):
    model = model_of([BAD, GOOD], hidden_dropout_prob=0.5)
    text = LabelledText.from_file(write(tmp_path, ".csv", [BAD, GOOD]), model, tokenizer)
    expected = text.predict(model.eval())
    model.train().base_model.embeddings.eval()
    modes = [module.training for module in model.modules()]
    assert (text.predict(model) == expected).all()
    assert text.evaluate(model) == text.evaluate(model.share())
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize(
    ("names", "ids"), [(["False", "True"], [1, 0]), (["true", "false"], [0, 1]), ([BAD, GOOD], [1, 0])]
)
@pytest.mark.parametrize(
    ("suffix", "labels"), [(".jsonl", [True, False]), (".csv", ["true", "false"]), (".csv", ["TRUE", "FALSE"])]
)
def test_booleans_are_names_or_else_numbers(tmp_path, tokenizer, names, ids, suffix, labels):
    text = LabelledText.from_file(write(tmp_path, suffix, labels), model_of(names), tokenizer)
    assert text.labels.tolist() == ids


def test_a_csv_is_read_as_it_is_written(tmp_path, tokenizer):
    texts = ["007", "null", "None"]
    path = write(tmp_path, ".csv", ["01", "02", "01"], texts)
    text = LabelledText.from_file(path, model_of(["00", "01", "02"]), tokenizer, batch_size=1)
    read = [tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True) for batch in text.batches]
    assert read == ["007", "null", "none"]
    assert text.labels.tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("names", "labels", "message"),
    [
        ([BAD, GOOD], ["good", "awful", "bad"], r"label 'awful' in row 1. The model knows \{0: 'bad', 1: 'good'\}"),
        ([BAD, GOOD], [1, 7, 0], r"label '?7'? in row 1"),
        (["1", "2", "3"], [3, 0], r"label '?0'? in row 1.*names of all labels, or the numbers of all"),
        ([BAD, GOOD], ["good", ""], "Row 1 .* has no label in column 'label'"),
        (["None", "some"], ["some", "None", None], "Row 2 .* has no label"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_the_first_label_that_is_unknown_or_missing_is_named(tmp_path, tokenizer, suffix, names, labels, message):
    with pytest.raises(ValueError, match=message):
        LabelledText.from_file(write(tmp_path, suffix, labels), model_of(names), tokenizer)


def test_a_missing_text_is_named(tmp_path, tokenizer):
    path = write(tmp_path, ".jsonl", [BAD, GOOD], ["film", None])
    with pytest.raises(ValueError, match=r"Row 1 \(counted from 0\) has no text in column 'text'\. Fill it, or"):
        LabelledText.from_file(path, model_of([BAD, GOOD]), tokenizer)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "has no rows. Give a file with at least one"),
        ("ragged.csv", b"text,label\nfilm,bad\na,film,bad\n", "cannot be read as csv: .*Expected 2 fields in line 3"),
        ("latin.csv", b"text,label\ncaf\xe9,bad\n", "cannot be read as csv: 'utf-8' codec"),
        ("broken.json", b'{"text": "film", ', "cannot be read as json"),
        ("empty.json", b"", "has no rows. Give a file with at least one"),
        ("header.csv", b"text,label\n", "has no rows. Give a file with at least one"),
        ("header.jsonl", b"[]", "has no rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, tokenizer, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}' {message}") as refused:
        LabelledText.from_file(tmp_path / name, model_of([BAD, GOOD]), tokenizer)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("cell", ["", "  "])
def test_an_empty_cell_is_no_text(tmp_path, tokenizer, cell):
    path = write(tmp_path, ".csv", ["bad", "good"], ["film", cell])
    with pytest.raises(ValueError, match=r"Row 1 .* has no text in column 'text'"):
        LabelledText.from_file(path, model_of([BAD, GOOD]), tokenizer)


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_a_label_where_a_text_has_several_is_refused(tmp_path, tokenizer, problem):
    with pytest.raises(
        ValueError, match=r"has 'a' in row 0\. The model gives a text several labels or values\. Give a l"
    ):
        LabelledText.from_file(write(tmp_path, ".csv", ["a"]), model_of(["a", "b"], problem_type=problem), tokenizer)


@pytest.mark.parametrize("labels", [["a", ["c", "a"]], [1, [1, 0]]])
def test_a_list_where_a_text_has_one_label_is_refused_with_what_to_set(tmp_path, tokenizer, labels):
    message = r"has the list \[.*\] in row 1, where the model gives one label\. .* problem_type .*'multi_label_class"
    with pytest.raises(ValueError, match=message):
        LabelledText.from_file(write(tmp_path, ".jsonl", labels), model_of(["a", "b", "c"]), tokenizer)


@pytest.mark.parametrize("labels", [[["a"], ["c", "a"], []], [[1, 0, 0], [1, 0, 1], [0, 0, 0]]])
def test_several_labels_are_names_or_a_no_or_yes_each(tmp_path, tokenizer, labels):
    model = model_of(["a", "b", "c"], problem_type="multi_label_classification")
    path = write(tmp_path, ".jsonl", labels, ["film", "film a", "film a film"])
    text = LabelledText.from_file(path, model, tokenizer, batch_size=2)
    assert text.labels.tolist() == [[1, 0, 0], [1, 0, 1], [0, 0, 0]]
    assert list(text.evaluate(model)) == ["micro_f1", "accuracy"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["a"], ["d"]], r"the label 'd' in row 1\. The model knows .*; give those that a text has"),
        ([[1, 0, 0], [1, 0]], r"the label \[1, 0\] in row 1\. .* takes a list of 3 numbers"),
        ([[1, 0, 0], [2, 0, 0]], r"has 2 among the labels of row 1"),
    ],
)
def test_labels_that_a_text_cannot_have_are_refused(tmp_path, tokenizer, labels, message):
    model = model_of(["a", "b", "c"], problem_type="multi_label_classification")
    with pytest.raises(ValueError, match=message):
        LabelledText.from_file(write(tmp_path, ".jsonl", labels), model, tokenizer)


def tagger():
    names = ["x", "y", "z"]
    return make_model(head="ForTokenClassification", stock={"id2label": dict(enumerate(names)), "num_labels": 3})


def write_tags(folder, rows):
    path = folder / "tags.jsonl"
    path.write_text("\n".join(json.dumps({"tokens": words, "tags": tags}) for words, tags in rows))
    return path


@pytest.mark.parametrize("names", [["x", "y", "z"], [0, 1, 2]])
def test_words_are_scored_by_their_first_token_as_one_by_one(tmp_path, tokenizer, names):
    rows = [
        (["film", "700", "unknown", "a"], [0, 1, 2, 1]),
        (["a"] * 9, [1] * 9),
        (["film"], [2]),
        (["film", "a"], [-100, 0]),
    ]
    called = {**dict(enumerate(names)), -100: -100}  # a word that does not count
    path = write_tags(tmp_path, [(words, [called[tag] for tag in tags]) for words, tags in rows])
    model, right = tagger(), []
    text = LabelledText.from_file(path, model, tokenizer, batch_size=2)
    for size in model.config.subnetworks:
        right = []
        with model.subnetwork(size):
            found = text.evaluate(model)
            for words, tags in rows:
                encoded = tokenizer(words, is_split_into_words=True, return_tensors="pt")
                with torch.no_grad():
                    best = model(**encoded).logits[0].argmax(-1)
                places = encoded.word_ids()
                found_tags = [best[places.index(word)].item() for word in range(len(words))]
                right += [ours == tag for ours, tag in zip(found_tags, tags, strict=True) if tag != -100]
        assert found == {"accuracy": pytest.approx(sum(right) / len(right))}
    assert (text.labels != -100).sum() == 15


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(["film"], ["x"]), (["a", "film"], ["x"])], r"Row 1 has the words \['a', 'film'\] and the labels \['x'\]"),
        ([(["film"], ["w"])], r"the label 'w' in row 0\. The model knows .*names of all labels, or the numbers of all"),
        ([("film", "x")], r"Row 0 has the words 'film' and the labels 'x'.* Give two lists of the same length"),
        (
            [(["a", None], ["x", "x"])],
            r"Row 0 has None among its words\. Each word is a text\. Write it as one, or leave",
        ),
        ([([], [])], r"Row 0 has the words \[\] .* of at least one word"),
    ],
)
def test_words_and_labels_that_do_not_fit_are_refused(tmp_path, tokenizer, rows, message):
    with pytest.raises(ValueError, match=message):
        LabelledText.from_file(write_tags(tmp_path, rows), tagger(), tokenizer)


def test_batches_of_several_lengths_tell_the_loss_of_their_tokens(tmp_path, tokenizer):
    rows = [(["film"] * count, ["xyz"[count % 3]] * count) for count in (2, 3, 5, 9, 6, 7)]
    model = tagger()
    text = LabelledText.from_file(write_tags(tmp_path, rows), model, tokenizer, batch_size=2)
    batches = list(text.labelled_batches())
    assert [batch["labels"].shape[1] for batch in batches] == [11, 8, 5]
    logits, labels = (torch.from_numpy(each[text.order]) for each in (text.predict(model), text.labels))
    expected = [cross_entropy(logits[at : at + 2].mT, labels[at : at + 2]) for at in (0, 2, 4)]
    torch.testing.assert_close([model(**batch).loss.detach() for batch in batches], expected)
    assert measure_importance(model, batches, progress=False).heads.all()


def test_predictions_and_labels_are_in_the_order_of_the_file(tmp_path, tokenizer):
    """Batches hold texts of one length: rows of predictions were those of other texts."""
    texts = [" ".join(["film", "null", "none", "7"][:count]) for count in (2, 1, 4, 3, 4, 1)]
    labels, model = [GOOD, BAD, BAD, GOOD, BAD, GOOD], model_of([BAD, GOOD])
    text = LabelledText.from_file(write(tmp_path, ".csv", labels, texts), model, tokenizer, batch_size=2)
    assert text.labels.tolist() == [1, 0, 0, 1, 0, 1]
    alone = [model(**tokenizer(each, return_tensors="pt")).logits[0] for each in texts]
    torch.testing.assert_close(torch.from_numpy(text.predict(model)), torch.stack(alone), rtol=0, atol=1e-6)


def test_words_that_are_cut_off_are_counted(tmp_path, tokenizer, monkeypatch):
    said = []
    monkeypatch.setattr(encoding.logger, "warning", said.append)
    text = LabelledText.from_file(write_tags(tmp_path, [(["a"] * 30, ["x"] * 30)]), tagger(), tokenizer)
    assert (text.labels != -100).sum() == 18
    assert said == ["12 of 30 words come after token 20 of their row, and are left out."]
    LabelledText.from_file(write_tags(tmp_path, [(["a", "\ufe0f"], ["x", "y"])]), tagger(), tokenizer)
    assert said[1:] == ["1 of 2 words give no token, so their labels do not count."]


def test_a_tokenizer_without_words_is_refused(tmp_path, tokenizer):
    path = tmp_path / "dev.csv"
    path.write_text("text,label\nw1,0\n")
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="The tokenizer knows no words"):
        LabelledText.from_file(path, make_model(), AutoTokenizer.from_pretrained(tmp_path))


def test_a_model_without_a_head_is_refused(tmp_path, tokenizer):
    with pytest.raises(ValueError, match=r"A DynaBertModel has no head.* Possible are models .*Give one of these"):
        LabelledText.from_file(write(tmp_path, ".csv", ["a"]), make_model(head="Model"), tokenizer)


def test_the_order_of_classes_without_names_is_taken_as_given(tmp_path, tokenizer):
    path = write(tmp_path, ".csv", ["no", "yes", "no"])
    model = make_model(stock={"num_labels": 2})
    assert LabelledText.from_file(path, model, tokenizer, label_order=["yes", "no"]).labels.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match=r"label_order=\['yes'\] was given for the classes .* Give as many names"):
        LabelledText.from_file(path, model, tokenizer, label_order=["yes"])
    with pytest.raises(ValueError, match="only to a model that calls its classes LABEL_0"):
        LabelledText.from_file(path, model_of([BAD, GOOD]), tokenizer, label_order=["yes", "no"])


def test_a_column_of_labels_is_refused_where_masks_make_them(tmp_path, tokenizer):
    path, model = write(tmp_path, ".csv", ["1", "0"]), make_model(head="ForMaskedLM")
    with pytest.raises(ValueError, match=r"label_column='label' was given for a DynaBertForMaskedLM, .* Leave it out"):
        LabelledText.from_file(path, model, tokenizer, label_column="label")


@pytest.mark.parametrize("head", ["ForQuestionAnswering", "ForMultipleChoice", "ForMaskedLM"])
def test_an_order_of_classes_is_refused_where_there_are_none(tmp_path, tokenizer, head):
    path, model = write(tmp_path, ".csv", ["no", "yes"]), make_model(head=head, stock={"num_labels": 2})
    with pytest.raises(ValueError, match=rf"was given for a Dyna\w+{head}, which gives no classes\. .* Leave it out"):
        LabelledText.from_file(path, model, tokenizer, label_order=["yes", "no"])
    with pytest.raises(ValueError, match=r"label_order=\['a'\] was given for a \w+ of values, which gives no classes"):
        LabelledText.from_file(path, make_model(stock={"num_labels": 1}), tokenizer, label_order=["a"])


def test_columns_with_usual_names_are_read_as_training_reads_them(tmp_path, tokenizer):
    tagger = make_model(head="ForTokenClassification", stock={"id2label": {0: "O", 1: "B-PER"}, "num_labels": 2})
    rows = [{"words": ["film", "none"], "ner_tags": ["B-PER", "O"]}, {"words": ["film"], "ner_tags": ["O"]}]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = LabelledText.from_file(tmp_path / "words.jsonl", tagger, tokenizer)
    assert found.labels.tolist() == [[-100, 1, 0, -100], [-100, 0, -100, -100]]
    (tmp_path / "pairs.csv").write_text("label,sentence1,sentence2\n1,film,none film\n")
    pairs = LabelledText.from_file(tmp_path / "pairs.csv", model_of([BAD, GOOD]), tokenizer)
    assert pairs.batches[0]["input_ids"].tolist() == tokenizer(["film"], ["none film"]).input_ids


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_a_batch_of_no_whole_number_of_rows_is_refused(tmp_path, tokenizer, size):
    path = as_parquet(tmp_path / "dev.parquet", [GOOD, BAD])
    with pytest.raises(ValueError, match=rf"batch_size={size} is not possible. Give a whole number of at least 1"):
        LabelledText.from_file(path, model_of([BAD, GOOD]), tokenizer, batch_size=size)


def test_text_without_batches_is_refused():
    with pytest.raises(ValueError, match=r"has no batches, so nothing can be measured on it. Give at least one batch"):
        LabelledText((), [], None)


def test_words_are_masked_as_in_the_evaluations_of_a_training(tmp_path):
    """The seed was another one, so that the command evaluate asked for other words than the table of the run."""
    texts = [" ".join(WORDS[4 + number % 3 : 8] * 4) for number in range(6)]
    model, tokenizer = make_small("ForMaskedLM"), make_tokenizer([*WORDS, "[MASK]"])
    path = write(tmp_path, ".json", [0] * 6, texts=texts)
    found = LabelledText.from_file(path, model, tokenizer, batch_size=2).evaluate(model)
    rows = [{"input_ids": ids} for ids in tokenizer(texts)["input_ids"]]
    settings = {"train_dataset": None, "eval_dataset": rows, "processing_class": tokenizer, "model": model}
    metrics = make_trainer(tmp_path, "finetune", **settings).evaluate()
    assert np.log(found["perplexity"]) == pytest.approx(metrics["eval_w1-d1_loss"], abs=1e-5)


def test_texts_of_a_masked_language_model_are_counted_whole(tmp_path):
    path = write(tmp_path, ".json", [0, 1], texts=["film 7 " * 30, "film"])
    text = LabelledText.from_file(
        path, make_model(head="ForMaskedLM"), make_tokenizer([*WORDS, "[MASK]"], model_max_length=8)
    )
    assert len(text.labels) == 11  # ten pieces of 6 tokens, and a short text
    assert len(text) == 2


def test_other_labels_in_two_columns_of_a_file_are_told_of_unless_one_is_named(tmp_path, tokenizer, caplog):
    model, path = model_of([BAD, GOOD]), tmp_path / "both.csv"
    path.write_text("text,label,labels\nfilm,bad,1\nnone,good,1\n")
    assert LabelledText.from_file(path, model, tokenizer, label_column="labels").labels.tolist() == [1, 1]
    assert not caplog.text
    assert LabelledText.from_file(path, model, tokenizer).labels.tolist() == [0, 1]
    assert "The columns 'label' and 'labels' have different labels, of which those of 'label' are read" in caplog.text
