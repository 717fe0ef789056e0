"""What a budget buys on a GLUE task: a size of the grid, the shape that a search finds, or a cascade; and any width.

    python -m benchmarks.budgets --tasks sst2 --seeds 0 1   # trains what the tables lack, and prints them
    python -m benchmarks.budgets --parts                    # trains nothing, and prints what is known
    python -m benchmarks.budgets --smoke                    # a minute, to see that everything works

The primary measure is the official metric of the task, ours less that of the grid's best size within the same budget.
All train on the same 1,000 rows. Held-out rows of the training split are what a search sees, and what chooses the
grid's size for each budget, among all that fit, after an epoch of training these together. The chosen sizes are then
trained from the teacher on in a list of their own, as what a search found is. Scored, once, are validation and labelled
test. A call goes on where the last one stopped. `--source` reads folders for ids, as in `benchmarks.glue_study`.
"""

import argparse
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks.glue_study.data import Rows, load_rows
from benchmarks.glue_study.jobs import SCORE, Job, Results
from benchmarks.glue_study.plan import PLAN
from benchmarks.glue_study.scoring import Clock, in_batches, predict, summarise
from benchmarks.glue_study.smoke import smoke_plan
from benchmarks.glue_study.statistics import bootstrap
from benchmarks.glue_study.study import Case, Study
from benchmarks.glue_study.tables import View, markdown
from benchmarks.glue_study.training import train_teacher
from dynabert_hf import LabelledText, count_flops, measure_importance, repair, search_layers, train_dynabert
from dynabert_hf.model.subnetwork import number_text
from dynabert_hf.sizes.calibration import confidence
from dynabert_hf.tasks import task_of

BUDGETS = {"1/8": 1 / 8, "1/4": 1 / 4, "3/8": 3 / 8}
"""Shares of the FLOPs of all layers; the head costs the same at all sizes."""

FULL = "w1-d1"

CHOOSING_SEED = 0
"""With which the grid's sizes are chosen, for all seeds."""

DEPTHS = (0.5, 1.0)
"""The depths at which widths between the trained ones are compared."""

RATE, TEACHER_RATE = 4e-4, 1e-4


class BudgetStudy(Study):
    """The parts of this comparison, in the folders of the study."""

    def at(self, job):
        return Run(self, job)

    def run(self, job):
        """Make a part, and record what came of it."""
        self.results.record(job, *PARTS[job.name](self.at(job)))


@dataclass(frozen=True)
class Run(Case):
    """A part with its data."""

    def _load(self, part):
        source = self.study.sources.get(self.task.dataset)
        return load_rows(self.task, part, self.job.seed, self.tokenizer, source=source)

    @cached_property
    def choice(self):
        """The rows that models are trained on, and held-out ones."""
        return self._load(self.job.part)

    @cached_property
    def rows(self):
        scored = self._load(SCORE)
        return Rows(self.choice.train, scored.scored, self.choice.num_labels, scored.labels)

    def text(self, model, rows, most):
        """The first rows as labelled text."""
        rows = rows.select(range(min(most, len(rows))))
        chosen, batches = zip(*in_batches(rows, self.collator), strict=True)
        labels = np.array(rows["labels"])[np.concatenate(chosen)]
        return LabelledText(tuple(map(dict, batches)), labels, task_of(model).metrics(model))

    def train(self, **own):
        """Distil the teacher into sizes, by the common arguments and own ones; the model and what it cost."""
        with Clock() as clock:
            result = train_dynabert(
                str(self.model_of("teacher")),
                train_dataset=self.rows.train,
                processing_class=self.tokenizer,
                **{**self.settings(RATE, self.task.epochs), "output_dir": str(self.folder), **own},
            )
        return result.model, {"seconds": clock.seconds}

    def predict(self, model, sizes=None):
        return predict(model, self.rows.scored, self.collator, sizes)

    def sizes_of(self, name, seed):
        """For each budget the size that another part has chosen, which is made if it is not there."""
        job = replace(self.job, name=name, seed=seed)
        if self.study.results.get(job) is None:
            self.study.run(job)
        return self.study.results.get(job)["sizes"]


def allowances(model, length):
    """The FLOPs that each budget allows."""
    full, half = (count_flops(model, size, sequence_length=length) for size in (FULL, "w1-d0.5"))
    return {budget: full - (1 - share) * 2 * (full - half) for budget, share in BUDGETS.items()}


def search(run):
    """The best shape within each budget, by a search on the rewired teacher."""
    model, length = run.rewired(), 32 * len(run.task.text)
    importance = measure_importance(model, run.text(model, run.choice.train, 320).labelled_batches(), progress=False)
    result = search_layers(
        model,
        run.text(model, run.choice.scored, 256),
        importance,
        flops=list(allowances(model, length).values()),
        sequence_length=length,
        max_rows=256 // len(run.task.text),
        evaluations=80,
        seed=run.job.seed,
        progress=False,
    )
    found = dict(zip(BUDGETS, (one.name for one in result.found), strict=True))
    untrained = {"metrics": result.metrics, "shapes": result.num_evaluated, "seconds": result.seconds}
    return {"sizes": found, **untrained}, {}


