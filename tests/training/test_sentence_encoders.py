"""Sizes of a sentence encoder: what they learn, how they are ordered, measured, saved, and what is refused."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from helpers import ROOT
from helpers.recipes import SETTINGS, run_recipe
from helpers.sentences import WORDS, make_encoder, make_pairs, make_texts, save_encoder, write_json
from helpers.tiny import make_model, make_tokenizer
from helpers.trainers import StopAt
from safetensors.torch import load_file
from torch.nn.functional import normalize
from transformers import AutoModelForSequenceClassification

from dynabert_hf import (
    DynaBertModel,
    DynaBertTrainer,
    DynaBertTrainingArguments,
    measure_importance,
    store_teacher_outputs,
    train_dynabert,
)
from dynabert_hf.data.pooling import Pooling, sentence_vectors
from dynabert_hf.data.sentence_encoder import SentenceEncoder
from dynabert_hf.data.sentences import texts_to_learn, texts_to_measure, tokenised
from dynabert_hf.training.vector_losses import change_of_vectors, similarity_loss, vector_loss

TEXTS = make_texts(14)
PAIRS = make_pairs(9, seed=3)
SIX_SIZES = {"widths": (0.25, 0.5, 1.0), "depths": (0.5, 1.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoders") / "encoder")


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A run with Matryoshka dimensions, in its folder, with its result."""
    path = tmp_path_factory.mktemp("runs")
    return path, call(folder, path)


def call(encoder, output_dir):
    """The recipe on an encoder, with Matryoshka dimensions."""
    return train_dynabert(
        encoder,
        train_dataset=TEXTS,
        eval_dataset=PAIRS,
        matryoshka_dims=[8],
        output_dir=output_dir,
        **SIX_SIZES,
        **{**SETTINGS, "learning_rate": 1e-3, "max_steps": 4},
    )


def save_bare(folder):
    """Save an encoder without the files that say how it pools."""
    make_encoder().save_pretrained(folder)
    return str(folder)


def cosine(one, other):
    return float(one @ other / one.norm() / other.norm())


def test_losses_are_those_of_a_loop_over_texts_and_pairs():
    torch.manual_seed(0)
    ours, theirs = torch.randn(5, 6), torch.randn(5, 6)
    cosines = [1 - cosine(one, other) for one, other in zip(ours, theirs, strict=True)]
    assert vector_loss(ours, theirs).item() == pytest.approx(np.mean(cosines), abs=1e-6)
    squares = [float((one - other).square().mean()) for one, other in zip(ours, theirs, strict=True)]
    assert vector_loss(ours, theirs, kind="mse").item() == pytest.approx(np.mean(squares), abs=1e-6)
    order = torch.tensor([3, 1, 4, 0, 2])
    errors = {
        dim: [
            (cosine(ours[i, :dim], ours[j, :dim]) - cosine(theirs[i], theirs[j])) ** 2
            for i in range(5)
            for j in range(5)
            if i != j
        ]
        for dim in (2, 4, 6)
    }
    for dims, expected in (((), np.mean(errors[6])), ((2, 4), np.mean([errors[dim] for dim in errors]))):
        assert similarity_loss(ours, theirs, dims=dims).item() == pytest.approx(expected, abs=1e-6)
        assert similarity_loss(ours[order], theirs[order], dims=dims).item() == pytest.approx(expected, abs=1e-6)
    assert similarity_loss(ours[:1], theirs[:1]).item() == 0


@pytest.mark.parametrize("is_normalised", [True, False])
def test_importance_is_that_of_a_plain_loop(tmp_path, is_normalised):
    """Sizes learn the directions of vectors, whatever length the encoder gives these."""
    encoder = SentenceEncoder.of(save_encoder(tmp_path / "encoder", normalize=is_normalised))
    parts = [tokenised(TEXTS[start : start + 5], encoder.model, encoder.tokenizer) for start in (0, 5)]
    batches = [dict(encoder.tokenizer.pad(part, return_tensors="pt")) for part in parts]
    found = measure_importance(encoder.model, batches, progress=False, compute_loss=change_of_vectors)
    heads, neurons = torch.zeros(6, 4), torch.zeros(6, 48)
    for batch in batches:
        encoder.model.zero_grad()
        states, mask = encoder.model(**batch).last_hidden_state, batch["attention_mask"][..., None]
        vectors = normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        signs = torch.randint(0, 2, (5, 32), generator=torch.Generator().manual_seed(0)) * 2 - 1
        (vectors * signs).sum().div(5**0.5).backward()
        for number, layer in enumerate(encoder.model.encoder.layer):
            weight = layer.attention.output.dense.weight
            heads[number] += (weight * weight.grad).sum(0).view(4, 8).sum(1).abs()  # of a mask on what goes in
            into, out = layer.intermediate.dense, layer.output.dense.weight
            incoming = (into.weight * into.weight.grad).sum(1) + into.bias * into.bias.grad
            neurons[number] += incoming.abs() + (out * out.grad).sum(0).abs()
    torch.testing.assert_close(found.heads, heads, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.neurons, neurons, rtol=1e-4, atol=1e-6)
    assert heads.min() > 1e-4


