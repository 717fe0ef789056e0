"""Stored outputs of a teacher: training from them equals training beside it, and nothing else is taken for them."""

import copy

import pytest
import torch
from helpers.plain_loop import elastic, pad, ragged_rows
from helpers.recipes import make_sentences, make_teacher, run_recipe
from helpers.tiny import make_model, make_tokenizer
from helpers.trainers import make_trainer

from dynabert_hf import StoredOutputs, store_teacher_outputs
from dynabert_hf.tasks import ChoiceCollator
from dynabert_hf.training import stored_outputs


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(stored_outputs, "ROWS_A_PART", {True: 4, False: 4})


def store(teacher, rows, folder, **kwargs):
    settings = {"data_collator": pad, "hidden_states": True, "batch_size": 3, "progress": False}
    return store_teacher_outputs(teacher, rows, folder, **{**settings, **kwargs})


@pytest.mark.parametrize("head", ["ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice"])
def test_training_equals_that_beside_the_teacher(tmp_path, head):
    model, rows = elastic(head), ragged_rows(head)
    teacher = copy.deepcopy(model)
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.mul_(1.1)
    stored = store(teacher, rows, tmp_path / "outputs")
    trained = []
    for number, each in enumerate((teacher, stored)):
        trainer = make_trainer(
            tmp_path / str(number),
            model=copy.deepcopy(model),
            teacher=each,
            teacher_width="full",
            train_dataset=rows,
            eval_dataset=None,
            data_collator=pad,
            optim="sgd",
            learning_rate=0.05,
            logging_steps=50,
        )
        trainer.train()
        trained.append(trainer.model.state_dict())
    for name, weight in trained[0].items():
        torch.testing.assert_close(trained[1][name], weight, rtol=0, atol=1e-6)
    assert any(not torch.equal(weight, trained[1][name]) for name, weight in model.state_dict().items())


def test_outputs_are_those_of_the_teacher_in_the_padding_of_the_batch(tmp_path):
    teacher, rows = elastic("ForTokenClassification").set_active(width=0.5), ragged_rows("ForTokenClassification")
    stored = store(teacher, rows, tmp_path, dtype="float16", hidden_states=False)
    assert str(teacher.active) == "w0.5-d1"
    batch = pad([rows[7], rows[2], rows[5]])
    found = stored.outputs(batch, hidden_states=False)
    mask = batch["attention_mask"].bool()
    with teacher.subnetwork("w1-d1"), torch.no_grad():
        expected = teacher(batch["input_ids"], batch["attention_mask"]).logits
    torch.testing.assert_close(found.logits[mask], expected[mask], rtol=1e-3, atol=1e-3)
    assert found.logits[~mask].abs().max() == 0
    assert stored.facts.hidden_size == 32


@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"])
def test_rows_of_which_some_have_a_label_are_stored_as_those_without(tmp_path, head):
    """Their batches could not be made."""
    teacher, rows = elastic(head), ragged_rows(head)
    bare = [{name: row[name] for name in ("input_ids", "attention_mask")} for row in rows]
    half = [row if number % 2 else {**dict.fromkeys(row), **bare[number]} for number, row in enumerate(rows)]
    tokenizer = make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    batch = pad(bare)
    found = [
        store(teacher, given, tmp_path / name, data_collator=None, processing_class=tokenizer)
        for name, given in (("half", half), ("bare", bare))
    ]
    ours, theirs = (each.outputs(batch, hidden_states=True) for each in found)
    torch.testing.assert_close(dict(ours), dict(theirs), rtol=0, atol=0)


def test_a_teacher_in_training_drops_nothing_and_stays_in_training(tmp_path):
    teacher, rows = make_model(stock={"num_labels": 1, "hidden_dropout_prob": 0.5}), ragged_rows("Regression")
    batch = pad(rows)
    with torch.no_grad():
        expected = teacher.eval()(batch["input_ids"], batch["attention_mask"]).logits
    found = store(teacher.train(), rows, tmp_path).outputs(batch, hidden_states=False).logits
    torch.testing.assert_close(found, expected)
    assert teacher.training


