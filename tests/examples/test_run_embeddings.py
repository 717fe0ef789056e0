"""examples/run_embeddings.py on a tiny encoder, which learns from texts and is measured on pairs and on labels."""

import csv
import json

import pytest
import run_embeddings
import torch
from datasets import Dataset, DatasetDict
from helpers.sentences import make_encoder, make_pairs, make_texts, save_encoder
from recipe_arguments import parse_arguments
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

SMALL = ["--max_steps", "2", "--per_device_train_batch_size", "4", "--use_cpu", "--disable_tqdm", "True"]


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.fixture
def files(tmp_path):
    return [
        *("--train_file", write(tmp_path / "train.csv", [{"text": text} for text in make_texts(12)])),
        *("--validation_file", write(tmp_path / "validation.csv", make_pairs(8, seed=2))),
    ]


def run(*arguments):
    run_embeddings.main([*map(str, arguments), *SMALL])


def test_one_command_makes_and_measures_all_sizes(tmp_path, files):
    encoder, out = save_encoder(tmp_path / "encoder"), tmp_path / "out"
    labelled = [{"text": text, "label": "ab"[row % 2]} for row, text in enumerate(make_texts(10, seed=5))]
    run(
        *(*files, "--model_name_or_path", encoder, "--output_dir", out),
        *("--retrieval_file", write(tmp_path / "intents.csv", labelled), "--matryoshka_dims", 8),
        *(
            "--test_file",
            write(tmp_path / "test.csv", make_pairs(6, seed=7)),
            "--do_train",
            "--do_eval",
            "--do_predict",
        ),
    )
    results = json.loads((out / "model" / "results.json").read_text())
    metrics = {"spearman", "accuracy_at_1_retrieval", "mrr_retrieval"}
    metrics |= {"spearman_8", "accuracy_at_1_8_retrieval", "mrr_8_retrieval"}
    assert len(results["sub_networks"]) == 12
    for one in (results["teacher"], results["sub_networks"][0]):
        assert metrics <= set(one)
    tested = json.loads((out / "test_results.json").read_text())
    assert {"test_w0.25-d0.5_spearman", "test_mean_spearman"} <= set(tested)
    assert "8 rows (validation) and 10 rows (retrieval) of validation.csv and intents.csv" in (
        (out / "model" / "README.md").read_text().replace("\n", " ")
    )
    assert (out / "model" / "modules.json").exists()
    assert AutoModel.from_pretrained(out / "model").config.matryoshka_dims == [8]


@pytest.mark.parametrize("asked", [["--do_eval"], ["--do_train", "--do_eval"]])
def test_retrieval_alone_is_measured_once_where_data_have_no_part_to_evaluate(tmp_path, asked):
    DatasetDict(train=Dataset.from_dict({"text": make_texts(12)})).save_to_disk(tmp_path / "data")
    labelled = [{"text": text, "label": "ab"[row % 2]} for row, text in enumerate(make_texts(10, seed=5))]
    run(
        *("--dataset_name", tmp_path / "data", "--retrieval_file", write(tmp_path / "intents.csv", labelled), *asked),
        *("--model_name_or_path", save_encoder(tmp_path / "encoder"), "--output_dir", tmp_path / "out"),
    )
    folder = tmp_path / "out" / "model" if "--do_train" in asked else tmp_path / "out"
    [*_, full] = json.loads((folder / "results.json").read_text())["sub_networks"]
    assert set(full) == {"size", "width", "depth", "accuracy_at_1", "mrr", "parameters", "flops"}


def test_columns_are_those_that_were_named(tmp_path):
    encoder = save_encoder(tmp_path / "encoder")
    texts, others = make_texts(12), make_texts(12, seed=5)
    rows = [
        {"utterance": text, "note": note, "intent": "ab"[row % 2], "label": "x"}
        for row, (text, note) in enumerate(zip(texts, others, strict=True))
    ]
    named = ["--text_column_names", "utterance", "--label_column_name", "intent"]
    run(
        *("--train_file", write(tmp_path / "train.csv", rows), "--validation_file", write(tmp_path / "dev.csv", rows)),
        *("--model_name_or_path", encoder, "--output_dir", tmp_path / "named", *named, "--do_train", "--do_eval"),
    )
    plain = [{"text": each["utterance"], "label": each["intent"]} for each in rows]
    run(
        *("--train_file", write(tmp_path / "train2.csv", plain), "--validation_file", write(tmp_path / "2.csv", plain)),
        *("--model_name_or_path", encoder, "--output_dir", tmp_path / "plain", "--do_train", "--do_eval"),
    )
    ours, theirs = (load_file(tmp_path / folder / "model" / "model.safetensors") for folder in ("named", "plain"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    measured = [
        json.loads((tmp_path / folder / "model" / "results.json").read_text())["sub_networks"]
        for folder in ("named", "plain")
    ]
    assert [each["accuracy_at_1"] for each in measured[0]] == [each["accuracy_at_1"] for each in measured[1]]


def test_texts_are_cut_while_training_and_the_encoder_reads_as_much_as_before(tmp_path, files):
    """Of the result the tokenizer, by which `dynabert evaluate` measures, and `SentenceTransformer` read alike."""
    library = pytest.importorskip("sentence_transformers")
    encoder, out = save_encoder(tmp_path / "encoder"), tmp_path / "out"
    arguments = parse_arguments(
        [*files, "--model_name_or_path", encoder, "--output_dir", str(out), "--max_seq_length", "5", *SMALL],
        run_embeddings.EmbeddingArguments,
    )
    job, _ = run_embeddings.prepare(*arguments)
    lengths = {split: max(len(text) for text in _texts(rows)) for split, rows in job.data.splits.items()}
    assert lengths == {"train": 5, "validation": 5}
    run(*files, "--model_name_or_path", encoder, "--output_dir", out, "--max_seq_length", 5, "--do_train")
    saved = library.SentenceTransformer(str(out / "model"), device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    assert saved.max_seq_length == tokenizer.model_max_length == 12


def _texts(rows):
    return [text for row in rows["input_ids"] for text in (row if isinstance(row[0], list) else [row])]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--finetune"], "--finetune was given, but a sentence encoder learns without labels. Leave it out"),
        ([], "is no sentence encoder: it has no modules.json. Give a folder or Hub id of"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(tmp_path, files, arguments, error):
    make_encoder().save_pretrained(tmp_path / "encoder")
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match=error):
        run(*files, "--model_name_or_path", tmp_path / "encoder", "--output_dir", out, *arguments)
    assert not out.exists()


@pytest.mark.parametrize("option", ["--validation_file", "--retrieval_file", "--test_file"])
def test_data_without_a_score_are_refused_where_they_would_be_measured(tmp_path, files, option):
    pairs = [{"similarity" if name == "score" else name: own for name, own in row.items()} for row in make_pairs(8)]
    unscored = [option, write(tmp_path / "unscored.csv", pairs), "--do_train"]
    encoder, out = save_encoder(tmp_path / "encoder"), tmp_path / "out"
    measured = "--do_predict" if option == "--test_file" else "--do_eval"
    with pytest.raises(SystemExit, match=r"columns \['sentence1', 'sentence2', 'similarity'\] but none to measure by"):
        run(*files, "--model_name_or_path", encoder, "--output_dir", out, *unscored, measured)
    assert not out.exists()