def test_a_step_learns_from_vectors_similarities_and_states(folder, tmp_path):
    """The losses that are logged equal those of a loop that pools by hand."""
    encoder = SentenceEncoder.of(folder)
    student = DynaBertModel.from_backbone(encoder.model, widths=[0.5, 1.0], depths=[1.0], matryoshka_dims=[8])
    rows = texts_to_learn("train", TEXTS[:4], encoder.model, encoder.tokenizer)
    args = DynaBertTrainingArguments(
        str(tmp_path), stage="width", max_steps=1, per_device_train_batch_size=4, logging_steps=1, use_cpu=True,
        report_to="none", similarity_weight=3.0, hidden_weight=0.5, disable_tqdm=True, learning_rate=0.0,
    )  # fmt: skip
    trainer = DynaBertTrainer(student, encoder.model, args, train_dataset=rows, processing_class=encoder.tokenizer)
    with torch.no_grad():
        batch = dict(encoder.tokenizer.pad(rows[:], return_tensors="pt"))
        pooling = Pooling("mean", normalize=True)
        with student.eval().subnetwork("w0.5-d1"):
            ours, theirs = (
                pooling(each(**batch).last_hidden_state, batch["attention_mask"]) for each in (student, encoder.model)
            )
    trainer.train()
    logged = trainer.state.log_history[0]
    parts = {name: logged[f"w0.5-d1_{name}"] for name in ("vector_loss", "similarity_loss", "hidden_loss")}
    assert parts["vector_loss"] == pytest.approx(vector_loss(ours, theirs).item(), abs=2e-6)
    assert parts["similarity_loss"] == pytest.approx(similarity_loss(ours, theirs, dims=[8]).item(), abs=2e-6)
    total = parts["vector_loss"] + 3 * parts["similarity_loss"] + 0.5 * parts["hidden_loss"]
    truncated = 3 * logged["w1-d1_similarity_loss"]  # leading parts of the full size are not yet alike
    assert truncated > 1e-4
    assert logged["loss"] == pytest.approx(total + truncated, abs=1e-4)
    assert all(parameter.requires_grad for parameter in student.parameters())  # the pooler was frozen meanwhile


def test_similarities_alone_teach_also_from_longer_vectors(folder, tmp_path):
    encoder, teacher = SentenceEncoder.of(folder), SentenceEncoder.of(folder).model
    student = make_model(head="Model", stock={"hidden_size": 16}, widths=[1.0], depths=[1.0])
    student.config.sentence_encoder = teacher.config.sentence_encoder
    rows = texts_to_learn("train", TEXTS[:4], encoder.model, encoder.tokenizer)
    args = DynaBertTrainingArguments(
        str(tmp_path), stage="depth", teacher_width="full", max_steps=1, per_device_train_batch_size=4, use_cpu=True,
        report_to="none", logging_steps=1, logit_weight=0, hidden_weight=0, disable_tqdm=True, learning_rate=0.0,
    )  # fmt: skip
    batch = dict(encoder.tokenizer.pad(rows[:], return_tensors="pt"))
    with torch.no_grad():
        ours, theirs = (sentence_vectors(each.eval(), batch) for each in (student, teacher))
    trainer = DynaBertTrainer(student, teacher, args, train_dataset=rows, processing_class=encoder.tokenizer)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert {name for name in logged if name.endswith("_loss")} == {"w1-d1_similarity_loss"}
    assert logged["loss"] == pytest.approx(similarity_loss(ours, theirs).item(), abs=1e-6)


