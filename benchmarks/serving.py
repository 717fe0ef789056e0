"""A latency target while other processes load the CPU: the full size alone, and the controller.

    python benchmarks/serving.py    # writes benchmarks/results/serving.json and docs/images/serving.png

One worker serves requests that arrive at random moments; waiting counts as latency. Each arm has an idle, a loaded and
another idle phase. The model has the shape of MiniLM and is not trained: its time does not depend on its weights. The
accuracies are those of docs/results.md, of a model of that shape trained on all of the data.
"""

import argparse
import json
import platform
import random
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
import transformers
from matplotlib.figure import Figure

from dynabert_hf import (
    DynaBertConfig,
    DynaBertForSequenceClassification,
    LatencyController,
    ServingTarget,
    SubNetwork,
    make_records,
    measure_latency,
)
from dynabert_hf.sizes.serving import p95

HERE = Path(__file__).parent
MINILM = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536, "num_hidden_layers": 6}
ACCURACIES = {
    "w0.25-d0.5": 0.849,
    "w0.25-d0.75": 0.860,
    "w0.25-d1": 0.860,
    "w0.5-d0.5": 0.847,
    "w0.5-d0.75": 0.860,
    "w0.5-d1": 0.871,
    "w0.75-d0.5": 0.855,
    "w0.75-d0.75": 0.862,
    "w0.75-d1": 0.877,
    "w1-d0.5": 0.853,
    "w1-d0.75": 0.862,
    "w1-d1": 0.874,
}
"""Of each size, from docs/results.md."""

PHASES = ("idle", "loaded", "idle again")
BURN = """
import os, torch
torch.set_num_threads(1)
parent, matrix = os.getppid(), torch.rand(512, 512)
print(flush=True)
while os.getppid() == parent:  # not longer than the benchmark, however that ends
    matrix @ matrix
"""


@contextmanager
def load(processes):
    """Other processes that multiply matrices, each on one thread, inside the block."""
    with ExitStack() as stack:
        started = [subprocess.Popen([sys.executable, "-c", BURN], stdout=subprocess.PIPE) for _ in range(processes)]
        for process in started:
            stack.callback(process.wait)
            stack.callback(process.kill)
        for process in started:
            process.stdout.readline()
        yield


def measured_table(model, *, rounds, length):
    """The sizes with their latencies on this machine as it is now, and the declared accuracies."""
    profiles = measure_latency(model, rounds=rounds, sequence_length=length)
    return make_records(ACCURACIES, profiles)


def serve(answer, *, seconds, per_second, length, draw):
    """Answer requests that arrive at random moments, one after the other.

    Args:
        answer: Called with inputs, the moment of arrival and the number of requests waiting; returns the size.
        seconds: For how long requests arrive.
        per_second: How many do on average.
        length: Tokens of each.
        draw: Where the moments come from.

    Returns:
        For each request when it arrived, its latency in milliseconds, and the size that answered it.
    """
    inputs = {"input_ids": torch.randint(1000, 30000, (1, length))}
    start = moment = time.perf_counter()
    arrivals = []
    while (moment := moment + draw.expovariate(per_second)) < start + seconds:
        arrivals.append(moment)
    served = []
    for number, arrived in enumerate(arrivals):
        time.sleep(max(0.0, arrived - time.perf_counter()))
        now = time.perf_counter()
        waiting = next((i for i, later in enumerate(arrivals[number + 1 :]) if later > now), 0)
        size = answer(inputs, arrived, waiting)
        served.append((arrived - start, 1e3 * (time.perf_counter() - arrived), str(size)))
    return served


def run_arm(answer, arguments):
    """The requests of all phases, drawn alike for every arm."""
    draw = random.Random(0)
    setting = {"seconds": arguments.seconds, "per_second": arguments.per_second, "length": arguments.length}
    phases = {}
    for phase in PHASES:
        with load(arguments.processes if phase == "loaded" else 0):
            phases[phase] = serve(answer, **setting, draw=draw)
    return phases


