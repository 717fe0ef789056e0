"""The tables of the report. What a table asks for and is not there yet is what has to be trained for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from .jobs import SCORE, Job
from .statistics import Pair, bootstrap, mean_and_deviation
from .study import Study

KINDS = ("alone", "labels", "first")
"""The kinds of rivals that a joint run is compared with."""


@dataclass
class View:
    """The results of a study, in a selection; it notes which jobs were asked for in vain.

    Args:
        study: The study.
        tasks: Names of tasks.
        backbones: Names of backbones.
        seeds: Seeds.
        kinds: Kinds of rivals of the tables that compare with them, by their names in the plan; none: those of a table.
        more_seeds: By task, seeds beside those.
        with_claims: Whether intervals are wanted, which take seconds.
        missing: The jobs that were asked for and have no result, and before them what they need.
    """

    study: Study
    tasks: Sequence[str]
    backbones: Sequence[str]
    seeds: Sequence[int]
    kinds: Sequence[str] = ()
    more_seeds: Mapping[str, Sequence[int]] = field(default_factory=dict)
    with_claims: bool = True
    missing: list[Job] = field(default_factory=list)

    @property
    def plan(self):
        return self.study.plan

    def numbers(self, job):
        """The numbers of a job by size; None where it has to be run first."""
        found = self.study.results.get(job)
        if found is None and job not in self.missing:
            if job.name == "teacher":
                self.rate(job.task, job.backbone, "teacher", "metric")
            elif not job.name.startswith("teacher/"):
                self.numbers(job.with_name("teacher"))
            self.missing.append(job)
        return found

    def each(self, task, backbone, name, part=SCORE):
        """The jobs of a name, one a seed; None if one has to be run first, or the name is not known yet."""
        if name is None:
            return None
        seeds = dict.fromkeys((*self.seeds, *self.more_seeds.get(task, ())))
        jobs = [Job(task, backbone, part, seed, name) for seed in seeds]
        known = [self.numbers(job) for job in jobs]  # a list, so that every missing one is noted
        return jobs if all(known) else None

    def values(self, jobs, size, what="metric"):
        """A number for each seed."""
        return [self.study.results.get(job)["sizes"][size][what] for job in jobs]

    def arm(self, task, backbone, name="recipe"):
        """The name of the jobs of an arm, with the rate that was chosen; None before that."""
        rate = self.rate(task, backbone, f"arm/{self.plan.arms[name].rate_of or name}", "divergence")
        return rate and f"arm/{name}/{rate}"

    def rival(self, task, backbone, kind, size):
        """The name of the jobs of a rival of a size, with the rate that was chosen; None before that."""
        own = self.plan.rivals[kind]
        rate = self.rate(task, backbone, f"{own.rate_of or kind}/{size}", own.judge)
        return rate and f"{kind}/{size}/{rate}"

    def rate(self, task, backbone, prefix, judge):
        """The best of the rates on held-out rows of the training split; None before all are tried."""
        trials = self.study.trials(task, backbone, prefix)
        known = [self.numbers(job) for job in self.study.needed(trials)]
        return self.study.best_rate(trials, judge) if all(known) else None

    def middle_rate(self, backbone):
        """The rate at which ideas are compared."""
        rates = self.plan.backbones[backbone].rates
        return f"{rates[len(rates) // 2]:g}"

    def pair(self, task, ours, our_size, theirs, their_size):
        """What two models predicted, for a claim; the jobs of each, one a seed."""
        answers = [
            np.stack([self.study.results.answers(job)[f"{size}.prediction"] for job in jobs])
            for jobs, size in ((ours, our_size), (theirs, their_size))
        ]
        labels = self.study.results.answers(ours[0].with_name("teacher"))["labels"]
        return Pair(task, self.plan.tasks[task].metric, labels, *answers)

    def claim(self, pairs):
        """One claim with its interval; nothing while a part of it has to be run."""
        is_known = self.with_claims and all(pair is not None for pair in pairs)
        return str(bootstrap(pairs)) if pairs and is_known else ""


def ideas(view):
    """Every idea on held-out rows: divergence from the teacher and metric, means over sizes, against the recipe."""
    rows = []
    for backbone in view.backbones:
        rate = view.middle_rate(backbone)
        for task in view.tasks:
            recipe = view.each(task, backbone, f"arm/recipe/{rate}", view.study.choice(task))
            for name in ("recipe", *view.plan.ideas):
                own = view.each(task, backbone, f"arm/{name}/{rate}", view.study.choice(task))
                if recipe and own:
                    rows.append([backbone, task, view.plan.arms[name].words, *_against(view, own, recipe)])
    headings = ["model", "task", "arm", "sizes", "divergence", "ahead of the recipe, by seed"]
    headings += ["metric", "ahead, points", "seconds"]
    return "Ideas, on held-out rows of the training split", markdown(headings, rows)


def _against(view, own, recipe):
    numbers = [[view.study.results.get(job)["sizes"] for job in jobs] for jobs in (own, recipe)]
    shared = [size for size in numbers[0][0] if size in numbers[1][0]]
    means = {
        what: np.array([[np.mean([by[size][what] for size in shared]) for by in jobs] for jobs in numbers])
        for what in ("divergence", "metric")
    }
    (apart, apart_there), (metric, metric_there) = means["divergence"], 100 * means["metric"]
    return [
        len(shared),
        mean_and_deviation(apart, 4),
        ", ".join(f"{each:+.4f}" for each in apart_there - apart),
        mean_and_deviation(metric, 2),
        ", ".join(f"{each:+.2f}" for each in metric - metric_there),
        f"{np.mean([view.study.results.get(job)['seconds'] for job in own]):.0f}",
    ]


def sizes(view):
    """The teacher and every size of the recipe's model: the official metric of each task."""
    tables = []
    for backbone in view.backbones:
        columns, against, known = {}, [], {}
        for task in view.tasks:
            teacher = view.each(task, backbone, "teacher")
            own = view.each(task, backbone, view.arm(task, backbone))
            if not teacher or not own:
                continue
            known = view.study.results.get(own[0])["sizes"]
            columns[task] = {"teacher": view.values(teacher, "model")}
            columns[task] |= {size: view.values(own, size) for size in reversed(known)}
            against.append(view.claim([view.pair(task, own, "w1-d1", teacher, "model")]))
        names = next(iter(columns.values()), {})
        rows = [
            [
                name,
                *(mean_and_deviation(100 * np.array(own[name])) for own in columns.values()),
                f"{np.mean([100 * np.mean(own[name]) for own in columns.values()]):.1f}",
                f"{known[name]['flops'] / 1e9:.2f}" if name in known else "",
            ]
            for name in names
        ]
        rows.append(["full size ahead of its teacher by", *against, "", ""])
        headings = ["size", *columns, "mean of tasks", "GFLOPs (128 tokens)"]
        tables.append(f"{backbone}\n\n" + markdown(headings, rows if columns else []))
    return "All sizes, on validation and labelled test", "\n\n".join(tables)


