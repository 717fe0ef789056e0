"""What training and inference cost on a GPU at the shapes of BERT-base, beside stock modules on the same card.

    python benchmarks/gpu.py                    # all that has no result yet; --part tests, step, ...: only that
    python benchmarks/gpu.py --minutes 9        # begins nothing after nine minutes; the same call again goes on
    python benchmarks/gpu.py --table            # what was measured, as Markdown; needs no card
    python benchmarks/gpu.py --smoke            # tiny shapes on a CPU, without the tests

Each job is kept when it is done, in benchmarks/results/gpu-<card>.json. Weights are random, nothing is fetched, and
there is no dropout. All that is compared takes turns in one process, on the card's own clock; a ratio is the median of
those of the rounds.

`step` is a step of stage `depth` in bfloat16 without the optimiser. Its `parts` are forward and backward of a stock
model of every size in it and forward of the teacher's sizes, one after the other; `compiled` compiles each layer by
itself. `inference` runs every size elastic, extracted and as a stock model of equal shapes: as it is, by torch.compile,
and with CUDA graphs (mode "reduce-overhead"). `study` trains what tables of the study on tasks lack, as far as the time
goes; it alone needs data sets and a model, from the Hub or from the folders of --source.
"""

import argparse
import copy
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from card_compiling import compiled_layers, many_graphs
from card_time import waits, where_time_goes
from training import SHAPES, stock_model

from dynabert_hf import (
    DynaBertConfig,
    DynaBertForSequenceClassification,
    DynaBertTrainer,
    DynaBertTrainingArguments,
    SubNetwork,
)
from dynabert_hf.sizes.profiling import event_ms, machine, time_in_turns, wall_ms
from dynabert_hf.sizes.runtimes import peak_allocation

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
STUDY = ("--tasks", "mrpc", "rte", "stsb", "cola", "--backbones", "minilm-tuned", "--rows", "2000", "--seeds", *"01234")
CHOSEN = ("w0.25-d0.5", "w0.5-d0.75", "w1-d1")
"""Compiled first: a size takes up to minutes."""


