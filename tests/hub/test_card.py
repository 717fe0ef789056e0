"""Cards say what was measured, and nothing else."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from helpers.cards import make_facts
from helpers.hub_server import TOKEN
from helpers.tiny import make_batch, make_model, make_tokenizer
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from transformers import SchedulerType

from dynabert_hf import DynaBertForSequenceClassification, DynaBertTrainer, DynaBertTrainingArguments, SizeRecord
from dynabert_hf.hub.card import ModelCardFacts, refresh_sizes, render_model_card, write_model_card


def test_card_holds_the_measured_values(tmp_path):
    model = make_model()
    facts = make_facts(model, teacher_metrics={"accuracy": 0.98765})
    card = ModelCard.load(write_model_card(tmp_path, facts))
    _, results = model_index_to_eval_results(card.data.to_dict().get("model-index") or card.data["model-index"])
    found = {result.metric_name: result.metric_value for result in results}
    ends = (facts.sizes[-1], facts.sizes[0])
    assert found == {f"accuracy of {one.name}": round(one.metrics["accuracy"], 4) for one in ends}
    lines = [line.split("|")[1:-1] for line in card.text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line] for line in lines if line[0].startswith(" `w")]
    assert len(rows) == len(facts.sizes) == 12
    for cells, one in zip(rows, reversed(facts.sizes), strict=True):
        name, width, depth, accuracy, loss, parameters, flops, latency = cells
        assert name == f"`{one.name}`"
        assert (float(width), float(depth)) == (one.size.width, one.size.depth)
        assert accuracy == f"{one.metrics['accuracy']:.4f}"
        assert loss == f"{one.metrics['loss']:.4f}"
        assert parameters == f"{one.parameters / 1e6:.2f} M"
        assert flops == f"{one.flops / 1e9:.3f} G"
        assert latency == f"{one.latency_ms:.1f} ms"
    others = {line[0].strip(): [cell.strip() for cell in line[3:5]] for line in lines}
    mean = [sum(one.metrics[name] for one in facts.sizes) / 12 for name in ("accuracy", "loss")]
    assert others["mean of the sizes"] == [f"{value:.4f}" for value in mean]
    assert others["teacher"] == ["0.9877", ""]


def test_nothing_that_no_size_was_measured_in_is_compared_with():
    model = make_model()
    rows = {"teacher": {"accuracy": "9 rows of dev.csv", "loss": "9 rows of dev.csv"}}
    told = {"teacher_metrics": {"accuracy": 0.9, "loss": 0.5}, "baseline_metrics": {"loss": 0.7}, "metric_rows": rows}
    [counted] = [SizeRecord.counted(model, "w0.25-d0.5")]
    unknown = str(render_model_card(ModelCardFacts.from_records(model, [counted], **told)))
    assert "teacher" not in unknown.lower().partition("## sizes")[2]
    assert "baseline" not in unknown.lower()
    measured = replace(counted, metrics={"accuracy": 0.8})
    card = str(render_model_card(ModelCardFacts.from_records(model, [measured], eval_rows=7, **told)))
    assert "| teacher |  |  | 0.9000 |  |  |" in card
    assert "compare: 7 rows of the evaluation data (w0.25-d0.5); 9 rows of dev.csv (teacher)." in card
    assert ("baseline" in card, "loss" in card) == (False, False)


def test_the_hub_is_told_no_number_under_the_rows_of_another(tmp_path):
    model = make_model()
    rows = {"w1-d1": {"accuracy": "9 rows of new.csv"}}
    facts = make_facts(model, metric_rows=rows, eval_rows=300, dataset_id=None)
    write_model_card(tmp_path, facts)
    [result] = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert (result.metric_name, result.dataset_name) == ("accuracy of w1-d1", "9 rows of new.csv")
    write_model_card(tmp_path, replace(facts, metric_rows={**rows, "w0.25-d0.5": rows["w1-d1"]}))
    results = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert [each.metric_name for each in results] == ["accuracy of w1-d1", "accuracy of w0.25-d0.5"]
    assert {each.dataset_name for each in results} == {"9 rows of new.csv"}


def test_card_says_how_many_sequences_flops_are_of():
    model = make_model()
    sizes, told = model.config.subnetworks, {}
    for batch_size in (1, 8):
        records = [SizeRecord.counted(model, each, batch_size=batch_size, sequence_length=16) for each in sizes]
        told[batch_size] = str(render_model_card(ModelCardFacts.from_records(model, records)))
        assert f"| {records[-1].flops / 1e9:.3f} G |" in told[batch_size]
    assert "FLOPs are of one forward pass on one sequence of 16 tokens;" in told[1]
    assert "FLOPs are of one forward pass on 8 sequences of 16 tokens;" in told[8]


def test_card_says_on_how_many_rows_and_from_which_release_on(tmp_path):
    facts = make_facts(make_model(), train_rows=3668, eval_rows=300, stages={"width": {}})
    text = str(render_model_card(facts))
    assert "Metrics were measured on 300 rows of Reviews." in text
    assert "Training used 3668 rows." in text
    assert re.search(r"It needs transformers [\d.]+ or newer\.", text)
    several = replace(facts, eval_rows={"matched": 20, "mismatched": 30})
    assert "measured on 20 rows (matched) and 30 rows (mismatched) of Reviews." in str(render_model_card(several))


@pytest.mark.parametrize(
    ("changes", "heading"),
    [
        ({"base_model": "google-bert/bert-base-uncased"}, "bert-base-uncased in 12 sizes, Reviews"),
        ({"dataset_name": None}, "DynaBERT in 12 sizes, me/reviews"),
        ({"base_model": "/somewhere/here", "dataset_name": None, "dataset_id": None}, "DynaBERT in 12 sizes"),
        ({"title": "Mine"}, "Mine"),
    ],
)
def test_the_heading_names_model_and_data_as_far_as_they_are_known(changes, heading):
    assert f"\n# {heading}\n" in str(render_model_card(make_facts(make_model(), **changes)))


def test_of_a_folder_the_model_that_it_came_from_is_named(tmp_path):
    for name in ("by-config", "by-card", "unknown"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"_name_or_path": str(tmp_path)}))
    (tmp_path / "by-config" / "config.json").write_text(json.dumps({"_name_or_path": "nreimers/MiniLM"}))
    (tmp_path / "by-card" / "README.md").write_text("---\nbase_model: google-bert/bert-base-uncased\n---\n# Mine\n")
    expected = {"by-config": "nreimers/MiniLM", "by-card": "google-bert/bert-base-uncased", "unknown": None}
    for name, base in expected.items():
        card = render_model_card(make_facts(make_model(), base_model=str(tmp_path / name)))
        assert card.data.base_model == base
        assert (f"Training began with [{base}]" in card.text) == (base is not None)
        assert str(tmp_path) not in str(card)


@pytest.mark.parametrize(
    "page",
    [
        "title: a: b",
        "a text",
        "base_model: 5",
        "base_model: [5]",
        "model-index:\n- name: x\n  results:\n  - task:\n      type: text-classification",
        "eval_results: 4",
    ],
)
def test_a_page_that_the_hub_could_not_read_names_no_model(page, tmp_path):
    """It lay beside the model that training began with, and ended the training before its result was written."""
    (tmp_path / "README.md").write_text(f"---\n{page}\n---\n# Mine\n")
    assert render_model_card(make_facts(make_model(), base_model=str(tmp_path))).data.base_model is None


def test_card_has_the_metadata_that_the_hub_reads(tmp_path, head):
    model = make_model(head=head, stock={"num_labels": 2})
    card = ModelCard.load(write_model_card(tmp_path, make_facts(model, base_model="google-bert/bert-base-uncased")))
    data = card.data.to_dict()
    tasks = json.loads(json.dumps(sorted(huggingface_hub.constants.__dict__.get("PIPELINE_TAGS", [])))) or None
    assert data["library_name"] == "transformers"
    assert data["license"] == "apache-2.0"
    assert data["base_model"] == "google-bert/bert-base-uncased"
    assert data["datasets"] == ["me/reviews"]
    assert data["pipeline_tag"]
    assert tasks is None or data["pipeline_tag"] in tasks
    assert "dynabert" in data["tags"]
    assert f"AutoModel{head.removeprefix('Model')}.from_pretrained(" in card.text


def test_example_on_the_card_runs(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path, with_code=True)
    card = ModelCard.load(write_model_card(tmp_path, make_facts(model, model_id=str(tmp_path))))
    code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1]
    assert len(code.splitlines()) == 6
    assert all(len(line) < 90 for line in code.splitlines() if str(tmp_path) not in line)  # wider ones scroll
    scope = {}
    exec(code, scope)
    assert str(scope["model"].active) == "w0.25-d0.5"


def test_the_card_of_a_size_that_stands_alone_switches_to_no_other(tmp_path):
    small, whole = make_model().extract("w0.5-d1"), make_facts(make_model(), model_id=str(tmp_path))
    small.save_pretrained(tmp_path, with_code=True)
    [own] = (one for one in whole.sizes if one.name == "w0.5-d1")
    alone = replace(whole, sizes=(own,))
    code = re.search(r"```python\n(.*?)```", render_model_card(alone).text, re.DOTALL)[1]
    scope = {}
    exec(code, scope)
    assert str(scope["model"].active) == "w0.5-d1"
    for changes in ({}, {"is_sentence_encoder": True, "model_class": "DynaBertModel"}):
        for facts, words in ((whole, ["Load it, switch it", "set_active", "only_active"]), (alone, ["Load it"])):
            text = str(render_model_card(replace(facts, **changes)))
            assert re.findall(r"Load it.*|set_active|only_active", text) == words


def test_example_on_the_card_asks_nothing_where_the_package_is_not_installed(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path, with_code=True)
    make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "an", "example", "."]).save_pretrained(tmp_path)
    card = render_model_card(ModelCardFacts.from_stored(model, model_id=str(tmp_path), has_tokenizer=True))
    code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1]
    blocked = "import sys\nsys.modules['dynabert_hf'] = None  # an import of it fails\n"
    cache = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    told = {"env": cache, "stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    ran = subprocess.run([sys.executable, "-c", blocked + code], **told)
    assert ran.returncode == 0, ran.stderr
    assert "'label': 'LABEL_" in ran.stdout
    assert "Do you wish to run the custom code" not in ran.stdout + ran.stderr


def test_card_of_a_plain_model_needs_no_facts(tmp_path):
    text = str(render_model_card(ModelCardFacts(model_class="DynaRobertaModel", sizes=())))
    assert "None" not in text


@pytest.mark.parametrize(
    ("model_class", "family"),
    [
        ("DynaBertModel", "BERT"),
        ("DynaRobertaModel", "RoBERTa"),
        ("DynaXLMRobertaForMaskedLM", "XLM-RoBERTa"),
        ("DynaElectraForTokenClassification", "ELECTRA"),
        ("DynaDebertaV2ForMultipleChoice", "DeBERTa-v2"),
        ("DynaModernBertForSequenceClassification", "ModernBERT"),
    ],
)
def test_card_names_the_family(model_class, family):
    text = str(render_model_card(ModelCardFacts(model_class=model_class, sizes=())))
    assert f"One {family} that holds many usable sizes" in text


def test_card_of_a_class_of_ones_own_names_the_class_that_loads_it(tmp_path):
    class Reviews(DynaBertForSequenceClassification):
        pass

    facts = ModelCardFacts.from_records(Reviews(make_model().config), ())
    assert "AutoModelForSequenceClassification" in str(render_model_card(facts))


def test_card_names_no_path_of_this_machine(tmp_path):
    text = str(render_model_card(make_facts(make_model(), base_model=str(tmp_path))))
    assert str(tmp_path) not in text


def test_card_shows_settings_but_neither_token_nor_path():
    stages = {
        "width": {
            "learning_rate": 2e-5,
            "max_steps": -1,
            "lr_scheduler_type": SchedulerType.LINEAR,
            "hub_token": TOKEN,
            "output_dir": "/somewhere/private",
        }
    }
    text = str(render_model_card(make_facts(make_model(), stages=stages)))
    assert "| `learning_rate` | 2e-05 |" in text
    assert "| `lr_scheduler_type` | linear |" in text
    assert "max_steps" not in text
    assert "hf_" not in text
    assert "private" not in text


@pytest.mark.parametrize(("max_steps", "shown"), [(100, "max_steps"), (-1, "num_train_epochs")])
def test_card_shows_what_said_how_long_to_train(max_steps, shown):
    stages = {"depth": {"max_steps": max_steps, "num_train_epochs": 3.0}}
    text = render_model_card(make_facts(make_model(), stages=stages)).text
    assert [name for name in ("max_steps", "num_train_epochs") if f"| `{name}` |" in text] == [shown]


@pytest.mark.parametrize("processes", [1, 2])
def test_card_shows_on_how_many_processes_a_batch_was_trained(processes):
    """A batch size is of one process, so that a training cannot be repeated from that alone."""
    stages = {"depth": {"per_device_train_batch_size": 16, "world_size": processes}}
    text = str(render_model_card(make_facts(make_model(), stages=stages)))
    assert "| `per_device_train_batch_size` | 16 |" in text
    assert ("| `world_size` | 2 |" in text) is (processes == 2)


def test_card_with_a_token_in_it_is_refused():
    with pytest.raises(ValueError, match="The card would contain an access token"):
        render_model_card(make_facts(make_model(), title=f"Model of {TOKEN}"))


def results_on(card):
    """The metrics in the metadata of a card, by what they are called there."""
    _, results = model_index_to_eval_results(card.data.to_dict()["model-index"])
    return {result.metric_name: result.metric_value for result in results}


def train(folder, model, **arguments):
    batch = make_batch(batch=4)
    rows = [
        {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor(number % 3)}
        for number, (ids, mask) in enumerate(zip(batch["input_ids"], batch["attention_mask"], strict=True))
    ]
    args = DynaBertTrainingArguments(
        str(folder),
        max_steps=2,
        learning_rate=1e-3,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        **{"stage": "finetune", "save_strategy": "no", **arguments},
    )
    teacher = None if args.stage == "finetune" else make_model()
    trainer = DynaBertTrainer(
        model,
        teacher,
        args,
        train_dataset=rows,
        eval_dataset=rows,
        compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())},
    )
    trainer.train()
    return trainer


def test_card_at_the_end_of_training_holds_what_is_measured_then(tmp_path):
    trainer = train(tmp_path, make_model(), eval_strategy="steps", eval_steps=1)
    card = ModelCard.load(tmp_path / "README.md")
    measured = trainer.evaluate()
    sizes = trainer.model.config.subnetworks
    ends = {f"accuracy of {size}": round(measured[f"eval_{size}_accuracy"], 4) for size in (sizes[-1], sizes[0])}
    assert results_on(card) == ends
    for size in sizes:
        accuracy, loss = (f"{measured[f'eval_{size}_{name}']:.4f}" for name in ("accuracy", "loss"))
        assert f"| `{size}` | {size.width:g} | {size.depth:g} | {accuracy} | {loss} |" in card.text
        stored = trainer.model.config.metrics[str(size)]
        assert stored == {name: measured[f"eval_{size}_{name}"] for name in ("accuracy", "loss")}
    assert "measured on 4 rows of the evaluation data" in card.text
    assert "Training used 4 rows." in card.text
    assert "| `learning_rate` | 0.001 |" in card.text
    assert "trained all sizes on the labels" in card.text
    assert str(tmp_path) not in str(card)


def test_card_counts_the_rows_of_the_data_set_that_was_measured_last(tmp_path):
    trainer = train(tmp_path, make_model())
    for data, rows in ((trainer.eval_dataset[:3], 3), (None, 4), (trainer.eval_dataset[:1], 1)):
        measured = trainer.evaluate(data)
        trainer.create_model_card()
        card = ModelCard.load(tmp_path / "README.md")
        assert results_on(card)["accuracy of w1-d1"] == round(measured["eval_w1-d1_accuracy"], 4)
        assert f"measured on {rows} rows of the evaluation data" in card.text


def test_what_is_measured_after_training_is_saved_with_the_model(tmp_path):
    trainer = train(tmp_path, make_model())
    trainer.save_model()
    assert json.loads((tmp_path / "config.json").read_text()).get("metrics") is None
    measured = trainer.evaluate(sizes=["w0.5-d0.5", "w1-d1"])
    trainer.save_model()
    expected = {
        size: {name: measured[f"eval_{size}_{name}"] for name in ("accuracy", "loss")}
        for size in ("w0.5-d0.5", "w1-d1")
    }
    assert json.loads((tmp_path / "config.json").read_text())["metrics"] == expected


def test_what_was_measured_of_other_weights_is_forgotten_by_training(tmp_path):
    model = make_model()
    model.config.metrics, model.config.temperatures = {"w1-d1": {"accuracy": 0.9}}, {"w1-d1": 2.0}
    train(tmp_path, model).save_model()
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config.get("metrics"), config.get("temperatures")) == (None, None)


def test_card_of_a_training_without_evaluation_has_costs_only(tmp_path):
    train(tmp_path, make_model(), stage="width")
    card = ModelCard.load(tmp_path / "README.md")
    assert "model-index" not in card.data.to_dict()
    assert len(re.findall(r"^\| `w[\d.]+-d", card.text, re.MULTILINE)) == 12
    assert "Only full depth was trained yet" in card.text


@pytest.mark.parametrize(
    ("log", "is_best_loaded", "expected"),
    [
        ([(1, 0.1), (2, 0.2), "end"], False, 0.2),
        ([(1, 0.1), "end"], False, None),  # the weights moved on after the evaluation
        ([(1, 0.1), (2, 0.2), "end"], True, 0.1),  # the best weights are those of step 1
        ([(1, 0.1), (1.5, 0.4), (2, 0.2), "end"], True, 0.1),  # a better one was not saved
        ([(1, 0.1), (2, 0.2), "end", (2, 0.3)], True, 0.3),  # measured once more, after the best were loaded
        ([(1, 0.1), "end", (1, 0.3), (2, 0.2)], False, 0.2),  # trained twice, in the middle of the second
        ([(1, 0.1), (1, 0.15), "end", (1, 0.3)], False, None),
    ],
)
def test_card_of_a_training_knows_which_weights_were_measured(log, is_best_loaded, expected):
    model = make_model()
    history = [
        {"train_runtime": 1.0, "step": 2} if entry == "end" else {"eval_w1-d1_accuracy": entry[1], "step": entry[0]}
        for entry in log
    ]
    best = max(entry[0] for entry in log if entry != "end" and entry[0] < 2)
    state = SimpleNamespace(
        log_history=history,
        global_step=2,
        best_global_step=best,
        best_model_checkpoint="x/checkpoint-1",
        train_batch_size=None,
    )
    args = DynaBertTrainingArguments("unused", stage="finetune", use_cpu=True)
    args.load_best_model_at_end = is_best_loaded
    facts = ModelCardFacts.from_training(model, args, state)
    assert facts.sizes[-1].metrics == ({} if expected is None else {"accuracy": expected})


def test_small_metrics_keep_their_digits_and_a_bar_in_a_name_makes_no_column():
    model = make_model()
    values = {size: (number + 1) * 1.2345e-5 for number, size in enumerate(model.config.subnetworks)}
    rows = [SizeRecord.counted(model, size, {"mse|z": value}) for size, value in values.items()]
    card = render_model_card(ModelCardFacts.from_records(model, rows, directions={"mse|z": "lower"}))
    assert results_on(card) == {"mse|z of w1-d1": 1.481e-4, "mse|z of w0.25-d0.5": 1.234e-05}
    assert "| size | width | depth | mse\\|z | parameters |" in card.text
    assert "| `w0.25-d0.5` | 0.25 | 0.5 | 1.234e-05 |" in card.text
    assert "lies between 1.234e-05 and 0.0001481." in card.text


def test_the_span_of_a_metric_is_that_of_its_values_whatever_size_has_them():
    model = make_model()
    values = dict(zip(model.config.subnetworks, [0.5, 0.25, 0.75, 0.625], strict=False))
    rows = [SizeRecord.counted(model, size, {"accuracy": value}) for size, value in values.items()]
    card = render_model_card(ModelCardFacts.from_records(model, rows))
    assert "`accuracy` lies between 0.2500 and 0.7500." in card.text


def test_metric_that_is_no_number_stays_out_of_the_metadata():
    model = make_model()
    rows = [SizeRecord.counted(model, size, {"mse": float("nan")}) for size in model.config.subnetworks]
    card = render_model_card(ModelCardFacts.from_records(model, rows))
    assert "model-index" not in card.data.to_dict()
    assert card.text.count("| nan |") == 13  # with the mean


def test_card_says_only_what_is_known_of_the_making():
    model = make_model()
    unknown = str(render_model_card(make_facts(model)))
    assert "Stage" not in unknown
    assert "importance" not in unknown
    known = str(render_model_card(make_facts(model, rewired=True, stages={"width": {}, "depth": {}})))
    assert "ordered by importance" in known
    assert known.index("Stage `width`") < known.index("Stage `depth`")
    assert "Stage `finetune`" not in known


def test_the_card_of_an_extracted_size_tells_of_smaller_ones_once_it_shows_them(tmp_path):
    model = make_model().extract("w0.5-d1")
    facts = make_facts(model)
    write_model_card(tmp_path, replace(facts, sizes=facts.sizes[-1:]))
    alone = "One size, `w0.5-d1`, of an elastic BERT (DynaBERT), extracted to stand alone."
    assert refresh_sizes(tmp_path, replace(facts, sizes=facts.sizes[-1:]))
    assert alone in (tmp_path / "README.md").read_text()
    assert refresh_sizes(tmp_path, facts)
    text = (tmp_path / "README.md").read_text()
    assert "One BERT that holds 6 usable sizes (DynaBERT): every layer can run with 0.25 or 0.5 of its" in text
    assert alone not in text