def choose(run):
    """The grid's best size within each budget: all that fit are trained together for an epoch, held-out rows tell."""
    model, length = run.rewired(), 32 * len(run.task.text)
    allowed = allowances(model, length)
    flops = {str(size): count_flops(model, size, sequence_length=length) for size in model.config.subnetworks}
    fitting = [size for size, cost in flops.items() if cost <= max(allowed.values())]
    model, spent = run.train(sizes=fitting, strategy="grid", num_train_epochs=1)
    logits = predict(model, run.choice.scored, run.collator, fitting)
    numbers, _ = summarise(logits, run.choice.labels, logits[fitting[-1]], run.task.metric)
    metrics = {size: own["metric"] for size, own in numbers.items()}
    best = {
        budget: max((size for size in fitting if flops[size] <= most), key=metrics.get)
        for budget, most in allowed.items()
    }
    return {"sizes": best, "metrics": metrics, **spent}, {}


def train_grid(run):
    """The grid's chosen sizes, and cascades at a mean cost of the whole budget."""
    sizes = run.sizes_of("choice", CHOOSING_SEED)
    model, spent = run.train(sizes=unlike(sizes), strategy="grid")
    known = run.predict(model, [*unlike(sizes), FULL])
    logits = {budget: known[size] for budget, size in sizes.items()} | {FULL: known[FULL]}
    small, *larger = BUDGETS
    for budget in larger if run.rows.num_labels > 1 else ():  # a value does not say how sure it is
        again = BUDGETS[budget] - BUDGETS[small]
        logits[f"cascade-{budget}"] = cascade(logits[small], known[FULL], again)
    return run.scored_logits(logits, {"trained": sizes, **spent})


def unlike(sizes):
    """The sizes of all budgets, each once."""
    return list(dict.fromkeys(sizes.values()))


def cascade(small, large, share):
    """Logits of a small size and, for the share of rows that it is least sure of, those of a larger one."""
    sure = confidence(torch.from_numpy(small), kind="single_label_classification").numpy()
    again = np.argsort(sure, kind="stable")[: int(share * len(small))]
    logits = small.copy()
    logits[again] = large[again]
    return logits


def train_found(run):
    """What a search found, trained alike."""
    sizes = run.sizes_of("search", run.job.seed)
    model, spent = run.train(sizes=unlike(sizes), strategy="grid")
    logits = run.predict(model, unlike(sizes))
    return run.scored_logits({budget: logits[size] for budget, size in sizes.items()}, {"trained": sizes, **spent})


