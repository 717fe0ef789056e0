"""The report: tables between the markers of `docs/results.md` and `README.md`, pictures in `docs/images`.

It reads the results alone, so it needs no trained model and takes seconds.
"""

import json
import re
from pathlib import Path

import numpy as np
import torch

from dynabert_hf import (
    DynaBertConfig,
    DynaBertForSequenceClassification,
    LayerShape,
    SubNetwork,
    count_flops,
    count_parameters,
)

from .figures import accuracy_over_cost, accuracy_over_training, bars
from .tables import (
    COMPARED,
    Evidence,
    ahead_by_seed,
    ideas_table,
    markdown,
    mean_and_deviation,
    rivals_table,
    short_rivals_table,
    tuning_table,
)

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
COLLAPSED = 10
"""Points behind the recipe beyond which an arm has learned nothing."""

MINILM = {
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def write_report(study):
    """Write every table and picture that the results at hand suffice for."""
    evidence = Evidence(study)
    with torch.device("meta"):
        model = empty_model()
    tables = make_tables(evidence, model)
    draw(evidence, model)
    for page in (ROOT / "docs" / "results.md", ROOT / "README.md"):
        page.write_text(fill(page.read_text(), tables))
    return tables


def empty_model():
    """An untrained model of the study's shape, which is all that counts and latencies depend on."""
    return DynaBertForSequenceClassification(DynaBertConfig(**MINILM))


def fill(text, tables):
    """The text with each table between its two markers, `<!-- study: name -->` and `<!-- end of name -->`."""

    def replace(found):
        name = found[1]
        return f"<!-- study: {name} -->\n\n{tables[name]}\n\n<!-- end of {name} -->"

    return re.sub(r"<!-- study: (\S+) -->.*?<!-- end of \1 -->", replace, text, flags=re.DOTALL)


def make_tables(evidence, model):
    plan = evidence.plan
    final, few = plan["final"], plan["num_train"]
    return {
        "sizes": sizes_table(evidence, model, final, "all"),
        "main-sizes": sizes_table(evidence, model, final, "all", only=plan["main_sizes"]),
        "sizes-few": sizes_table(evidence, model, final, few),
        "main-rivals": short_rivals_table(evidence, final, "all", plan["rivals"]),
        "rivals-all": rivals_table(evidence, final, "all", plan["rivals"]),
        "rivals-few": rivals_table(evidence, final, few, plan["rivals"]),
        "rivals-few-equal-cpu": rivals_table(evidence, final, few, plan["rivals"], budget="/equal-cpu"),
        "ideas": ideas_table(evidence, plan["ideas"], few),
        "ideas-more": ideas_table(evidence, plan["ideas"], plan["num_train_more"]),
        "tuning": tuning_table(evidence, few),
        "cost": cost_table(evidence),
    }


def latencies(study):
    """Milliseconds by the name of a size, as `study.py latency` measured them; empty before that."""
    path = study.results / "latency.json"
    return json.loads(path.read_text())["latency_ms"] if path.exists() else {}


def first_layers(size):
    """The layers of the rival that is the first layers of the model, for a size."""
    size = SubNetwork.parse(size)
    count = int(np.ceil(size.width * size.depth * MINILM["num_hidden_layers"]))
    return tuple(
        LayerShape(index, MINILM["num_attention_heads"], MINILM["intermediate_size"]) for index in range(count)
    )


def sizes_table(evidence, model, name, num_train, only=None):
    """A row for the teacher, and one a size: accuracy, what it counts, and how fast it is."""
    taken = latencies(evidence.study)
    teacher = evidence.accuracies("teacher", num_train, "model")
    rows = [["teacher", "", mean_and_deviation(teacher), "", "", "", ""]] if teacher else []
    for size in reversed(model.config.subnetworks):
        accuracies = evidence.accuracies(name, num_train, str(size))
        if not accuracies or (only and str(size) not in only):
            continue
        own = taken.get(str(size))
        rows.append(
            [
                f"{size.width:g}",
                f"{size.depth:g}",
                mean_and_deviation(accuracies),
                f"{count_parameters(model, size).total / 1e6:.1f} M",
                f"{count_flops(model, size) / 1e9:.2f}",
                f"{own:.2f}" if own else "",
                f"{taken['w1-d1'] / own:.1f}x" if own else "",
            ]
        )
    headings = ["width", "depth", "accuracy", "parameters", "GFLOPs (128 tokens)", "latency (ms)", "speed-up"]
    return markdown(headings, rows, align=">" * 7)


def cost_table(evidence):
    """CPU seconds of one DynaBERT run, and of the rivals one by one, by the cost of each one's step."""
    plan = evidence.plan
    path = evidence.study.results / "rival_cost.json"
    if not path.exists():
        return "Not measured."
    per_step = json.loads(path.read_text())["cpu_seconds_per_step"]
    rows = []
    for num_train in (plan["num_train"], "all"):
        if not evidence.seeds_of(plan["final"], num_train):
            continue
        seconds, steps = evidence.seconds_and_steps(plan["final"], num_train)
        alone = steps * sum(per_step.values())
        mean = evidence.mean_accuracies(plan["final"], num_train)
        rows.append(
            [num_train, steps, f"{seconds:.0f}", mean_and_deviation(mean), f"{alone:.0f}", f"{alone / seconds:.1f}"]
        )
    headings = ["sentences", "steps", "DynaBERT, CPU s", "its mean of 12", "twelve rivals, CPU s", "ratio"]
    return markdown(headings, rows)


def curves_of(evidence, model, name, num_train, cost):
    """For each depth the costs of its widths and the accuracies `(seeds, widths)`."""
    curves = {}
    for depth in model.config.depths:
        sizes = [SubNetwork(width, depth) for width in model.config.widths]
        accuracies = [evidence.accuracies(name, num_train, str(size)) for size in sizes]
        curves[depth] = ([cost(size) for size in sizes], np.array(accuracies).T)
    return curves


def rival_points(evidence, num_train, cost):
    """For each kind of rival the costs and accuracies `(seeds, sizes)` of the compared sizes."""
    points = {}
    for kind, words in evidence.plan["rivals"].items():
        costs, accuracies = [], []
        for size in COMPARED:
            name = evidence.rival(kind, size, num_train)
            own = evidence.accuracies(name, num_train, "model") if name else []
            if own:
                is_first = evidence.study.settings["rivals"]["kinds"][kind]["start"] == "pre-trained"
                costs.append(cost(first_layers(size) if is_first else SubNetwork.parse(size)))
                accuracies.append(own)
        if costs:
            points[words] = (costs, np.array([own[: min(map(len, accuracies))] for own in accuracies]).T)
    return points


def draw(evidence, model):
    """Every picture of the report."""
    plan = evidence.plan
    final, few = plan["final"], plan["num_train"]
    taken = latencies(evidence.study)

    def flops(size):
        return count_flops(model, size) / 1e9

    def latency(size):
        return taken[str(size) if isinstance(size, SubNetwork) else f"first {len(size)}"]

    for num_train, label in (("all", "all sentences"), (few, f"{int(few):,} sentences")):
        if not evidence.seeds_of(final, num_train):
            continue
        teacher = np.mean(evidence.accuracies("teacher", num_train, "model"))
        costs = [("flops", flops, "GFLOPs of a forward pass on 128 tokens")]
        if taken:
            costs.append(("latency", latency, "Latency of one sentence of 32 tokens, one CPU thread (ms)"))
        for short, cost, x in costs:
            accuracy_over_cost(
                curves_of(evidence, model, final, num_train, cost),
                rival_points(evidence, num_train, cost),
                IMAGES / f"study-{short}-{num_train}.png",
                x=x,
                teacher=teacher,
                title=f"One DynaBERT and separately trained models, {label}",
            )
    draw_arms(evidence, few)


def draw_arms(evidence, num_train):
    """How much each arm and idea gains or loses against the recipe, and what it costs.

    Arms that collapsed are left out, for the sake of the scale.
    """
    differences, costs = {}, {}
    for name, words in evidence.plan["ideas"].items():
        ahead = ahead_by_seed(evidence, name, num_train)
        if not ahead or min(ahead.values()) < -COLLAPSED:
            continue
        if name in evidence.plan["costly"]:
            costs[words] = (
                evidence.cpu_seconds(name, num_train),
                evidence.mean_accuracies(name, num_train, "validation"),
            )
        if name != evidence.plan["final"]:
            differences[words] = list(ahead.values())
    if differences:
        bars(
            differences,
            IMAGES / "study-ablations.png",
            x="Mean validation accuracy of six sizes, points against the recipe",
            title=f"What was tried, {int(num_train):,} sentences",
        )
        accuracy_over_training(
            costs, IMAGES / "study-training-cost.png", title=f"What training costs, {int(num_train):,} sentences"
        )
