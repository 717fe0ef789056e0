"""Sentence encoders are read as sentence-transformers saves them, or refused before any work."""

import json
import shutil

import huggingface_hub
import pandas as pd
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from helpers import ROOT
from helpers.sentences import MODES, WORDS, make_encoder, make_texts, save_encoder, write_json
from helpers.tiny import TINY, make_tokenizer
from tokenizers import pre_tokenizers
from transformers import BertModel, GPT2Config, RobertaConfig, RobertaModel, RobertaTokenizer

from dynabert_hf import DynaBertModel
from dynabert_hf.data.pooling import Pooling, sentence_vectors
from dynabert_hf.data.reading import read_datasets
from dynabert_hf.data.sentence_encoder import SentenceEncoder
from dynabert_hf.data.sentences import texts_to_learn, texts_to_measure, tokenised


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_are_those_of_sentence_transformers(tmp_path, mode, normalize):
    library = pytest.importorskip("sentence_transformers")
    folder, texts = save_encoder(tmp_path / "encoder", mode=mode, normalize=normalize), make_texts(9, longest=15)
    loaded = library.SentenceTransformer(folder, device="cpu")
    expected = loaded.encode(texts, convert_to_tensor=True)
    for given in (folder, loaded):
        encoder = SentenceEncoder.of(given)
        assert Pooling.of(encoder.model.config) == Pooling(mode, normalize)
        batch = encoder.tokenizer.pad(tokenised(texts, encoder.model, encoder.tokenizer), return_tensors="pt")
        assert batch["input_ids"].shape[1] == 12  # as its folder says, where its model reads 20
        with torch.no_grad():
            vectors = sentence_vectors(encoder.model, dict(batch))
        torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-5)
    assert not hasattr(loaded[0].auto_model.config, "sentence_encoder")  # what was given stays as it is


def test_an_encoder_in_memory_that_lowers_case_does_so_where_it_is_saved(tmp_path):
    """Its tokenizer alone does not: transformers makes another normalizer when it reads a saved one."""
    library = pytest.importorskip("sentence_transformers")
    folder, texts = save_encoder(tmp_path / "encoder"), ["W1 w2 W3", "W4"]
    write_json(tmp_path / "encoder" / "sentence_bert_config.json", {"max_seq_length": 12, "do_lower_case": True})
    prompt = {"prompts": {"query": "W5 "}, "default_prompt_name": "query"}
    write_json(tmp_path / "encoder" / "config_sentence_transformers.json", prompt)
    make_tokenizer(WORDS, do_lower_case=False, model_max_length=20).save_pretrained(folder)
    given = library.SentenceTransformer(folder, device="cpu")
    expected = given.encode(texts, convert_to_tensor=True)
    assert (expected - given.encode(["[UNK] w2 [UNK]", "[UNK]"], convert_to_tensor=True)).norm(dim=-1).min() > 0.1
    encoder = SentenceEncoder.of(given)
    DynaBertModel.from_backbone(encoder.model).extract("w1-d1").save_pretrained(tmp_path / "model")
    encoder.tokenizer.save_pretrained(tmp_path / "model")
    saved = library.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    torch.testing.assert_close(saved.encode(texts, convert_to_tensor=True), expected, rtol=0, atol=1e-5)
    for each in (encoder, SentenceEncoder.of(folder)):
        batch = each.tokenizer.pad(tokenised(texts, each.model, each.tokenizer), return_tensors="pt")
        with torch.no_grad():
            torch.testing.assert_close(sentence_vectors(each.model, dict(batch)), expected, rtol=0, atol=1e-5)


