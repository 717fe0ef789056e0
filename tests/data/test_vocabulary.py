"""A model and its tokenizer cut to the tokens that texts need."""

import json
from collections import Counter

import pytest
import torch
import transformers
from helpers.backbones import CONFIGS, make_backbone, make_stock, of_layers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    BertTokenizer,
    CamembertTokenizer,
    DebertaV2Tokenizer,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    XLMRobertaTokenizer,
)

import dynabert_hf
from dynabert_hf import trim_vocabulary

LARGE = [
    "the quick brown fox jumps over the lazy dog",
    "pack my box with five dozen liquor jugs",
    "how vexingly quick daft zebras jump",
    "sphinx of black quartz, judge my vow",
    "unbelievable interoperability and internationalisation, again and again",
] * 4
TEXTS = ["the lazy zebras jump again", "dogs believe in quick boxes", "brown brown fox", "an unknown sign: \u2603"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def train(model, trainer, **parts):
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.train_from_iterator(LARGE, trainer)
    return json.loads(tokenizer.to_str())["model"]


def word_pieces():
    special = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained = train(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer(vocab_size=160, special_tokens=special, show_progress=False),
        normalizer=normalizers.BertNormalizer(),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(),
    )
    return BertTokenizer(vocab=trained["vocab"])


def byte_pairs():
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIAL[:4],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    trained = train(models.BPE(), trainer, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False))
    vocab = {**trained["vocab"], "<mask>": len(trained["vocab"])}
    return RobertaTokenizer(vocab=vocab, merges=[tuple(merge) for merge in trained["merges"]])


def unigram(tokenizer_class=XLMRobertaTokenizer):
    trainer = trainers.UnigramTrainer(
        vocab_size=130, special_tokens=SPECIAL[:4], unk_token="<unk>", show_progress=False
    )
    trained = train(models.Unigram(), trainer, pre_tokenizer=pre_tokenizers.Metaspace())
    pieces = [(piece, score) for piece, score in trained["vocab"]]
    return tokenizer_class(vocab=[*pieces, ("<mask>", 0.0)])


TOKENIZERS = {"Bert": word_pieces, "Roberta": byte_pairs, "XLMRoberta": unigram}


@pytest.fixture(scope="module", params=TOKENIZERS)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(family):
    return TOKENIZERS[family]()


def with_tokens(tokenizer, **kwargs):
    """Fields of a configuration that fit a tokenizer, with a few more embeddings than it has tokens."""
    names = ("pad", "bos", "eos", "mask")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in names}
    return {"vocab_size": len(tokenizer) + 3, "max_position_embeddings": 90, **ids, **kwargs}


def outputs(model, tokenizer, texts=TEXTS):
    with torch.no_grad():
        return model(**tokenizer(texts, padding=True, return_tensors="pt"), output_hidden_states=True)


def test_texts_have_the_same_tokens_and_the_model_the_same_outputs(family, tokenizer):
    model = make_backbone(family, **with_tokens(tokenizer)).set_active(width=0.5, depth=0.5)
    small, trimmed = trim_vocabulary(model, tokenizer, TEXTS)
    assert len(trimmed) == small.config.vocab_size < len(tokenizer)
    assert small.active == model.active
    for text in TEXTS:
        assert trimmed.tokenize(text) == tokenizer.tokenize(text)
        assert trimmed.decode(trimmed(text)["input_ids"]) == tokenizer.decode(tokenizer(text)["input_ids"])
    before, after = outputs(model, tokenizer), outputs(small, trimmed)
    assert torch.equal(before.logits, after.logits)
    assert all(map(torch.equal, before.hidden_states, after.hidden_states))


def test_what_was_given_stays_as_it_is(family, tokenizer):
    model = make_backbone(family, **with_tokens(tokenizer))
    tokenizer = type(tokenizer)(**{**tokenizer.init_kwargs, "tokenizer_object": tokenizer.backend_tokenizer})
    tokenizer.backend_tokenizer.enable_truncation(7)
    described, config = tokenizer.backend_tokenizer.to_str(), model.config.to_dict()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small, trimmed = trim_vocabulary(model, tokenizer, iter(TEXTS))
    assert tokenizer.backend_tokenizer.to_str() == described
    assert model.config.to_dict() == config
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert trimmed.backend_tokenizer.truncation["max_length"] == 7