@pytest.mark.parametrize("views", [None, ["mask", "delete", "swap"]])
def test_a_step_of_pairs_is_that_of_their_texts(folder, tmp_path, views):
    encoder, pairs = SentenceEncoder.of(folder), make_pairs(4)
    texts = [pair[name] for pair in pairs for name in ("sentence1", "sentence2")]
    of_texts = Dataset.from_dict(tokenised(texts, encoder.model, encoder.tokenizer))
    of_pairs = texts_to_measure("pairs", pairs, encoder.model, encoder.tokenizer)
    losses = []
    for rows, batch_size in ((of_texts, 8), (of_pairs, 4), (of_pairs, 2)):
        student = DynaBertModel.from_backbone(encoder.model, widths=[0.5, 1.0], depths=[1.0])
        args = DynaBertTrainingArguments(
            str(tmp_path), stage="width", max_steps=1, per_device_train_batch_size=batch_size, logging_steps=1,
            gradient_accumulation_steps=4 // min(4, batch_size), use_cpu=True, report_to="none", disable_tqdm=True,
            similarity_weight=0.0, save_strategy="no", views=views, view_probability=1.0,
        )  # fmt: skip
        trainer = DynaBertTrainer(student, encoder.model, args, train_dataset=rows, processing_class=encoder.tokenizer)
        trainer.train()
        logged = trainer.state.log_history[0]
        losses.append([logged[name] for name in ("loss", "grad_norm", "w0.5-d1_vector_loss", "w0.5-d1_hidden_loss")])
    np.testing.assert_allclose(losses[1:], losses[:1] * 2, rtol=1e-5)


def test_every_size_is_the_encoder_that_sentence_transformers_loads(run):
    """Vectors switched, extracted, and those that the metrics were made of are the same."""
    library = pytest.importorskip("sentence_transformers")
    stats = pytest.importorskip("scipy.stats")
    path, result = run
    encoder = library.SentenceTransformer(str(path / "model"), device="cpu")
    for row in result.rows:
        encoder[0].auto_model.set_active(row.size)
        first, second = (encoder.encode([pair[column] for pair in PAIRS]) for column in ("sentence1", "sentence2"))
        cosines = (first * second).sum(1)  # of vectors of length 1
        scores = [pair["score"] for pair in PAIRS]
        assert row.metrics["spearman"] == pytest.approx(stats.spearmanr(cosines, scores).statistic, abs=1e-6)
        if row.name == "w0.5-d0.5":
            small = path / "small"
            result.model.extract(row.size).save_pretrained(small)
            encoder.tokenizer.save_pretrained(small)
            alone = library.SentenceTransformer(str(small), device="cpu").encode([pair["sentence1"] for pair in PAIRS])
            np.testing.assert_allclose(alone, first, rtol=0, atol=1e-5)
        if row is result.rows[0]:  # the smallest, which the card names
            card = (path / "model" / "README.md").read_text()
            told = eval(re.search(r"`SentenceTransformer\(\.\.\., model_kwargs=(dict\(.*\))\)`", card)[1])
            one = library.SentenceTransformer(str(path / "model"), device="cpu", model_kwargs=told)
            assert one[0].auto_model.num_parameters() == row.parameters
            np.testing.assert_array_equal(one.encode([pair["sentence1"] for pair in PAIRS]), first)
    assert {"spearman", "spearman_8"} <= set(result.rows[0].metrics)
    spread = [row.metrics["spearman"] for row in result.rows]
    assert max(spread) - min(spread) > 1e-3


def test_the_order_of_rows_and_their_padding_change_no_metric(run, tmp_path):
    _, result = run
    encoder = SentenceEncoder.of(str(run[0] / "model"))
    for rows in (PAIRS, [{"text": text, "label": row % 3} for row, text in enumerate(TEXTS)]):
        found = []
        for order, size in ((slice(None), 4), (slice(None, None, -1), 1)):
            args = DynaBertTrainingArguments(
                str(tmp_path), stage="finetune", per_device_eval_batch_size=size, use_cpu=True, disable_tqdm=True
            )
            data = texts_to_measure("eval", rows[order], result.model, encoder.tokenizer)
            trainer = DynaBertTrainer(
                result.model, None, args, eval_dataset=data, processing_class=encoder.tokenizer,
                compute_metrics=None,
            )  # fmt: skip
            predicted = trainer.predict(data, sizes=["w0.25-d0.5", "w1-d1"]).predictions
            found.append({name: vectors[order] for name, vectors in predicted.items()})
        for name in found[0]:
            np.testing.assert_allclose(found[0][name], found[1][name], rtol=0, atol=1e-5)