def rivals(view, arm="recipe"):
    """How far each compared size is ahead of every rival, a column a task, and the mean over tasks."""
    tables = []
    for backbone in view.backbones:
        rows = []
        for kind in view.kinds or KINDS:
            pairs = partial(_pair, view, backbone=backbone, arm=arm, kind=kind)
            rows += _compared(view, view.plan.rivals[kind].words, pairs)
        tables.append(f"{backbone}\n\n" + markdown(["rival", "size", *view.tasks, "mean of tasks"], rows))
    return f"{view.plan.arms[arm].words}: points ahead of rivals, [95 % interval]", "\n\n".join(tables)


def _compared(view, words, pair):
    """Rows of claims against one rival: each compared size, then the mean of sizes; `pair` takes a task and a size."""
    by_size = {size: [pair(task=task, size=size) for task in view.tasks] for size in view.plan.compared}
    by_task = [list(pairs) for pairs in zip(*by_size.values(), strict=True)]
    all_ = [pair for pairs in by_task for pair in pairs]
    rows = [[words, size, *_claims(view, pairs)] for size, pairs in by_size.items()]
    return [*rows, [words, "mean of sizes", *(view.claim(pairs) for pairs in by_task), view.claim(all_)]]


def apart(view):
    """The divergence of the compared sizes from the teacher, by how they were trained: the primary measure."""
    tables = []
    for backbone in view.backbones:
        rows = []
        for size in view.plan.compared:
            alone = [view.each(task, backbone, view.rival(task, backbone, "alone", size)) for task in view.tasks]
            rows.append([size, view.plan.rivals["alone"].words, *(_divergence(view, jobs, "model") for jobs in alone)])
            for arm in ("recipe", "long"):
                ours = [view.each(task, backbone, view.arm(task, backbone, arm)) for task in view.tasks]
                rows.append([size, view.plan.arms[arm].words, *(_divergence(view, jobs, size) for jobs in ours)])
        tables.append(f"{backbone}\n\n" + markdown(["size", "trained", *view.tasks], rows))
    return "Divergence from the teacher, on validation and labelled test", "\n\n".join(tables)


