"""One picture of the study: the mean metric of all tasks over what a size costs."""

import numpy as np

MARKERS = {"alone": "^", "labels": "s", "first": "x"}
"""By kind of rival how it is drawn."""


def draw(view, backbone, path):
    """All sizes of both arms as lines of equal depth, their teacher, and the rivals of the compared sizes.

    Args:
        view: Tasks, seeds, kinds of rivals and results.
        backbone: Name in the plan.
        path: Of the picture.

    Raises:
        ValueError: If results are lacking.
    """
    from matplotlib import pyplot

    def jobs_of(name_of, *words):
        jobs = [view.each(task, backbone, name_of(task, backbone, *words)) for task in view.tasks]
        if None in jobs:
            raise ValueError(f"Results of {backbone} are lacking. `rivals` and `equal-cost` train what is needed.")
        return jobs

    def mean(jobs, size):
        return 100 * np.mean([view.values(own, size) for own in jobs])

    arms = {arm: jobs_of(view.arm, arm) for arm in ("recipe", "long")}
    known = view.study.results.get(arms["recipe"][0][0])["sizes"]
    cost = {size: numbers["flops"] / 1e9 for size, numbers in known.items()}
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for (arm, jobs), color in zip(arms.items(), ("tab:blue", "tab:orange"), strict=True):
        for number, depth in enumerate(dict.fromkeys(size.split("-")[1] for size in known)):
            sizes = sorted((size for size in known if size.endswith(depth)), key=cost.get)
            values = [mean(jobs, size) for size in sizes]
            label = None if number else view.plan.arms[arm].words
            axes.plot([cost[size] for size in sizes], values, "o-", label=label, markersize=4, color=color)
            if arm == "recipe":
                axes.annotate(f" depth {depth[1:]}", (cost[sizes[-1]], values[-1]), fontsize=8, va="top")
    places = [cost[size] for size in view.plan.compared]
    for kind in [each for each in MARKERS if each in (view.kinds or MARKERS)]:
        values = [mean(jobs_of(view.rival, kind, size), "model") for size in view.plan.compared]
        label = view.plan.rivals[kind].words
        axes.scatter(places, values, marker=MARKERS[kind], color="black", s=28, zorder=3, label=label)
    teacher = mean(jobs_of(lambda *_: "teacher"), "model")
    axes.axhline(teacher, color="gray", linestyle="--", label="the fine-tuned model")
    what = "metric" if len(view.tasks) == 1 else "mean metric"
    axes.set(xlabel="GFLOPs of one text of 128 tokens", ylabel=f"{what} of {', '.join(view.tasks)}, times 100")
    axes.margins(x=0.1)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