@dataclass(frozen=True)
class Setting:
    """Shapes of the model and its input, and how often to time."""

    shape: dict[str, int]
    widths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    depths: tuple[float, ...] = (0.5, 0.75, 1.0)
    length: int = 128
    train_batch: int = 32
    batches: tuple[int, ...] = (1, 8, 64, 256, 1024)
    rounds: int = 12
    warmup: int = 3
    passes: int = 5
    backend: str = "inductor"

    def config(self) -> DynaBertConfig:
        """Without dropout, so that gradients can be compared."""
        grid = {"widths": list(self.widths), "depths": list(self.depths)}
        return DynaBertConfig(**self.shape, **grid, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


BASE = Setting(SHAPES["base"])
SMOKE = Setting(
    {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 200},
    widths=(0.5, 1.0),
    depths=(0.5, 1.0),
    length=9,
    train_batch=4,
    batches=(1, 2),
    rounds=1,
    warmup=1,
    passes=2,
    backend="eager",
)


class Bench:
    """A device, a setting, and what both parts make of them."""

    def __init__(self, device: torch.device, setting: Setting):
        self.device, self.setting = device, setting
        self.timer = partial(event_ms, device=device) if device.type == "cuda" else wall_ms

    def model(self) -> DynaBertForSequenceClassification:
        torch.manual_seed(0)
        with self.device:
            return DynaBertForSequenceClassification(self.setting.config())

    def batch(self, size: int) -> dict[str, torch.Tensor]:
        """Full sentences, as a tokenizer gives them."""
        shape = (size, self.setting.length)
        ids = torch.randint(5, self.setting.shape.get("vocab_size", 30000), shape, device=self.device)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def stock(self, config: DynaBertConfig, size: SubNetwork) -> Any:
        """A stock model of the shapes of a size, without dropout as well."""
        with self.device:  # weights drawn there, not by a processor
            model = stock_model(config, size)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return model

    def in_turns(self, calls: dict[Any, Callable[[], Any]], *, passes: int = 1) -> dict[Any, list[float]]:
        """Milliseconds of each call, by its name, one a round."""

        def repeated(call: Callable[[], Any]) -> Callable[[], None]:
            return lambda: [call() for _ in range(passes)] and None

        rounds = {"rounds": self.setting.rounds, "warmup": self.setting.warmup}
        times = time_in_turns([repeated(call) for call in calls.values()], timer=self.timer, **rounds)
        return {name: [ms / passes for ms in taken] for name, taken in zip(calls, times, strict=True)}

    def peak_mb(self, run: Callable[[], Any]) -> float:
        """The most that a call holds beyond what was there before, in units of 2**20 bytes."""
        return peak_allocation(run, self.device) / 2**20


class StepBench(Bench):
    """Steps of a strategy, and the stock modules that do the same work one after the other."""

    def __init__(self, device: torch.device, setting: Setting, strategy: str, folder: str):
        super().__init__(device, setting)
        elastic = self.model()
        labels = torch.zeros(setting.train_batch, dtype=torch.long, device=device)
        self.inputs = {**self.batch(setting.train_batch), "labels": labels}
        args = DynaBertTrainingArguments(
            folder,
            stage="depth",
            strategy=strategy,
            bf16=True,
            use_cpu=device.type == "cpu",
            report_to="none",
            disable_tqdm=True,
        )
        self.trainer = DynaBertTrainer(elastic, copy.deepcopy(elastic), args)
        self.elastic = self.trainer.accelerator.prepare_model(elastic)
        self.sizes = elastic.config.subnetworks

    def step(self) -> None:
        self.elastic.zero_grad(set_to_none=True)
        self.trainer.training_step(self.elastic, self.inputs)
        self.trainer.check_finite()

    def eager_and_parts(self) -> dict[str, Any]:
        """The step beside its parts, where its time goes, what it waits for, and the optimisers."""
        students = {size: self.stock(self.elastic.config, size).train() for size in self.sizes}
        plan = self.trainer.pairs_of_step()
        teachers = dict.fromkeys(pair.teacher for pair in plan)
        calls: dict[Any, Callable[[], Any]] = {"step": self.step}
        calls |= {("train", pair.student): partial(self._train, students[pair.student]) for pair in plan}
        calls |= {("teach", size): partial(self._teach, students[size]) for size in teachers}
        times = self.in_turns(calls)
        parts = [sum(taken) for taken in zip(*(times[name] for name in calls if name != "step"), strict=True)]
        ratios = [step / part for step, part in zip(times["step"], parts, strict=True)]
        del students, calls
        return {
            "sizes": [str(pair.student) for pair in plan],
            "step_ms": statistics.median(times["step"]),
            "parts_ms": statistics.median(parts),
            "step_over_parts": statistics.median(ratios),
            "step_peak_mb": self.peak_mb(self.step),
            **where_time_goes(self.step, self.device),
            "waits_per_step": waits(self.step, self.device),
            "optimizer_ms": self._optimizers(),
        }

    def compiled(self, **how: Any) -> dict[str, Any]:
        """The step with compiled layers beside the eager one, their gradients, and how many graphs there are."""
        self.step()
        exact = torch.cat([parameter.grad.flatten() for parameter in self.elastic.parameters()])
        (teacher,) = self.trainer._teachers
        layers = [*self.elastic.elastic_layers.stored, *teacher.elastic_layers.stored]
        plain = [layer.forward for layer in layers]
        start = time.perf_counter()
        with compiled_layers(layers, backend=self.setting.backend, **how):
            self.step()
            seconds = time.perf_counter() - start
            found = torch.cat([parameter.grad.flatten() for parameter in self.elastic.parameters()])
            compiled = [layer.forward for layer in layers]
            eager, fast = partial(self._step_by, layers, plain), partial(self._step_by, layers, compiled)
            times = self.in_turns({"eager": eager, "compiled": fast})
            graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
            where = where_time_goes(fast, self.device)
        ratios = [one / other for one, other in zip(times["compiled"], times["eager"], strict=True)]
        return {
            "eager_ms": statistics.median(times["eager"]),
            "compiled_ms": statistics.median(times["compiled"]),
            "compiled_over_eager": statistics.median(ratios),
            "graphs": graphs,
            "seconds_to_compile": seconds,
            "gradients_differ_by": ((found - exact).norm() / exact.norm()).item(),
            **where,
        }

    def graphs(self) -> dict[str, Any]:
        """The same with CUDA graphs of each layer."""
        return self.compiled(**({"mode": "reduce-overhead"} if self.setting.backend == "inductor" else {}))

    def _step_by(self, layers: list[Any], forwards: list[Callable[..., Any]]) -> None:
        for layer, forward in zip(layers, forwards, strict=True):
            layer.forward = forward
        self.step()

    def _train(self, model: Any) -> None:
        model.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16):
            loss = model(**self.inputs).loss
        loss.backward()

    def _teach(self, model: Any) -> None:
        inputs = {name: tensor for name, tensor in self.inputs.items() if name != "labels"}
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            model(**inputs)

    def _optimizers(self) -> dict[str, float]:
        """Milliseconds of AdamW's step by implementation."""
        self.step()
        kinds = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
        steps = {
            name: torch.optim.AdamW(self.elastic.parameters(), lr=0.0, **kind).step for name, kind in kinds.items()
        }
        return {name: statistics.median(taken) for name, taken in self.in_turns(steps).items()}