def test_an_encoder_whose_vectors_are_cut_keeps_that_at_every_size(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    given, texts = library.SentenceTransformer(save_encoder(tmp_path / "encoder"), truncate_dim=8), make_texts(5)
    given.to("cpu").save(str(tmp_path / "cut"))
    for number, each in enumerate((given, str(tmp_path / "cut"))):
        encoder = SentenceEncoder.of(each)
        elastic, folder = DynaBertModel.from_backbone(encoder.model), tmp_path / f"size-{number}"
        elastic.extract("w0.5-d0.5").save_pretrained(folder)
        encoder.tokenizer.save_pretrained(folder)
        expected = library.SentenceTransformer(str(folder), device="cpu").encode(texts, convert_to_tensor=True)
        assert expected.shape == (5, 8)
        batch = encoder.tokenizer.pad(tokenised(texts, encoder.model, encoder.tokenizer), return_tensors="pt")
        with torch.no_grad(), elastic.eval().subnetwork("w0.5-d0.5"):
            torch.testing.assert_close(sentence_vectors(elastic, dict(batch)), expected, rtol=0, atol=1e-5)


def test_what_is_set_in_a_sentence_transformer_is_in_what_it_saves(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    encoder, texts = SentenceEncoder.of(save_encoder(tmp_path / "encoder")), make_texts(5)
    DynaBertModel.from_backbone(encoder.model).save_pretrained(tmp_path / "model")
    encoder.tokenizer.save_pretrained(tmp_path / "model")
    given = library.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    given.prompts, given.default_prompt_name, given.truncate_dim = {"query": "w1 w2 "}, "query", 8
    expected = given.encode(texts, convert_to_tensor=True)
    for _ in range(2):  # into a new folder, and into one that is there
        given.save(str(tmp_path / "saved"))
    saved = library.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert torch.equal(saved.encode(texts, convert_to_tensor=True), expected)
    again = SentenceEncoder.of(str(tmp_path / "saved"))
    batch = again.tokenizer.pad(tokenised(texts, again.model, again.tokenizer), return_tensors="pt")
    with torch.no_grad():
        vectors = sentence_vectors(again.model, dict(batch))
    torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-5)


def test_blanks_around_a_text_are_read_as_sentence_transformers_reads_them(tmp_path):
    """They are tokens to a byte-level tokenizer."""
    library = pytest.importorskip("sentence_transformers")
    folder, texts = save_encoder(tmp_path / "encoder"), ["ab", "ab ", " ab", "ab\n"]
    signs = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    RobertaTokenizer(vocab={sign: number for number, sign in enumerate(signs)}, merges=[]).save_pretrained(folder)
    torch.manual_seed(0)
    RobertaModel(RobertaConfig(**{**TINY, "vocab_size": len(signs)})).save_pretrained(folder)
    expected = library.SentenceTransformer(folder, device="cpu").encode(texts, convert_to_tensor=True)
    assert (expected[1:] - expected[0]).norm(dim=-1).min() > 0.01
    encoder = SentenceEncoder.of(folder)
    batch = encoder.tokenizer.pad(tokenised(texts, encoder.model, encoder.tokenizer), return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(sentence_vectors(encoder.model, dict(batch)), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mode", MODES)
def test_padding_changes_no_vector(mode, side):
    states, mask = torch.randn(3, 7, 5), torch.zeros(3, 7, dtype=torch.long)
    for row, length in enumerate((7, 4, 1)):
        mask[row, :length] = 1
    mask = mask if side == "right" else mask.flip(1)
    pooling = Pooling(mode)
    for row in range(3):
        alone = states[row, mask[row].bool()]
        expected = {"mean": alone.mean(0), "cls": alone[0], "max": alone.amax(0)}[mode]
        torch.testing.assert_close(pooling(states, mask)[row], expected)
        torch.testing.assert_close(pooling(alone[None])[0], expected)


def test_pairs_have_the_vectors_of_their_texts():
    model = make_encoder()
    model.config.sentence_encoder = {"1_Pooling/config.json": {"pooling_mode": "mean"}}
    ids = torch.randint(5, 99, (4, 2, 6))
    with torch.no_grad():
        vectors = sentence_vectors(model, {"input_ids": ids})
        for pair in range(4):
            torch.testing.assert_close(vectors[pair], sentence_vectors(model, {"input_ids": ids[pair]}))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (
            {"mode": None, "pooling_mode_weightedmean_tokens": True},
            "pools by 'pooling_mode_weighted.*mean, cls, max",
        ),
        ({"pooling_mode_cls_token": True}, r"pools by \('mean', 'cls'\)|pools by \('cls', 'mean'\)"),
        (
            {"word_embedding_dimension": 48},
            "pools vectors of 48 numbers, and its encoder gives 32",
        ),
        ({"include_prompt": False}, "leaves prompts out of its pooling .*all tokens of a text"),
        (
            {"modules": [("3_Dense", "Dense")]},
            "modules Transformer, Pooling, Normalize, Dense. Possible are",
        ),
    ],
)
def test_what_sizes_cannot_keep_is_refused(tmp_path, change, error):
    with pytest.raises(ValueError, match=error):
        SentenceEncoder.of(save_encoder(tmp_path / "encoder", **change))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"processing_kwargs": {"text": {"max_length": 5}}}, "processing_kwargs"),
        ({"query_length": 5, "document_length": 7}, "query_length and document_length"),
        (
            {
                "modality_config": {"text": {"method": "forward", "method_output_name": ("hidden_states", 1)}},
                "module_output_name": "token_embeddings",
            },
            "modality_config",
        ),
    ],
)
def test_an_encoder_that_reads_or_pools_otherwise_is_refused(tmp_path, settings, named):
    """In memory and in its folder."""
    library = pytest.importorskip("sentence_transformers", minversion="6")
    from sentence_transformers.sentence_transformer.modules import Pooling as OfLibrary
    from sentence_transformers.sentence_transformer.modules import Transformer

    modules = [Transformer(save_encoder(tmp_path / "encoder"), **settings), OfLibrary(32)]
    given = library.SentenceTransformer(modules=modules, device="cpu")
    given.save(str(tmp_path / "own"))
    for each in (given, str(tmp_path / "own")):
        with pytest.raises(ValueError, match=f"has {named} of its own.*read all texts alike"):
            SentenceEncoder.of(each)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta"])
