"""The tables of the report, as Markdown, from the results of the jobs."""

from dataclasses import dataclass

import numpy as np

from .jobs import Job
from .scoring import right_answers
from .statistics import mean_and_deviation, paired_bootstrap

NUM_TEST = 1056
COMPARED = ("w0.25-d0.5", "w0.5-d0.5", "w0.5-d1", "w1-d0.5")


@dataclass(frozen=True)
class Evidence:
    """Results of a study, and what its configuration says about the report."""

    study: object

    @property
    def plan(self):
        return self.study.settings["report"]

    def result(self, name, num_train, seed):
        return self.study.result(Job(name, num_train, seed))

    def seeds_of(self, name, num_train, part="test"):
        """The seeds that a job was trained and scored with."""
        seeds = range(10)
        return [seed for seed in seeds if part in (self.result(name, num_train, seed) or {})]

    def accuracies(self, name, num_train, size, part="test"):
        """One accuracy for each seed."""
        seeds = self.seeds_of(name, num_train, part)
        return [self.result(name, num_train, seed)[part][size]["accuracy"] for seed in seeds]

    def mean_by_seed(self, name, num_train, part="test"):
        """By seed the mean over sizes."""
        return {
            seed: float(np.mean([size["accuracy"] for size in self.result(name, num_train, seed)[part].values()]))
            for seed in self.seeds_of(name, num_train, part)
        }

    def mean_accuracies(self, name, num_train, part="test"):
        """For each seed the mean over sizes."""
        return list(self.mean_by_seed(name, num_train, part).values())

    def cpu_seconds(self, name, num_train, part="validation"):
        results = [self.result(name, num_train, seed) for seed in self.seeds_of(name, num_train, part)]
        return [sum(result["cpu_seconds"].values()) for result in results]

    def answers(self, name, num_train, size, seeds):
        """Right answers `(seeds, sentences)` on the test part."""
        results = [self.result(name, num_train, seed)["test"][size] for seed in seeds]
        return np.stack([right_answers(result, NUM_TEST) for result in results])

    def seconds_and_steps(self, name, num_train, seed=0):
        """CPU seconds and steps of training, of all stages."""
        result = self.result(name, num_train, seed)
        steps = result["steps"]
        return sum(result["cpu_seconds"].values()), sum(steps.values()) if isinstance(steps, dict) else steps

    def rival(self, kind, size, num_train):
        """The name of the rival of a kind and size, with the learning rate that was best on validation; None: not run.

        On all of the data nothing is left to validate on; the rate is the best one of those on few sentences.
        """
        size = self.study.settings["rivals"]["kinds"][kind].get("same_model", {}).get(size, size)
        names = self.study.rivals(num_train, kind, size)
        found = self.validation_of(names)
        return max(names, key=lambda name: found.get(name, (0.0, 0.0)), default=None)

    def validation_of(self, names):
        """By name the accuracy and negated loss on validation with few sentences, over the seeds that all share."""
        few = self.plan["num_train"]
        seeds = {name: own for name in names if (own := set(self.seeds_of(name, few, "validation")))}
        shared = sorted(set.intersection(*seeds.values())) if seeds else []
        found = {}
        for name in seeds:
            own = [self.result(name, few, seed)["validation"]["model"] for seed in shared]
            found[name] = (np.mean([each["accuracy"] for each in own]), -np.mean([each["loss"] for each in own]))
        return found