class InferenceBench(Bench):
    """Sizes as parts of the elastic model, extracted, and as stock models."""

    MODES = {"eager": None, "compiled": "default", "graphs": "reduce-overhead"}

    def measure(self, batch_size: int, mode: str, sizes: list[SubNetwork]) -> dict[str, Any]:
        """For each size milliseconds and peak memory of each variant, and the ratios of elastic to the others."""
        elastic, batch = self.model().to(torch.bfloat16).eval(), self.batch(batch_size)
        passes = self.setting.passes if batch_size <= 64 else min(2, self.setting.passes)
        calls: dict[Any, Callable[[], Any]] = {}
        with many_graphs(), torch.inference_mode():
            run_elastic = self._as(elastic, mode)
            for size in sizes:
                stock = self.stock(elastic.config, size).to(torch.bfloat16).eval()
                calls["elastic", size] = lambda size=size: elastic.set_active(size) and run_elastic(**batch)
                calls["extracted", size] = partial(self._as(elastic.extract(size), mode), **batch)
                calls["stock", size] = partial(self._as(stock, mode), **batch)
            times = self.in_turns(calls, passes=passes)
            return {str(size): self._row(calls, times, size, batch_size) for size in sizes}

    def _as(self, model: Any, mode: str) -> Callable[..., Any]:
        if mode == "eager":
            return model
        backend = self.setting.backend
        kind = {"mode": self.MODES[mode]} if backend == "inductor" else {}
        return torch.compile(model, dynamic=False, backend=backend, **kind)

    def _row(self, calls: dict, times: dict, size: SubNetwork, batch_size: int) -> dict[str, float]:
        row: dict[str, float] = {}
        for variant in ("elastic", "extracted", "stock"):
            taken = times[variant, size]
            ratios = [one / other for one, other in zip(times["elastic", size], taken, strict=True)]
            row[f"{variant}_ms"] = statistics.median(taken)
            row[f"{variant}_sequences_per_second"] = 1e3 * batch_size / statistics.median(taken)
            row[f"{variant}_peak_mb"] = self.peak_mb(calls[variant, size])
            if variant != "elastic":
                row[f"elastic_over_{variant}"] = statistics.median(ratios)
        return row


