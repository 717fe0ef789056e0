"""run_ner.py, run_qa.py and run_mlm.py in their smoke form, on tiny models and data made on the spot."""

import csv
import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import run_mlm
import run_ner
import run_qa
import transformers
from datasets import Dataset, DatasetDict
from helpers.glue_tasks import WORDS
from helpers.tiny import BACKBONE_CONFIGS, TINY
from recipe_arguments import parse_arguments
from recipe_data import InputError, numbered
from recipe_job import Job, check_splits
from transformers import AutoModelForTokenClassification, AutoTokenizer, BertTokenizer

from dynabert_hf.data.questions import Questions, read_questions
from dynabert_hf.sizes.tables import metric_text

QUICK = [
    "--smoke",
    "--widths",
    "0.5",
    "1.0",
    "--depths",
    "1.0",
    "--max_steps",
    "1",
    "--use_cpu",
    "--disable_tqdm",
    "true",
]
QUICK += ["--per_device_train_batch_size", "4", "--max_seq_length", "16", "--finetune_teacher"]
QUICK += ["--do_train", "--do_eval", "--do_predict"]
SIZES = ("w0.5-d1", "w1-d1")


def save_model(folder, head, **config):
    model = getattr(transformers, f"Bert{head}")(BACKBONE_CONFIGS["Bert"](**{**TINY, "num_hidden_layers": 2, **config}))
    model.save_pretrained(folder)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizer(vocab={word: index for index, word in enumerate(vocabulary)}).save_pretrained(folder)
    return str(folder)


def run(script, folder, model, files):
    """The metrics of each size, after the whole of a script."""
    words = [word for name, path in files.items() for word in (f"--{name}_file", str(path))]
    with redirect_stdout(StringIO()) as told:
        script.main([*words, "--model_name_or_path", model, "--output_dir", str(folder / "out"), *QUICK])
    assert Path(told.getvalue().rpartition("The test split at every size: ")[2].splitlines()[0]).exists()
    results = json.loads((folder / "out" / "model" / "results.json").read_text())
    assert (folder / "out" / "model" / "README.md").exists()
    return results


def test_tagged_words_are_learned_and_predicted_word_by_word(tmp_path):
    sentences = ["a B-X\n\ufe0f I-X\nfilm I-X\nof O\n", "the O\ngood B-X\n", "dull O\n"]  # one word has no token
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.conll").write_text("\n".join(sentences * 4))
    files = {name: tmp_path / f"{name}.conll" for name in ("train", "validation", "test")}
    results = run(run_ner, tmp_path, save_model(tmp_path / "model", "Model"), files)
    assert "f1" in json.dumps(results)
    for size in SIZES:
        with (tmp_path / "out" / "predictions" / size / "test.tsv").open() as file:
            rows = list(csv.reader(file, delimiter="\t"))
        assert [len(row[1].split()) for row in rows[1:]] == [4, 2, 1] * 4
        assert {row[1].split()[1] for row in rows[1::3]} == {"O"}
        assert {tag for row in rows[1:] for tag in row[1].split()} <= {"O", "B-X", "I-X"}
        predicted = [
            tag for row in rows[1:] for at, tag in enumerate(row[1].split()) if (at, len(row[1].split())) != (1, 4)
        ]
        true = ["B-X", "I-X", "O", "O", "B-X", "O"] * 4
        share = sum(map(str.__eq__, predicted, true)) / len(true)
        tested = json.loads((tmp_path / "out" / "test_results.json").read_text())
        assert tested[f"test_{size}_accuracy"] == pytest.approx(share)
        assert 0 <= tested[f"test_{size}_f1"] <= 1


NAMED = {"id2label": {0: "I-X", 1: "O", 2: "B-X"}, "label2id": {"I-X": 0, "O": 1, "B-X": 2}}