def test_special_tokens_stay_and_the_configuration_names_them_by_their_new_ids(family, tokenizer):
    model = make_backbone(family, **with_tokens(tokenizer))
    small, trimmed = trim_vocabulary(model, tokenizer, TEXTS)
    assert trimmed.all_special_tokens == tokenizer.all_special_tokens
    assert trimmed.mask_token_id != tokenizer.mask_token_id
    for name in ("pad", "bos", "eos", "mask"):
        assert getattr(small.config, f"{name}_token_id") == getattr(trimmed, f"{name}_token_id")
    assert small.get_input_embeddings().padding_idx == trimmed.pad_token_id
    framed = trimmed(TEXTS[0], TEXTS[1])["input_ids"]
    assert trimmed.convert_ids_to_tokens(framed) == tokenizer.convert_ids_to_tokens(
        tokenizer(TEXTS[0], TEXTS[1])["input_ids"]
    )


def test_it_is_the_same_after_saving_and_loading(family, tokenizer, tmp_path):
    model = make_backbone(family, **with_tokens(tokenizer)).extract(width=0.5, depth=0.5)
    small, trimmed = trim_vocabulary(model, tokenizer, TEXTS)
    small.save_pretrained(tmp_path)
    trimmed.save_pretrained(tmp_path)
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == trimmed.get_vocab()
    torch.testing.assert_close(outputs(loaded, again).logits, outputs(model, tokenizer).logits, atol=1e-6, rtol=0)
    assert loaded.config.trimmed_vocabulary == small.config.trimmed_vocabulary


def test_another_word_of_the_same_letters_is_not_unknown(family, tokenizer):
    _, trimmed = trim_vocabulary(make_backbone(family, **with_tokens(tokenizer)), tokenizer, TEXTS)
    assert trimmed.unk_token not in trimmed.tokenize("zoo beg")
    assert "".join(trimmed.tokenize("zoo beg")).strip("\u2581") != ""


def test_a_token_that_no_text_needs_is_gone(family, tokenizer):
    result = trim_vocabulary(make_backbone(family, **with_tokens(tokenizer)), tokenizer, TEXTS)
    gone = tokenizer.get_vocab().keys() - result.tokenizer.get_vocab().keys()
    used = Counter(token for text in TEXTS for token in tokenizer.tokenize(text))
    assert len(gone) > 10
    assert not gone & used.keys()
    names = {number: token for token, number in tokenizer.get_vocab().items()}
    assert [names[old] for old in result.kept] == result.tokenizer.convert_ids_to_tokens(range(len(result.kept)))


def test_parameters_and_sizes_before_and_after_are_told(family, tokenizer, tmp_path):
    model = make_backbone(family, **with_tokens(tokenizer))
    result = trim_vocabulary(model, tokenizer, TEXTS)
    lost = model.config.vocab_size - len(result.tokenizer)
    assert result.before["tokens"] - result.after["tokens"] == lost
    assert result.before["parameters"] == model.num_parameters()
    assert result.before["parameters"] - result.after["parameters"] == lost * model.config.hidden_size
    assert result.after["parameters"] == result.model.num_parameters()
    for given, told in ((model, result.before), (result.model, result.after)):
        given.save_pretrained(tmp_path)
        assert (tmp_path / "model.safetensors").stat().st_size / 2**20 == pytest.approx(told["weights_mb"], abs=0.03)
    for given, told in ((tokenizer, result.before), (result.tokenizer, result.after)):
        text = given.backend_tokenizer.to_str(pretty=True).encode()
        assert len(text) / 2**20 == pytest.approx(told["tokenizer_mb"], abs=0.005)
    assert result.model.config.trimmed_vocabulary == {"before": result.before, "after": result.after}


@pytest.mark.parametrize("family", CONFIGS)
def test_outputs_over_tokens_are_cut_in_every_family(family, tmp_path):
    tokenizer = word_pieces()
    own = {"legacy": False} if family == "DebertaV2" else {}
    model = make_stock(family, "ForMaskedLM", **with_tokens(tokenizer, **own), **of_layers(family, 2))
    result = trim_vocabulary(model, tokenizer, TEXTS)
    small, trimmed = result
    before, after = outputs(model, tokenizer).logits[..., list(result.kept)], outputs(small, trimmed).logits
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)  # products of fewer columns round otherwise
    elastic = getattr(dynabert_hf, f"Dyna{family}ForMaskedLM").from_backbone(small)
    torch.testing.assert_close(outputs(elastic, trimmed).logits, after, atol=0, rtol=0)
    small.save_pretrained(tmp_path)
    loaded, about = type(small).from_pretrained(tmp_path, output_loading_info=True)
    assert not about["missing_keys"]
    torch.testing.assert_close(outputs(loaded.eval(), trimmed).logits, after, atol=1e-6, rtol=0)


