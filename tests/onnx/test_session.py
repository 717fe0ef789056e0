"""A size in ONNX Runtime takes what the torch model takes, gives what it gives, and refuses the rest by name."""

import copy
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.texts import REVIEW_WORDS, save_reviews
from helpers.tiny import make_batch, make_model, make_tokenizer

from dynabert_hf import Cascade, OnnxModel, count_flops, export_onnx, load_onnx, quantize_onnx
from dynabert_hf.onnx.quantization import write_int8

pytest.importorskip("onnxruntime")
SIZE = "w0.5-d0.5"


@pytest.fixture(scope="module")
def pair(tmp_path_factory, traced_once):
    """A model switched to a size, and the same size in ONNX Runtime."""
    folder = tmp_path_factory.mktemp("onnx") / "export"
    model = make_model(stock={"num_hidden_layers": 2})
    export_onnx(model, folder, size=SIZE)
    return model.set_active(SIZE), load_onnx(folder)


@pytest.fixture
def runner(pair):
    return pair[1]


def assert_equal(pair, given, expected):
    model, runner = pair
    with torch.no_grad():
        logits = model(**expected).logits.numpy()
    given = given(runner)["logits"]
    assert given.shape == logits.shape
    np.testing.assert_allclose(given, logits, rtol=0, atol=1e-4)  # the tolerance of an export


def test_inputs_that_torch_does_without_may_be_left_out(pair):
    batch = make_batch(batch=3, length=9)
    assert_equal(pair, lambda runner: runner(**batch), batch)
    only_ids = {"input_ids": batch["input_ids"]}
    assert_equal(pair, lambda runner: runner(**only_ids), only_ids)
    assert_equal(pair, lambda runner: runner(**only_ids, attention_mask=None), only_ids)


def test_inputs_may_come_in_order_as_to_torch(pair):
    batch = make_batch(batch=3, length=9)
    assert_equal(pair, lambda runner: runner(*batch.values()), batch)


@pytest.mark.parametrize(
    "form",
    [lambda tensor: tensor.int(), lambda tensor: tensor.numpy().astype(np.int32), lambda tensor: tensor.tolist()],
    ids=["torch int32", "numpy int32", "lists"],
)
def test_whole_numbers_of_any_form_are_taken(pair, form):
    batch = make_batch(batch=3, length=9)
    given = {name: form(tensor) for name, tensor in batch.items()}
    assert_equal(pair, lambda runner: runner(**given), batch)
    mask = batch["attention_mask"]
    for other in (mask.bool(), mask.float()):
        assert_equal(pair, lambda runner, other=other: runner(given["input_ids"], other), batch)


def test_labels_and_token_types_that_say_nothing_are_passed_over(pair):
    batch = make_batch(batch=3, length=9)
    more = {"labels": np.zeros(3), "token_type_ids": torch.zeros_like(batch["input_ids"]), "idx": [1, 2, 3]}
    assert_equal(pair, lambda runner: runner(**batch, **more), batch)


def test_a_model_with_one_type_of_token_takes_tokens_of_that_type_alone(tmp_path, traced_once):
    model = make_model(stock={"num_hidden_layers": 1, "type_vocab_size": 1}, depths=[1.0])
    export_onnx(model, tmp_path / "out", size="w0.5-d1")
    pair = model.set_active("w0.5-d1"), load_onnx(tmp_path / "out")
    batch = make_batch(batch=3, length=9)
    types = torch.zeros_like(batch["input_ids"])
    for given in (types, types.numpy(), types.tolist()):
        assert_equal(pair, lambda runner, given=given: runner(**batch, token_type_ids=given), batch)
    with pytest.raises(ValueError, match=r"token_type_ids is no input of this graph\. Possible are"):
        pair[1](**batch, token_type_ids=types + 1)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"ids": [[5]]},
            r"\['ids'\] do not contain 'input_ids'\. Possible are \['input_ids', 'attention_mask'.*give at least",
        ),
        ({"input_ids": [[5]], "attention_masks": [[1]]}, r"attention_masks is no input .*Possible are \['input_ids'"),
        ({"input_ids": [[5]], "position_ids": [[3]]}, "position_ids is no input of this graph"),
        (
            {"input_ids": [[5, 6]], "attention_mask": [[1]]},
            r"attention_mask has shape \(1, 1\), and input_ids has \(1, 2\)",
        ),
        ({"input_ids": [5, 6]}, r"shape \(2,\)\. Possible is \(batch, seq\); give a batch"),
        ({"input_ids": np.zeros((0, 7))}, r"shape \(0, 7\)\. Possible is at least one token; give a text"),
        ({"input_ids": [[5, 6], [7]]}, "several lengths. Possible is one length; tokenize with padding=True"),
        ({"input_ids": [[0.5]]}, "float64 that are not whole. Whole numbers are possible"),
        ({"input_ids": [["good"]]}, "that are not whole. Whole numbers are possible"),
        ({"input_ids": [[5, -1]]}, "values from -1 to 5. The model knows 0 to 98; use the tokenizer"),
        ({"input_ids": [[99]]}, "values from 99 to 99. The model knows 0 to 98; use the tokenizer"),
        (
            {"input_ids": [[5]], "token_type_ids": [[2]]},
            "token_type_ids has values from 2 to 2. The model knows",
        ),
        ({"input_ids": [[5] * 21]}, "21 tokens a text. The model takes at most 20; tokenize with truncation=True"),
    ],
)
def test_inputs_that_torch_would_not_take_are_refused_by_name(runner, inputs, message):
    with pytest.raises(ValueError, match=message):
        runner(**inputs)