def test_pairs_of_several_lengths_are_refused_where_metrics_want_the_inputs(run, tmp_path):
    """torch said after the whole training that sizes of tensors must match."""
    model, tokenizer = run[1].model, SentenceEncoder.of(str(run[0] / "model")).tokenizer
    settings = {"stage": "finetune", "include_for_metrics": ["inputs"], "use_cpu": True, "disable_tqdm": True}
    count = {"compute_metrics": lambda found: {"ids": sum(int((each > 0).sum()) for each in found.inputs)}}

    def tokens(rows, **given):
        args = DynaBertTrainingArguments(str(tmp_path), **settings, **given)
        data = texts_to_measure("eval", rows, model, tokenizer)
        trainer = DynaBertTrainer(model, None, args, eval_dataset=data, processing_class=tokenizer, **count)
        return trainer.evaluate()["eval_w1-d1_ids"]

    def total(*texts):
        return sum(len(tokenizer(text, truncation=True, max_length=12)["input_ids"]) for text in texts)

    with pytest.raises(ValueError, match=r"batches have pairs of \d+ to \d+ tokens, .* Pad all rows .*concat_batches"):
        tokens(PAIRS, per_device_eval_batch_size=1)
    expected = total(*(row[name] for row in PAIRS for name in ("sentence1", "sentence2")))
    assert tokens(PAIRS, per_device_eval_batch_size=1, eval_do_concat_batches=False) == expected
    assert tokens(PAIRS, per_device_eval_batch_size=len(PAIRS)) == expected
    single = [{"text": text, "label": row % 3} for row, text in enumerate(TEXTS)]
    assert tokens(single, per_device_eval_batch_size=1) == total(*TEXTS)


def test_the_result_tells_what_it_is(run):
    path, result = run
    card = (path / "model" / "README.md").read_text()
    assert "library_name: sentence-transformers\n" in card
    assert "pipeline_tag: sentence-similarity\n" in card
    assert "encoder[0].auto_model.set_active(width=0.25, depth=0.5)" in card
    assert "`similarity_weight` | 1.0" in card
    assert result.model.config.metrics["teacher"]["spearman"] == pytest.approx(result.teacher_metrics["spearman"])
    assert result.teacher_metrics["spearman"] != 0


def test_a_run_that_was_stopped_ends_as_one_that_was_not(folder, run, tmp_path):
    settings = {**SETTINGS, "learning_rate": 1e-3, "max_steps": 4, "save_strategy": "steps", "save_steps": 1}
    given = {"train_dataset": TEXTS, "eval_dataset": PAIRS, "matryoshka_dims": [8], **SIX_SIZES, **settings}
    with pytest.raises(KeyboardInterrupt):
        train_dynabert(folder, output_dir=tmp_path, callbacks=[StopAt(3)], **given)
    with pytest.raises(ValueError, match=r"matryoshka_dims.* belongs|matryoshka_dims"):
        train_dynabert(folder, output_dir=tmp_path, **{**given, "matryoshka_dims": [4]})
    train_dynabert(folder, output_dir=tmp_path, **given)
    one, other = (load_file(path / "model" / "model.safetensors") for path in (run[0], tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)
    tables = [json.loads((Path(path) / "model" / "results.json").read_text()) for path in (run[0], tmp_path)]
    assert tables[0]["sub_networks"] == tables[1]["sub_networks"]


@pytest.mark.parametrize("change", [{"mode": "cls"}, {"normalize": False}])
def test_the_folder_of_a_run_is_refused_to_an_encoder_that_pools_its_states_otherwise(run, tmp_path, change):
    with pytest.raises(ValueError, match=r"holds a run with \{'pooling': "):
        call(save_encoder(tmp_path / "other", **change), run[0])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"matryoshka_dims": [64]}, r"matryoshka_dims=\[64\] is not possible. Vectors have 32 numbers. Give a list"),
        ({"matryoshka_dims": [8], "similarity_weight": 0}, "first parts of vectors learn from similarities alone"),
        ({"label_weight": 0.5}, "label_weight=0.5 was given, but a sentence encoder learns from its teacher alone"),
        ({"finetune": True}, "finetune=True was given, but a sentence encoder learns from its teacher alone"),
        ({"vector_loss": "dot"}, "vector_loss='dot' is unknown. Possible is one of 'cosine', 'mse'"),
        ({"train_dataset": [{"a": 1}]}, "train_dataset has no text"),
        ({"train_dataset": {"train": TEXTS}}, r"train_dataset is a dict of \['train'\]. .*, such as data\['train'\]"),
        ({"eval_dataset": {"a": PAIRS, "b": PAIRS}}, r"eval_dataset is a dict of \['a', 'b'\]. Possible is one data"),
        ({"train_dataset": iter(TEXTS)}, "train_dataset is a list_iterator. The recipe needs one data set of known"),
        ({"eval_dataset": [{"a": "w", "b": "w", "score": "x"}]}, "eval_dataset has scores .* that are no numbers"),
        ({"eval_dataset": [{"input_ids": [[5], [6], [7]], "labels": 1.0}]}, "has 3 texts in row 0. A sentence encoder"),
    ],
)
def test_what_no_encoder_can_learn_is_refused_before_any_work(folder, tmp_path, change, error):
    with pytest.raises(ValueError, match=error):
        run_recipe(tmp_path, folder, **{"train_dataset": TEXTS, "eval_dataset": PAIRS, **change})
    assert not (tmp_path / "run").exists()