def run_tests(device: torch.device) -> dict[str, Any]:
    """`make test-gpu`, with the Python that runs this."""
    command = ["make", "test-gpu", f"GPU_PYTHON={sys.executable}", f"DEVICE={device.type}"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    print(ran.stdout[-6000:], ran.stderr[-2000:])
    told = [line for line in ran.stdout.splitlines() if re.match(r"(FAILED|ERROR|SKIPPED)|\d+ \w+.* in ", line)]
    return {"exit_status": ran.returncode, "outcome": told}


def run_study(device: torch.device, options: Sequence[str], minutes: float) -> dict[str, Any] | None:
    """`python -m benchmarks.glue_study` for some minutes, with a training for each core; None while it lacks some."""
    limit = [] if minutes == float("inf") else ["--minutes", str(max(0, minutes))]
    with tempfile.TemporaryDirectory() as folder:
        smoke = ["--smoke", "--work", f"{folder}/work"]
        setting = smoke if device.type == "cpu" else [*STUDY, "--device", "cuda", "--workers", str(os.cpu_count())]
        command = [sys.executable, "-m", "benchmarks.glue_study", "sizes", "rivals", "cost", *setting, *limit, *options]
        ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(ran.stdout)
    return {"tables": ran.stdout[ran.stdout.index("## ") :]} if ran.returncode == 0 else None


def make_jobs(device: torch.device, setting: Setting) -> dict[str, Callable[[], dict[str, Any] | None]]:
    """Everything to measure on idle cores, by name, in order; the first word is the part."""

    def step(strategy: str, kind: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            return getattr(StepBench(device, setting, strategy, folder), kind)()

    jobs: dict[str, Callable[[], dict[str, Any] | None]] = {"tests": partial(run_tests, device)}
    for kind in ("eager_and_parts", "compiled", "graphs"):
        for strategy in ("sandwich", "grid"):
            jobs[f"step {strategy} {kind}"] = partial(step, strategy, kind)
    bench = InferenceBench(device, setting)
    every = list(setting.config().subnetworks)
    chosen = [size for size in every if str(size) in CHOSEN]
    for batch_size in setting.batches:
        jobs[f"inference {batch_size} eager"] = partial(bench.measure, batch_size, "eager", every)
    for size in [*chosen, *(size for size in every if size not in chosen)]:
        for mode in ("compiled", "graphs"):
            for batch_size in setting.batches:
                name = f"inference {batch_size} {mode} {size}"
                jobs[name] = partial(bench.measure, batch_size, mode, [size])
    return jobs


def table(results: dict[str, Any]) -> str:
    """What was measured, a list of numbers a job."""
    lines = [f"## {', '.join(f'{name} {value}' for name, value in results['machine'].items())}", ""]
    for name, found in results["jobs"].items():
        rows = found if all(isinstance(row, dict) for row in found.values()) else {"": found}
        for size, row in rows.items():
            cells = (f"{key} {value:.4g}" for key, value in row.items() if isinstance(value, int | float))
            lines.append(f"- {name} {size}: {', '.join(cells)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["tests", "step", "inference", "study"], help="default: all of them")
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", help="jobs whose name contains one of these, in this order"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no job after this time")
    parser.add_argument("--rounds", type=int, help="how often to time each; 1 only fills the caches of a compiler")
    parser.add_argument("--again", action="store_true", help="also what has a result")
    parser.add_argument("--source", action="append", default=[], metavar="ID=FOLDER", help="as the study takes it")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/gpu-<card>.json")
    parser.add_argument("--table", action="store_true", help="print what was measured, also without a card")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes on a CPU, without the tests")
    arguments = parser.parse_args()
    if arguments.table:
        files = [arguments.output] if arguments.output else sorted(RESULTS.glob("gpu-*.json"))
        print("\n\n".join(table(json.loads(file.read_text())) for file in files))
        return
    if not arguments.smoke and not torch.cuda.is_available():
        parser.error(f"torch {torch.__version__} sees no CUDA device. Run it where there is one, or give --smoke.")
    device = torch.device("cpu" if arguments.smoke else "cuda")
    card = "smoke" if arguments.smoke else re.sub(r"\W+", "-", torch.cuda.get_device_name().lower())
    output = arguments.output or RESULTS / f"gpu-{card}.json"
    versions = {**machine(device), "transformers": transformers.__version__}
    results = json.loads(output.read_text()) if output.exists() else {"machine": versions, "jobs": {}}
    end = time.perf_counter() + 60 * arguments.minutes
    setting = SMOKE if arguments.smoke else BASE
    if arguments.rounds:
        setting = replace(setting, rounds=arguments.rounds)
    sources = [word for each in arguments.source for word in ("--source", each)]
    jobs = make_jobs(device, setting)
    if arguments.smoke and not (arguments.part or arguments.only):
        del jobs["tests"]  # which take minutes
    jobs["study"] = lambda: run_study(device, sources, (end - time.perf_counter()) / 60)
    names = [name for name in jobs if name.split()[0] == (arguments.part or name.split()[0])]
    names = list(dict.fromkeys(name for text in arguments.only or [""] for name in names if text in name))
    for name in names:
        if name in results["jobs"] and not arguments.again:
            continue
        if time.perf_counter() > end:
            print(f"Time is up before {name!r}; the same call goes on there.")
            break
        print(f"{name} ...", flush=True)
        if (found := jobs[name]()) is None:
            continue
        results["jobs"][name] = found
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