def test_an_input_given_twice_or_too_many_are_refused(runner):
    for ordered, named in (([[[5]]], {"input_ids": [[5]]}), ([[[5]], [[1]], [[0]], [[0]]], {})):
        with pytest.raises(ValueError, match=r"without a name and .*Possible are, in this order, \['input_ids'"):
            runner(*ordered, **named)


def test_int8_knows_its_limits_too(runner, tmp_path):
    int8 = OnnxModel(write_int8(runner.path, tmp_path / "int8.onnx"))
    with pytest.raises(ValueError, match="21 tokens a text"):
        int8([[5] * 21])


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("single_label_classification", lambda logits: logits.softmax(-1)),
        ("multi_label_classification", lambda logits: logits.sigmoid()),
        ("regression", lambda logits: logits),
    ],
)
def test_texts_get_answers_as_in_torch(pair, tmp_path, kind, read):
    model, folder = pair[0], tmp_path / "out"
    shutil.copytree(pair[1].path.parent, folder)
    config = json.loads((folder / "config.json").read_text()) | {"problem_type": kind}
    names = ["bad", "good", "dull"]
    (folder / "config.json").write_text(json.dumps({**config, "id2label": dict(enumerate(names))}))
    make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a"]).save_pretrained(folder)
    runner = load_onnx(folder)
    texts = ["a good film", "bad", "film " * 50]
    for text, answer in zip(texts, runner.predict(texts), strict=True):
        encoded = runner.tokenizer(text, truncation=True, max_length=20, return_tensors="pt")
        with torch.no_grad():
            values = read(model(**encoded).logits[0]).tolist()
        scores = {name: pytest.approx(value, abs=1e-4) for name, value in zip(names, values, strict=True)}
        best = names[int(np.argmax(values))]
        yes = [name for name, value in zip(names, values, strict=True) if value > 0.5]
        expected = {
            "single_label_classification": {"label": best, "score": scores[best]},
            "multi_label_classification": {"labels": yes, "scores": scores},
            "regression": {"values": scores},
        }
        assert answer == expected[kind]
    assert runner.predict(["a film"], ["bad"]) != runner.predict(["a film"])
    assert runner.predict([]) == []
    assert runner.predict(iter(texts), iter(texts)) == runner.predict(np.array(texts), np.array(texts))
    assert runner.predict(iter(texts)) == runner.predict(texts)
    with pytest.raises(ValueError, match=r"texts is the text 'bad'\. Give a list"):
        runner.predict("bad")
    with pytest.raises(ValueError, match=r"pairs is the text 'g'\. Give a list"):
        runner.predict(["bad"], "g")
    with pytest.raises(ValueError, match=r"pairs\[1\] is None, which is no text\. Give a list"):
        runner.predict(["bad", "good"], ["film", None])
    with pytest.raises(ValueError, match=r"There are 2 texts and 1 second ones of pairs\. Give each"):
        runner.predict(["bad", "good"], ["film"])


def test_a_tokenizer_whose_words_are_missing_is_refused(pair, tmp_path):
    folder = shutil.copytree(pair[1].path.parent, tmp_path / "out")
    make_tokenizer(REVIEW_WORDS).save_pretrained(folder)
    assert load_onnx(folder).predict(["good"]) != load_onnx(folder).predict(["bad"])
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"The tokenizer knows no words"):
        load_onnx(folder).predict(["good"])