def test_settings_are_read_under_their_former_names(tmp_path, kind):
    library = pytest.importorskip("sentence_transformers")
    folder, texts = save_encoder(tmp_path / "encoder"), make_texts(9, longest=15)
    (tmp_path / "encoder" / "sentence_bert_config.json").rename(tmp_path / "encoder" / f"sentence_{kind}_config.json")
    expected = library.SentenceTransformer(folder, device="cpu").encode(texts, convert_to_tensor=True)
    encoder = SentenceEncoder.of(folder)
    batch = encoder.tokenizer.pad(tokenised(texts, encoder.model, encoder.tokenizer), return_tensors="pt")
    assert batch["input_ids"].shape[1] == 12
    with torch.no_grad():
        torch.testing.assert_close(sentence_vectors(encoder.model, dict(batch)), expected, rtol=0, atol=1e-5)


def test_other_models_are_no_sentence_encoders(tmp_path):
    make_encoder().save_pretrained(tmp_path)
    assert SentenceEncoder.of(str(tmp_path)) is None
    alone = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]
    write_json(tmp_path / "modules.json", alone)
    assert SentenceEncoder.of(str(tmp_path)) is None
    assert SentenceEncoder.of(make_encoder()) is None
    assert SentenceEncoder.of("nobody/has-this") is None


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub to its HTTP library
def test_an_encoder_is_read_from_the_hub(hub, tmp_path):
    folder = save_encoder(tmp_path / "encoder", mode="max")
    huggingface_hub.create_repo("me/encoder")
    huggingface_hub.upload_folder(repo_id="me/encoder", folder_path=folder)
    here, there = SentenceEncoder.of(folder), SentenceEncoder.of("me/encoder", revision="main")
    assert there.model.config.sentence_encoder == here.model.config.sentence_encoder
    assert there.tokenizer.model_max_length == 12
    assert all(torch.equal(weight, there.model.state_dict()[name]) for name, weight in here.model.state_dict().items())
    assert SentenceEncoder.of("me/nothing") is None


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub to its HTTP library
def test_a_file_that_the_hub_does_not_tell_of_is_not_taken_for_a_missing_one(hub, tmp_path, monkeypatch):
    make_encoder().save_pretrained(tmp_path / "model")
    for name, folder in (("me/encoder", save_encoder(tmp_path / "encoder")), ("me/model", tmp_path / "model")):
        huggingface_hub.create_repo(name)
        huggingface_hub.upload_folder(repo_id=name, folder_path=folder)
    address, nowhere = huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE, "http://127.0.0.1:1/{repo_id}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere)
    for name in ("me/encoder", "me/model"):
        with pytest.raises(OSError, match=rf"did not say whether '{name}' has a modules.json.* set HF_HUB_OFFLINE=1"):
            SentenceEncoder.of(name)
    assert SentenceEncoder.of(tmp_path / "nothing") is None
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
    files = SentenceEncoder.of("me/encoder").model.config.sentence_encoder
    assert SentenceEncoder.of("me/model") is None
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere)
    assert SentenceEncoder.of("me/encoder").model.config.sentence_encoder == files  # from the cache
    assert SentenceEncoder.of("me/model") is None  # which notes what is missing, too


