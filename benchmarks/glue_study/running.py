"""Running what tables lack, one job after the other or several at a time."""

import time
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing import get_context

from .jobs import SCORE
from .tables import TABLES


def lacking(view, names):
    """The jobs that tables ask for and that have no result; later ones may depend on what these choose."""
    view = replace(view, missing=[], with_claims=False)
    for name in names:
        TABLES[name](view)
    return view.missing


def complete(view, names, minutes=None, workers=1):
    """Run what tables lack, until nothing is lacking or the time is up; whether they are complete.

    A job begins when a worker is free and what it needs is there. Teachers come first, since other jobs begin with
    them, then what trains all sizes, which takes longest, then choices.
    """
    end = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    failed, running = set(), {}
    with make_executor(workers) as executor:
        while True:
            jobs = lacking(view, names)
            free = [job for job in jobs if job not in failed and job not in running.values() and can_begin(job, jobs)]
            if time.monotonic() < end:
                for job in sorted(free, key=lambda job: rank(view.plan, job))[: workers - len(running)]:
                    running[executor.submit(run_in_time, view.study, job, end)] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                if problem := future.exception():
                    failed.add(job)
                    print(f"{job} failed: {problem!r}", flush=True)
                elif told := future.result():
                    print(told, flush=True)
    if jobs and time.monotonic() > end:
        print(f"The time is up. {len(jobs)} jobs or more are lacking; call again to go on.")
    return not jobs


def can_begin(job, lacking):
    """Whether none of the lacking jobs makes what a job needs: its teacher, or the choice of a teacher's rate."""
    if job.name == "teacher":
        trials = [other for other in lacking if other.name.startswith("teacher/")]
        return (job.task, job.backbone) not in [(other.task, other.backbone) for other in trials]
    return job.name.startswith("teacher/") or job.with_name("teacher") not in lacking


def rank(plan, job):
    """What comes first has the lowest."""
    is_choice = job.part != SCORE
    return not job.name.startswith("teacher/"), job.name != "teacher", -epochs_of(plan, job), not is_choice


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
