"""The recipe in one call, on a tiny model and sentences made on the spot."""

import csv
import json
import re
import warnings

import numpy as np
import pytest
import torch
from datasets import Dataset
from helpers.backbones import make_stock, run
from helpers.glue_tasks import save_model
from helpers.recipes import GRID, SHALLOW, make_sentences, make_teacher, run_recipe
from helpers.tiny import TINY, make_small
from helpers.trainers import make_trainer
from huggingface_hub import ModelCard
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DataCollatorWithPadding,
    ElectraConfig,
    ElectraForPreTraining,
    GPT2Config,
    GPT2ForSequenceClassification,
    T5Config,
    T5ForSequenceClassification,
)

import dynabert_hf
from dynabert_hf import (
    DynaBertForSequenceClassification,
    DynaBertTrainer,
    DynaBertTrainingArguments,
    LayerShape,
    SubNetwork,
    SubNetworkError,
    measure_importance,
)
from dynabert_hf.training.rewiring import Importance


def test_the_recipe_returns_a_model_and_a_row_for_every_size(tmp_path, family):
    teacher = make_teacher(family)
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    result = run_recipe(tmp_path, teacher, finetune=True)
    assert [row.size for row in result.rows] == list(result.model.config.subnetworks)
    assert result.rows[-1].size == SubNetwork()
    assert result.rows[-1].parameters == sum(parameter.numel() for parameter in teacher.parameters())
    assert all(0 <= row.metrics["accuracy"] <= 1 for row in result.rows)
    assert set(result.teacher_metrics) == {"loss", "accuracy"}
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())


def test_a_list_of_sizes_is_trained_with_the_full_size_alone_and_named_everywhere(tmp_path):
    sizes = ["w0.25-d0.5", (LayerShape(0, 3, 20), LayerShape(1, 1, 48))]
    names = ["w0.25-d0.5", "l0h3n20-l1h1n48", "w1-d1"]
    result = run_recipe(tmp_path, sizes=sizes)
    assert [row.name for row in result.rows] == names
    folder = tmp_path / "run" / "model"
    table = json.loads((folder / "results.json").read_text())
    assert [row["size"] for row in table["sub_networks"]] == names
    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    assert set(loaded.config.metrics) == {"teacher", "baseline", *names}
    loaded.set_active(names[1])
    assert loaded.active == sizes[1]
    assert "| `l0h3n20-l1h1n48` | 1-3 heads | 2 layers |" in (folder / "README.md").read_text()
    with pytest.raises(ValueError, match=r"sizes is empty\. Give at least one size"):
        run_recipe(tmp_path / "other", sizes=[])
    with pytest.raises(SubNetworkError, match=r"LayerShape\(index=0, heads=5, neurons=20\), which this model does not"):
        run_recipe(tmp_path / "other", sizes=[(LayerShape(0, 5, 20),)])
    assert not (tmp_path / "other" / "run").exists()


@pytest.mark.parametrize("size", [None, "w1-d0.5"])
def test_what_was_cut_of_a_vocabulary_is_told_of_the_model_that_is_trained_on(tmp_path, size):
    cut = {
        when: {"tokens": count, "parameters": 9, "weights_mb": 1.0} for when, count in (("before", 500), ("after", 99))
    }
    model = DynaBertForSequenceClassification.from_backbone(make_teacher(), trimmed_vocabulary=cut, **GRID)
    model = model if size is None else model.extract(size)
    run_recipe(tmp_path, model, widths=(1.0,), depths=(1.0,), eval_dataset=None)
    saved = DynaBertForSequenceClassification.from_pretrained(tmp_path / "run" / "model")
    assert saved.config.trimmed_vocabulary == cut
    assert "cut from 500 tokens to the 99" in " ".join((tmp_path / "run" / "model" / "README.md").read_text().split())


def test_the_sizes_of_an_elastic_model_are_those_to_train_and_another_list_is_another_run(tmp_path):
    first = run_recipe(tmp_path, sizes=["l0h3n20-l1h1n48"])
    again = run_recipe(tmp_path / "again", first.model)
    assert [row.name for row in again.rows] == ["l0h3n20-l1h1n48", "w1-d1"]
    with pytest.raises(ValueError, match="sizes"):
        run_recipe(tmp_path, sizes=["l0h3n20-l1h1n47"])


