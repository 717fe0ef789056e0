"""What the recipe needs of models and data: grids of elastic models, labels only where something is learned."""

import json
import warnings

import pytest
import torch
from datasets import Dataset
from helpers.recipes import GRID, SHALLOW, make_sentences, make_teacher, run_recipe
from helpers.tiny import TINY, make_model, make_tokenizer
from helpers.trainers import make_trainer
from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification, DataCollatorWithPadding
from transformers import default_data_collator as collate

from dynabert_hf import (
    DynaBertForSequenceClassification,
    DynaBertForTokenClassification,
    DynaBertTrainer,
    measure_importance,
)
from dynabert_hf.data.columns import draw
from dynabert_hf.training.argument_checks import warn_of_few_steps
from dynabert_hf.training.arguments import DynaBertTrainingArguments
from dynabert_hf.training.checks import warn_of_equal_sizes
from dynabert_hf.training.rewiring import Importance

OWN_GRID = {"widths": [0.5, 1.0], "depths": [0.5, 1.0], "kept_layers": {"0.5": [1]}}


def mean_logit(outputs, labels, num_items_in_batch):
    return outputs.logits.mean()


def grid_of(result):
    return {name: getattr(result.model.config, name) for name in OWN_GRID}


def assert_equal_weights(one, two):
    assert all(torch.equal(weight, two.state_dict()[name]) for name, weight in one.state_dict().items())


def test_an_elastic_model_keeps_its_grid_as_an_object_and_as_a_folder(tmp_path):
    model = DynaBertForSequenceClassification.from_backbone(make_teacher(), **OWN_GRID)
    model.save_pretrained(tmp_path / "elastic")
    one = run_recipe(tmp_path / "object", model)
    two = run_recipe(tmp_path / "folder", tmp_path / "elastic")
    three = run_recipe(tmp_path / "given", make_teacher(), **OWN_GRID)
    assert grid_of(one) == grid_of(two) == grid_of(three) == OWN_GRID
    assert_equal_weights(one.model, two.model)
    assert_equal_weights(one.model, three.model)
    other = run_recipe(tmp_path / "other", model, widths=(0.25, 1.0))
    assert grid_of(other) == {**OWN_GRID, "widths": [0.25, 1.0]}
    assert {name: getattr(model.config, name) for name in OWN_GRID} == OWN_GRID


def test_a_model_that_was_cut_in_depth_begins_with_a_grid_of_its_own(tmp_path):
    whole = DynaBertForSequenceClassification.from_backbone(make_teacher(num_hidden_layers=6), **GRID)
    model = whole.extract(width=1.0, depth=0.5)
    result = run_recipe(tmp_path, model)
    assert grid_of(result) == {"widths": [0.25, 0.5, 0.75, 1.0], "depths": [0.5, 0.75, 1.0], "kept_layers": None}
    assert result.model.config.num_hidden_layers == 3


def test_a_model_that_was_cut_in_width_is_refused_as_what_it_is(tmp_path):
    model = DynaBertForSequenceClassification.from_backbone(make_teacher(), **GRID).extract(width=0.5, depth=1.0)
    message = (
        r"A DynaBertForSequenceClassification that was cut by extraction was given to learn from\. .* Give the model"
    )
    with pytest.raises(ValueError, match=message):
        run_recipe(tmp_path, model)
    assert not (tmp_path / "run").exists()


def test_a_published_checkpoint_that_names_no_head_is_refused_with_the_way_to_load_it(default_run, tmp_path):
    folder = tmp_path / "published"
    make_teacher().save_pretrained(folder)
    for fields in ({"model_type": "bert"}, {}):
        (folder / "config.json").write_text(json.dumps({**SHALLOW, "finetuning_task": "sst-2", **fields}))
        with pytest.raises((TypeError, ValueError), match=r"DynaBertForSequenceClassification\.from_pretrained"):
            run_recipe(tmp_path, folder)
    result = run_recipe(tmp_path, DynaBertForSequenceClassification.from_pretrained(folder), **GRID)
    assert_equal_weights(result.model, default_run[0].model)


def test_sizes_that_are_the_same_network_are_said(tmp_path):
    small = BertConfig(**{**TINY, "num_attention_heads": 2, "num_hidden_layers": 2})
    torch.manual_seed(0)
    sizes = {"widths": (0.25, 0.5, 0.75, 1.0), "depths": (0.5, 0.75, 1.0)}
    message = (
        r"same network under several names: w0\.25-d0\.5 and w0\.5-d0\.5; w0\.25-d0\.75 and .* 2 heads and 2 layers"
    )
    with pytest.warns(UserWarning, match=message):
        run_recipe(tmp_path, BertForSequenceClassification(small), eval_dataset=None, **sizes)