def markdown(headings, rows, *, align=None):
    """A Markdown table without its empty columns, or "Not run."; `align` has one of `<`, `>` for each column."""
    if not rows:
        return "Not run."
    align = align or "<" + ">" * (len(headings) - 1)
    filled = [column for column in range(len(headings)) if any(row[column] != "" for row in rows)]
    headings, align = [headings[column] for column in filled], "".join(align[column] for column in filled)
    rows = [[row[column] for column in filled] for row in rows]
    marks = {"<": "---", ">": "---:"}
    lines = [headings, [marks[mark] for mark in align], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def rivals_table(evidence, arm, num_train, kinds, *, budget=""):
    """For each compared size the arm, every rival, and how far the arm is ahead, with the paired bootstrap.

    Args:
        evidence: The results.
        arm: Name of the DynaBERT arm.
        num_train: On how many sentences.
        kinds: The kinds of rivals and the words for them.
        budget: `"/equal-cpu"` for rivals with the CPU seconds of a twelfth of the run, `""` for those with its epochs.
    """
    rows = []
    for size in COMPARED:
        for kind, words in kinds.items():
            name = evidence.rival(kind, size, num_train)
            seeds = evidence.seeds_of(f"{name}{budget}", num_train) if name else []
            seeds = [seed for seed in seeds if seed in evidence.seeds_of(arm, num_train)]
            if not seeds:
                continue
            rival = f"{name}{budget}"
            ours = evidence.answers(arm, num_train, size, seeds)
            theirs = evidence.answers(rival, num_train, "model", seeds)
            seconds, steps = evidence.seconds_and_steps(rival, num_train)
            rows.append(
                [
                    words_of(size),
                    words,
                    name.split("/")[2],
                    steps,
                    f"{seconds:.0f}",
                    mean_and_deviation(theirs.mean(1)),
                    mean_and_deviation(ours.mean(1)),
                    paired_bootstrap(ours, theirs),
                ]
            )
    headings = ["size", "rival", "rate", "steps", "CPU s", "rival's accuracy", "DynaBERT", "DynaBERT ahead by, points"]
    return markdown(headings, rows, align="<<>>>>><")


def short_rivals_table(evidence, arm, num_train, kinds):
    """Accuracy of the arm and of each rival, a row a size."""
    rows = []
    for size in COMPARED:
        ours = evidence.accuracies(arm, num_train, size)
        if not ours:
            continue
        row = [words_of(size), mean_and_deviation(ours)]
        for kind in kinds:
            name = evidence.rival(kind, size, num_train)
            accuracies = evidence.accuracies(name, num_train, "model") if name else []
            row.append(mean_and_deviation(accuracies) if accuracies else "")
        rows.append(row)
    return markdown(["(width, depth)", "DynaBERT", *kinds.values()], rows)


def words_of(size):
    """`w0.25-d0.5` as `(0.25, 0.5)`."""
    width, depth = size.removeprefix("w").split("-d")
    return f"({width}, {depth})"


def ahead_by_seed(evidence, name, num_train, part="validation"):
    """By seed how many points of mean accuracy over sizes an arm is ahead of the recipe of the same seed."""
    recipe = evidence.mean_by_seed(evidence.plan["final"], num_train, part)
    own = evidence.mean_by_seed(name, num_train, part)
    return {seed: 100 * (own[seed] - recipe[seed]) for seed in sorted(own.keys() & recipe.keys())}


def ideas_table(evidence, ideas, num_train):
    """Every arm and idea: validation accuracies, points ahead of the recipe by seed, the same on test, CPU seconds."""
    rows = []
    for name, words in ideas.items():
        seeds = evidence.seeds_of(name, num_train, "validation")
        if not seeds:
            continue
        results = [evidence.result(name, num_train, seed)["validation"] for seed in seeds]
        losses = [np.mean([summary["loss"] for summary in result.values()]) for result in results]
        sizes = ("w1-d1", *COMPARED)
        on_test = ahead_by_seed(evidence, name, num_train, "test") if name != evidence.plan["final"] else {}
        rows.append(
            [
                f"`{name}`",
                words,
                mean_and_deviation(evidence.mean_accuracies(name, num_train, "validation")),
                ", ".join(f"{points:+.1f}" for points in ahead_by_seed(evidence, name, num_train).values()),
                *(mean_and_deviation(evidence.accuracies(name, num_train, size, "validation")) for size in sizes),
                mean_and_deviation(losses),
                ", ".join(f"{points:+.1f} (seed {seed})" for seed, points in on_test.items()),
                f"{np.mean(evidence.cpu_seconds(name, num_train)):.0f}",
            ]
        )
    sizes = map(words_of, ("w1-d1", *COMPARED))
    headings = [
        "arm",
        "what",
        "mean of 6",
        "points ahead, by seed",
        *sizes,
        "mean loss",
        "test, mean of 12, points ahead",
        "CPU s",
    ]
    return markdown(headings, rows, align="<<" + ">" * 10)


def tuning_table(evidence, num_train):
    """Validation accuracy of every rival by learning rate; the best of each row is bold."""
    found = {}
    for name in evidence.study.rivals(num_train):
        kind, size, rate = name.split("/")
        found.setdefault((kind, size), {})[rate] = name
    rates = sorted(set().union(*found.values()), key=float)
    rows = []
    for (kind, size), own in sorted(found.items()):
        scores = evidence.validation_of(own.values())
        best = max(scores, key=scores.get)
        cells = {rate: f"{scores[name][0]:.4f}" for rate, name in own.items()}
        cells = {rate: f"**{cell}**" if own[rate] == best else cell for rate, cell in cells.items()}
        rows.append([kind, words_of(size), *(cells.get(rate, "") for rate in rates)])
    return markdown(["rival", "size", *rates], rows, align="<<" + ">" * len(rates))
