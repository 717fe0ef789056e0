"""Sizes of a sentence encoder beside its first layers and beside sentence-transformers' own layer reduction.

    python -m benchmarks.embeddings --encoder sentence-transformers/all-MiniLM-L6-v2 --sizes outputs/stsb/model \\
        --stsb nyu-mll/glue --banking PolyAI/banking77 --output outputs/embeddings

Layer reduction keeps evenly spaced layers and trains them on the training sentences of STS-B by `MSELoss` against the
vectors of the teacher, as in sentence-transformers' example of distillation. All are measured on the pairs of STS-B
(Spearman) and on the questions of banking77 (nearest neighbour among themselves), of one split. A row that is measured
is kept in the output folder, so that a run goes on where it stopped.
"""

from __future__ import annotations

import json
import tempfile
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from rich.console import Console
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from transformers import EvalPrediction

from dynabert_hf.sizes.tables import table_of
from dynabert_hf.tasks import SENTENCE_ENCODER

try:
    from sentence_transformers.sentence_transformer.losses import MSELoss
except ImportError:  # before its release 6
    from sentence_transformers.losses import MSELoss


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True, help="the teacher: folder or Hub id of sentence-transformers")
    parser.add_argument("--sizes", required=True, help="folder of its sizes, made by train_dynabert")
    parser.add_argument("--stsb", default="nyu-mll/glue", help="Hub id or folder of GLUE")
    parser.add_argument("--banking", default="PolyAI/banking77", help="Hub id or folder of banking77")
    parser.add_argument("--split", default="test", choices=["validation", "test"], help="what to measure on")
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="of layer reduction")
    parser.add_argument("--output", type=Path, required=True, help="folder of what was measured")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    stsb = datasets.load_dataset(given.stsb, "stsb")
    banking = datasets.load_dataset(given.banking)
    texts = banking["test" if given.split == "test" else "train"].shuffle(seed=0)
    texts = texts.select(range(min(3000, len(texts))))
    data = stsb[given.split], texts

    def measured(name: str, make: Any) -> dict[str, Any]:
        path = given.output / f"{given.split}-{name}.json"
        if not path.exists():
            path.write_text(json.dumps(measure(make(), *data)))
        return {"model": name, **json.loads(path.read_text())}

    layers = len(load(given.encoder)[0].auto_model.encoder.layer)
    evenly = list(range(0, layers, 2))
    rows = [
        measured("teacher", lambda: load(given.encoder)),
        measured("first-layers", lambda: with_layers(given.encoder, range(layers // 2))),
        measured("layer-reduction", lambda: reduced(given, evenly, stsb["train"])),
    ]
    sizes = [str(size) for size in load(given.sizes)[0].auto_model.config.subnetworks]
    rows += [measured(size, lambda size=size: at_size(given.sizes, size)) for size in reversed(sizes)]
    of_sizes = rows[3:]
    mean = {name: float(np.mean([row[name] for row in of_sizes])) for name in of_sizes[0] if name != "model"}
    Console().print(table_of([*rows, {"model": "mean of sizes", **mean}]))


def load(name: str) -> SentenceTransformer:
    return SentenceTransformer(name, device="cpu")


def at_size(folder: str, size: str) -> SentenceTransformer:
    encoder = load(folder)
    encoder[0].auto_model.set_active(size)
    return encoder


def with_layers(name: str, kept: Any) -> SentenceTransformer:
    """An encoder with some of its layers, untrained."""
    encoder = load(name)
    model: Any = encoder[0].auto_model
    model.encoder.layer = torch.nn.ModuleList([model.encoder.layer[index] for index in kept])
    model.config.num_hidden_layers = len(model.encoder.layer)
    return encoder


def reduced(given: Any, kept: list[int], train: Any) -> SentenceTransformer:
    """An encoder with some of its layers, trained as sentence-transformers documents it."""
    student, teacher = with_layers(given.encoder, kept), load(given.encoder)
    texts = list(dict.fromkeys([*train["sentence1"], *train["sentence2"]]))
    rows = datasets.Dataset.from_dict({"sentence": texts, "label": teacher.encode(texts, batch_size=64).tolist()})
    with tempfile.TemporaryDirectory() as folder:
        args = SentenceTransformerTrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=32,
            learning_rate=given.learning_rate,
            warmup_steps=0.1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
        )
        SentenceTransformerTrainer(student, args, train_dataset=rows, loss=MSELoss(student)).train()
    return student


def measure(encoder: SentenceTransformer, pairs: Any, texts: Any) -> dict[str, float]:
    """Spearman's correlation on pairs, and retrieval among texts with labels."""
    metrics = SENTENCE_ENCODER.metrics(encoder[0].auto_model)
    both = np.stack([encoder.encode(list(pairs[f"sentence{number}"])) for number in (1, 2)], axis=1)
    found = metrics(EvalPrediction(both, np.asarray(pairs["label"])))
    labels = np.unique(np.asarray(texts["label"]), return_inverse=True)[1]
    return found | metrics(EvalPrediction(encoder.encode(list(texts["text"])), labels))


if __name__ == "__main__":
    main()
