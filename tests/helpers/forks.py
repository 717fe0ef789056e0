"""Processes that begin with all of this package imported, which takes seconds only once."""

import gc
import multiprocessing
import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import connection, forkserver
from pathlib import Path
from unittest.mock import patch

from helpers import ROOT

PRELOADED = ["helpers.first_import", "helpers.two_processes", "helpers.recovery_worker"]
"""In this order: the first looks at what an import brings in where nothing was imported before."""


def run_forked(target, *arguments, environments=({},), timeout=500):
    """Call a function of a module in a process for each of these environments, and return what they printed.

    The first call in a process starts a server, which imports everything and is forked for each of them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with patch.dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}"):
        forkserver.ensure_running()
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / str(number) for number in range(len(environments))]
        processes = [
            context.Process(target=_call, args=(log, environment, target, arguments))
            for log, environment in zip(logs, environments, strict=True)
        ]
        for process in processes:
            process.start()
        codes = _wait(processes, timeout)
        printed = [log.read_text() if log.exists() else "" for log in logs]
    assert codes == [0] * len(codes), "\n".join([f"exit codes {codes}", *(text[-3000:] for text in printed)])
    return printed


def _call(log, environment, target, arguments):
    """What a process does: all that it and its children print stands in a file."""
    os.environ.update(environment)
    gc.freeze()  # a training begins with a collection of garbage, which need not look at all that is imported
    with log.open("w", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        target(*arguments)


def _wait(processes, timeout):
    """The exit codes once all have ended, or one has failed, which those that wait for it would not notice."""
    running = list(processes)
    while running:
        ended = connection.wait([process.sentinel for process in running], timeout)
        failed = [process for process in running if process.sentinel in ended and process.exitcode != 0]
        running = [process for process in running if process.sentinel not in ended]
        if failed or not ended:
            for process in running:
                process.kill()
                process.join()
            break
    return [process.exitcode for process in processes]