def facts(served, p95_ms):
    """What the requests of a phase came to."""
    latencies = [latency for _, latency, _ in served]
    sizes = Counter(size for *_, size in served)
    return {
        "requests": len(served),
        "p50_ms": sorted(latencies)[len(latencies) // 2],
        "p95_ms": p95(latencies),
        "within_target": sum(latency <= p95_ms for latency in latencies) / len(latencies),
        "mean_accuracy": sum(ACCURACIES[size] for *_, size in served) / len(served),
        "sizes": dict(sizes.most_common()),
    }


def overhead_us(model, table, target, *, rounds=5000):
    """Microseconds that choosing a size and taking note of the request cost, when the estimate rests on many."""
    controller = LatencyController(model, table, target)
    start = time.perf_counter()
    for _ in range(rounds):
        with controller.request():
            pass
    return 1e6 * (time.perf_counter() - start) / rounds


def draw_picture(arms, *, p95_ms, seconds, path):
    """Latencies over time above, accuracies of the sizes below."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
    for (name, phases), colour in zip(arms.items(), ("#D55E00", "#0072B2"), strict=True):
        points = [
            (number * seconds + at, latency, ACCURACIES[size])
            for number, served in enumerate(phases.values())
            for at, latency, size in served
        ]
        times, latencies, accuracies = zip(*points, strict=True)
        above.plot(times, latencies, ".", markersize=3, color=colour, alpha=0.5)
        above.plot([], [], "o", color=colour, label=name)
        below.step(times, accuracies, where="post", color=colour, linewidth=1.3)
    above.axhline(p95_ms, color="#222222", linestyle="--", linewidth=1, label=f"target for the p95: {p95_ms:g} ms")
    for axes in (above, below):
        axes.axvspan(seconds, 2 * seconds, color="#dddddd", alpha=0.6, zorder=0)
        axes.grid(color="#e5e5e5", linewidth=0.7)
    above.set(yscale="log", ylabel="Latency with waiting (ms)")
    above.legend(loc="upper right", framealpha=0.95)
    above.text(1.5 * seconds, above.get_ylim()[0] * 1.1, "other processes load the CPU", ha="center", va="bottom")
    below.set(ylabel="Accuracy of the size", xlabel="Time (s)", xlim=(0, 3 * seconds))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--p95-ms", type=float, help="target (default: five times the latency of the full size)")
    parser.add_argument("--per-second", type=float, default=12.0)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each of the three phases")
    parser.add_argument("--processes", type=int, default=4, help="that load the CPU")
    parser.add_argument("--length", type=int, default=32, help="tokens of a request")
    parser.add_argument("--rounds", type=int, default=30, help="of measuring the table")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "serving.json")
    parser.add_argument("--picture", type=Path, default=HERE.parent / "docs" / "images" / "serving.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = DynaBertForSequenceClassification(DynaBertConfig(**MINILM)).eval()
    table = measured_table(model, rounds=arguments.rounds, length=arguments.length)
    if arguments.p95_ms is None:
        arguments.p95_ms = float(round(5 * max(one.latency_ms for one in table)))
    target = ServingTarget(p95_ms=arguments.p95_ms)
    controller = LatencyController(model, table, target)

    def full(inputs, arrived, waiting):
        with torch.inference_mode():
            model(**inputs)
        return SubNetwork()

    def controlled(inputs, arrived, waiting):
        with controller.request(arrived=arrived, queue_length=waiting) as sized, torch.inference_mode():
            sized(**inputs)
        return sized.active

    arms = {"full size": run_arm(full, arguments), "controller": run_arm(controlled, arguments)}
    report = {
        "setting": {name: value for name, value in vars(arguments).items() if not isinstance(value, Path)},
        "table": {str(one): {**one.metrics, "latency_ms": one.latency_ms} for one in table},
        "arms": {
            name: {phase: facts(served, arguments.p95_ms) for phase, served in phases.items()}
            for name, phases in arms.items()
        },
        "changes_of_size": controller.report().changes,
        "overhead_us": overhead_us(model, table, target),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    draw_picture(arms, p95_ms=arguments.p95_ms, seconds=arguments.seconds, path=arguments.picture)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
