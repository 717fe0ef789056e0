"""Peak memory and time of loading a BERT-base shape whole, at a size, and only that size.

    python benchmarks/loading.py            # writes benchmarks/results/loading.json

Each load runs in a process of its own; its peak is the highest resident memory after the imports, less that before.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZE = {"active_width": 0.25, "active_depth": 0.5}
MODES = {
    "whole": {},
    "whole, switched to (0.25, 0.5)": SIZE,
    "only (0.25, 0.5)": {**SIZE, "only_active": True},
}


def resident(name):
    """Resident memory of this process in bytes: now (`VmRSS`) or at its highest since it began (`VmHWM`)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{name}:")[1].split()[0])


def measure(folder, arguments):
    """Load once in this process and print what it took."""
    from dynabert_hf import DynaBertForSequenceClassification

    DynaBertForSequenceClassification.from_pretrained(folder / "tiny", **arguments)  # what is loaded on first use
    Path("/proc/self/clear_refs").write_text("5")  # the highest begins anew
    before, start = resident("VmRSS"), time.perf_counter()
    model = DynaBertForSequenceClassification.from_pretrained(folder / "base", **arguments)
    seconds = time.perf_counter() - start
    peak = resident("VmHWM") - before
    print(json.dumps({"peak_mb": peak / 1e6, "seconds": seconds, "parameters": model.num_parameters()}))


def run(folder, *, rounds):
    """The median of some loads of each kind, one after the other."""
    found = {mode: [] for mode in MODES}
    for _ in range(rounds):
        for mode, arguments in MODES.items():
            command = [sys.executable, __file__, "--measure", str(folder), json.dumps(arguments)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[mode].append(json.loads(done.stdout.splitlines()[-1]))
    return {
        mode: {key: statistics.median(load[key] for load in loads) for key in loads[0]} for mode, loads in found.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "loading.json")
    arguments = parser.parse_args()
    if arguments.measure:
        measure(Path(arguments.measure[0]), json.loads(arguments.measure[1]))
        return
    import torch
    import transformers

    from dynabert_hf import DynaBertConfig, DynaBertForSequenceClassification

    with tempfile.TemporaryDirectory() as folder:
        tiny = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 6}
        DynaBertForSequenceClassification(DynaBertConfig(**tiny)).save_pretrained(Path(folder) / "tiny")
        DynaBertForSequenceClassification(DynaBertConfig()).save_pretrained(Path(folder) / "base")
        loads = run(folder, rounds=arguments.rounds)
    share = loads["only (0.25, 0.5)"]["peak_mb"] / loads["whole"]["peak_mb"]
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "machine": platform.machine()}
    report = {"loads": loads, "share_of_whole": share, "rounds": arguments.rounds, **versions}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