def test_a_family_that_cannot_be_elastic_is_refused(tmp_path):
    folder = save_encoder(tmp_path / "encoder")
    GPT2Config(n_embd=32, n_head=4, n_layer=2, vocab_size=99).save_pretrained(folder)
    with pytest.raises(TypeError, match=r"encoder is of type 'gpt2'\. Possible are bert, .* of one of these families"):
        SentenceEncoder.of(folder)


def test_a_broken_folder_is_refused(tmp_path):
    folder = save_encoder(tmp_path / "encoder")
    for file in (tmp_path / "encoder").glob("tokenizer*"):
        file.unlink()
    encoder = SentenceEncoder.of(folder)
    with pytest.raises(ValueError, match=r"The tokenizer knows no words"):
        texts_to_learn("train", ["w1 w2"], encoder.model, encoder.tokenizer)
    (tmp_path / "encoder" / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"has no 1_Pooling/config.json, which says how it pools"):
        SentenceEncoder.of(folder)
    (tmp_path / "encoder" / "modules.json").write_text("[")
    with pytest.raises(ValueError, match=r"modules.json of .* is no JSON"):
        SentenceEncoder.of(folder)


def test_an_elastic_model_is_saved_with_its_files_and_nothing_else(tmp_path):
    model = SentenceEncoder.of(save_encoder(tmp_path / "encoder", mode="cls")).model
    elastic = DynaBertModel.from_backbone(model)
    elastic.extract("w0.5-d0.5").save_pretrained(tmp_path / "small")
    for name, content in model.config.sentence_encoder.items():
        assert json.loads((tmp_path / "small" / name).read_text()) == content
    elastic.config.sentence_encoder["../elsewhere.json"] = {}
    with pytest.raises(ValueError, match=r"names the file '\.\./elsewhere.json'. Possible are modules.json, "):
        elastic.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "elsewhere.json").exists()