def test_the_table_and_the_model_are_saved(default_run):
    result, folder = default_run[0], default_run[1] / "run" / "model"
    table = json.loads((folder / "results.json").read_text())
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    assert [row["accuracy"] for row in table["sub_networks"]] == [row.metrics["accuracy"] for row in result.rows]
    assert [float(row["flops"]) for row in rows] == [row.flops for row in result.rows]
    loaded = AutoModelForSequenceClassification.from_pretrained(folder)
    assert torch.equal(loaded.classifier.weight, result.model.classifier.weight)
    stored = {str(row.size): row.metrics for row in result.rows}
    references = {"teacher": result.teacher_metrics, "baseline": result.baseline_metrics}
    assert loaded.config.metrics == {**stored, **references}


def test_importance_is_measured_on_batches_in_the_order_of_the_data(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(save_model(tmp_path / "words"))
    lengths = [9, 2, 7, 3, 8, 2, 9, 4, 6, 3, 8, 2]
    rows = [{"input_ids": list(range(5, 5 + length)), "labels": row % 2} for row, length in enumerate(lengths)]
    run_recipe(
        tmp_path, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, per_device_eval_batch_size=4
    )
    collate = DataCollatorWithPadding(tokenizer)
    batches = [collate(rows[start : start + 4]) for start in range(0, len(rows), 4)]
    elastic = DynaBertForSequenceClassification.from_backbone(make_teacher())
    expected = measure_importance(elastic, batches, progress=False)
    found = Importance.load(tmp_path / "run" / "1-rewired" / "importance.safetensors")
    torch.testing.assert_close(found.heads, expected.heads)
    torch.testing.assert_close(found.neurons, expected.neurons)


def test_an_interrupted_run_goes_on_where_it_stopped(default_run, tmp_path, monkeypatch):
    whole = default_run[0].model.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr("dynabert_hf.training.recipe.measure", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_recipe(tmp_path / "cut")
    resumed = run_recipe(tmp_path / "cut").model.state_dict()
    assert all(torch.equal(resumed[name], weight) for name, weight in whole.items())


def test_other_settings_another_model_or_other_data_in_the_same_folder_are_refused(finished):
    with pytest.raises(ValueError, match=r"holds a run with .*'max_steps': 2.* now .*'max_steps': 3.* Give the same"):
        run_recipe(finished, max_steps=3)
    torch.manual_seed(1)
    other = BertForSequenceClassification(BertConfig(**SHALLOW, num_labels=2))
    with pytest.raises(ValueError, match=r"holds a run with {'model': '\w+'}, now {'model': '\w+'} is asked"):
        run_recipe(finished, other)
    rows = make_sentences().to_list()
    run_recipe(finished, train_dataset=rows)
    rows[-1] = {**rows[-1], "labels": 1 - rows[-1]["labels"]}
    with pytest.raises(ValueError, match=r"holds a run with {'train_dataset': '\w+'}, now"):
        run_recipe(finished, train_dataset=rows)


def test_the_result_is_pushed_once_at_the_end(tmp_path, monkeypatch):
    pushed = []
    monkeypatch.setattr(
        "dynabert_hf.training.publishing.push_folder",
        lambda folder, repo_id, **about: pushed.append((folder, repo_id, about)),
    )
    run_recipe(tmp_path, push_to_hub=True, hub_token="secret", hub_private_repo=True)
    about = {"private": True, "revision": None, "token": "secret"}
    assert pushed == [(tmp_path / "run" / "model", "run", about)]
    assert "secret" not in (tmp_path / "run" / "run.json").read_text()
    run_recipe(tmp_path, push_to_hub=True, hub_model_id="me/final")
    assert pushed[1][1] == "me/final"


@pytest.mark.parametrize("name", ["my model", "a/b/c"])
def test_a_name_that_the_hub_does_not_take_is_refused_before_any_work(tmp_path, name):
    message = rf"cannot be called '{name}' on the Hub: .* Give a hub_model_id such as 'me/my-model'"
    with pytest.raises(ValueError, match=message):
        run_recipe(tmp_path, push_to_hub=True, hub_model_id=name)
    assert not (tmp_path / "run").exists()


def test_a_teacher_in_half_precision_is_trained_in_full(tmp_path):
    assert run_recipe(tmp_path, make_teacher().bfloat16()).model.dtype == torch.float32


@pytest.mark.parametrize("given", [{"train_dataset": "stream"}, {"eval_dataset": "several"}])
def test_data_without_numbered_rows_is_refused(tmp_path, given):
    forms = {"stream": make_sentences().to_iterable_dataset(), "several": {"one": make_sentences()}}
    [(name, form)] = given.items()
    needs = {
        "stream": r"IterableDataset\. The recipe needs one data set of known length",
        "several": r"dict of \['one'\]\. Possible is one data set\. Give one of these, such as data\['one'\]",
    }
    with pytest.raises(ValueError, match=rf"{name} is a {needs[form]}"):
        run_recipe(tmp_path, **{name: forms[form]})
    assert not (tmp_path / "run").exists()


def test_a_model_with_adapters_is_refused_by_name(tmp_path):
    peft = pytest.importorskip("peft")
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # said to peft
    adapted = peft.get_peft_model(make_teacher(), peft.LoraConfig(target_modules=["query"]))
    with pytest.raises(TypeError, match=r"is a PeftModel\. Possible are .*merge_and_unload"):
        run_recipe(tmp_path, adapted)


@pytest.mark.parametrize(
    ("problem_type", "metric"), [("multi_label_classification", "accuracy"), ("regression", "mse")]
)
def test_models_with_several_answers_are_measured(tmp_path, problem_type, metric):
    teacher = make_teacher(num_labels=3, problem_type=problem_type)
    data = make_sentences().remove_columns("labels").add_column("labels", [[1.0, 0.0, 1.0]] * 12)
    result = run_recipe(tmp_path, teacher, train_dataset=data, eval_dataset=data)
    assert all(row.metrics[metric] >= 0 for row in result.rows)


def test_a_regression_model_reports_error_and_correlation(tmp_path):
    data = make_sentences(regression=True)
    result = run_recipe(tmp_path, make_teacher(num_labels=1), train_dataset=data, eval_dataset=data)
    assert set(result.rows[0].metrics) == {"loss", "mse", "pearson"}


def test_without_evaluation_data_there_are_no_metrics(tmp_path):
    result = run_recipe(tmp_path, eval_dataset=None)
    assert [row.metrics for row in result.rows] == [{}] * 4


def test_a_folder_of_a_fine_tuned_model_is_a_teacher(tmp_path):
    make_teacher().save_pretrained(tmp_path / "teacher")
    result = run_recipe(tmp_path, tmp_path / "teacher", **GRID)
    assert type(result.model).__name__ == "DynaBertForSequenceClassification"


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"], "labels": [0]}, "no 'input_ids'. Tokenise it first: .* themselves with processing_class"),
        ({"input_ids": [], "labels": []}, "train_dataset is empty"),
    ],
)
def test_a_data_set_that_cannot_be_trained_on_is_refused(tmp_path, columns, message):
    with pytest.raises(ValueError, match=message):
        run_recipe(tmp_path, train_dataset=Dataset.from_dict(columns))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda: AlbertForSequenceClassification(AlbertConfig(**{**TINY, "embedding_size": 8, "num_hidden_layers": 1})),
        lambda: GPT2ForSequenceClassification(GPT2Config(n_embd=32, n_head=4, n_layer=1, vocab_size=99)),
        lambda: T5ForSequenceClassification(T5Config(d_model=32, d_kv=8, d_ff=48, num_heads=4, num_layers=1)),
        lambda: ElectraForPreTraining(ElectraConfig(**{**TINY, "embedding_size": 16})),
    ],
    ids=["another encoder", "decoder", "encoder-decoder", "head without a task"],
)
def test_what_cannot_be_trained_is_refused_with_what_can(tmp_path, make):
    model = make()
    message = rf"{type(model).__name__}.* Possible are .* of BERT, RoBERTa, .*, EuroBERT, with .* in ForSeq.* Fine-tune"
    with pytest.raises(TypeError, match=message):
        run_recipe(tmp_path, model)
    model.save_pretrained(tmp_path / "saved")
    with pytest.raises(TypeError, match=message):
        run_recipe(tmp_path, tmp_path / "saved")
    assert not (tmp_path / "run").exists()