@pytest.mark.parametrize(
    ("config", "tags", "order"),
    [(NAMED, ["B-X", "O"], []), ({"num_labels": 3}, ["B-X", "I-X", "O"], ["I-X", "O", "B-X"])],
)
def test_a_tagger_learns_its_own_tags_of_which_data_may_lack_some(tmp_path, config, tags, order):
    (tmp_path / "train.conll").write_text("\n".join(f"film {tag}" for tag in tags))
    model = save_model(tmp_path / "model", "ForTokenClassification", **config)
    command = ["--train_file", str(tmp_path / "train.conll"), "--do_train", "--output_dir", str(tmp_path / "out")]
    command += ["--model_name_or_path", model, *(["--label_order", *order] if order else [])]
    job, loaded = run_ner.prepare(*parse_arguments(command, run_ner.TaggingArguments))
    assert loaded.config.id2label == NAMED["id2label"]
    [row] = job.data.splits["train"]["labels"]
    assert row[1:-1] == [NAMED["label2id"][tag] for tag in tags]


def test_a_tag_all_words_of_which_are_held_back_is_one_of_the_tags(tmp_path):
    """Every sentence has a tag of its own, so those that are held back have tags that no other has."""
    tags = [f"B-{number}" for number in range(10, 18)]
    (tmp_path / "train.conll").write_text("\n\n".join(f"film {tag}" for tag in tags))
    command = ["--train_file", str(tmp_path / "train.conll"), "--output_dir", str(tmp_path / "out")]
    command += ["--model_name_or_path", save_model(tmp_path / "model", "Model"), "--finetune_teacher"]
    command += ["--validation_split_percentage", "25"]
    job, model = run_ner.prepare(*parse_arguments(command, run_ner.TaggingArguments))
    assert list(model.config.id2label.values()) == tags
    labels = {split: [row[1] for row in part["labels"]] for split, part in job.data.splits.items()}
    assert {split: len(own) for split, own in labels.items()} == {"train": 6, "validation": 2}
    assert sorted(labels["train"] + labels["validation"]) == list(range(8))


@pytest.mark.parametrize("hidden", [None, [], [-1, -1]])
def test_a_test_split_whose_tags_are_hidden_is_predicted_and_not_scored(tmp_path, hidden):
    train = Dataset.from_list([{"tokens": ["a", "film"], "tags": [0, 1]}] * 4)
    test = Dataset.from_list([{"tokens": ["a", "film"], "tags": hidden}] * 2, features=train.features)
    DatasetDict(train=train, validation=train, test=test).save_to_disk(tmp_path / "data")
    command = ["--dataset_name", str(tmp_path / "data"), "--do_train", "--do_predict", "--finetune_teacher"]
    command += ["--model_name_or_path", save_model(tmp_path / "model", "Model"), "--output_dir", str(tmp_path / "out")]
    job, model = run_ner.prepare(*parse_arguments(command, run_ner.TaggingArguments))
    check_splits(job, model)
    assert "labels" not in job.data.splits["test"].column_names
    assert job.data.splits["validation"][0]["labels"] == [-100, 0, 1, -100]


def test_words_that_do_not_count_make_no_tag(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"tokens": ["a", "film", "of"], "ner_tags": [0, -100, 3]}))
    command = ["--train_file", str(tmp_path / "train.jsonl"), "--do_train", "--output_dir", str(tmp_path / "out")]
    command += ["--model_name_or_path", save_model(tmp_path / "model", "Model"), "--finetune_teacher"]
    job, model = run_ner.prepare(*parse_arguments(command, run_ner.TaggingArguments))
    assert model.config.id2label == {0: "0", 1: "3"}
    assert job.data.splits["train"]["labels"][0] == [-100, 0, -100, 1, -100]