def test_untied_outputs_over_tokens_are_cut_on_their_own():
    tokenizer = word_pieces()
    model = make_stock("Bert", "ForMaskedLM", **with_tokens(tokenizer, tie_word_embeddings=False))
    result = trim_vocabulary(model, tokenizer, TEXTS)
    kept = list(result.kept)
    assert torch.equal(result.model.cls.predictions.decoder.weight, model.cls.predictions.decoder.weight[kept])
    assert torch.equal(result.model.cls.predictions.bias, model.cls.predictions.bias[kept])


def test_tied_outputs_stay_tied():
    tokenizer = word_pieces()
    small, _ = trim_vocabulary(make_backbone("Bert", "ForMaskedLM", **with_tokens(tokenizer)), tokenizer, TEXTS)
    assert small.cls.predictions.decoder.weight is small.bert.embeddings.word_embeddings.weight
    assert small.cls.predictions.decoder.bias is small.cls.predictions.bias
    ids = torch.arange(small.config.vocab_size)[None, -20:]
    small(ids, labels=ids).loss.backward()
    assert small.bert.embeddings.word_embeddings.weight.grad.shape[0] == small.config.vocab_size


def test_words_of_a_text_are_tokenised_one_by_one():
    tokenizer = word_pieces()
    model = make_backbone("Bert", **with_tokens(tokenizer))
    rows = [["foxjumps", "over"], ["lazy", "dog!"]]
    _, trimmed = trim_vocabulary(model, tokenizer, [*rows, "pack"])
    for row in rows:
        before, after = (each(row, is_split_into_words=True).tokens() for each in (tokenizer, trimmed))
        assert before == after


@pytest.mark.parametrize("family", ["Bert", "ModernBert"])
def test_a_padding_token_that_the_tokenizer_lacks_does_not_keep_a_model_from_loading(family, tmp_path):
    """As the default one of ModernBERT, beside a smaller tokenizer of one's own."""
    tokenizer = word_pieces()
    own = {"vocab_size": len(tokenizer) + 20, "pad_token_id": len(tokenizer) + 10}
    model = make_backbone(family, **with_tokens(tokenizer, **own), **of_layers(family, 2))
    small, trimmed = trim_vocabulary(model, tokenizer, TEXTS)
    assert small.config.pad_token_id is None
    small.save_pretrained(tmp_path)
    loaded = type(small).from_pretrained(tmp_path).eval()
    text = {name: trimmed(TEXTS[0], return_tensors="pt")[name] for name in ("input_ids", "attention_mask")}
    before = {name: tokenizer(TEXTS[0], return_tensors="pt")[name] for name in text}
    with torch.no_grad():
        torch.testing.assert_close(loaded(**text).logits, small(**text).logits, atol=1e-6, rtol=0)
        assert torch.equal(small(**text).logits, model(**before).logits)


@pytest.mark.parametrize("family", TOKENIZERS)
def test_a_sentence_encoder_reads_texts_behind_its_prompts_as_before(family):
    """And in lower case where it reads so, whatever its tokenizer does; the texts have no letter of a prompt."""
    tokenizer = TOKENIZERS[family]()
    model = make_backbone(family, "Model", **with_tokens(tokenizer))
    prompts = {"query": "vex my quartz: ", "document": "", "other": "sphinx "}
    model.config.sentence_encoder = {
        "config_sentence_transformers.json": {"prompts": prompts, "default_prompt_name": "query"},
        "sentence_bert_config.json": {"do_lower_case": True},
    }
    small, trimmed = trim_vocabulary(model, tokenizer, ["Food", "bold"])
    for prompt in prompts.values():
        for text in ("food", "bold"):
            before, after = (each(prompt + text, return_tensors="pt") for each in (tokenizer, trimmed))
            assert trimmed.convert_ids_to_tokens(after["input_ids"][0]) == tokenizer.convert_ids_to_tokens(
                before["input_ids"][0]
            )
            with torch.no_grad():
                assert torch.equal(small(**after).last_hidden_state, model(**before).last_hidden_state)


