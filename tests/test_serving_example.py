"""The HTTP server of the examples, on a tiny model."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
from conftest import make_model
from transformers import BertTokenizerFast

spec = importlib.util.spec_from_file_location(
    "serving_example", Path(__file__).parent.parent / "examples" / "serving.py"
)
example = sys.modules["serving_example"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(example)


def save(folder, metrics):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "film", "number", "is", "good", "."]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=20).save_pretrained(folder)
    make_model(metrics=metrics, stock={"max_position_embeddings": 40}).save_pretrained(folder)


def test_the_example_answers_over_http(tmp_path, capsys):
    save(tmp_path, {"w0.25-d0.5": {"accuracy": 0.8}, "w0.5-d0.75": {"accuracy": 0.85}, "w1-d1": {"accuracy": 0.9}})
    example.main([str(tmp_path), "--port", "0", "--smoke", "--p95-ms", "60000"])
    first, last = capsys.readouterr().out.splitlines()[-2:]
    assert first.startswith("Serving at http://127.0.0.1:")
    report = json.loads(last)
    assert report["answers"] == sum(report["served"].values()) == 40
    assert report["last"]["label"] in {"LABEL_0", "LABEL_1", "LABEL_2"}
    assert report["last"]["size"] == report["active"] == "w1-d1"
    assert report["mean_accuracy"] == pytest.approx(0.9)


def test_the_example_asks_for_a_checkpoint_with_accuracies(tmp_path):
    save(tmp_path, None)
    with pytest.raises(ValueError, match=r"The checkpoint stores no 'accuracy' of any size.*evaluate the model"):
        example.main([str(tmp_path), "--port", "0", "--smoke"])