def test_each_file_of_tagged_words_is_read_by_its_own_form(tmp_path):
    (tmp_path / "train.jsonl").write_text(json.dumps({"tokens": ["a", "film"], "tags": ["O", "B-X"]}))
    (tmp_path / "test.txt").write_text("of B-X\nthe O\n")
    files = ["--train_file", str(tmp_path / "train.jsonl"), "--test_file", str(tmp_path / "test.txt")]
    command = [*files, "--do_train", "--do_predict", "--output_dir", str(tmp_path / "out"), "--finetune_teacher"]
    command += ["--model_name_or_path", save_model(tmp_path / "model", "Model")]
    job, model = run_ner.prepare(*parse_arguments(command, run_ner.TaggingArguments))
    assert model.config.id2label == {0: "O", 1: "B-X"}
    assert [job.data.splits[split][0]["labels"][1:-1] for split in ("train", "test")] == [[0, 1], [1, 0]]


@pytest.mark.parametrize(("train", "is_said"), [(["O", "B-X"], True), ([0, 1], False), (["0", "1"], False)])
def test_numbers_where_training_tags_are_names_are_said_to_count_these(tmp_path, caplog, train, is_said):
    for name, tags in {"train": train, "validation": [1, 0], "test": train}.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"tokens": ["a", "film"], "tags": tags}))
    command = ["--output_dir", "out", "--model_name_or_path", save_model(tmp_path / "model", "Model")]
    command += ["--finetune_teacher", "--train_file", str(tmp_path / "train.jsonl"), "--validation_file"]
    command += [str(tmp_path / "validation.jsonl"), "--test_file", str(tmp_path / "test.jsonl")]
    job, _ = run_ner.prepare(*parse_arguments(command, run_ner.TaggingArguments))
    assert job.data.splits["validation"][0]["labels"][1:-1] == [1, 0]
    said = [each.getMessage() for each in caplog.records if "holds numbers in split" in each.getMessage()]
    assert len(said) == is_said
    assert all("split 'validation'" in each and "count ['O', 'B-X'], from 0" in each for each in said)


@pytest.mark.parametrize(("side", "places"), [("right", [1, 2, 3, 4, 5]), ("left", [None, None, 1, 2, 3, 4, 5])])
def test_every_word_has_the_place_of_its_first_piece_or_none(side, places):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "##b"]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(names)}, truncation_side=side)
    words = [["a", "\ufe0f", "ab", "b", "a"], ["b", "a", "\ufe0f"], list("abbabab")]
    ids = tokenizer(words, is_split_into_words=True, truncation=True, max_length=7)["input_ids"]
    assert run_ner.first_pieces(tokenizer, words, ids) == [[1, None, 2, 4, 5], [1, 2, None], places]


def test_predictions_of_drawn_rows_are_named_by_the_rows_that_they_are_of(tmp_path):
    lengths = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    sentences = ["\n".join(["film B-X"] * length) for length in lengths]
    for name in ("train", "test"):
        (tmp_path / f"{name}.conll").write_text("\n\n".join(sentences) + "\n")
    files = {name: tmp_path / f"{name}.conll" for name in ("train", "test")}
    draw = ["--max_predict_samples", "3"]
    with redirect_stdout(StringIO()):
        words = [word for name, path in files.items() for word in (f"--{name}_file", str(path))]
        model = ["--model_name_or_path", save_model(tmp_path / "model", "Model"), "--output_dir", str(tmp_path / "out")]
        run_ner.main([*words, *model, *(each for each in QUICK if each != "--do_eval"), *draw])
    with (tmp_path / "out" / "predictions" / "w1-d1" / "test.tsv").open() as file:
        rows = [(int(row["index"]), len(row["tags"].split())) for row in csv.DictReader(file, delimiter="\t")]
    assert [lengths[index] for index, _ in rows] == [length for _, length in rows]
    assert [index for index, _ in rows] != [0, 1, 2]


