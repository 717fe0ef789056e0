"""Latency of every size and of the rivals that are first layers, and the cost of a training step of each rival."""

import json
import platform
import time

import numpy as np
import torch

from dynabert_hf import DynaBertForSequenceClassification, measure_latency
from dynabert_hf.training.distillation import hidden_state_loss, logit_loss

from .report import MINILM, empty_model, first_layers
from .tables import COMPARED

LENGTH = 32
ROUNDS = 60


def measure(study):
    """Write `latency.json` and `rival_cost.json` beside the results. Keep the machine idle meanwhile."""
    torch.set_num_threads(1)
    with torch.device("cpu"):
        model = empty_model().eval()
    firsts = sorted({first_layers(size) for size in COMPARED}, key=len)
    sizes = [*model.config.subnetworks, *firsts]
    names = [*map(str, model.config.subnetworks), *(f"first {len(layers)}" for layers in firsts)]
    profiles = measure_latency(model, sizes, sequence_length=LENGTH, rounds=ROUNDS)
    machine = {"machine": platform.machine(), "torch": torch.__version__, "threads": 1}
    latency = {name: profile.latency_ms for name, profile in zip(names, profiles, strict=True)}
    write(study, "latency.json", {"latency_ms": latency, "sequence_length": LENGTH, "rounds": ROUNDS, **machine})
    cost = {str(size): step_cost(model, size) for size in model.config.subnetworks}
    write(study, "rival_cost.json", {"cpu_seconds_per_step": cost, "batch_size": 32, "tokens": 30, **machine})
    return latency


def step_cost(model: DynaBertForSequenceClassification, size, *, rounds=5):
    """CPU seconds of a training step of a size alone, distilled from stored outputs; batch 32, 30 tokens; median."""
    alone = model.extract(size).train()
    optimizer = torch.optim.AdamW(alone.parameters(), lr=1e-5, fused=True)
    inputs = torch.randint(5, MINILM["vocab_size"], (32, 30))
    mask = torch.ones_like(inputs)
    with torch.no_grad():
        teacher = alone(inputs, mask, output_hidden_states=True)
    taken = []
    for _ in range(rounds + 1):
        start = time.process_time()
        output = alone(inputs, mask, output_hidden_states=True)
        loss = logit_loss(output.logits, teacher.logits)
        (loss + hidden_state_loss(output.hidden_states, teacher.hidden_states, mask)).backward()
        torch.nn.utils.clip_grad_norm_(alone.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        taken.append(time.process_time() - start)
    return float(np.median(taken[1:]))


def write(study, name, content):
    study.results.mkdir(parents=True, exist_ok=True)
    (study.results / name).write_text(json.dumps(content, indent=1) + "\n")