def test_leading_parts_are_no_longer_than_the_vectors_that_an_encoder_cuts(tmp_path):
    folder = save_encoder(tmp_path / "encoder")
    write_json(tmp_path / "encoder" / "config_sentence_transformers.json", {"truncate_dim": 12})
    with pytest.raises(ValueError, match=r"matryoshka_dims=\[16\] is not possible. Vectors have 12 numbers"):
        run_recipe(tmp_path, folder, train_dataset=TEXTS, matryoshka_dims=[16])
    assert not (tmp_path / "run").exists()


def test_other_heads_have_no_leading_parts_of_vectors(tmp_path):
    with pytest.raises(ValueError, match="a BertForSequenceClassification has no vectors of texts"):
        run_recipe(tmp_path, matryoshka_dims=[8])


def test_the_lines_of_the_page_run_as_they_stand(folder, tmp_path, monkeypatch, capsys):
    """With a tiny encoder and tiny data under the names of the Hub."""
    pytest.importorskip("sentence_transformers")
    page = (ROOT / "docs" / "embeddings.md").read_text()
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "SentenceTransformer" in block
    )
    rows = [{"label": pair.pop("score"), **pair, "idx": row} for row, pair in enumerate(make_pairs(16))]
    data = DatasetDict(train=Dataset.from_list(rows), validation=Dataset.from_list(rows))
    monkeypatch.setattr("datasets.load_dataset", lambda *name: {("nyu-mll/glue", "stsb"): data}[name])
    monkeypatch.chdir(tmp_path)
    exec(code.replace("sentence-transformers/all-MiniLM-L6-v2", folder), {})
    assert "tensor([[" in capsys.readouterr().out
    assert (tmp_path / "outputs" / "stsb" / "model" / "modules.json").exists()


def test_a_teacher_is_an_encoder_that_pools_alike(folder, tmp_path):
    """One with other weights moves the sizes elsewhere; one with another pooling is refused."""
    other, alike = save_encoder(tmp_path / "max", mode="max"), save_encoder(tmp_path / "other", seed=1)
    settings = {
        **SETTINGS,
        "train_dataset": TEXTS,
        "max_steps": 8,
        "learning_rate": 3e-3,
        "output_dir": tmp_path / "run",
    }
    with pytest.raises(ValueError, match="The teacher pools by 'max', the model by 'mean'"):
        train_dynabert(folder, teacher=other, **settings)
    for bare in (make_encoder(), save_bare(tmp_path / "bare")):
        with pytest.raises(TypeError, match=r"A BertModel without a pooling was given to teach .* with modules\.json"):
            train_dynabert(folder, teacher=bare, **settings)
    assert not (tmp_path / "run").exists()
    result = train_dynabert(folder, teacher=alike, widths=(1.0,), depths=(1.0,), **settings)
    own, teacher = SentenceEncoder.of(folder), SentenceEncoder.of(alike)
    batch = dict(own.tokenizer.pad(tokenised(TEXTS, own.model, own.tokenizer), return_tensors="pt"))
    with torch.no_grad():
        before, after, wanted = (
            sentence_vectors(each, batch) for each in (own.model, result.model.eval(), teacher.model)
        )
    assert (after * wanted).sum(1).mean() > (before * wanted).sum(1).mean() + 0.05  # cosines


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_teacher_that_reads_other_tokens_is_refused_before_any_work(folder, tmp_path, in_memory):
    """Its vocabulary may be as large, and what it says of these tokens is of other texts."""
    other = save_encoder(tmp_path / "other")
    make_tokenizer([*WORDS[:5], *WORDS[6:], WORDS[5]], model_max_length=20).save_pretrained(other)
    if in_memory:
        other = pytest.importorskip("sentence_transformers").SentenceTransformer(other, device="cpu")
    with pytest.raises(ValueError, match=r"The tokenizer of the teacher '.*' calls 'w\d+' number \d+, that of the"):
        run_recipe(tmp_path, folder, taught_by=other, train_dataset=TEXTS, eval_dataset=PAIRS)
    assert not (tmp_path / "run").exists()


