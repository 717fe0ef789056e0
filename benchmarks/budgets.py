"""What a budget buys on a GLUE task: a size of the grid, the shape that a search finds, or a cascade; and any width.

    python -m benchmarks.budgets --tasks sst2 mrpc --seeds 0 1    # trains what the tables lack, and prints them
    python -m benchmarks.budgets --smoke                          # a minute, to see that everything works

The primary measure is the official metric of the task, ours less that of the grid's size within the same budget. All
train on the same 1,000 rows; a search sees others of the training split; scored are validation and labelled test. A
call goes on where the last one stopped. `--source` reads folders for ids, as in `benchmarks.glue_study`.
"""

import argparse
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from benchmarks.glue_study.data import Rows, load_rows
from benchmarks.glue_study.jobs import CHOICE, SCORE, Job, Results
from benchmarks.glue_study.plan import PLAN
from benchmarks.glue_study.scoring import Clock, in_batches, predict
from benchmarks.glue_study.smoke import smoke_plan
from benchmarks.glue_study.statistics import bootstrap
from benchmarks.glue_study.study import Case, Study
from benchmarks.glue_study.tables import View, markdown
from benchmarks.glue_study.training import train_teacher
from dynabert_hf import LabelledText, count_flops, measure_importance, repair, search_layers, train_dynabert
from dynabert_hf.model.subnetwork import number_text
from dynabert_hf.sizes.calibration import confidence
from dynabert_hf.tasks import task_of

BUDGETS = {"w0.25-d0.5": 1 / 8, "w0.5-d0.5": 1 / 4, "w0.5-d0.75": 3 / 8}
"""For sizes of the grid the share of the full size's FLOPs that a shape may cost instead; the last one costs 1/3."""

SMALL, FULL = "w0.25-d0.5", "w1-d1"
"""The two sizes of a cascade."""

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

    def train(self, **sizes):
        """Distil the teacher into sizes; the model and what it cost."""
        with Clock() as clock:
            result = train_dynabert(
                str(self.model_of("teacher")),
                train_dataset=self.rows.train,
                processing_class=self.tokenizer,
                **{**self.settings(RATE, self.task.epochs), "output_dir": str(self.folder)},
                **sizes,
            )
        return result.model, {"seconds": clock.seconds}

    def predict(self, model, sizes=None):
        return predict(model, self.rows.scored, self.collator, sizes)


def make_teacher(run):
    """Fine-tune the pre-trained model on labels, unless a teacher lies there."""
    path = run.folder / "model"
    if not (path / "config.json").exists():
        return train_teacher(run)
    return run.scored(AutoModelForSequenceClassification.from_pretrained(path), {"seconds": 0})


def search(run):
    """The best shape within each budget, by a search on the rewired teacher."""
    model, length = run.rewired(), 32 * len(run.task.text)
    full = count_flops(model, FULL, sequence_length=length)
    importance = measure_importance(model, run.text(model, run.choice.train, 320).labelled_batches(), progress=False)
    result = search_layers(
        model,
        run.text(model, run.choice.scored, 256),
        importance,
        flops=[1.0001 * share * full for share in BUDGETS.values()],
        sequence_length=length,
        max_rows=256 // len(run.task.text),
        evaluations=80,
        seed=run.job.seed,
        progress=False,
    )
    found = {size: one.name for size, one in zip(BUDGETS, result.found, strict=True)}
    return {"found": found, "shapes": result.num_evaluated, "seconds": result.seconds}, {}


def train_grid(run):
    """The grid's sizes, and cascades at the mean cost of each."""
    model, spent = run.train(sizes=list(BUDGETS), strategy="grid")
    logits = run.predict(model, [*BUDGETS, FULL])
    flops = {size: count_flops(model, size) for size in logits}
    for size in list(BUDGETS)[1:] if run.rows.num_labels > 1 else ():  # a value does not say how sure it is
        share = (flops[size] - flops[SMALL]) / flops[FULL]
        logits[f"cascade-{size}"] = cascade(logits[SMALL], logits[FULL], share)
    return run.scored_logits(logits, spent)


def cascade(small, large, share):
    """Logits of a small size and, for the share of rows that it is least sure of, those of a larger one."""
    sure = confidence(torch.from_numpy(small), kind="single_label_classification").numpy()
    again = np.argsort(sure, kind="stable")[: int(share * len(small))]
    logits = small.copy()
    logits[again] = large[again]
    return logits


def train_found(run):
    """What a search found, trained alike, each shape by the name of the size that it stands for."""
    search = run.job.with_name("search")
    if run.study.results.get(search) is None:
        run.study.run(search)
    found = run.study.results.get(search)["found"]
    model, spent = run.train(sizes=list(found.values()), strategy="grid")
    logits = run.predict(model, list(found.values()))
    return run.scored_logits({size: logits[name] for size, name in found.items()}, spent)


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
    "teacher": make_teacher,
    "search": search,
    "grid": train_grid,
    "found": train_found,
    "twelve": train_twelve,
    "sampled": train_sampled,
}
"""What is trained and scored once for a task and a seed."""


