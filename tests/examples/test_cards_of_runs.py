"""The cards of three runs say what the run was, sentence by sentence, and hold the numbers of a plain loop.

A task of GLUE on a drawn subset, tags of words, and several labels a text.
"""

import json
import platform
import re
from importlib import metadata

import huggingface_hub
import pytest
import run_glue
import torch
import transformers
from datasets import Dataset, load_from_disk
from helpers.glue_tasks import QUICK, make_task, save_model
from helpers.recipes import SETTINGS, SHALLOW
from helpers.tiny import BACKBONE_CONFIGS, make_tokenizer
from huggingface_hub import ModelCard
from seqeval.metrics import f1_score as entity_f1
from sklearn.metrics import accuracy_score, f1_score
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoTokenizer, BertForSequenceClassification, BertForTokenClassification

from dynabert_hf import DynaBertForSequenceClassification, DynaBertForTokenClassification, train_dynabert
from dynabert_hf.data.columns import drawn_rows

GRID = {"widths": [0.5, 1.0], "depths": [0.5, 1.0]}
SIZES = ["w1-d1", "w1-d0.5", "w0.5-d1", "w0.5-d0.5"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ann", "met", "bob", "in", "rome", "today", "."]
TAGS = ["O", "B-PER", "B-LOC"]


def parts_of(card):
    """The card by its headings, and the rows of its first table by their first cell."""
    title, *sections = re.split(r"^#+ ", card.text, flags=re.MULTILINE)[1:]
    parts = {part.splitlines()[0]: part.partition("\n")[2] for part in (title, *sections)}
    lines = [line for line in parts["Sizes"].splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    table = {row[0].strip("`"): dict(zip(header[1:], row[1:], strict=True)) for row in rows}
    return parts, table


def prose(part):
    """The sentences of a part: without tables and pictures."""
    lines = [line for line in part.splitlines() if line and not line.startswith(("|", "!"))]
    return " ".join(lines)


def assert_table(table, model, metrics, *, teacher, baseline):
    """The numbers are those of `metrics`, by size, and of the shapes of the extracted models."""
    names = list(teacher)
    assert list(next(iter(table.values()))) == ["width", "depth", *names, "parameters", "FLOPs"]
    assert list(table) == [*SIZES, "mean of the sizes", "teacher", "baseline"]
    for size in SIZES:
        small = model.extract(size)
        shown = table[size]
        assert {name: shown[name] for name in names} == {name: f"{metrics[size][name]:.4f}" for name in names}
        assert f"w{shown['width']}-d{shown['depth']}" == size
        assert shown["parameters"] == f"{small.num_parameters() / 1e6:.2f} M"
        small.set_attn_implementation("eager")  # whose products torch counts
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            ids, zeros = torch.full((1, 128), 7), torch.zeros((1, 128), dtype=torch.long)
            small.eval()(ids, position_ids=zeros, token_type_ids=zeros)  # of which this tiny model has 20
        assert shown["FLOPs"] == f"{counter.get_total_flops() / 1e9:.3f} G"
    for name in names:
        mean = sum(metrics[size][name] for size in SIZES) / len(SIZES)
        assert float(table["mean of the sizes"][name]) == pytest.approx(mean, abs=6e-5)
        assert table["teacher"][name] == f"{teacher[name]:.4f}"
        assert table["baseline"][name] == (f"{baseline[name]:.4f}" if name in baseline else "")


def assert_head(card, parts, *, data, task, metrics):
    """The title, the summary, how to load the model, and what the Hub reads."""
    names = sorted(name for name in metrics["w1-d1"] if name != "loss")
    leading = next(iter(metrics["w1-d1"]))
    title = f"DynaBERT in 4 sizes{data and f', {data}'}"
    assert next(iter(parts)) == title
    assert prose(parts[title]) == (
        "One BERT that holds 4 usable sizes (DynaBERT): every layer can run with 0.5 or 1 of its attention heads and "
        "feed-forward neurons, and the network with 0.5 or 1 of its layers. A size is chosen at run time, without "
        "loading anything again."
    )
    [needs] = [each for each in metadata.requires("dynabert_hf") if each.startswith("transformers")]
    assert prose(parts["Load it, switch it"].rpartition("```")[2]) == (
        "`trust_remote_code=True` runs the code in this repository. Where the package `dynabert_hf` is installed, "
        "`import dynabert_hf` makes that unnecessary. It needs transformers "
        f"{re.search(r'>=([0-9.]+)', needs)[1]} or newer. This call loads one size alone and needs less memory: "
        "`from_pretrained(..., active_width=0.5, active_depth=0.5, only_active=True)`."
    )
    told = {name: value for name, value in card.data.to_dict().items() if name != "model-index"}
    tags = ["dynabert", "elastic", "distillation"]
    assert told == {"library_name": "transformers", "metrics": names, "pipeline_tag": task, "tags": tags}
    found = [(one.task_type, one.dataset_name, one.metric_name, one.metric_value) for one in card.data.eval_results]
    assert found == [
        (task, data or "evaluation data", f"{leading} of {size}", round(metrics[size][leading], 4))
        for size in ("w1-d1", "w0.5-d0.5")
    ]
    assert card.data.model_name == title


def assert_made_and_limits(parts, *, rows, metric, metrics, learning_rate="0.0003"):
    """What the card says of training, versions and limits."""
    made = prose(parts["How it was made"])
    modules = {each.__name__: each for each in (transformers, torch, huggingface_hub)}  # of torch the build, too
    versions = {"Python": platform.python_version(), **{name: each.__version__ for name, each in modules.items()}}
    assert made == (
        "The attention heads and feed-forward neurons of the fine-tuned model were ordered by importance, so that the "
        f"important ones are shared by more sizes. Training used {rows} rows. Stage `depth` distilled a teacher of "
        "full depth into all widths and depths. Versions: "
        + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."
    )  # fmt: skip
    settings = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", parts["How it was made"], re.MULTILINE))
    assert settings == {
        "learning_rate": learning_rate,
        "max_steps": "2",
        "per_device_train_batch_size": "4",
        "gradient_accumulation_steps": "1",
        "warmup_steps": "0.1",
        "weight_decay": "0.0",
        "max_grad_norm": "1.0",
        "lr_scheduler_type": "linear",
        "strategy": "sandwich",
        "num_random_subnetworks": "2",
        "teacher_width": "full",
        "hidden_matching": "published",
        "logit_weight": "1.0",
        "hidden_weight": "1.0",
        "label_weight": "0.0",
        "seed": "42",
    }
    values = [f"{metrics[size][metric]:.4f}" for size in SIZES]
    least, most = min(values, key=float), max(values, key=float)
    differ = f"The sizes differ: `{metric}` lies between {least} and {most}."
    lines = [line[2:] for line in parts["Limits"].splitlines() if line.startswith("- ")]
    assert lines == [
        "Sizes that are not in the table run, too, but were neither trained nor measured.",
        differ if least != most else f"All measured sizes have: `{metric}` {most}.",
        "Biases and errors of the model and data that training began with are likely still there.",
        "FLOPs and latency do not scale alike on all hardware; measure on yours.",
    ]


def how_measured(rows_of):
    return (
        f"Metrics were measured on {rows_of}. Lower is better for loss. FLOPs are of one forward pass on one sequence "
        "of 128 tokens; parameters are those of the size. The teacher is the fine-tuned model that all sizes learned "
        "from. The baseline is the same prediction for every row, the most frequent label or the mean of the values."
    )


def loads_and_runs(card, folder, code_class):
    """The example of the card runs, and leaves the model at its smallest size."""
    code = re.search(r"```python\n(.*?)```", card.text, re.DOTALL)[1].replace("path/to/this/folder", str(folder))
    scope = {}
    exec(code, scope)
    assert isinstance(scope["model"], code_class)
    assert str(scope["model"].active) == "w0.5-d0.5"


def without_loss(metrics):
    """What a prediction without probabilities has."""
    return {name: value for name, value in metrics.items() if name != "loss"}


def predictions_at(model, batches):
    """For every size what it says of each row alone, without padding."""
    found = {}
    for size in SIZES:
        with torch.no_grad(), model.eval().subnetwork(size):
            found[size] = [model(**batch).logits[0] for batch in batches]
    return found


def test_the_card_of_a_glue_task_on_a_subset(tmp_path, capsys):
    make_task("mrpc", train=20, evaluation=30).save_to_disk(tmp_path / "mrpc")
    source, out = save_model(tmp_path / "fine-tuned"), tmp_path / "out"
    run_glue.main(
        ["--task_name", "mrpc", "--dataset_name", str(tmp_path / "mrpc"), "--model_name_or_path", source,
         "--output_dir", str(out), "--max_eval_samples", "10", "--max_train_samples", "16", *QUICK]
    )  # fmt: skip
    card, folder = ModelCard.load(out / "model" / "README.md"), out / "model"
    parts, table = parts_of(card)
    data = load_from_disk(str(tmp_path / "mrpc"))["validation"]
    data = data.select(drawn_rows(data, 10, 42))
    tokenizer, model = AutoTokenizer.from_pretrained(folder), DynaBertForSequenceClassification.from_pretrained(folder)
    batches = [tokenizer(row["sentence1"], row["sentence2"], return_tensors="pt") for row in data]
    true = data["label"]

    def metrics(logits):
        said = [int(each.argmax()) for each in logits]
        own = {"accuracy": accuracy_score(true, said), "f1": f1_score(true, said, zero_division=0.0)}
        loss = float(cross_entropy(torch.stack(list(logits)), torch.tensor(true)))
        return {**own, "combined_score": sum(own.values()) / 2, "loss": loss}

    by_size = {size: metrics(logits) for size, logits in predictions_at(model, batches).items()}
    teacher = BertForSequenceClassification.from_pretrained(source).eval()
    with torch.no_grad():
        of_teacher = metrics([teacher(**batch).logits[0] for batch in batches])
    most = max(set(true), key=true.count)
    baseline = without_loss(metrics([torch.eye(2)[most]] * 10))
    assert_table(table, model, by_size, teacher=of_teacher, baseline=baseline)
    assert prose(parts["Sizes"]) == how_measured("10 rows of GLUE's mrpc, validation")
    assert_made_and_limits(parts, rows=16, metric="accuracy", metrics=by_size, learning_rate="0.001")
    assert_head(card, parts, data="GLUE's mrpc, validation", task="text-classification", metrics=by_size)
    loads_and_runs(card, folder, DynaBertForSequenceClassification)


@pytest.fixture
def words():
    return make_tokenizer(WORDS)


def test_the_card_of_a_tagging_run(tmp_path, words):
    torch.manual_seed(0)
    names = {"num_labels": 3, "id2label": dict(enumerate(TAGS)), "label2id": {tag: i for i, tag in enumerate(TAGS)}}
    teacher = BertForTokenClassification(BACKBONE_CONFIGS["Bert"](**SHALLOW, **names))
    tags = {"ann": 1, "bob": 1, "rome": 2}
    texts = ["ann met bob in rome .", "bob met ann today", "in rome ann met bob today .", "today bob ."] * 3
    rows = [
        {"input_ids": words(text).input_ids, "labels": [-100, *(tags.get(word, 0) for word in text.split()), -100]}
        for text in texts
    ]
    result = train_dynabert(
        teacher,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:7]),
        processing_class=words,
        output_dir=tmp_path / "run",
        **GRID,
        **SETTINGS,
    )
    folder = tmp_path / "run" / "model"
    card = ModelCard.load(folder / "README.md")
    parts, table = parts_of(card)
    batches = [{"input_ids": torch.tensor([row["input_ids"]])} for row in rows[:7]]
    true = [[TAGS[tag] for tag in row["labels"][1:-1]] for row in rows[:7]]

    def metrics(logits):
        said = [[TAGS[int(tag)] for tag in each.argmax(-1)[1:-1]] for each in logits]
        right = [
            ours == theirs for row, own in zip(true, said, strict=True) for ours, theirs in zip(row, own, strict=True)
        ]
        tokens = torch.cat([each[1:-1] for each in logits])
        loss = float(cross_entropy(tokens, torch.tensor([tag for row in rows[:7] for tag in row["labels"][1:-1]])))
        return {"f1": entity_f1(true, said, zero_division=0), "accuracy": sum(right) / len(right), "loss": loss}

    by_size = {size: metrics(logits) for size, logits in predictions_at(result.model, batches).items()}
    with torch.no_grad():
        of_teacher = metrics([teacher.eval()(**batch).logits[0] for batch in batches])
    baseline = without_loss(metrics([torch.eye(3)[[0] * len(row["input_ids"])] for row in rows[:7]]))
    assert_table(table, result.model, by_size, teacher=of_teacher, baseline=baseline)
    assert prose(parts["Sizes"]) == how_measured("7 rows of the evaluation data")
    assert_made_and_limits(parts, rows=12, metric="f1", metrics=by_size)
    assert_head(card, parts, data="", task="token-classification", metrics=by_size)
    loads_and_runs(card, folder, DynaBertForTokenClassification)