def test_the_stock_encoder_pools_as_before_behind_the_files_that_the_page_names(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    encoder = SentenceEncoder.of(save_encoder(tmp_path / "encoder", mode="cls"))
    model = DynaBertModel.from_backbone(encoder.model)
    model.save_pretrained(tmp_path / "model")
    encoder.tokenizer.save_pretrained(tmp_path / "model")
    model.to_backbone().save_pretrained(tmp_path / "stock")
    page = (ROOT / "docs" / "embeddings.md").read_text().partition("**The stock encoder**")[2].partition("Copy")[2]
    for name in page.partition(" from the saved model")[0].split("`")[1::2]:
        copy = shutil.copytree if (tmp_path / "model" / name).is_dir() else shutil.copy
        copy(tmp_path / "model" / name, tmp_path / "stock" / name)
    vectors = [
        library.SentenceTransformer(str(tmp_path / name), device="cpu").encode(make_texts(5), convert_to_tensor=True)
        for name in ("encoder", "stock")
    ]
    torch.testing.assert_close(vectors[1], vectors[0], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "encoder"
    save_encoder(folder)
    about = {"prompts": {"q": "w1 w2 "}, "default_prompt_name": "q"}
    write_json(folder / "config_sentence_transformers.json", about)
    return SentenceEncoder.of(folder)


def test_texts_have_the_prompt_that_is_theirs_by_default(encoder):
    found = tokenised(["w3", " w4"], encoder.model, encoder.tokenizer)["input_ids"]
    assert [[WORDS[number] for number in row] for row in found] == [
        ["[CLS]", "w1", "w2", "w3", "[SEP]"],
        ["[CLS]", "w1", "w2", "w4", "[SEP]"],
    ]


def test_every_text_is_learned_once_whatever_holds_it(encoder):
    rows = [{"a": "w3", "b": "w4", "label": "x"}, {"a": "w4", "b": "w5", "label": "y"}]
    given = (["w3", "w4", "w4", "w5"], rows)
    found = [texts_to_learn("train", each, encoder.model, encoder.tokenizer)["input_ids"] for each in given]
    assert found == [[[2, 6, 7, number, 3] for number in (8, 9, 10)]] * 2
    done = [{"input_ids": [2, 3]}]
    assert texts_to_learn("train", done, encoder.model, encoder.tokenizer) is done


def test_a_pair_that_is_drawn_whenever_it_is_asked_for_stays_together(encoder):
    class Drawn(torch.utils.data.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, row):
            number = int(torch.randint(50, ()))
            return {"sentence1": f"w{number}", "sentence2": f"w{number + 1}", "score": number}

    rows = texts_to_measure("eval", Drawn(), encoder.model, encoder.tokenizer)
    first = [row["input_ids"][0][-2] for row in rows]
    assert [row["input_ids"][1][-2] for row in rows] == [own + 1 for own in first]
    assert rows["labels"][:] == [own - encoder.tokenizer.convert_tokens_to_ids("w0") for own in first]


def test_names_of_classes_become_numbers_and_scores_stay(encoder):
    texts = [{"text": "w3", "label": name} for name in ("b", "a", "b")]
    assert texts_to_measure("eval", texts, encoder.model, encoder.tokenizer)["labels"] == [1, 0, 1]
    pair = texts_to_measure("eval", [{"a": "w3", "b": "w4 w5", "score": 2}], encoder.model, encoder.tokenizer)[0]
    assert pair["input_ids"] == [[2, 6, 7, 8, 3], [2, 6, 7, 9, 10, 3]]
    assert pair["labels"] == 2.0


@pytest.mark.parametrize(
    ("names", "numbers", "scores"),
    [
        (["5", "0", "2.5"], [0, 1, 2], [5.0, 0.0, 2.5]),
        (["2", "1"], [0, 1], [2.0, 1.0]),
        (["no", "yes"], [1, 0], [1, 0]),
    ],
)
def test_scores_of_named_classes_are_what_the_names_say(encoder, names, numbers, scores):
    """The numbers of the classes were taken, whatever their order: Spearman's correlation was of these."""
    features = Features({"a": Value("string"), "b": Value("string"), "label": ClassLabel(names=names)})
    rows = Dataset.from_dict({"a": ["w1"] * len(numbers), "b": ["w2"] * len(numbers), "label": numbers}, features)
    assert texts_to_measure("eval", rows, encoder.model, encoder.tokenizer)["labels"][:] == scores


def test_classes_without_an_order_are_no_scores(encoder):
    names = ["contradiction", "entailment", "neutral"]
    features = Features({"a": Value("string"), "b": Value("string"), "label": ClassLabel(names=names)})
    rows = Dataset.from_dict({"a": ["w1"], "b": ["w2"], "label": [2]}, features)
    with pytest.raises(ValueError, match=r"scores in 'label' that are no numbers .*neutral.* Give a number for each"):
        texts_to_measure("eval", rows, encoder.model, encoder.tokenizer)


@pytest.mark.parametrize("form", ["numpy", "torch"])
def test_rows_of_one_label_have_one_number_in_every_format(encoder, form):
    rows = Dataset.from_dict({"text": ["w3", "w4", "w5"], "label": [7, 2, 7]}).with_format(form)
    assert texts_to_measure("eval", rows, encoder.model, encoder.tokenizer)["labels"] == [1, 0, 1]


@pytest.mark.parametrize("other", ["id", "label_text"])
def test_what_a_row_or_its_class_is_called_is_no_text(encoder, other):
    """With it a text of MTEB was read as a pair, whose similarity to the name of its class was measured."""
    rows = [{other: f"w{7 + number}", "text": f"w{3 + number}", "label": number} for number in (0, 1)]
    measured = texts_to_measure("eval", rows, encoder.model, encoder.tokenizer)
    assert measured["input_ids"] == [[2, 6, 7, 8, 3], [2, 6, 7, 9, 3]]
    assert measured["labels"] == [0, 1]
    assert texts_to_learn("train", rows, encoder.model, encoder.tokenizer)["input_ids"] == measured["input_ids"]


def test_a_named_column_of_labels_is_no_text_to_learn(encoder):
    rows = [{"text": f"w{number}", "intent": "w9"} for number in (3, 4)]
    named = {"train_dataset": rows, "eval_dataset": rows}
    read, _ = read_datasets(named, encoder.model, encoder.tokenizer, label_column="intent")
    assert list(read["train_dataset"]["input_ids"]) == [[2, 6, 7, 8, 3], [2, 6, 7, 9, 3]]
    assert list(read["eval_dataset"]["labels"]) == [0, 0]
    named["train_dataset"] = ["w3", "w4"]  # one of the data sets may lack it
    read, _ = read_datasets(named, encoder.model, encoder.tokenizer, label_column="intent")
    assert list(read["eval_dataset"]["labels"]) == [0, 0]
    message = r"eval_dataset has the columns \['text', 'intent'\], but none is 'intend', the label_column. Name one"
    with pytest.raises(ValueError, match=message):
        read_datasets(named, encoder.model, encoder.tokenizer, label_column="intend")


def test_named_columns_alone_are_read_and_cut(encoder):
    rows = [{"a": "w3 w4 w5", "b": "w4", "c": "w6", "gold": 3}]
    found = texts_to_measure(
        "eval", rows, encoder.model, encoder.tokenizer, text_columns=["a", "c"], label_column="gold", max_length=5
    )[0]
    assert (found["input_ids"], found["labels"]) == ([[2, 6, 7, 8, 3], [2, 6, 7, 11, 3]], 3.0)
    learned = texts_to_learn("train", rows, encoder.model, encoder.tokenizer, text_columns=["b"])
    assert learned["input_ids"] == [[2, 6, 7, 9, 3]]
    with pytest.raises(
        ValueError, match=r"columns \['a', 'b', 'c', 'gold'\] but no 'd', which was named as one of text"
    ):
        texts_to_learn("train", rows, encoder.model, encoder.tokenizer, text_columns=["d"])


def test_texts_need_a_tokenizer(encoder):
    with pytest.raises(ValueError, match=r"There are texts, but no tokenizer\. Give that of the sentence encoder"):
        texts_to_learn("train", ["w3"], encoder.model, None)


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([{"number": 1}], r"eval has no text, only \['number'\]. Possible is a list of texts"),
        (
            [{"a": "w", "b": "w", "c": "w"}],
            r"columns of text \['a', 'b', 'c'\]. .*select_columns.* one list of their texts",
        ),
        ([{"a": "w", "b": "w"}, {"a": "w", "b": " "}], "no text in 'b' of row 1 .*Fill it"),
        ([{"a": "w", "b": "w", "score": "high"}], "scores in 'score' that are no numbers .*high.* Give a number"),
        ([{"a": "w", "label": ["x", "y"]}], r"has \['x', 'y'\] in 'label' of row 0 .*Possible is one label or score"),
        ([{"a": "w", "label": pd.NA}], "no label in 'label' of row 0 .* Give every row one"),
        ([{"a": "w", "label": None}], "no label in 'label' of row 0 .* Give every row one"),
    ],
)
def test_rows_without_texts_or_scores_are_refused(encoder, rows, error):
    with pytest.raises(ValueError, match=error):
        texts_to_measure("eval", rows, encoder.model, encoder.tokenizer)


def test_a_pooler_that_is_not_in_the_file_is_the_same_every_time(tmp_path):
    folder = save_encoder(tmp_path / "encoder")
    BertModel(make_encoder().config, add_pooling_layer=False).save_pretrained(folder)
    one, other = (SentenceEncoder.of(folder).model.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_prompt_of_a_cross_encoder_which_no_classifier_puts_before_its_texts_is_told_of(tmp_path, caplog):
    write_json(tmp_path / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": "Transformer"}])
    for default, said in (("query", "puts 'query: ' before the first text of each pair"), (None, ""), ("other", "")):
        about = {"prompts": {"query": "query: "}, "default_prompt_name": default}
        write_json(tmp_path / "config_sentence_transformers.json", about)
        caplog.clear()
        assert SentenceEncoder.of(tmp_path) is None
        assert said in caplog.text
        assert bool(said) == bool(caplog.text)