def test_int8_is_measured_by_what_it_says_of_texts(pair, tmp_path):
    folder = shutil.copytree(pair[1].path.parent, tmp_path / "out")
    make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "good", "bad", "film", "a"]).save_pretrained(folder)
    texts, answers = ["a good film", "bad", "film " * 50], []

    def evaluate(runner):
        answers.append(runner.predict(texts))
        return answers[-1][0]["score"]

    measured = quantize_onnx(folder, evaluate)[SIZE]
    assert answers == [load_onnx(folder, int8=int8).predict(texts) for int8 in (False, True)]
    assert (measured.float32_accuracy, measured.accuracy) == tuple(each[0]["score"] for each in answers)
    assert measured.accuracy != measured.float32_accuracy
    told = json.loads((folder / "index.json").read_text())["sizes"][SIZE]["int8"]
    assert (told["float32_accuracy"], told["accuracy"]) == (measured.float32_accuracy, measured.accuracy)


def test_several_metrics_in_place_of_one_number_are_refused_before_anything_is_quantised(pair, tmp_path, monkeypatch):
    folder = shutil.copytree(pair[1].path.parent, tmp_path / "out")
    monkeypatch.setattr("dynabert_hf.onnx.quantization.write_int8", lambda *given: 1 / 0)
    message = r"returned \{'f1': 0\.5, 'loss': 1\.0\}\. Possible is one number\. Give .*evaluate\(runner\)\['f1'\]"
    with pytest.raises(TypeError, match=message):
        quantize_onnx(folder, lambda runner: {"f1": 0.5, "loss": 1.0})
    with pytest.raises(TypeError, match=r"evaluate returned None\. Possible is one number; return one"):
        quantize_onnx(folder, lambda runner: None)


def test_a_class_of_ones_own_has_the_head_that_it_extends(tmp_path, traced_once):
    model = make_model(head="ForMultipleChoice", stock={"num_hidden_layers": 2})
    own = copy.deepcopy(model)
    own.__class__ = type("Chooser", (type(model),), {})
    batch = make_batch(batch=3, choices=4)
    assert count_flops(own, SIZE) == count_flops(model, SIZE)
    cascades = [Cascade(each, SIZE, "w1-d1", threshold=0.5)(**batch).logits for each in (own, model)]
    assert torch.equal(*cascades)
    export_onnx(own, tmp_path / "out", size=SIZE)
    runner = load_onnx(tmp_path / "out")
    assert_equal((model.set_active(SIZE), runner), lambda runner: runner(**batch), batch)
    with pytest.raises(ValueError, match="A DynaBertForMultipleChoice does not give one answer to a text"):
        runner.predict(["a film"])


def test_what_gives_no_answer_to_a_text_or_has_no_tokenizer_is_named(pair, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no tokenizer_config.json beside .* export_onnx wrote with its tokenizer"
    ):
        pair[1].predict(["a film"])
    index = (pair[1].path.parent / "index.json").read_text()
    (tmp_path / "index.json").write_text(index.replace("ForSequenceClassification", "ForTokenClassification"))
    tagging = copy.copy(pair[1])
    tagging.path = tmp_path / pair[1].path.name
    with pytest.raises(ValueError, match="A DynaBertForTokenClassification does not give one answer to a text"):
        tagging.predict(["a film"])


def test_the_documented_export_predicts_and_measures_what_torch_does(tmp_path, monkeypatch, capsys, traced_once):
    page = (Path(__file__).parents[2] / "docs" / "inference.md").read_text()
    code = next(each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "quantize_onnx(" in each)
    monkeypatch.chdir(save_reviews(tmp_path))
    Path("dev.csv").rename("test.csv")
    model = make_model(stock={"num_labels": 2, "num_hidden_layers": 2}, widths=[0.5, 1.0], depths=[0.75, 1.0])
    scope = {"model": model, "tokenizer": make_tokenizer(REVIEW_WORDS)}
    exec(code, scope)
    assert capsys.readouterr().out.startswith("[{'label': 'LABEL_")
    sizes = json.loads((tmp_path / "onnx" / "index.json").read_text())["sizes"]
    assert len(sizes) == len(model.config.subnetworks)
    for size, entry in sizes.items():
        with model.subnetwork(size):
            assert entry["int8"]["float32_accuracy"] == scope["test"].evaluate(model)["accuracy"]