def of_budgets(view):
    """The grid's size, the searched shape and the cascade of each budget."""
    rows, all_ = [], {"found": [], "cascade": []}
    for task in view.tasks:
        grid, found = done(view, task, "grid", "found")
        for size in BUDGETS if grid else ():
            row = [task, len(grid), f"{BUDGETS[size]:.3f}", size, told(view, grid, size)]
            for kind, jobs, name in (("found", found, size), ("cascade", grid, f"cascade-{size}")):
                if name not in view.study.results.get(jobs[0])["sizes"]:
                    row += ["", ""]
                    continue
                pair = view.pair(task, jobs, name, grid, size)
                all_[kind].append(pair)
                row += [told(view, jobs, name), bootstrap([pair])]
            rows.append(row)
    if rows:
        found, cascaded = (bootstrap(pairs) if pairs else "" for pairs in all_.values())
        rows.append(["mean", "", "", "", "", "", found, "", cascaded])
    headings = ["task", "seeds", "budget", "grid", "metric", "found", "ahead, points", "cascade", "ahead, points"]
    return markdown(headings, rows)


def of_widths(view):
    """Widths between the trained ones as they are, repaired and trained, and what that costs the trained ones."""
    rows = []
    for task in view.tasks:
        twelve, sampled = done(view, task, "twelve", "sampled")
        if not twelve:
            continue
        known = view.study.results.get(twelve[0])["sizes"]
        between = [name.removeprefix("repaired-") for name in known if name.startswith("repaired-")]
        trained = [name for name in known if name not in between and not name.startswith("repaired-")]
        for words, jobs, prefix, sizes in (
            ("between, repaired", twelve, "repaired-", between),
            ("between, trained", sampled, "", between),
            ("the usual ones, the others trained, too", sampled, "", trained),
        ):
            ours = [f"{prefix}{size}" for size in sizes]
            pairs = [view.pair(task, jobs, own, twelve, size) for own, size in zip(ours, sizes, strict=True)]
            values = [told(view, each, *names) for each, names in ((twelve, sizes), (jobs, ours))]
            apart = [np.mean([view.values(each, name, "divergence") for name in names])
                     for each, names in ((twelve, sizes), (jobs, ours))]  # fmt: skip
            rows.append([task, len(twelve), words, len(sizes), *values, bootstrap(pairs), *(f"{a:.3f}" for a in apart)])
    headings = [
        "task",
        "seeds",
        "widths",
        "sizes",
        "of the usual twelve",
        "then",
        "ahead, points",
        "divergence",
        "then",
    ]
    return markdown(headings, rows)


def done(view, task, *names):
    """For each name the jobs of the seeds for which all of them are there."""
    by_seed = [[Job(task, view.backbones[0], view.choice, seed, name) for name in names] for seed in view.seeds]
    known = [jobs for jobs in by_seed if all(view.study.results.get(job) for job in jobs)]
    return [list(jobs) for jobs in zip(*known, strict=True)] or [[] for _ in names]


def told(view, jobs, *sizes):
    """The metric, mean over sizes, and in brackets of each seed."""
    by_seed = [100 * np.mean(each) for each in zip(*(view.values(jobs, size) for size in sizes), strict=True)]
    return f"{np.mean(by_seed):.1f} ({', '.join(f'{each:.1f}' for each in by_seed)})"


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.budgets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tasks", nargs="+", default=["sst2", "mrpc"], metavar="TASK", help=f"of {', '.join(PLAN.tasks)}"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--rows", type=int, default=1000, help="train on so many rows")
    parser.add_argument("--epochs", type=float, default=2, help="of distillation")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS, help="make only these; none: print")
    parser.add_argument("--source", action="append", default=[], metavar="ID=FOLDER", help="read a folder for an id")
    parser.add_argument("--work", type=Path, default=Path("outputs/budgets"), help="for models and results")
    parser.add_argument("--smoke", action="store_true", help="a tiny comparison in a folder beside that")
    return parser.parse_args(argv)


def make_view(given):
    work, plan, tasks, backbone = given.work, PLAN, given.tasks, "minilm"
    if given.smoke:
        work = work.with_name(f"{work.name}-smoke")
        plan, tasks, backbone = smoke_plan(work), ["classes"], "tiny"
    own = replace(plan.backbones[backbone], teacher_rate=TEACHER_RATE)
    lasting = {name: replace(task, epochs=given.epochs) for name, task in plan.tasks.items()}
    plan = replace(plan, tasks=lasting, backbones={backbone: own}, trainer={"use_cpu": True})
    sources = dict(each.split("=", 1) for each in given.source)
    study = BudgetStudy(plan, work, Results(work / "results"), sources)
    return View(study, tasks, [backbone], given.seeds, f"{CHOICE}-{given.rows}")


def main(argv=None):
    given = parse_arguments(argv)
    view = make_view(given)
    torch.set_num_threads(1)
    for task, seed, part in product(view.tasks, view.seeds, given.parts):
        job = Job(task, view.backbones[0], view.choice, seed, part)
        if view.study.results.get(job) is None:
            view.study.run(job)
    print(f"## Budgets\n\n{of_budgets(view)}\n\n## Widths\n\n{of_widths(view)}")


if __name__ == "__main__":
    main()