def _divergence(view, jobs, size):
    return mean_and_deviation(view.values(jobs, size, "divergence"), 4) if jobs else ""


def _claims(view, pairs):
    """A claim for each task and one for their mean."""
    return [*(view.claim([pair]) for pair in pairs), view.claim(pairs)]


def _pair(view, task, backbone, arm, kind, size):
    ours = view.each(task, backbone, view.arm(task, backbone, arm))
    theirs = view.each(task, backbone, view.rival(task, backbone, kind, size))
    teacher = view.each(task, backbone, "teacher")
    return view.pair(task, ours, size, theirs, "model") if ours and theirs and teacher else None


def held_out_views(view):
    """What fresh views of the text gain a long run and models distilled alone, on held-out rows.

    Means over the compared sizes. The arms have the middle one of the rates, as in `ideas`, each rival its best.
    """
    rows = []
    for backbone in view.backbones:
        claims = {}
        for task in view.tasks:
            trained = _trained_for_choices(view, task, backbone)
            if not all(jobs for each in trained.values() for jobs, _ in each):
                continue
            alone = trained[view.plan.rivals["alone"].words]
            for words, own in trained.items():
                against = [] if own is alone else zip(own, alone, strict=True)
                pairs = [view.pair(task, *ours, *theirs) for ours, theirs in against]
                claims[words] = claims.get(words, []) + pairs
                means = [
                    np.mean([view.values(jobs, size, what) for jobs, size in own], axis=0)
                    for what in ("divergence", "metric")
                ]
                told = mean_and_deviation(means[0], 4), mean_and_deviation(100 * means[1])
                rows.append([backbone, task, words, *told, view.claim(pairs)])
        known = {words: pairs for words, pairs in claims.items() if pairs}
        rows += [[backbone, "mean of tasks", words, "", "", view.claim(pairs)] for words, pairs in known.items()]
    headings = ["model", "task", "trained", "divergence", "metric", "points ahead of distilled alone, [95 % interval]"]
    return "Fresh views, on held-out rows of the training split", markdown(headings, rows)


def _trained_for_choices(view, task, backbone):
    """By how they were trained: the jobs and the name of each compared size, on the rows for choices.

    The arms are those among the ideas of the view. A view with kinds, but without `"alone-views"`, leaves these out.
    """
    part, trained = view.study.choice(task), {}
    for arm in (name for name in ("long", "long-views") if name in view.plan.ideas):
        jobs = view.each(task, backbone, f"arm/{arm}/{view.middle_rate(backbone)}", part)
        trained[view.plan.arms[arm].words] = [(jobs, size) for size in view.plan.compared]
    for kind in ("alone", "alone-views") if "alone-views" in (view.kinds or ["alone-views"]) else ("alone",):
        names = [view.rival(task, backbone, kind, size) for size in view.plan.compared]
        trained[view.plan.rivals[kind].words] = [(view.each(task, backbone, name, part), "model") for name in names]
    return trained


def specialised(view, arm="recipe", kinds=("alone", "alone-long")):
    """A size distilled on alone, against the same size before and against models distilled alone.

    Two specialised sizes share a joint run, which costs what 12 / 2.9 rivals cost: half of that has each long rival.
    """
    against = {None: "the same size before", **{kind: view.plan.rivals[kind].words for kind in view.kinds or kinds}}
    tables = []
    for backbone in view.backbones:
        rows = []
        for kind, words in against.items():
            rows += _compared(view, words, partial(_specialised_pair, view, backbone=backbone, arm=arm, kind=kind))
        tables.append(f"{backbone}\n\n" + markdown(["against", "size", *view.tasks, "mean of tasks"], rows))
    title = f"Specialised sizes of {view.plan.arms[arm].words}: points ahead, [95 % interval]"
    return title, "\n\n".join(tables)