def test_a_sentence_transformer_is_no_model_whose_outputs_could_be_stored(folder, tmp_path):
    """It has a configuration as models have."""
    encoder = pytest.importorskip("sentence_transformers").SentenceTransformer(folder, device="cpu")
    with pytest.raises(TypeError, match=r"The teacher is a SentenceTransformer\. Give the model that from_pretrained"):
        store_teacher_outputs(encoder, TEXTS, tmp_path / "outputs")


def test_an_encoder_without_its_pooling_is_refused(tmp_path):
    for given in (save_bare(tmp_path / "bare"), make_encoder()):
        with pytest.raises(
            TypeError, match=r"sentence encoders: a SentenceTransformer, or its folder with modules\.json"
        ):
            run_recipe(tmp_path, given, train_dataset=TEXTS)
    assert not (tmp_path / "run").exists()


def test_a_loss_on_labels_is_said_to_be_of_no_use(folder, tmp_path, caplog):
    run_recipe(tmp_path, folder, train_dataset=TEXTS, eval_dataset=PAIRS, compute_loss_func=lambda *_, **__: 1 / 0)
    assert (
        "compute_loss_func is the loss on labels, but a sentence encoder learns from its teacher alone, so that "
        "nothing calls it. Leave it out."
    ) in caplog.text


def test_an_encoder_in_memory_makes_what_its_folder_makes_and_stays_as_it_is(folder, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    given = library.SentenceTransformer(folder, device="cpu")
    before, settings = copy.deepcopy(given.state_dict()), given[0].auto_model.config.to_dict()
    sizes = {"widths": (0.5, 1.0), "depths": (1.0,), "train_dataset": TEXTS, "eval_dataset": None}
    in_memory = run_recipe(tmp_path / "memory", given, **sizes).model.state_dict()
    by_name = run_recipe(tmp_path / "name", folder, **sizes).model.state_dict()
    assert all(torch.equal(in_memory[name], by_name[name]) for name in by_name)
    assert all(torch.equal(before[name], weight) for name, weight in given.state_dict().items())
    assert given[0].auto_model.config.to_dict() == settings


def test_a_classifier_made_of_an_encoder_is_a_classifier(run, tmp_path):
    """It still has the configuration of the encoder, but learns, is measured and is saved by its head."""
    path, _ = run
    torch.manual_seed(0)
    classifier = AutoModelForSequenceClassification.from_pretrained(path / "model", num_labels=2)
    torch.nn.init.normal_(classifier.classifier.bias)
    plain = copy.deepcopy(classifier)
    del plain.config.sentence_encoder
    classifier.save_pretrained(tmp_path / "classifier")
    assert not (tmp_path / "classifier" / "modules.json").exists()
    rows = [{"text": text, "label": row % 2} for row, text in enumerate(TEXTS)]
    tokenizer = SentenceEncoder.of(str(path / "model")).tokenizer
    settings = {"train_dataset": rows, "eval_dataset": rows, "processing_class": tokenizer}
    found = [
        run_recipe(tmp_path / str(number), given, **settings)
        for number, given in enumerate((plain, classifier, str(tmp_path / "classifier")))
    ]
    for result in found:
        assert type(result.model).__name__ == "DynaBertForSequenceClassification"
        assert result.rows[0].metrics == found[0].rows[0].metrics
        assert "accuracy" in result.rows[0].metrics
        for name, weight in found[0].model.state_dict().items():
            assert torch.equal(result.model.state_dict()[name], weight)