def test_tags_that_hold_blanks_are_told_apart_in_their_cell(tmp_path):
    names = {0: "B-work of art", 1: "I-work of art"}
    row = {"tokens": ["a", "film", "of"], "tags": [names[0], names[1], names[0]]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    named = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    model = save_model(tmp_path / "model", "ForTokenClassification", **named)
    files = [word for name in ("train", "test") for word in (f"--{name}_file", str(tmp_path / "rows.jsonl"))]
    command = [*files, "--model_name_or_path", model, "--output_dir", str(tmp_path / "out"), "--do_predict"]
    with redirect_stdout(StringIO()):
        run_ner.main([*command, *(each for each in QUICK if each[:5] not in ("--do_", "--fin"))])
    with (tmp_path / "out" / "predictions" / "w1-d1" / "test.tsv").open() as file:
        [told] = [row["tags"] for row in csv.DictReader(file, delimiter="\t")]
    inputs = AutoTokenizer.from_pretrained(model)(row["tokens"], is_split_into_words=True, return_tensors="pt")
    best = AutoModelForTokenClassification.from_pretrained(model)(**inputs).logits[0, 1:-1].argmax(-1)
    assert next(csv.reader([told], delimiter=" ")) == [names[int(at)] for at in best]


@pytest.mark.parametrize(("script", "kind"), [(run_qa, run_qa.QuestionArguments), (run_mlm, run_mlm.TextArguments)])
def test_an_order_of_classes_is_refused_where_there_are_none(tmp_path, capsys, script, kind):
    command = ["--train_file", "a.json", "--do_train", "--model_name_or_path", "none", "--output_dir", str(tmp_path)]
    with pytest.raises(SystemExit, match="2"):
        parse_arguments([*command, "--label_order", "a", "b"], kind)
    assert "--label_order was given, but these data have no classes. Leave it out." in capsys.readouterr().err


def test_questions_are_called_by_their_ids_or_else_by_their_rows():
    part = Dataset.from_dict({"question": list("abcd")})
    assert run_qa.ids_of(numbered(part, [1, 3])) == ["1", "3"]
    assert run_qa.ids_of(part.add_column("id", [7, 8, 9, 10])) == ["7", "8", "9", "10"]
    own = part.add_column("row", ["a", "a", "b", "c"])
    assert run_qa.ids_of(own) == ["0", "1", "2", "3"]
    assert run_qa.ids_of(numbered(own, [1, 3])) == ["1", "3"]
    with pytest.raises(InputError, match="The id 'x' is that of several test questions"):
        run_qa.ids_of(part.add_column("id", ["x", "y", "x", "z"]))


def test_questions_of_squads_json_may_lack_ids_and_places_of_their_answers(tmp_path):
    asked = [{"question": each, "answers": [{"text": "film"}]} for each in ("is it", "was it")]
    content = {"data": [{"paragraphs": [{"context": "a good film", "qas": asked}]}]}
    (tmp_path / "test.json").write_text(json.dumps(content))
    part = read_questions(tmp_path / "test.json")
    assert run_qa.ids_of(part) == ["0", "1"]
    tokenizer = AutoTokenizer.from_pretrained(save_model(tmp_path / "model", "Model"))
    windows = Questions.from_rows(part, tokenizer, max_length=16).dataset
    assert [tokenizer.decode(row["input_ids"][row["start_positions"]]) for row in windows] == ["film", "film"]


@pytest.mark.parametrize("hidden", [False, True])
def test_questions_are_answered_from_their_texts_at_every_size(tmp_path, hidden, caplog):
    context = "a film of the good bad dull warm is not never it was long too plot"
    asked = [
        {"id": str(row), "question": "is it", "answers": [{"text": "good bad", "answer_start": 14}] if row % 2 else []}
        for row in range(8)
    ]
    content = {"data": [{"paragraphs": [{"context": context, "qas": asked}]}]}
    files = {name: tmp_path / f"{name}.json" for name in ("train", "validation", "test")}
    for path in files.values():
        path.write_text(json.dumps(content))
    if hidden:  # as the test splits of SQuAD are
        without = [{name: value for name, value in one.items() if name != "answers"} for one in asked]
        files["test"].write_text(json.dumps({"data": [{"paragraphs": [{"context": context, "qas": without}]}]}))
    results = run(run_qa, tmp_path, save_model(tmp_path / "model", "Model"), files)
    assert "exact_match" in json.dumps(results)
    assert (results["train_rows"], results["eval_rows"]) == (8, 8)  # questions, each of several windows
    teacher, baseline = (metric_text(results[of]["f1"]) for of in ("teacher", "baseline"))
    assert f"The teacher is weak: f1 {teacher}, where always predicting the same has {baseline}" in caplog.text
    scored = tmp_path / "out" / "test_results.json"
    scores = None if hidden else json.loads(scored.read_text())
    assert scored.exists() is not hidden
    for size in SIZES:
        answers = json.loads((tmp_path / "out" / "predictions" / size / "test.json").read_text())
        assert list(answers) == [str(row) for row in range(8)]
        assert all(answer in context for answer in answers.values())
        right = [answers[one["id"]] == (one["answers"][0]["text"] if one["answers"] else "") for one in asked]
        assert hidden or scores[size]["exact_match"] == pytest.approx(sum(right) / 8)


def test_a_reader_may_begin_with_a_model_that_told_three_classes_apart(tmp_path):
    row = {"question": "is it", "context": "a good film", "answers": ["film"]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    command = ["--train_file", str(tmp_path / "train.jsonl"), "--do_train", "--output_dir", str(tmp_path / "out")]
    command += ["--model_name_or_path", save_model(tmp_path / "model", "ForSequenceClassification", num_labels=3)]
    command += ["--finetune_teacher", "--max_seq_length", "16"]
    _, model = run_qa.prepare(*parse_arguments(command, run_qa.QuestionArguments))
    assert model.qa_outputs.out_features == 2


@pytest.mark.parametrize(("given", "windows"), [([], 5), (["--doc_stride", "2"], 4)])
def test_windows_share_as_many_tokens_as_were_asked_for(tmp_path, given, windows):
    """Of 30 tokens a window has 11 beside the question, and the next one begins 6, or 9, tokens on."""
    row = {"question": "is it", "context": " ".join(["film"] * 30), "answers": ["film"]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row))
    command = ["--train_file", str(tmp_path / "train.jsonl"), "--do_train", "--output_dir", str(tmp_path / "out")]
    command += ["--model_name_or_path", save_model(tmp_path / "model", "Model"), "--finetune_teacher"]
    command += ["--max_seq_length", "16", *given]
    job, _ = run_qa.prepare(*parse_arguments(command, run_qa.QuestionArguments))
    assert len(job.data.splits["train"]) == windows


@pytest.mark.parametrize("may_be_none", [False, True])
def test_hidden_answers_may_be_none_where_those_of_training_are(tmp_path, may_be_none):
    tokenizer = BertTokenizer(
        vocab={word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abc"])}
    )
    questions = Questions.from_rows([{"question": "a", "context": "b c"}], tokenizer, answer_column=None)
    logits = np.array([[9.0, 0, 0, 2, 1, 0]])  # best at the first token, which is no answer
    output = SimpleNamespace(predictions={"w1-d1": (logits, logits)})
    job = SimpleNamespace(
        evaluation=lambda *args, **kwargs: SimpleNamespace(predict=lambda *args, **kwargs: output),
        data=SimpleNamespace(splits={"test": None}),
        output_dir=tmp_path,
        is_main=True,
    )
    run_qa.write_answers(job, None, {"test": (questions, ["q"])}, may_be_none=may_be_none)
    answers = json.loads((tmp_path / "predictions" / "w1-d1" / "test.json").read_text())
    assert answers == {"q": "" if may_be_none else "b"}


def test_texts_without_labels_adapt_a_language_model(tmp_path):
    files = {name: tmp_path / f"{name}.txt" for name in ("train", "validation", "test")}
    for path in files.values():
        path.write_text("\n".join([" ".join(WORDS[row:] + WORDS[:row]) for row in range(12)] + [""]))
    results = run(run_mlm, tmp_path, save_model(tmp_path / "model", "ForMaskedLM"), files)
    assert "perplexity" in json.dumps(results)
    assert (results["train_rows"], results["eval_rows"]) == (12, 12)  # texts, each of several rows
    tested = json.loads((tmp_path / "out" / "test_results.json").read_text())
    of_sizes = [tested[f"test_{size}_perplexity"] for size in SIZES]
    assert tested["test_mean_perplexity"] == pytest.approx(sum(of_sizes) / 2)


def test_numbers_among_texts_are_read_as_they_are_written(tmp_path):
    tokenizer = BertTokenizer(vocab={word: at for at, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"07"])})
    model = transformers.BertForMaskedLM(BACKBONE_CONFIGS["Bert"](**TINY))
    texts = run_mlm.with_words("train", Dataset.from_dict({"text": [7, None, 0]}), "text")
    rows = run_mlm.tokenised("train", texts, "text", model, tokenizer, 8)
    assert rows["input_ids"][:] == [[2, 5, 3], [2, 4, 3]]