def _specialised_pair(view, task, backbone, arm, kind, size):
    source = view.arm(task, backbone, arm)
    before = view.each(task, backbone, source)
    if not before:
        return None
    rate = f"{view.plan.backbones[backbone].rates[0]:g}"  # the lowest: the size is nearly there
    ours = view.each(task, backbone, f"specialised/{size}/{rate}/{source}")
    theirs = before if kind is None else view.each(task, backbone, view.rival(task, backbone, kind, size))
    their_size = size if kind is None else "model"
    return view.pair(task, ours, "model", theirs, their_size) if ours and theirs else None


def cost(view):
    """Seconds of training: one run of all sizes, and as many rivals, whose cost goes by floating-point operations."""
    rows = []
    for backbone in view.backbones:
        for task in view.tasks:
            own = view.each(task, backbone, view.arm(task, backbone))
            rivals = [
                view.each(task, backbone, view.rival(task, backbone, "alone", size)) for size in view.plan.compared
            ]
            if not own or None in rivals:
                continue
            first = view.study.results.get(own[0])
            flops = {size: numbers["flops"] for size, numbers in first["sizes"].items()}
            joint = np.mean([view.study.results.get(job)["seconds"] for job in own])
            alone = sum(np.mean([view.study.results.get(job)["seconds"] for job in jobs]) for jobs in rivals)
            all_ = alone * sum(flops.values()) / sum(flops[size] for size in view.plan.compared)
            times = [f"{seconds:.0f}" for seconds in (joint, alone, all_)]
            rows.append([backbone, task, first["device"], *times, f"{all_ / joint:.1f}"])
    headings = ["model", "task", "device", "all sizes in one run, s", f"{len(view.plan.compared)} rivals, s"]
    return "What training costs", markdown([*headings, "a rival for every size, s", "ratio"], rows)


def teachers(view):
    """The teachers of each backbone against those of the first, such as `minilm minilm-tuned`."""
    first, *others = view.backbones
    rows = []
    for backbone in others:
        rows += _full_models(view, backbone, [(backbone, "teacher"), (first, "teacher")])
    return "Teachers", markdown(["model", "task", f"teacher of {first}", "its own teacher", "its own ahead by"], rows)


def int8(view):
    """The full model, and what int8 does to it."""
    rows = []
    for backbone in view.backbones:
        rows += _full_models(view, backbone, [(backbone, "int8"), (backbone, "teacher")])
    return "The full model in int8", markdown(["model", "task", "float32", "int8", "int8 ahead by"], rows)


def _full_models(view, name, kinds):
    """How far full models of the first of two kinds, of a backbone and a name, are ahead: by task, and in the mean."""
    rows, pairs = [], []
    for task in view.tasks:
        ours, theirs = (view.each(task, *kind) for kind in kinds)
        if ours and theirs:
            both = [mean_and_deviation(100 * np.array(view.values(jobs, "model"))) for jobs in (theirs, ours)]
            pairs.append(view.pair(task, ours, "model", theirs, "model"))
            rows.append([name, task, *both, view.claim(pairs[-1:])])
    return [*rows, [name, "mean of tasks", "", "", view.claim(pairs)]] if len(pairs) > 1 else rows


def markdown(headings, rows):
    """A Markdown table, or that nothing was run."""
    if not rows:
        return "Not run."
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


TABLES = {
    "ideas": ideas,
    "sizes": sizes,
    "rivals": rivals,
    "equal-cost": partial(rivals, arm="long"),  # which costs what twelve rivals cost
    "equal-cost-views": partial(rivals, arm="long-views"),
    "held-out-views": held_out_views,
    "labels-mixed": partial(rivals, arm="labels-mixed"),
    "divergence": apart,
    "specialised": specialised,
    "specialised-views": partial(specialised, arm="long-views", kinds=("alone",)),
    "cost": cost,
    "teachers": teachers,
    "int8": int8,
}