def test_a_forward_pass_of_ones_own_is_refused_which_neither_teacher_nor_sizes_would_have(tmp_path):
    class Doubled(DynaBertForSequenceClassification):
        def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
            outputs = super().forward(input_ids, attention_mask, **kwargs)
            outputs.logits = -2 * outputs.logits
            return outputs

    model = Doubled(make_small().config)
    with pytest.raises(TypeError, match=r"is a Doubled, whose forward .* class DynaBertForSequenceClassification, or"):
        run_recipe(tmp_path, model)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", ["Bert", "DebertaV2"])
def test_a_folder_that_names_no_class_is_refused_with_the_one_of_its_type_that_loads_it(tmp_path, family):
    stock = make_stock(family)
    stock.save_pretrained(tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    del config["architectures"]
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    with pytest.raises(TypeError, match="holds no named architecture") as refused:
        run_recipe(tmp_path, tmp_path / "old")
    [name] = re.findall(r"load it by (\w+)\.from_pretrained", str(refused.value))
    for ours, theirs in zip(run(getattr(dynabert_hf, name).from_pretrained(tmp_path / "old")), run(stock), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)  # lies elsewhere in memory, which rounds


def test_a_model_without_a_task_head_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"BertModel\. Possible are .* Fine-tune one"):
        run_recipe(tmp_path, BertModel(BertConfig(**TINY)))


