"""Running what tables lack, one job after the other or several at a time."""

import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context

from .tables import TABLES


def lacking(view, names):
    """The jobs that tables ask for and that have no result; later ones may depend on what these choose."""
    view = replace(view, missing=[], with_claims=False)
    for name in names:
        TABLES[name](view)
    return view.missing


def complete(view, names, minutes=None, workers=1):
    """Run what tables lack, until nothing is lacking or the time is up; whether they are complete.

    Teachers come first, since other jobs begin with them; then what trains all sizes, which takes longest.
    """
    end = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    failed = set()
    with make_executor(workers) as executor:
        while jobs := [job for job in lacking(view, names) if job not in failed]:
            teachers = [job for job in jobs if job.name.startswith("teacher/")]
            teachers = teachers or [job for job in jobs if job.name == "teacher"]
            jobs = teachers or sorted(jobs, key=lambda job: -epochs_of(view.plan, job))
            running = {executor.submit(run_in_time, view.study, job, end): job for job in jobs}
            for future in as_completed(running):
                if problem := future.exception():
                    failed.add(running[future])
                    print(f"{running[future]} failed: {problem!r}", flush=True)
                elif told := future.result():
                    print(told, flush=True)
            if time.monotonic() > end:
                print(f"The time is up. {len(lacking(view, names))} jobs or more are lacking; call again to go on.")
                return False
    return not failed


def epochs_of(plan, job):
    """For how long all sizes train, 0 where one does."""
    kind, *words = job.name.split("/")
    return plan.arms[words[0]].epochs * plan.tasks[job.task].epochs if kind == "arm" else 0


def run_in_time(study, job, end):
    """Run a job, unless the time is up or another one has run it because it needed it; a line that tells of it."""
    if time.monotonic() > end or study.results.get(job) is not None:
        return ""
    start = time.monotonic()
    study.run(job)
    return f"{time.strftime('%H:%M:%S')} {job}: {time.monotonic() - start:.0f} s"


class InTurn(Executor):
    """An executor of this very process."""

    def submit(self, call, *arguments):
        future = Future()
        try:
            future.set_result(call(*arguments))
        except Exception as problem:
            future.set_exception(problem)
        return future


def make_executor(workers):
    """What runs jobs: this process in turn, or as many fresh ones at a time."""
    return InTurn() if workers == 1 else ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
