"""Is one DynaBERT as good as separately compressed models of the same sizes? Trains them all and reports.

    python benchmarks/study.py run        # every job of the queue that has no result yet; start it twice for two cores
    python benchmarks/study.py run --background   # the same, detached, with a log in outputs/study
    python benchmarks/study.py status     # what is done, and its validation accuracy
    python benchmarks/study.py test       # score on the test part, once, what the report names
    python benchmarks/study.py latency    # measure how fast every size is, and what training it alone costs
    python benchmarks/study.py report     # tables and pictures, from benchmarks/results/study
    python benchmarks/study.py run --smoke        # a minute, to see that everything works

`study.json` is the configuration: a worker reads it again before each job, so jobs can be added while it runs.
"""

import argparse
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker a core; two threads on a busy machine cost several times one

from evidence.jobs import HERE, Study


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "status", "test", "latency", "report"])
    parser.add_argument("--background", action="store_true", help="detach, and write to outputs/study/worker-*.log")
    parser.add_argument("--smoke", action="store_true", help="a tiny study in outputs/smoke-study")
    parser.add_argument("--config", type=Path, default=HERE / "study.json")
    parser.add_argument("--tag", help="text to find the process by")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    study = Study(arguments.config)
    if arguments.smoke:
        from evidence.smoke import smoke_study

        study = smoke_study(study)
    if arguments.background:
        detach(study)
    else:
        COMMANDS[arguments.command](study)


def detach(study):
    """Start this command again, without --background, in a process that outlives the terminal."""
    study.models.mkdir(parents=True, exist_ok=True)
    log = study.models / f"worker-{int(time.time())}.log"
    command = [sys.executable, *(word for word in sys.argv if word != "--background")]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
    print(f"Process {process.pid} writes to {log}")


def run(study):
    """Work through the queue until every job has a result or failed in this process."""
    from evidence.dynabert import train_arm
    from evidence.rivals import train_rival
    from evidence.teacher import train_teacher

    failed = set()
    while True:
        for job in study.queue():
            if job in failed or study.result(job):
                continue
            with study.lock(job.file_name, wait=False) as is_mine:
                if not is_mine or study.result(job):
                    continue
                print(f"{time.strftime('%H:%M:%S')} {job}", flush=True)
                try:
                    train = train_teacher if job.name == "teacher" else train_rival if "/" in job.name else train_arm
                    study.record(job, train(study, job))
                except Exception:  # shown, and told by the exit code; the rest of the queue does not wait for it
                    traceback.print_exc()
                    failed.add(job)
            break
        else:
            print(f"{time.strftime('%H:%M:%S')} The queue is done; {len(failed)} jobs failed.", flush=True)
            sys.exit(bool(failed))


def status(study):
    """One line a job: what it scored on validation, and what it cost."""
    for job in study.queue():
        result = study.result(job)
        if result is None:
            print(f"{job!s:40} -")
            continue
        accuracies = {size: summary["accuracy"] for size, summary in result["validation"].items()}
        cost = sum(result["cpu_seconds"].values())
        if not accuracies:  # trained on all of the data, of which the validation part is one
            print(f"{job!s:40} {cost:6.0f} s")
            continue
        numbers = " ".join(f"{size}={accuracy:.4f}" for size, accuracy in accuracies.items())
        mean = sum(accuracies.values()) / len(accuracies)
        loss = sum(summary["loss"] for summary in result["validation"].values()) / len(accuracies)
        print(f"{job!s:40} mean {mean:.4f} loss {loss:.4f} {cost:6.0f} s  {numbers}")


def test(study):
    from evidence.test_part import score_on_test

    score_on_test(study)


def latency(study):
    from evidence.latency import measure

    for name, milliseconds in measure(study).items():
        print(f"{name:12} {milliseconds:.2f} ms")


def report(study):
    from evidence.report import write_report

    write_report(study)


COMMANDS = {"run": run, "status": status, "test": test, "latency": latency, "report": report}


if __name__ == "__main__":
    main()