def test_the_card_says_what_was_measured(tmp_path):
    result = run_recipe(tmp_path, stages=("width", "depth"), finetune=True, pictures=True)
    folder = tmp_path / "run" / "model"
    card = ModelCard.load(folder / "README.md")
    found = {each.metric_name: each.metric_value for each in card.data.eval_results}
    ends = (result.rows[-1], result.rows[0])
    assert found == {f"accuracy of {row.name}": round(row.metrics["accuracy"], 4) for row in ends}
    assert "Metrics were measured on 8 rows of the evaluation data." in card.text
    assert "Training used 12 rows." in card.text
    assert len(re.findall(r"^\| `w[\d.]+-d", card.text, re.MULTILINE)) == len(result.rows)
    assert "| `max_steps` | 2 | 2 | 2 |" in card.text
    assert (folder / "pareto.png").stat().st_size > 1000
    assert (folder / "grid.png").stat().st_size > 1000
    assert str(tmp_path) not in card.text


def test_the_card_of_the_default_recipe_tells_of_no_stage_that_was_not_trained(default_run):
    text = ModelCard.load(default_run[1] / "run" / "model" / "README.md").text
    assert "Stage `depth`" in text
    assert "stage `width`" not in text


def test_a_regression_has_a_card_with_pictures_of_its_correlation(tmp_path):
    data = make_sentences(regression=True)
    run_recipe(tmp_path, make_teacher(num_labels=1), train_dataset=data, eval_dataset=data, pictures=True)
    card = ModelCard.load(tmp_path / "run" / "model" / "README.md")
    assert {"pearson of w0.5-d0.5", "pearson of w1-d1"} == {each.metric_name for each in card.data.eval_results}
    assert "![pearson over cost of every size](pareto.png)" in card.text


@pytest.mark.parametrize("is_off", [False, True])
def test_the_table_is_shown_at_the_end_unless_bars_are_off(tmp_path, capsys, is_off):
    run_recipe(tmp_path, max_steps=1, strategy="sandwich", widths=(0.5, 1.0), depths=(1.0,), disable_tqdm=is_off)
    shown = "of one DynaBertForSequenceClassification" in capsys.readouterr().out
    assert shown is not is_off


