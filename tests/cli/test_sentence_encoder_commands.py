"""The commands on a sentence encoder: measured on files, stored, chosen, exported, extracted and specialised."""

import json

import numpy as np
import pytest
import torch
from helpers.sentences import make_pairs, make_texts, save_encoder
from transformers import AutoModel, AutoTokenizer, BertModel

from dynabert_cli import main
from dynabert_hf import DynaBertModel, StoredOutputs
from dynabert_hf.data.pooling import sentence_vectors
from dynabert_hf.data.sentence_encoder import SentenceEncoder

PAIRS = make_pairs(9, seed=3)


@pytest.fixture
def folder(tmp_path):
    """A saved elastic encoder, and files of pairs and of labelled texts."""
    encoder = SentenceEncoder.of(save_encoder(tmp_path / "encoder"))
    DynaBertModel.from_backbone(encoder.model, widths=[0.5, 1.0], depths=[0.5, 1.0]).save_pretrained(tmp_path / "model")
    encoder.tokenizer.save_pretrained(tmp_path / "model")
    labelled = [{"text": text, "label": "abc"[row % 3]} for row, text in enumerate(make_texts(12))]
    for name, rows in (("pairs", PAIRS), ("labelled", labelled)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def run(capsys, *words):
    code = main([*map(str, words), "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)


def spearman_by_hand(folder, size):
    """One text after the other, by another library's definition."""
    stats = pytest.importorskip("scipy.stats")
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    model.eval().set_active(size)

    def vector(text):
        with torch.no_grad():
            return sentence_vectors(model, dict(tokenizer(text, return_tensors="pt")))[0]

    cosines = [float(vector(pair["sentence1"]) @ vector(pair["sentence2"])) for pair in PAIRS]
    return stats.spearmanr(cosines, [pair["score"] for pair in PAIRS]).statistic


def test_pairs_are_measured_stored_and_chosen_by(folder, capsys):
    found = run(capsys, "evaluate", folder / "model", "--file", folder / "pairs.jsonl", "--store")
    for size in ("w0.5-d0.5", "w1-d1"):
        assert found[size]["spearman"] == pytest.approx(spearman_by_hand(folder / "model", size), abs=1e-6)
    rows = [{"label": pair["score"], **{name: pair[name] for name in ("sentence1", "sentence2")}} for pair in PAIRS]
    (folder / "glue.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))  # as GLUE calls the scores
    assert run(capsys, "evaluate", folder / "model", "--file", folder / "glue.jsonl") == found
    answer = run(capsys, "recommend", folder / "model", "--parameters", "1e9")
    best = max(found, key=lambda size: found[size]["spearman"])
    assert answer["choice"]["spearman"] == found[best]["spearman"]


def test_a_size_is_extracted_as_a_sentence_transformer_saved_the_whole(folder, capsys):
    """With another pooling, and prompts, than the encoder was made with."""
    library = pytest.importorskip("sentence_transformers")
    given, texts = library.SentenceTransformer(str(folder / "model"), device="cpu"), make_texts(5)
    given[1].pooling_mode, given.prompts, given.default_prompt_name = "cls", {"query": "w1 w2 "}, "query"
    given.save(str(folder / "saved"))
    run(capsys, "extract", folder / "saved", folder / "small", "--size", "w0.5-d0.5")
    given[0].auto_model.set_active("w0.5-d0.5")
    small = library.SentenceTransformer(str(folder / "small"), device="cpu")
    np.testing.assert_allclose(small.encode(texts), given.encode(texts), rtol=0, atol=1e-5)


def test_retrieval_is_measured_on_texts_with_labels(folder, capsys):
    options = ["--file", folder / "labelled.jsonl", "--text-column", "text", "--size", "w1-d1"]
    assert set(run(capsys, "evaluate", folder / "model", *options)["w1-d1"]) == {"accuracy_at_1", "mrr"}
    assert set(run(capsys, "evaluate", folder / "model", *options, "--metric", "mrr")["w1-d1"]) == {"mrr"}
    assert main(["evaluate", str(folder / "model"), *map(str, options), "--metric", "accuracy"]) == 1
    assert "'accuracy' is not known for this model. Possible are ['accuracy_at_1', 'mrr']" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["cls", "mean"])
def test_an_encoder_of_the_stock_class_gives_the_same_vectors(mode, tmp_path, capsys):
    library = pytest.importorskip("sentence_transformers")
    encoder = SentenceEncoder.of(save_encoder(tmp_path / "encoder", mode=mode))
    DynaBertModel.from_backbone(encoder.model).save_pretrained(tmp_path / "model")
    encoder.tokenizer.save_pretrained(tmp_path / "model")
    run(capsys, "extract", tmp_path / "model", tmp_path / "shallow", "--size", "w1-d0.5", "--stock")
    small = library.SentenceTransformer(str(tmp_path / "shallow"), device="cpu")
    assert type(small[0].auto_model) is BertModel
    whole = library.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    whole[0].auto_model.set_active("w1-d0.5")
    np.testing.assert_allclose(small.encode(make_texts(6)), whole.encode(make_texts(6)), rtol=0, atol=1e-6)


def test_an_extracted_size_is_an_encoder(folder, capsys):
    run(capsys, "extract", folder / "model", folder / "small", "--size", "w0.5-d0.5")
    small = AutoModel.from_pretrained(folder / "small").eval()
    whole = AutoModel.from_pretrained(folder / "model").eval().set_active("w0.5-d0.5")
    batch = {"input_ids": torch.tensor([[2, 6, 7, 3]])}
    with torch.no_grad():
        torch.testing.assert_close(sentence_vectors(small, batch), sentence_vectors(whole, batch), rtol=0, atol=1e-6)
    assert (folder / "small" / "modules.json").read_text() == (folder / "model" / "modules.json").read_text()


def test_a_size_is_specialised_on_texts(folder, capsys):
    options = ["--size", "w0.5-d0.5", "--file", folder / "labelled.jsonl", "--epochs", "3", "--train-batch-size", "4"]
    run(capsys, "specialise", folder / "model", folder / "small", *options, "--learning-rate", "1e-3")
    small = AutoModel.from_pretrained(folder / "small").eval()
    whole = AutoModel.from_pretrained(folder / "model").eval()
    batch = dict(AutoTokenizer.from_pretrained(folder / "model")(make_texts(12), padding=True, return_tensors="pt"))
    with torch.no_grad():
        full, after = sentence_vectors(whole, batch), sentence_vectors(small, batch)
        before = sentence_vectors(whole.set_active("w0.5-d0.5"), batch)
    assert (full * after).sum(1).mean() > (full * before).sum(1).mean() + 0.01  # cosines
    assert (folder / "small" / "modules.json").exists()


def test_a_size_learns_each_text_of_pairs_alone(folder, capsys):
    both = [text for side in ("sentence1", "sentence2") for text in dict.fromkeys(pair[side] for pair in PAIRS)]
    texts = list(dict.fromkeys(both))
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()]
    renamed = [{"anchor": row["sentence1"], "positive": row["sentence2"]} for row in rows]
    (folder / "renamed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in renamed))
    weights = []
    for name, columns in (("texts", ()), ("pairs", ()), ("renamed", ("anchor", "positive"))):
        options = ["--size", "w0.5-d0.5", "--file", folder / f"{name}.jsonl", "--train-batch-size", "4"]
        options += ["--text-column", *columns] if columns else []
        assert run(capsys, "specialise", folder / "model", folder / name, *options)["texts"] == len(texts)
        weights.append(AutoModel.from_pretrained(folder / name).state_dict())
    assert all(torch.equal(weight, other[name]) for other in weights[1:] for name, weight in weights[0].items())


def test_outputs_are_stored_of_each_text_of_pairs(folder, capsys):
    options = ["--file", folder / "pairs.jsonl"]
    texts = {pair[side] for pair in PAIRS for side in ("sentence1", "sentence2")}
    assert run(capsys, "store-outputs", folder / "encoder", folder / "outputs", *options)["texts"] == len(texts)
    batch = dict(AutoTokenizer.from_pretrained(folder / "model")([PAIRS[0]["sentence1"]], return_tensors="pt"))
    found = StoredOutputs(folder / "outputs").outputs(batch, hidden_states=False)
    with torch.no_grad():
        expected = SentenceEncoder.of(folder / "encoder").model.eval()(**batch).last_hidden_state
    torch.testing.assert_close(found.last_hidden_state, expected)


@pytest.mark.slow
def test_an_export_gives_the_vectors_of_torch(folder, capsys):
    pytest.importorskip("onnxruntime")
    run(capsys, "export", folder / "model", folder / "onnx", "--all", "--int8", "--file", folder / "pairs.jsonl")
    from dynabert_hf import load_onnx

    model = AutoModel.from_pretrained(folder / "model").eval()
    batch = {"input_ids": torch.tensor([[2, 6, 7, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.long)}
    with torch.no_grad():
        expected = model(**batch).last_hidden_state.numpy()
    found = load_onnx(folder / "onnx", size="w1-d1")(**batch)["last_hidden_state"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_predict_says_what_gives_vectors(folder, capsys):
    assert main(["predict", str(folder / "model"), "--file", str(folder / "labelled.jsonl")]) == 1
    assert "SentenceTransformer(MODEL).encode(texts) gives the vectors" in capsys.readouterr().err


def test_an_order_of_classes_is_refused(folder, capsys):
    options = ["--file", str(folder / "pairs.jsonl"), "--label-order", "no", "yes"]
    assert main(["evaluate", str(folder / "model"), *options]) == 1
    assert "--label-order ['no', 'yes'] was given for a DynaBertModel, which gives no" in capsys.readouterr().err


def test_scores_that_are_no_numbers_are_refused(folder, capsys):
    (folder / "pairs.csv").write_text("sentence1,sentence2,score\nw1,w2,high\n")
    assert main(["evaluate", str(folder / "model"), "--file", str(folder / "pairs.csv")]) == 1
    assert "scores in 'score' that are no numbers" in capsys.readouterr().err