@pytest.mark.parametrize(
    ("script", "head", "rows", "message"),
    [
        (run_ner, "Model", {"tokens": ["a"], "tags": ["O", "O"]}, r"Split 'train': Row 0 has the words .* Give two"),
        (run_ner, "Model", {"body": "a"}, r"no tokens or words\. Name the right one by --text_column_name"),
        (run_qa, "Model", {"question": "a", "context": "b", "answers": "z"}, "has the answer 'z' in column 'answers'"),
        (run_qa, "Model", {"question": "a", "body": "b"}, r"has no column \['context'\]"),
        (run_mlm, "ForMaskedLM", {"body": "a"}, r"no 'text'\. Name the one with the texts by --text_column_name"),
        (run_mlm, "Model", {"text": "a"}, r"has no head that was trained on a task\. Give --finetune_teacher"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_before_any_work(tmp_path, script, head, rows, message):
    (tmp_path / "train.jsonl").write_text("\n".join([json.dumps(rows)] * 4))
    command = ["--train_file", str(tmp_path / "train.jsonl"), "--do_train", "--output_dir", str(tmp_path / "out")]
    new_head = ["--finetune_teacher"] if script is not run_mlm else []
    with pytest.raises(SystemExit, match=message):
        script.main([*command, *new_head, "--model_name_or_path", save_model(tmp_path / "model", head)])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("script", "head", "train", "test", "hint"),
    [
        (run_mlm, "ForMaskedLM", {"text": " ".join(WORDS)}, {"text": "film"}, "Give more text"),
        (run_ner, "Model", {"tokens": ["a"], "tags": [1]}, {"tokens": ["a"], "tags": [-100]}, "Give the first token"),
    ],
)
def test_a_test_split_that_cannot_be_measured_is_refused_before_any_work(tmp_path, script, head, train, test, hint):
    (tmp_path / "train.jsonl").write_text("\n".join([json.dumps(train)] * 4))
    (tmp_path / "test.jsonl").write_text(json.dumps(test))
    command = ["--train_file", str(tmp_path / "train.jsonl"), "--test_file", str(tmp_path / "test.jsonl")]
    command += ["--output_dir", str(tmp_path / "out"), *(each for each in QUICK if each != "--do_eval")]
    with pytest.raises(SystemExit, match=f"Split 'test' has no label in 'labels' but -100, .* {hint}"):
        script.main([*command, "--model_name_or_path", save_model(tmp_path / "model", head)])
    assert not (tmp_path / "out").exists()


def test_a_metric_that_is_not_finite_is_null_in_the_results_of_a_split(tmp_path):
    job = SimpleNamespace(output_dir=tmp_path, is_main=True)
    path = Job.write_results(job, "test", {"test_mean_pearson": float("nan"), "test_mean_loss": 0.5})
    assert json.loads(path.read_text()) == {"test_mean_pearson": None, "test_mean_loss": 0.5}