def test_by_default_one_stage_learns_from_the_fine_tuned_model_without_dropout(tmp_path, monkeypatch):
    seen = watch_stages(monkeypatch)
    teacher = make_teacher()
    teacher.config.hidden_dropout_prob = 0.2
    result = run_recipe(tmp_path, teacher)
    [(args, student, source)] = seen
    assert (args.stage, args.strategy, args.teacher_width) == ("depth", "sandwich", "full")
    assert source is teacher
    assert {module.p for module in student.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
    assert result.model.config.hidden_dropout_prob == result.model.bert.embeddings.dropout.p == 0.2


def test_the_stages_of_the_paper_hand_on_their_result(tmp_path, monkeypatch):
    seen = watch_stages(monkeypatch)
    run_recipe(tmp_path, stages=("width", "depth"), dropout=None, finetune=True)
    assert [args.stage for args, _, _ in seen] == ["width", "depth", "finetune"]
    (_, _, first), (args, student, second), (_, _, third) = seen
    assert type(first) is BertForSequenceClassification
    assert type(second) is type(student)
    assert second is not student
    assert args.teacher_width == "same"
    assert third is None


def watch_stages(monkeypatch):
    """The arguments, student and teacher of every stage that is trained."""
    seen = []
    train = DynaBertTrainer.train

    def watched(self, *args, **kwargs):
        seen.append((self.args, self.model, self.teacher))
        return train(self, *args, **kwargs)

    monkeypatch.setattr("dynabert_hf.training.trainer.DynaBertTrainer.train", watched)
    return seen


@pytest.mark.parametrize("stages", [(), ("width",), ("depth", "width"), "depth", ("depth", "finetune")])
def test_impossible_stages_are_refused(tmp_path, stages):
    with pytest.raises(ValueError, match=r"is not possible\. Give one of \('depth',\), \('width', 'depth'\)"):
        run_recipe(tmp_path, stages=stages)
    assert not (tmp_path / "run").exists()


def test_several_devices_in_one_process_are_refused_before_anything_is_rewired(tmp_path, monkeypatch):
    monkeypatch.setattr(DynaBertTrainingArguments, "n_gpu", 2)
    with pytest.raises(ValueError, match=r"has 2 devices.*start 2 processes by accelerate"):
        run_recipe(tmp_path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_an_impossible_dropout_is_refused(tmp_path, dropout):
    with pytest.raises(ValueError, match=rf"dropout={dropout} is not possible\. Give a probability in \[0, 1\)"):
        run_recipe(tmp_path, dropout=dropout)


def test_extra_outputs_of_the_teacher_are_not_asked_of_the_result(tmp_path):
    results = []
    for number, extra in enumerate(({}, {"output_hidden_states": True, "output_attentions": True})):
        teacher = make_teacher()
        teacher.set_attn_implementation("eager")
        teacher.config.update(extra)
        results.append(run_recipe(tmp_path / str(number), teacher=teacher))
        assert {name: getattr(teacher.config, name) for name in extra} == extra
    plain, told = results
    assert [row.metrics["accuracy"] for row in told.rows] == [row.metrics["accuracy"] for row in plain.rows]
    assert not told.model.config.output_hidden_states
    assert not told.model.config.output_attentions


def test_the_baseline_stands_beside_the_teacher_and_a_weak_teacher_is_said(tmp_path, caplog):
    rows = make_sentences(8).remove_columns("labels").add_column("labels", [1, 1, 1, 1, 1, 0, 1, 0])
    result = run_recipe(tmp_path, eval_dataset=rows)
    assert result.baseline_metrics == {"accuracy": 0.75}
    assert "The teacher is weak: accuracy 0." in caplog.text
    assert "always predicting the same has 0.7500" in caplog.text
    assert "The head of the BertForSequenceClassification looks untrained" in caplog.text
    folder = tmp_path / "run" / "model"
    assert json.loads((folder / "results.json").read_text())["baseline"] == {"accuracy": 0.75}
    card = (folder / "README.md").read_text()
    assert re.search(r"\| baseline \|  \|  \| 0\.7500 \|", card)
    assert "The baseline is the same prediction for every row" in card
    assert re.search(r"^baseline +0\.7500", str(result), re.MULTILINE)


def test_a_teacher_that_learned_something_is_not_called_weak(tmp_path, caplog):
    teacher, rows = make_teacher().eval(), make_sentences(8)
    tokens = torch.tensor(rows["input_ids"])
    with torch.no_grad():
        first, second = teacher(tokens).logits.T
        teacher.classifier.bias[1] = (first - second).quantile(0.5)  # so that it says either of half of the rows
        said = teacher(tokens).logits.argmax(-1).tolist()
    assert sum(said) == 4
    said[0] = 1 - said[0]  # one mistake
    result = run_recipe(tmp_path, teacher, eval_dataset=rows.remove_columns("labels").add_column("labels", said))
    assert result.teacher_metrics["accuracy"] == 7 / 8
    assert "weak" not in caplog.text
    assert "untrained" not in caplog.text


def test_metrics_that_cannot_take_constant_predictions_leave_the_baseline_out(tmp_path, caplog):
    def metrics(prediction):
        if len({tuple(row) for row in prediction.predictions.tolist()}) == 1:
            raise ZeroDivisionError("no spread")
        return {"spread": 0.5}

    result = run_recipe(tmp_path, compute_metrics=metrics)
    assert result.baseline_metrics == {}
    assert (
        "compute_metrics fails for predictions that are always the same (ZeroDivisionError: no spread)" in caplog.text
    )
    assert result.rows[0].metrics["spread"] == 0.5


def test_redirected_a_run_prints_lines_the_table_and_where_everything_lies(tmp_path, capsys):
    run_recipe(tmp_path, disable_tqdm=False, pictures=True)
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == [f"Stage depth, step {number} of 2" for number in (1, 2)]
    folder = tmp_path / "run"
    assert lines[-2] == f"Model, card, table, pictures: {folder / 'model'}"
    assert lines[-1] == f"Logs: {folder / '3-depth' / 'history.csv'}"
    assert (folder / "model" / "pareto.png").exists()
    assert (folder / "3-depth" / "history.csv").exists()
    assert len(lines) < 40


def test_metrics_of_ones_own_are_asked_of_the_sizes_first_and_a_weak_teacher_is_said_before(tmp_path, caplog):
    calls = []

    def metrics(prediction):
        calls.append("weak" in caplog.text)
        return {"number": float(len(calls))}

    rows = make_sentences(8).remove_columns("labels").add_column("labels", [0, 0, 0, 1, 0, 0, 0, 0])
    result = run_recipe(tmp_path, eval_dataset=rows, compute_metrics=metrics)
    assert [row.metrics["number"] for row in result.rows] == list(range(1, len(result.rows) + 1))
    assert result.teacher_metrics["number"] == len(result.rows) + 1
    assert all(calls)


def test_a_direction_that_was_told_to_one_stage_holds_for_the_result(tmp_path):
    """That of the last stage alone counted, so the best of an error stood as its worst."""
    own = {"metric_for_best_model": "hurt", "greater_is_better": False}
    hurt = {"compute_metrics": lambda found: {"hurt": float(found.predictions.max())}}
    result = run_recipe(tmp_path, finetune=True, stage_arguments={"depth": own}, **hurt)
    assert result.summary["worst"]["hurt"] == max(row.metrics["hurt"] for row in result.rows)
    assert len({row.metrics["hurt"] for row in result.rows}) > 1
    assert result.model.config.metric_directions == {"hurt": "lower"}


def test_smoothing_of_labels_that_are_no_classes_is_refused(tmp_path):
    message = r"label_smoothing_factor=0\.1 was given, but .* BertForSequenceClassification of values are no classes"
    data = make_sentences(regression=True)
    with pytest.raises(ValueError, match=message):
        run_recipe(tmp_path, make_teacher(num_labels=1), train_dataset=data, label_smoothing_factor=0.1)
    several, message = (
        make_sentences().map(lambda row: {"labels": [0.0, 1.0]}),
        message.replace("values", "several labels"),
    )
    given = {"train_dataset": several, "eval_dataset": several, "label_smoothing_factor": 0.1}
    kinds = ({}, {"problem_type": "multi_label_classification"})  # which transformers stumbles over, or passes over
    for model in (make_teacher(num_labels=2, **kind) for kind in kinds):
        elastic = dynabert_hf.DynaBertForSequenceClassification.from_backbone(model)
        with pytest.raises(ValueError, match=message):
            run_recipe(tmp_path, model, **given)
        with pytest.raises(ValueError, match=message.replace(" Bert", " DynaBert")):
            make_trainer(tmp_path, "finetune", elastic, **given)
    assert not (tmp_path / "run").exists()


def test_labels_of_several_answers_say_what_a_configuration_leaves_unsaid(tmp_path):
    train = make_sentences().remove_columns("labels")
    measured = [{**row, "labels": [1, 0, row["labels"]]} for row in make_sentences(8)]
    data = {"train_dataset": train, "eval_dataset": measured}
    named, unnamed = (
        run_recipe(tmp_path / str(kind), make_teacher(num_labels=3, problem_type=kind), **data)
        for kind in ("multi_label_classification", None)
    )
    assert unnamed.model.config.problem_type == "multi_label_classification"
    assert [row.metrics for row in unnamed.rows] == [row.metrics for row in named.rows]
    assert all(map(torch.equal, named.model.parameters(), unnamed.model.parameters()))


def test_numbers_of_numpy_are_metrics_also_of_the_baseline(tmp_path):
    def metrics(prediction):
        right = prediction.predictions.argmax(-1) == prediction.label_ids
        return {"share": np.mean(right, dtype=np.float32)}

    result = run_recipe(tmp_path, compute_metrics=metrics)
    assert result.baseline_metrics == {"share": 0.5}
    saved = json.loads((tmp_path / "run" / "model" / "results.json").read_text())
    assert saved["baseline"] == {"share": 0.5}


def test_predictions_that_were_chosen_before_are_measured_as_their_logits_are(tmp_path):
    def chosen(logits, labels):
        return logits.argmax(-1)

    plain = run_recipe(tmp_path / "logits")
    shaped = run_recipe(tmp_path / "classes", preprocess_logits_for_metrics=chosen)
    assert [row.metrics for row in shaped.rows] == [row.metrics for row in plain.rows]
    assert shaped.teacher_metrics == plain.teacher_metrics