def test_of_several_processes_one_says_which_sizes_are_the_same(monkeypatch):
    config = make_model(num_attention_heads=2, widths=(0.25, 0.5, 1.0)).config
    with pytest.warns(UserWarning, match="same network under several names"):
        warn_of_equal_sizes(config)
    monkeypatch.setenv("RANK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_equal_sizes(config)


def test_layer_shapes_that_are_a_size_of_the_grid_are_said_by_their_names():
    config = make_model(num_hidden_layers=1, widths=(1.0,), depths=(1.0,), sizes=["l0h4n48"]).config
    with pytest.warns(UserWarning, match=r"under several names: w1-d1 and l0h4n48\. With 4 heads and 1 layers"):
        warn_of_equal_sizes(config)


def test_layers_kept_for_a_depth_that_no_size_has_are_said(tmp_path, caplog):
    rounded = {"depths": (1 / 3, 1.0), "kept_layers": {"0.3333": [1]}, "widths": [1.0], "eval_dataset": None}
    run_recipe(tmp_path, BertForSequenceClassification(BertConfig(**{**TINY, "num_hidden_layers": 3})), **rounded)
    assert "kept_layers has no effect for depth 0.3333: no size has it. Possible are the depths [0.33333" in caplog.text


def test_few_steps_are_said_before_any_work_unless_max_steps_says_so(tmp_path, caplog):
    short = {"eval_dataset": None, "per_device_train_batch_size": 5, "gradient_accumulation_steps": 2}
    run_recipe(tmp_path, max_steps=-1, num_train_epochs=1.5, **short)  # 12 rows: batches of 5, 5 and 2, two steps
    assert json.loads((tmp_path / "run" / "3-depth" / "history.json").read_text())[-1]["step"] == 3
    few = [record.getMessage() for record in caplog.records if "hundreds of steps" in record.getMessage()]
    assert few == [
        "Stage 'depth' has 3 steps: 12 rows, num_train_epochs=1.5. Small sizes learn in hundreds of steps. "
        "num_train_epochs=200 gives about 400. If few are enough, say how many by max_steps=3."
    ]
    texts = caplog.text
    assert texts.index("Stage 'depth' has 3 steps") < texts.index("Stage 'depth' of the recipe")
    caplog.clear()
    run_recipe(tmp_path / "meant", max_steps=3, **short)
    assert "hundreds of steps" not in caplog.text


@pytest.mark.parametrize(
    ("loss", "given", "is_said"),
    [
        (mean_logit, {}, True),
        (None, {}, False),
        (mean_logit, {"label_weight": 0.5}, False),
        (mean_logit, {"finetune": True}, False),
    ],
)
def test_a_loss_on_labels_that_no_stage_learns_from_is_said_once_before_any_work(
    tmp_path, caplog, loss, given, is_said
):
    run_recipe(tmp_path, eval_dataset=None, compute_loss_func=loss, max_steps=1, **given)
    before, after = caplog.text.split("Stage 'depth' of the recipe", maxsplit=1)
    assert before.count("compute_loss_func is the loss on labels, but with label_weight=0") == is_said
    assert "compute_loss_func is" not in after


@pytest.mark.parametrize(
    ("given", "is_said"), [({}, True), ({"label_weight": 0.5}, False), ({"finetune": True}, False)]
)
def test_smoothed_labels_that_no_stage_learns_from_are_said(tmp_path, caplog, given, is_said):
    run_recipe(tmp_path, eval_dataset=None, label_smoothing_factor=0.1, max_steps=1, **given)
    assert ("label_smoothing_factor changes the loss on labels, but with label_weight=0" in caplog.text) is is_said


class WithOwnLoss(DynaBertTrainer):
    calls = 0

    def compute_loss(self, *args, **kwargs):
        self.calls += 1
        return super().compute_loss(*args, **kwargs)


class CallsItsLoss(WithOwnLoss):
    def pair_loss(self, model, inputs, pair, teacher):
        return self.compute_loss(model, dict(inputs))


@pytest.mark.parametrize(
    ("kind", "given", "is_called"),
    [
        (WithOwnLoss, {}, False),
        (WithOwnLoss, {"label_weight": 0.5}, True),
        (CallsItsLoss, {}, True),
    ],
)
def test_a_stage_says_that_it_does_not_call_the_loss_of_its_trainer(tmp_path, caplog, kind, given, is_called):
    trainer = make_trainer(tmp_path, "depth", max_steps=1, **given)
    trainer.__class__ = kind
    trainer.train()
    assert (trainer.calls > 0) is is_called
    assert ("WithOwnLoss.compute_loss is the loss on labels, but" in caplog.text) is not is_called


@pytest.mark.parametrize(("given", "is_said"), [({}, True), ({"label_weight": 0.5}, False)])
def test_a_stage_of_its_own_says_that_it_does_not_call_a_loss_on_labels(tmp_path, caplog, given, is_said):
    calls = []

    def loss(outputs, labels, num_items_in_batch):
        calls.append(labels)
        return mean_logit(outputs, labels, num_items_in_batch)

    make_trainer(tmp_path, "depth", compute_loss_func=loss, max_steps=1, **given).train()
    assert bool(calls) is not is_said
    assert ("compute_loss_func is the loss on labels, but" in caplog.text) is is_said


@pytest.mark.parametrize(("epochs", "is_said"), [(16, False), (15, True)])
def test_two_hundred_steps_are_not_few(epochs, is_said, caplog):
    args = DynaBertTrainingArguments("unused", stage="depth", per_device_train_batch_size=32, num_train_epochs=epochs)
    warn_of_few_steps(range(400), args)  # 13 steps an epoch: 208 and 195
    assert ("num_train_epochs=31 gives about 400" in caplog.text) is is_said


def test_distillation_is_the_same_without_labels(tmp_path):
    data, labelled = make_sentences(), make_sentences(8)
    hidden = data.remove_columns("labels").add_column("labels", [-1] * len(data))
    results = [
        run_recipe(tmp_path / str(number), train_dataset=each, importance_dataset=labelled)
        for number, each in enumerate((data, data.remove_columns("labels"), hidden))
    ]
    for other in results[1:]:
        assert_equal_weights(results[0].model, other.model)
        assert [row.metrics for row in other.rows] == [row.metrics for row in results[0].rows]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"importance_labels": "data"},
            r"train_dataset has the columns \['input_ids'\] but no labels, by which .* importance_dataset are enough",
        ),
        ({"importance_dataset": "unlabelled"}, "importance_dataset has the columns"),
        ({"importance_dataset": "hidden"}, "importance_dataset has the label -1 in row 0"),
        ({"importance_dataset": "labelled", "finetune": True}, "has no labels, but stage 'finetune' learns from them"),
        ({"importance_dataset": "labelled", "label_weight": 0.5}, r"has no labels, but label_weight=0\.5 learns from"),
    ],
)
def test_missing_labels_are_said_before_any_work(tmp_path, given, message):
    labelled = make_sentences(8)
    unlabelled = labelled.remove_columns("labels")
    forms = {
        "labelled": labelled,
        "unlabelled": unlabelled,
        "hidden": unlabelled.add_column("labels", [-1] * len(unlabelled)),
    }
    given = {name: forms.get(value, value) if isinstance(value, str) else value for name, value in given.items()}
    with pytest.raises(ValueError, match=message):
        run_recipe(tmp_path, train_dataset=unlabelled, **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("hidden", [False, True])
def test_evaluation_data_without_labels_give_no_metrics(tmp_path, hidden):
    rows = make_sentences(8).remove_columns("labels")
    result = run_recipe(tmp_path, eval_dataset=rows.add_column("labels", [None] * 8) if hidden else rows)
    assert [row.metrics for row in result.rows] == [{}] * 4
    assert result.teacher_metrics == {}


def importance_of(teacher, rows):
    """On the rows as one batch."""
    elastic = DynaBertForSequenceClassification.from_backbone(teacher)
    return measure_importance(elastic, [collate(list(rows))], progress=False)


def assert_found(tmp_path, expected):
    found = Importance.load(tmp_path / "run" / "1-rewired" / "importance.safetensors")
    torch.testing.assert_close(found.heads, expected.heads)
    torch.testing.assert_close(found.neurons, expected.neurons)


def test_importance_is_measured_on_rows_drawn_by_the_seed(tmp_path):
    ordered = Dataset.from_list(sorted(make_sentences(40).to_list(), key=lambda row: row["labels"]))
    run_recipe(tmp_path, train_dataset=ordered, max_importance_samples=6, seed=7)
    drawn = draw(ordered, 6, 7)
    assert sorted(drawn["labels"]) == [0, 0, 0, 1, 1, 1]
    assert_found(tmp_path, importance_of(make_teacher(), drawn))


@pytest.mark.parametrize("missing", ["all", "some"])
def test_without_labels_in_all_rows_importance_is_that_of_predictions(tmp_path, missing):
    data, teacher = make_sentences(), make_teacher(num_labels=3).eval()
    with torch.no_grad():
        predicted = teacher(input_ids=torch.tensor(data["input_ids"])).logits.argmax(-1).tolist()
    unlabelled, lacking = data.remove_columns("labels"), data.remove_columns("labels")
    if missing == "some":
        lacking = lacking.add_column("labels", [None if row % 3 else label for row, label in enumerate(data["labels"])])
    run_recipe(tmp_path, teacher, train_dataset=lacking, eval_dataset=None)
    assert_found(tmp_path, importance_of(teacher, unlabelled.add_column("labels", predicted)))


def test_predictions_stand_in_for_labels_if_asked(tmp_path):
    data, teacher = make_sentences(), make_teacher(num_labels=3).eval()
    with torch.no_grad():
        predicted = teacher(input_ids=torch.tensor(data["input_ids"])).logits.argmax(-1).tolist()
    unlabelled = data.remove_columns("labels")
    run_recipe(tmp_path, teacher, train_dataset=unlabelled, eval_dataset=None, importance_labels="predictions")
    assert_found(tmp_path, importance_of(teacher, unlabelled.add_column("labels", predicted)))


def test_predictions_of_a_regression_say_nothing_about_importance(tmp_path):
    data = make_sentences().remove_columns("labels")
    with pytest.raises(ValueError, match=r"importance_labels='predictions' is not possible for a regression"):
        run_recipe(tmp_path, make_teacher(num_labels=1), train_dataset=data, importance_labels="predictions")


def test_predictions_of_tokens_leave_out_padding(tmp_path):
    torch.manual_seed(0)
    teacher = BertForTokenClassification(BertConfig(**SHALLOW, num_labels=3)).eval()
    ids = torch.tensor(make_sentences(4)["input_ids"])
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    with torch.no_grad():
        labels = teacher(input_ids=ids, attention_mask=mask).logits.argmax(-1).masked_fill(mask == 0, -100)
    rows = Dataset.from_dict({"input_ids": ids.tolist(), "attention_mask": mask.tolist()})
    run_recipe(tmp_path, teacher, train_dataset=rows, eval_dataset=None, importance_labels="predictions")
    elastic = DynaBertForTokenClassification.from_backbone(teacher)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    assert_found(tmp_path, measure_importance(elastic, [batch], progress=False))


def test_labels_that_the_collator_makes_count(tmp_path):
    def labelled(rows):
        return {**collate([{"input_ids": row["input_ids"]} for row in rows]), "labels": torch.tensor([0] * len(rows))}

    result = run_recipe(
        tmp_path,
        train_dataset=make_sentences().remove_columns("labels"),
        eval_dataset=make_sentences(8).remove_columns("labels"),
        data_collator=labelled,
        label_weight=0.5,
    )
    assert set(result.rows[0].metrics) == {"loss", "accuracy"}


def test_the_columns_of_text_that_were_named_are_read_and_cut(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(5, 99))]
    tokenizer = make_tokenizer(words, model_max_length=20)
    rows = [{"text": "w9", "label": 0, "one": f"w{5 + n} w7", "two": "w8 w6 w5", "gold": n % 2} for n in range(8)]
    cut = {"truncation": True, "max_length": 7}
    tokens = [{**tokenizer(row["one"], row["two"], **cut), "labels": row["gold"]} for row in rows]
    data = {"eval_dataset": None, "processing_class": tokenizer, "label_weight": 0.5}
    named = {"text_columns": ["one", "two"], "label_column": "gold", "max_length": 7}
    one = run_recipe(tmp_path / "text", train_dataset=rows, **data, **named).model.state_dict()
    two = run_recipe(tmp_path / "tokens", train_dataset=tokens, **data).model.state_dict()
    assert all(torch.equal(weight, two[name]) for name, weight in one.items())


def test_text_is_tokenised_for_a_collator_of_ones_own_unless_it_gets_all_columns(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(5, 99))]
    tokenizer = make_tokenizer(words, model_max_length=20)
    rows = [{"text": f"w{5 + n} w{9 + n}" + " w7" * (n % 3), "label": n % 2} for n in range(8)]
    seen = []

    def from_text(examples):
        seen.extend(examples)
        batch = tokenizer([each["text"] for each in examples], padding=True, return_tensors="pt")
        return {**batch, "labels": torch.tensor([each["label"] for each in examples])}

    data = {"train_dataset": rows, "eval_dataset": rows, "processing_class": tokenizer}
    padding = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8)
    one = run_recipe(tmp_path / "tokens", **data, data_collator=padding)
    two = run_recipe(tmp_path / "text", **data, remove_unused_columns=False, data_collator=from_text)
    assert all(each["text"] for each in seen)
    assert len(one.rows) == len(two.rows) == 4
    assert all("accuracy" in row.metrics for row in (*one.rows, *two.rows))