def test_choices_of_several_lengths_are_found_again(tmp_path):
    collate = ChoiceCollator(make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    texts = [[[2, *range(5 + row, 7 + row + (row + choice) % 4), 3] for choice in range(3)] for row in range(5)]
    rows, teacher = [{"input_ids": choices, "labels": 0} for choices in texts], elastic("ForMultipleChoice")
    stored = store(teacher, rows, tmp_path, data_collator=collate)
    stored.check_rows("train_dataset", rows)
    batch = collate([rows[4], rows[1]])
    found = stored.outputs(batch, hidden_states=False)
    torch.testing.assert_close(found.logits, teacher(**batch).logits.detach(), rtol=0, atol=1e-6)
    first, second, last = texts[0]
    for others in ([first, second, last[:-1]], [[*first, second[0]], second[1:], last]):
        with pytest.raises(ValueError, match="rows has a text in row 0"):
            stored.check_rows("rows", [{"input_ids": others}])


def test_an_interrupted_call_goes_on(tmp_path):
    teacher, rows = elastic("Regression"), ragged_rows("Regression")
    asked = []

    def collate(examples):
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(examples)
        return pad(examples)

    with pytest.raises(KeyboardInterrupt):
        store(teacher, rows, tmp_path, data_collator=collate)
    assert sorted(path.name for path in tmp_path.glob("part*")) == ["part-000000.safetensors"]
    with pytest.raises(ValueError, match=r"holds 1 of 3 parts. Call store_teacher_outputs again"):
        StoredOutputs(tmp_path)
    first = (tmp_path / "part-000000.safetensors").stat().st_mtime_ns
    stored = store(teacher, rows, tmp_path)
    assert (tmp_path / "part-000000.safetensors").stat().st_mtime_ns == first
    batch = pad(rows)
    torch.testing.assert_close(stored.outputs(batch, hidden_states=True).logits, teacher(**batch).logits)
    with pytest.raises(ValueError, match=r"holds outputs with \{'data': .*'rows': 9\}.*or another folder"):
        store(teacher, rows[:8], tmp_path)
    other = copy.deepcopy(teacher)
    other.classifier.bias.data += 1
    for given, own, name in ((teacher, {"dtype": "float16"}, "dtype"), (other, {}, "weights")):
        with pytest.raises(ValueError, match=rf"holds outputs with \{{'{name}': '\w+'\}}, now"):
            store(given, rows, tmp_path, **own)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"views": ["mask"]}, r"what a teacher said of the texts as they are. Leave views out"),
        ({"teacher_width": "same"}, r"a StoredOutputs has one size. Give the elastic result"),
        (
            {"train_dataset": ragged_rows("Regression", 12)},
            r"train_dataset has a text in row 9 that the teacher was not",
        ),
        ({"hidden_weight": 1.0}, r"needs hidden states, and .* holds predictions alone. Give hidden_weight=0"),
    ],
)
def test_what_they_do_not_hold_is_refused(tmp_path, settings, message):
    model, rows = elastic("Regression"), ragged_rows("Regression")
    stored = store(copy.deepcopy(model), rows, tmp_path / "outputs", hidden_states=False)
    given = {"teacher_width": "full", "hidden_weight": 0.0, "train_dataset": rows, **settings}
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, model=model, teacher=stored, eval_dataset=None, data_collator=pad, **given)


def test_a_batch_of_another_text_is_refused(tmp_path):
    rows = ragged_rows("Regression")
    stored = store(elastic("Regression"), rows, tmp_path)
    with pytest.raises(
        ValueError, match=r"A batch has the text .* that the teacher was not asked of.*in another folder"
    ):
        stored.outputs(pad([{**rows[0], "input_ids": [5] * len(rows[0]["input_ids"])}]), hidden_states=True)
    with pytest.raises(ValueError, match=r"The data set is a list without rows .* with at least one row"):
        store(elastic("Regression"), [], tmp_path, data_collator=None)
    with pytest.raises(ValueError, match=r"batch_size=0 is not possible. Give a whole number of at least 1"):
        store(elastic("Regression"), rows, tmp_path / "none", batch_size=0)
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match=r"dtype='int8' is unknown. Possible is one of 'float32'"):
        store(elastic("Regression"), rows, tmp_path, dtype="int8")
    with pytest.raises(FileNotFoundError, match=r"holds no teacher_outputs.json. Give a folder"):
        StoredOutputs(tmp_path / "nowhere")


def test_the_recipe_takes_the_folder_of_outputs_for_a_teacher(tmp_path):
    teacher, rows = make_teacher(), make_sentences()
    store_teacher_outputs(teacher, rows, tmp_path / "outputs", hidden_states=True, progress=False)
    settings = {"widths": [0.5, 1.0], "depths": [0.5, 1.0], "train_dataset": rows}
    beside = run_recipe(tmp_path / "beside", teacher=make_teacher(), taught_by=make_teacher(), **settings)
    stored = run_recipe(tmp_path / "stored", teacher=make_teacher(), taught_by=tmp_path / "outputs", **settings)
    for name, weight in beside.model.state_dict().items():
        torch.testing.assert_close(stored.model.state_dict()[name], weight, rtol=0, atol=1e-6)
