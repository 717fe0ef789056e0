"""What it costs to switch the size of a model of 12 layers, and to make a second one on the same weights.

    python benchmarks/switching.py    # writes benchmarks/results/switching.json

The shape is that of BERT-base. Every call is timed alone; given are the median and the 99th percentile in microseconds.
"""

import argparse
import json
import platform
import statistics
import time
import tracemalloc
from pathlib import Path

import torch
import transformers

from dynabert_hf import DynaBertConfig, DynaBertForSequenceClassification, LayerShape

IRREGULAR = tuple(LayerShape(index, 12 - index, 3072 - 7 * index) for index in range(12))


def timed(calls):
    """Median and 99th percentile of some calls, in microseconds."""
    taken = []
    for call in calls:
        start = time.perf_counter()
        call()
        taken.append(1e6 * (time.perf_counter() - start))
    return {"median_us": statistics.median(taken), "p99_us": statistics.quantiles(taken, n=100)[-1]}


def switching(model, *, rounds):
    """Times of every way to switch, from one size to the next."""
    sizes = model.config.subnetworks
    fresh = DynaBertForSequenceClassification(DynaBertConfig(hidden_size=48, intermediate_size=96))
    first = timed([lambda size=size: fresh.set_active(size) for size in fresh.config.subnetworks])
    return {
        "set_active(SubNetwork)": timed([lambda s=s: model.set_active(s) for _ in range(rounds) for s in sizes]),
        "set_active(width=, depth=)": timed(
            [lambda s=s: model.set_active(width=s.width, depth=s.depth) for _ in range(rounds) for s in sizes]
        ),
        "set_active(LayerShapes)": timed(
            [lambda s=s: model.set_active(s) for _ in range(rounds) for s in (IRREGULAR, IRREGULAR[::2])]
        ),
        "the first set_active to a trained size": first,
    }


def sharing(model, *, rounds):
    """Milliseconds of `share`, and what it allocates, in Python and in tensors."""
    model.share()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        model.share(width=0.5)
        taken.append(1e3 * (time.perf_counter() - start))
    tracemalloc.start()
    shared = model.share(width=0.5)
    python_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    known = {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    new = sum(t.nbytes for t in (*shared.parameters(), *shared.buffers()) if t.data_ptr() not in known)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    return {
        "median_ms": statistics.median(taken),
        "python_mb": python_bytes / 2**20,
        "new_tensor_bytes": new,
        "weights_mb": weights / 2**20,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "switching.json")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = DynaBertForSequenceClassification(DynaBertConfig()).eval()
    report = {
        "switching": switching(model, rounds=arguments.rounds),
        "sharing": sharing(model, rounds=max(3, arguments.rounds // 10)),
        "rounds": arguments.rounds,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