def widths(heads, *, trained):
    """Widths between a quarter and three quarters: of trained ones, or between these."""
    return [each / heads for each in range(heads // 4, 3 * heads // 4 + 1) if (4 * each % heads == 0) == trained]


def names(widths):
    return [f"w{number_text(width)}-d{number_text(depth)}" for depth in DEPTHS for width in widths]


def train_twelve(run):
    """The twelve usual sizes, and the widths between them as they are and repaired."""
    model, spent = run.train()
    heads = model.config.num_attention_heads
    between = names(widths(heads, trained=False))
    logits = run.predict(model, names(widths(heads, trained=True)) + between)
    text = run.text(model, run.choice.train, 256)
    for size in between:
        logits[f"repaired-{size}"] = run.predict(repair(model, size, text.batches))["model"]
    return run.scored_logits(logits, spent)


def train_sampled(run):
    """All widths from a quarter on, by drawing two of their sizes in each step beside the smallest and the largest."""
    heads = run.teacher().config.num_attention_heads
    model, spent = run.train(widths=[each / heads for each in range(heads // 4, heads + 1)])
    logits = run.predict(model, names(widths(heads, trained=True) + widths(heads, trained=False)))
    return run.scored_logits(logits, spent)


PARTS = {
    "teacher": train_teacher,
    "search": search,
    "choice": choose,
    "grid": train_grid,
    "found": train_found,
    "twelve": train_twelve,
    "sampled": train_sampled,
}
"""What is trained and scored once for a task and a seed."""


def of_budgets(view):
    """The grid's size, the searched shape and the cascade of each budget, and the full size of the grid's model."""
    rows = []
    for task in view.tasks:
        grid, found = done(view, task, "grid", "found")
        all_ = {"found": [], "cascade": []}
        for budget in BUDGETS if grid else ():
            size = view.study.results.get(grid[0])["trained"][budget]
            row = [task, budget, f"`{size}`", told(view, grid, budget)]
            for kind, jobs, name in (("found", found, budget), ("cascade", grid, f"cascade-{budget}")):
                if name not in view.study.results.get(jobs[0])["sizes"]:
                    row += ["", ""]
                    continue
                pair = view.pair(task, jobs, name, grid, budget)
                all_[kind].append(pair)
                row += [told(view, jobs, name), bootstrap([pair])]
            rows.append(row)
        if grid:
            ahead, cascaded = (bootstrap(pairs) if pairs else "" for pairs in all_.values())
            rows.append([task, "mean", "", "", "", ahead, "", cascaded])
            rows.append([task, "1", f"`{FULL}`", told(view, grid, FULL), "", "", "", ""])
    headings = ["task", "budget", "grid", "metric", "found", "ahead, points", "cascade", "ahead, points"]
    return markdown(headings, rows)


def of_widths(view):
    """By depth the widths between the usual ones as they are, repaired and trained, and the usual ones in both runs."""
    rows = []
    for task in view.tasks:
        twelve, sampled = done(view, task, "twelve", "sampled")
        known = list(view.study.results.get(twelve[0])["sizes"]) if twelve else []
        repaired = {name.removeprefix("repaired-"): name for name in known if name.startswith("repaired-")}
        usual = [name for name in known if name not in repaired and name not in repaired.values()]
        for depth, (kind, sizes) in product(DEPTHS, (("between", list(repaired)), ("usual", usual))):
            sizes = [size for size in sizes if size.endswith(f"-d{number_text(depth)}")]
            for how, jobs, ours in (
                ("twelve sizes", twelve, sizes),
                ("twelve sizes, repaired", twelve, list(map(repaired.get, sizes)) if kind == "between" else []),
                ("all widths", sampled, sizes),
            ):
                if not ours:
                    continue
                pairs = [view.pair(task, jobs, own, twelve, size) for own, size in zip(ours, sizes, strict=True)]
                ahead = bootstrap(pairs) if ours != sizes or jobs != twelve else ""
                apart = np.mean([view.values(jobs, size, "divergence") for size in ours])
                rows.append([task, kind, f"{depth:g}", how, told(view, jobs, *ours), ahead, f"{apart:.3f}"])
    return markdown(["task", "widths", "depth", "trained", "metric", "ahead, points", "divergence"], rows)


def done(view, task, *names):
    """For each name the jobs of the seeds for which all of them are there."""
    backbone, part = view.backbones[0], view.study.choice(task)
    by_seed = [[Job(task, backbone, part, seed, name) for name in names] for seed in view.seeds]
    known = [jobs for jobs in by_seed if all(view.study.results.get(job) for job in jobs)]
    return [list(jobs) for jobs in zip(*known, strict=True)] or [[] for _ in names]


def told(view, jobs, *sizes):
    """The metric, mean over sizes, and of several seeds in brackets that of each."""
    by_seed = [100 * np.mean(each) for each in zip(*(view.values(jobs, size) for size in sizes), strict=True)]
    each = f" ({', '.join(f'{each:.1f}' for each in by_seed)})" if len(by_seed) > 1 else ""
    return f"{np.mean(by_seed):.1f}{each}"


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.budgets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tasks", nargs="+", default=["sst2", "stsb"], metavar="TASK", help=f"of {', '.join(PLAN.tasks)}"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--rows", type=int, default=1000, help="train on so many rows")
    parser.add_argument("--epochs", type=float, default=2, help="of distillation")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS, help="make only these; none: print")
    parser.add_argument("--source", action="append", default=[], metavar="ID=FOLDER", help="read a folder for an id")
    parser.add_argument("--work", type=Path, default=Path("outputs/budgets"), help="for models")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "budgets")
    parser.add_argument("--smoke", action="store_true", help="a tiny comparison in a folder beside that")
    return parser.parse_args(argv)


def make_view(given):
    work, results, plan, tasks, backbone = given.work, given.results, PLAN, given.tasks, "minilm"
    if given.smoke:
        work = work.with_name(f"{work.name}-smoke")
        results, plan, tasks, backbone = work / "results", smoke_plan(work), ["classes"], "tiny"
    own = replace(plan.backbones[backbone], teacher_rates=(TEACHER_RATE,))
    lasting = {name: replace(task, epochs=given.epochs) for name, task in plan.tasks.items()}
    plan = replace(plan, tasks=lasting, backbones={backbone: own}, trainer={"use_cpu": True})
    sources = dict(each.split("=", 1) for each in given.source)
    study = BudgetStudy(plan, work, Results(results), sources, dict.fromkeys(plan.tasks, given.rows))
    return View(study, tasks, [backbone], given.seeds)


def main(argv=None):
    given = parse_arguments(argv)
    view = make_view(given)
    torch.set_num_threads(1)
    for task, seed, part in product(view.tasks, view.seeds, given.parts):
        job = Job(task, view.backbones[0], view.study.choice(task), CHOOSING_SEED if part == "choice" else seed, part)
        if view.study.results.get(job) is None:
            view.study.run(job)
    print(f"## Budgets\n\n{of_budgets(view)}\n\n## Widths\n\n{of_widths(view)}")


if __name__ == "__main__":
    main()
