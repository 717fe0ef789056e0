"""One picture of the study: the mean metric of all tasks over what a size costs."""

import numpy as np


def draw(view, backbone, path):
    """All sizes of both arms as lines of equal depth, their teacher, and the rivals of the compared sizes.

    Args:
        view: Tasks, seeds and results.
        backbone: Name in the plan.
        path: Of the picture.

    Raises:
        ValueError: If results are lacking.
    """
    from matplotlib import pyplot

    def mean(name_of, size):
        jobs = [view.each(task, backbone, name_of(task)) for task in view.tasks]
        if None in jobs:
            raise ValueError(f"Results of {backbone} are lacking. `rivals` and `equal-cost` train what is needed.")
        return 100 * np.mean([view.values(own, size) for own in jobs])

    first = view.each(view.tasks[0], backbone, view.arm(view.tasks[0], backbone))
    if not first:
        raise ValueError(f"Results of {backbone} are lacking. `rivals` and `equal-cost` train what is needed.")
    known = view.study.results.get(first[0])["sizes"]
    cost = {size: numbers["flops"] / 1e9 for size, numbers in known.items()}
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for arm, style in (("recipe", {"color": "tab:blue"}), ("long", {"color": "tab:orange"})):
        for number, depth in enumerate(dict.fromkeys(size.split("-")[1] for size in known)):
            sizes = sorted((size for size in known if size.endswith(depth)), key=cost.get)
            values = [mean(lambda task: view.arm(task, backbone, arm), size) for size in sizes]  # noqa: B023
            label = None if number else view.plan.arms[arm].words
            axes.plot([cost[size] for size in sizes], values, "o-", label=label, markersize=4, **style)
            if arm == "recipe":
                axes.annotate(f" depth {depth[1:]}", (cost[sizes[-1]], values[-1]), fontsize=8, va="top")
    for kind, marker in (("alone", "^"), ("labels", "s"), ("first", "x")):
        values = [
            mean(lambda task: view.rival(task, backbone, kind, size), "model")  # noqa: B023
            for size in view.plan.compared
        ]
        places = [cost[size] for size in view.plan.compared]
        axes.scatter(places, values, marker=marker, color="black", s=28, zorder=3, label=view.plan.rivals[kind].words)
    axes.axhline(mean(lambda task: "teacher", "model"), color="gray", linestyle="--", label="the fine-tuned model")
    axes.set(xlabel="GFLOPs of one text of 128 tokens", ylabel=f"mean metric of {', '.join(view.tasks)}")
    axes.margins(x=0.1)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
