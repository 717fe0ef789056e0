"""Time and peak memory of a training step, beside plain fine-tuning and beside what separate passes cost at least.

    python benchmarks/training.py           # writes benchmarks/results/training.json

`plain` is forward and backward of the stock model of full size. `limit` is the sum of forward and backward of a stock
model of every size of the step, with a label loss and gradients of its own, and of the teacher's forward passes in
stock models of their sizes: what a step would cost with nothing spent on elasticity and distillation, and nothing
shared. `step` is what `DynaBertTrainer` does with a batch. None has an optimiser step. All take turns; a ratio is the
median of those of the rounds. Weights are random, sentences of half to all of the length. Ratios are of CPU seconds, on
which other work of the machine has little influence; so that waiting threads do not count, there is one.

Memory is the most that tensors take at any moment, weights, gradients and the outputs of the teacher included, with the
state and the update of AdamW and, for `passes`, without; the teacher's weights come on top.
"""

import argparse
import copy
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from dynabert_hf import DynaBertConfig, DynaBertForSequenceClassification, DynaBertTrainer, DynaBertTrainingArguments
from dynabert_hf.sizes.runtimes import peak_allocation

SHAPES = {
    "minilm": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
CASES = (("width", "grid"), ("depth", "grid"), ("depth", "sandwich"))


def stock_model(config, size):
    """A stock BERT of the size of a sub-network, its narrower attention included."""
    layers = config.resolve(size)
    heads, neurons = layers[0].heads, layers[0].neurons
    fields = {name: getattr(config, name) for name in SHAPES["base"]}
    model = BertForSequenceClassification(
        BertConfig(**{**fields, "num_hidden_layers": len(layers), "intermediate_size": neurons})
    )
    inner = heads * config.hidden_size // config.num_attention_heads
    for layer in model.bert.encoder.layer:
        for name in ("query", "key", "value"):
            setattr(layer.attention.self, name, nn.Linear(config.hidden_size, inner))
        layer.attention.output.dense = nn.Linear(inner, config.hidden_size)
    return model


def random_batch(batch_size, length):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(length // 2, length + 1, (batch_size, 1), generator=generator)
    lengths[0] = length
    return {
        "input_ids": torch.randint(1000, 30000, (batch_size, length), generator=generator),
        "attention_mask": (torch.arange(length) < lengths).long(),
        "labels": torch.randint(0, 2, (batch_size,), generator=generator),
    }


def seconds_of(run, argument):
    """CPU seconds and seconds on the clock."""
    start = torch.tensor([time.process_time(), time.perf_counter()], dtype=torch.float64)
    run(argument)
    return torch.tensor([time.process_time(), time.perf_counter()], dtype=torch.float64) - start


def bytes_of(tensors):
    return sum(tensor.nbytes for tensor in tensors if torch.is_tensor(tensor))


class Bench:
    """The models of one shape, and what is run of them."""

    def __init__(self, shape, batch_size, length, folder):
        torch.manual_seed(0)
        self.elastic = DynaBertForSequenceClassification(DynaBertConfig(**SHAPES[shape]))
        self.teacher = copy.deepcopy(self.elastic)
        self.batch = random_batch(batch_size, length)
        self.trainers = {case: self.trainer(*case, folder) for case in CASES}
        self.students = {
            size: stock_model(self.elastic.config, size).train() for size in self.elastic.config.subnetworks
        }

    def trainer(self, stage, strategy, folder):
        args = DynaBertTrainingArguments(
            folder, stage=stage, strategy=strategy, report_to="none", disable_tqdm=True, use_cpu=True
        )
        return DynaBertTrainer(self.elastic, self.teacher, args)

    def train_stock(self, size):
        self.students[size](**self.batch).loss.backward()

    def teach_stock(self, size):
        inputs = {name: tensor for name, tensor in self.batch.items() if name != "labels"}
        with torch.no_grad():
            self.students[size].eval()(**inputs)
        self.students[size].train()

    def step(self, case):
        self.trainers[case].training_step(self.elastic, self.batch)
        self.trainers[case].check_finite()

    def forget_gradients(self):
        for model in (self.elastic, *self.students.values()):
            model.zero_grad(set_to_none=True)

    def round(self, number):
        """Seconds of everything, run once; the sandwich draws by the number of the round."""
        for trainer in self.trainers.values():
            trainer.state.global_step = number
        plans = {case: trainer.pairs_of_step() for case, trainer in self.trainers.items()}
        teachers = {pair.teacher for plan in plans.values() for pair in plan}
        trained = {size: seconds_of(self.train_stock, size) for size in self.students}
        taught = {size: seconds_of(self.teach_stock, size) for size in teachers}
        self.forget_gradients()
        found = {}
        for case, plan in plans.items():
            limit = sum(trained[pair.student] for pair in plan) + sum(
                taught[size] for size in {p.teacher for p in plan}
            )
            found[case] = {
                "limit": limit,
                "plain": trained[plan[-1].student],
                "step": seconds_of(self.step, case),
            }
            self.forget_gradients()
        return found

    def memory(self):
        """Peak bytes of plain fine-tuning and of each kind of step."""
        full = list(self.students)[-1]
        found = {"plain": peak_memory(self.students[full], lambda: self.train_stock(full))}
        for case in CASES:
            found[case] = peak_memory(self.elastic, lambda case=case: self.step(case))
            self.forget_gradients()
        return found


def peak_memory(model, run):
    """Peak bytes with AdamW, and without: those of the passes that `run` makes."""
    cpu = torch.device("cpu")
    optimizer = torch.optim.AdamW(model.parameters())
    weights = bytes_of(model.parameters())
    passes = weights + peak_allocation(run, cpu)
    optimizer.step()
    state = bytes_of(tensor for values in optimizer.state.values() for tensor in values.values())
    gradients = bytes_of(parameter.grad for parameter in model.parameters())
    update = weights + gradients + peak_allocation(optimizer.step, cpu)
    return {"with_adamw": state + max(passes, update), "passes": passes}


def measure(shape, batch_size, length, *, rounds, folder):
    bench = Bench(shape, batch_size, length, folder)
    bench.batch = random_batch(2, 8)
    bench.round(0)
    bench.batch = random_batch(batch_size, length)
    found = [bench.round(number) for number in range(1, rounds + 1)]
    memory = bench.memory()

    def summary(case):
        times = [each[case] for each in found]
        shares = [(each["step"][0] / each["limit"][0]).item() for each in times]
        return {
            **{f"{name}_cpu_seconds": statistics.median(each[name][0].item() for each in times) for name in times[0]},
            **{f"{name}_seconds": statistics.median(each[name][1].item() for each in times) for name in times[0]},
            "step_over_limit": statistics.median(shares),
            "step_over_limit_range": [min(shares), max(shares)],
            "step_over_plain": statistics.median((each["step"][0] / each["plain"][0]).item() for each in times),
            "peak_mb": memory[case]["with_adamw"] / 2**20,
            "peak_over_plain": memory[case]["with_adamw"] / memory["plain"]["with_adamw"],
            "peak_of_passes_over_plain": memory[case]["passes"] / memory["plain"]["passes"],
        }

    return {
        "batch": [batch_size, length],
        "rounds": rounds,
        "plain_peak_mb": memory["plain"]["with_adamw"] / 2**20,
        "teacher_weights_mb": bytes_of(bench.teacher.parameters()) / 2**20,
        **{f"{stage}, {strategy}": summary((stage, strategy)) for stage, strategy in CASES},
    }


def machine():
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "training.json")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    known = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for shape in arguments.shapes:
            known[shape] = {
                "command": " ".join(["python", "benchmarks/training.py", *sys.argv[1:]]),
                "machine": machine(),
                **measure(shape, arguments.batch_size, arguments.length, rounds=arguments.rounds, folder=folder),
            }
            print(json.dumps({shape: known[shape]}, indent=2))
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
