"""Is one DynaBERT as good as models compressed one by one, on GLUE? A command trains what a table lacks and prints it.

    python -m benchmarks.glue_study ideas --tasks sst2 mrpc --seeds 0 1     # ideas against the recipe, held-out rows
    python -m benchmarks.glue_study rivals --device cuda --workers 12 --minutes 9   # as far as it comes in nine minutes
    python -m benchmarks.glue_study report                                  # all tables of what is there, as a page
    python -m benchmarks.glue_study rivals --smoke                          # seconds, to see that everything works

The configuration is `plan.py`. A call goes on where the last one stopped. Data sets and models are those of the Hub, or
folders: `--source nyu-mll/glue=../data/glue --source sentence-transformers/all-MiniLM-L6-v2=minilm`.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker a core; two threads on a busy machine cost several times one

import torch

from .jobs import Results
from .picture import draw
from .plan import PLAN
from .running import complete, lacking
from .tables import TABLES, View
from .training import GlueStudy

HERE = Path(__file__).parent


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.glue_study",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tables", nargs="+", choices=[*TABLES, "report"], metavar="TABLE", help=", ".join(TABLES))
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help=f"some of {', '.join(PLAN.tasks)}")
    parser.add_argument("--backbones", nargs="+", metavar="NAME", help=f"some of {', '.join(PLAN.backbones)}")
    parser.add_argument("--ideas", nargs="+", metavar="ARM", help=f"some of {', '.join(PLAN.ideas)}")
    parser.add_argument(
        "--rivals",
        nargs="+",
        metavar="KIND",
        help=f"some of {', '.join(PLAN.rivals)}; default: those of each table",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        default=[],
        metavar="[TASK=]N",
        help=f"default: {' '.join(map(str, PLAN.seeds))}; with a task, one more for it",
    )
    parser.add_argument("--rows", nargs="+", default=[], metavar="[TASK=]N", help="train for choices on so many rows")
    parser.add_argument("--epochs", type=float, help="train for so many, in folders of --work and --results of its own")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="train so many models at a time")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw all sizes and rivals of the first backbone")
    parser.add_argument("--minutes", type=float, help="begin no job after so many minutes")
    parser.add_argument("--list", action="store_true", help="print the jobs that are lacking, and train nothing")
    parser.add_argument("--source", action="append", default=[], metavar="ID=FOLDER", help="read a folder for an id")
    parser.add_argument("--work", type=Path, default=HERE.parents[1] / "outputs" / "glue-study", help="for models")
    parser.add_argument("--results", type=Path, default=HERE.parent / "results" / "glue_study")
    parser.add_argument("--smoke", action="store_true", help="a tiny study in a folder beside that of the models")
    return parser.parse_args(argv)


def main(argv=None):
    arguments = parse_arguments(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda was given, but torch sees no GPU here. Leave it out to train on the processor.")
    view = make_view(arguments)
    is_report = "report" in arguments.tables
    names = list(TABLES) if is_report else arguments.tables
    if arguments.list:
        for job in lacking(view, names):
            print(job)
        return 0
    is_complete = is_report or complete(view, names, arguments.minutes, arguments.workers)
    if arguments.picture:
        draw(view, view.backbones[0], arguments.picture)
    page = "\n\n".join(section(view, name) for name in names)
    print(page)
    if is_report:
        (view.study.results.folder / "report.md").write_text(page + "\n")
    return 0 if is_complete else 1


def make_view(arguments):
    plan = replace(PLAN, ideas=tuple(arguments.ideas or PLAN.ideas))
    sources = dict(each.split("=", 1) for each in arguments.source)
    work, results = arguments.work, arguments.results
    if arguments.smoke:
        from .smoke import smoke_plan

        work = work.with_name("glue-study-smoke")
        plan, results = smoke_plan(work), work / "results"
    if arguments.epochs:
        plan = replace(plan, tasks={name: replace(each, epochs=arguments.epochs) for name, each in plan.tasks.items()})
    is_cpu = arguments.device == "cpu"
    trainer = {"use_cpu": is_cpu, "bf16": arguments.bf16, **({} if is_cpu or arguments.bf16 else {"tf32": True})}
    tasks, backbones = _some_of(arguments.tasks, plan.tasks), _some_of(arguments.backbones, plan.backbones)
    rows = _rows_of(arguments.rows, plan.tasks)
    seeds, more_seeds = _seeds_of(arguments.seeds, plan.tasks)
    study = GlueStudy(replace(plan, trainer={**plan.trainer, **trainer}), work, Results(results), sources, rows)
    kinds = _some_of(arguments.rivals, plan.rivals) if arguments.rivals else ()
    return View(study, tasks, backbones, seeds or list(plan.seeds), kinds, more_seeds)


def _rows_of(given, tasks):
    """The rows for choices by task, of `2000 banking77=1500`, in either order."""
    rows = {}
    for task, number in sorted(_numbers_of("--rows", given, tasks, least=1), key=lambda pair: bool(pair[0])):
        rows |= dict.fromkeys([task] if task else tasks, number)
    return rows


def _seeds_of(given, tasks):
    """The seeds of all tasks, and those that a task has beside them, of `0 1 2 cola=3 cola=4`."""
    numbers = _numbers_of("--seeds", given, tasks)
    more = {task: [seed for own, seed in numbers if own == task] for task, _ in numbers if task}
    return [seed for task, seed in numbers if not task], more


def _numbers_of(option, given, tasks, least=0):
    """Pairs of a task, empty for all, and its number, of words such as `3` and `cola=3`."""
    pairs = []
    for each in given:
        task, _, number = each.rpartition("=")
        if not number.isdecimal() or int(number) < least:
            sys.exit(f"{option} takes numbers from {least} on, such as 3, or cola=3 for one task. It was given {each}.")
        if task:
            _some_of([task], tasks)
        pairs.append((task, int(number)))
    return pairs


def _some_of(given, known):
    unknown = sorted(set(given or ()) - set(known))
    if unknown:
        sys.exit(f"{', '.join(unknown)} is not in the plan. Possible are {', '.join(known)}.")
    return list(given or known)


def section(view, name):
    title, table = TABLES[name](replace(view, missing=[]))
    return f"## {title}\n\n{table}"


if __name__ == "__main__":
    sys.exit(main())