def test_stored_metrics_are_told_to_be_of_before_the_cut():
    """On texts of other tokens the model would have other ones now."""
    tokenizer, others = word_pieces(), ["pack my five liquor jugs"]
    model, rows = make_backbone("Bert", **with_tokens(tokenizer)), {"w1-d1": {"accuracy": "4 rows of dev.csv"}}
    model.config.update({"metrics": {"w1-d1": {"accuracy": 0.5}}, "metric_rows": rows})
    small, trimmed = trim_vocabulary(model, tokenizer, TEXTS)
    before, after = outputs(model, tokenizer, others).logits, outputs(small, trimmed, others).logits
    assert (before - after).abs().max() > 1e-3
    again = trim_vocabulary(small, trimmed, TEXTS[:2]).model
    told = {"w1-d1": {"accuracy": "4 rows of dev.csv, before the vocabulary was cut"}}
    assert [each.config.metric_rows for each in (model, small, again)] == [rows, told, told]
    assert small.config.metrics == model.config.metrics


def test_words_of_one_s_own_stay():
    tokenizer = word_pieces()
    tokenizer.add_tokens(["dynabert"])
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENTITY]"]})
    model = make_backbone("Bert", **with_tokens(tokenizer))
    small, trimmed = trim_vocabulary(model, tokenizer, TEXTS)
    assert trimmed.tokenize("a dynabert [ENTITY]")[-2:] == ["dynabert", "[ENTITY]"]
    assert small.config.vocab_size == len(trimmed)
    assert trimmed.get_added_vocab().keys() == tokenizer.get_added_vocab().keys()


def test_the_least_likely_piece_stays_for_its_score():
    tokenizer = unigram()
    _, trimmed = trim_vocabulary(make_backbone("XLMRoberta", **with_tokens(tokenizer)), tokenizer, ["the the"])
    scores = [
        min(score for _, score in json.loads(each.backend_tokenizer.to_str())["model"]["vocab"])
        for each in (tokenizer, trimmed)
    ]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("family", "tokenizer_class"), [("Camembert", CamembertTokenizer), ("DebertaV2", DebertaV2Tokenizer)]
)
def test_tokenizers_of_other_families_are_trimmed_alike(family, tokenizer_class):
    tokenizer = unigram(tokenizer_class)
    _, trimmed = trim_vocabulary(make_backbone(family, **with_tokens(tokenizer)), tokenizer, TEXTS)
    assert len(trimmed) < len(tokenizer) - 10
    assert [trimmed.tokenize(text) for text in TEXTS] == [tokenizer.tokenize(text) for text in TEXTS]


class _Slow:
    is_fast = False


@pytest.mark.parametrize(
    ("tokenizer", "texts", "error", "message"),
    [
        (_Slow(), TEXTS, TypeError, "A _Slow cannot be trimmed: only a fast tokenizer .* Give the one that AutoTok"),
        (
            PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))),
            TEXTS,
            ValueError,
            "is of type WordLevel, .* Possible are WordPiece, BPE, Unigram; trim",
        ),
        (word_pieces, [], ValueError, "The texts hold no token, .* Give the texts that the model is for"),
        (word_pieces, ["", " "], ValueError, "The texts hold no token"),
        (word_pieces, "the fox", TypeError, "texts is one text, 'the fox'.* give a list"),
        (word_pieces, ["the", 3], TypeError, "3 is no text. Give each text as a str, or as a list of its words"),
    ],
)
def test_what_cannot_be_trimmed_is_refused(tokenizer, texts, error, message):
    tokenizer = tokenizer() if callable(tokenizer) and not hasattr(tokenizer, "backend_tokenizer") else tokenizer
    model = make_backbone("Bert", vocab_size=170)
    with pytest.raises(error, match=message):
        trim_vocabulary(model, tokenizer, texts)


def test_a_tokenizer_of_another_model_is_refused():
    with pytest.raises(ValueError, match=r"a token of id \d+, and the model has embeddings for 20 tokens. Give the"):
        trim_vocabulary(make_backbone("Bert", vocab_size=20), word_pieces(), TEXTS)


def test_a_model_of_no_supported_family_is_refused():
    model = transformers.GPT2Model(transformers.GPT2Config(n_embd=8, n_head=2, n_layer=1, vocab_size=200))
    with pytest.raises(TypeError, match="Supported types are bert"):
        trim_vocabulary(model, word_pieces(), TEXTS)


def test_a_tokenizer_that_would_split_otherwise_is_refused(monkeypatch):
    monkeypatch.setitem(dynabert_hf.data.tokens._COMPANIONS, "BPE", lambda *_: set())
    tokenizer = byte_pairs()
    with pytest.raises(ValueError, match=r"made of the kept tokens splits .* otherwise, .* Keep the vocabulary as it"):
        trim_vocabulary(make_backbone("Roberta", **with_tokens(tokenizer)), tokenizer, TEXTS)