def test_the_card_of_a_run_with_several_labels(tmp_path, words):
    torch.manual_seed(0)
    config = BACKBONE_CONFIGS["Bert"](**SHALLOW, num_labels=3, problem_type="multi_label_classification")
    teacher = BertForSequenceClassification(config)
    texts = ["ann met bob in rome", "bob met ann", "in rome", "today ."] * 3
    rows = [
        {"input_ids": words(text).input_ids, "labels": [float("ann" in text), float("rome" in text), 0.0]}
        for text in texts
    ]
    result = train_dynabert(
        teacher,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:8]),
        processing_class=words,
        output_dir=tmp_path / "run",
        **GRID,
        **SETTINGS,
    )
    folder = tmp_path / "run" / "model"
    card = ModelCard.load(folder / "README.md")
    parts, table = parts_of(card)
    batches = [{"input_ids": torch.tensor([row["input_ids"]])} for row in rows[:8]]
    true = torch.tensor([row["labels"] for row in rows[:8]]) > 0.5

    def metrics(logits):
        yes = torch.stack(list(logits)) > 0
        share = float((yes == true).float().mean())
        loss = float(binary_cross_entropy_with_logits(torch.stack(list(logits)), true.float()))
        micro = f1_score(true, yes, average="micro", zero_division=0.0)
        return {"micro_f1": micro, "accuracy": share, "loss": loss}

    by_size = {size: metrics(logits) for size, logits in predictions_at(result.model, batches).items()}
    with torch.no_grad():
        of_teacher = metrics([teacher.eval()(**batch).logits[0] for batch in batches])
    often = true.float().mean(0) > 0.5
    baseline = without_loss(metrics([torch.where(often, 1.0, -1.0)] * 8))
    assert_table(table, result.model, by_size, teacher=of_teacher, baseline=baseline)
    assert prose(parts["Sizes"]) == how_measured("8 rows of the evaluation data")
    assert_made_and_limits(parts, rows=12, metric="micro_f1", metrics=by_size)
    assert_head(card, parts, data="", task="text-classification", metrics=by_size)
    results = json.loads((folder / "results.json").read_text())
    assert results["teacher"]["micro_f1"] == pytest.approx(of_teacher["micro_f1"])
    loads_and_runs(card, folder, DynaBertForSequenceClassification)
