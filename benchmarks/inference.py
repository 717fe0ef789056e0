"""Latency of every size: elastic, extracted, a stock model of equal shapes, and ONNX Runtime in float32 and int8.

    python benchmarks/inference.py torch minilm-1x32      # one part; also base-1x128 and so on: SETTINGS
    python benchmarks/inference.py export minilm          # ONNX files of every size, once; also base
    python benchmarks/inference.py onnx minilm-1x32
    python benchmarks/inference.py table                  # what was measured, as Markdown

Each part replaces its entry in benchmarks/results/inference.json. Weights are random: speed does not depend on them.
All that is compared runs in one process, in turns: every round times every size, its variants one right after the
other, so that a slow moment falls on all of them alike; the order of the variants changes from round to round.
"""

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
)

from dynabert_hf import (
    OnnxModel,
    SubNetwork,
    count_flops,
    count_parameters,
    export_onnx,
)
from dynabert_hf.families import elastic_class_of
from dynabert_hf.onnx.quantization import write_int8
from dynabert_hf.sizes.profiling import machine

RESULTS = Path(__file__).parent / "results" / "inference.json"
SHAPES = {
    "minilm": {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536, "num_hidden_layers": 6},
    "base": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "num_hidden_layers": 12},
    "modernbert": {},
}
"""Fields of a configuration; of ModernBERT, the second stock class, all are those of ModernBERT-base."""


@dataclass(frozen=True)
class Setting:
    """A shape of model and of input, with how often to time it: `passes` a turn after `warm` that do not count."""

    shape: str
    batch_size: int
    length: int
    rounds: int
    passes: int = 1
    warm: int = 0


SETTINGS = {
    "minilm-1x32": Setting("minilm", 1, 32, rounds=60, passes=4, warm=1),
    "base-1x128": Setting("base", 1, 128, rounds=12, passes=2, warm=1),
    "base-8x128": Setting("base", 8, 128, rounds=7),
    "modernbert-1x128": Setting("modernbert", 1, 128, rounds=12, passes=2, warm=1),
    "modernbert-8x128": Setting("modernbert", 8, 128, rounds=7),
}


def make_model(shape):
    """The elastic model, random."""
    torch.manual_seed(0)
    if shape == "modernbert":
        stock = ModernBertForSequenceClassification(ModernBertConfig())
    else:
        stock = BertForSequenceClassification(BertConfig(**SHAPES[shape]))
    return elastic_class_of(stock).from_backbone(stock)


def stock_of_equal_shapes(model, size, extracted):
    """Stock BERT layers with plain linears of the cut sizes; only the embeddings are shared, to save memory."""
    layers = model.config.resolve(size)
    shape = {**model.config.to_backbone().to_dict(), "num_hidden_layers": len(layers)}
    stock = BertForSequenceClassification(BertConfig(**{**shape, "intermediate_size": layers[0].neurons}))
    cut = layers[0].heads * (model.config.hidden_size // model.config.num_attention_heads)
    for layer in stock.bert.encoder.layer:
        for name in ("query", "key", "value"):
            setattr(layer.attention.self, name, nn.Linear(model.config.hidden_size, cut))
        layer.attention.output.dense = nn.Linear(cut, model.config.hidden_size)
    stock.load_state_dict(extracted.state_dict())
    stock.bert.embeddings = extracted.bert.embeddings = model.bert.embeddings
    return stock.eval()


def batch_of(setting):
    """A full batch, as a tokenizer gives it."""
    ids = torch.randint(1000, 30000, (setting.batch_size, setting.length))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return batch if setting.shape == "modernbert" else {**batch, "token_type_ids": torch.zeros_like(ids)}


def torch_variants(setting, sizes):
    """For each of some sizes what runs it in torch, as functions; of BERT a stock model, too, equal to the last bit."""
    model, batch = make_model(setting.shape).eval(), batch_of(setting)
    short = {name: tensor[:1, :8] for name, tensor in batch.items()}
    variants = {"elastic": {}, "extracted": {}}
    for size in sizes or model.config.subnetworks:
        extracted = model.extract(size)
        variants["elastic"][size] = lambda size=size: model.set_active(size) and (lambda: model(**batch))
        variants["extracted"][size] = lambda extracted=extracted: lambda: extracted(**batch)
        if setting.shape == "modernbert":
            extracted.model.embeddings = model.model.embeddings  # to save memory
            continue
        stock = stock_of_equal_shapes(model, size, extracted)
        with torch.no_grad():
            assert torch.equal(stock(**short).logits, extracted(**short).logits)
        variants.setdefault("stock", {})[size] = lambda stock=stock: lambda: stock(**batch)
    return variants


def onnx_variants(setting, folder, sizes):
    """For each of some sizes torch, and what `export` wrote."""
    model, batch = make_model(setting.shape).eval(), batch_of(setting)
    arrays = {name: tensor.numpy() for name, tensor in batch.items()}
    variants = {"torch": {}, "onnx": {}, "onnx int8": {}}
    for size in sizes or model.config.subnetworks:
        extracted = model.extract(size)
        extracted.bert.embeddings = model.bert.embeddings
        variants["torch"][size] = lambda extracted=extracted: lambda: extracted(**batch)
        for variant, path in onnx_files(folder, setting.shape, size).items():
            runner = OnnxModel(path, num_threads=torch.get_num_threads())
            variants[variant][size] = lambda runner=runner: lambda: runner(**arrays)
    return variants


def onnx_files(folder, shape, size):
    return {
        "onnx": folder / shape / "plain" / f"{size}.onnx",
        "onnx int8": folder / shape / "int8" / f"{size}.onnx",
    }


def export(shape, folder, sizes):
    """Write sizes in float32, and in int8 made of that."""
    model = make_model(shape).eval()
    sizes = sizes or model.config.subnetworks
    if not (folder / shape / "plain").exists():
        export_onnx(model, folder / shape / "plain", sizes=sizes)
    for size in sizes:
        files = onnx_files(folder, shape, size)
        files["onnx int8"].parent.mkdir(exist_ok=True)
        if not files["onnx int8"].exists():
            write_int8(files["onnx"], files["onnx int8"])


def measure(variants, setting, rounds):
    """Milliseconds by variant and size, one list entry a timed pass."""
    times = {variant: {size: [] for size in sizes} for variant, sizes in variants.items()}
    names = list(variants)
    for turn in range(rounds + 1):
        for size in times[names[0]]:
            for variant in names[turn % len(names) :] + names[: turn % len(names)]:
                run = variants[variant][size]()
                for count in range(-setting.warm, setting.passes):
                    start = time.perf_counter()
                    run()
                    if turn and count >= 0:  # the first round warms up
                        times[variant][size].append((time.perf_counter() - start) * 1e3)
    return times


def summary(times, base):
    """For each size the median of every variant, and its ratio to `base`, the median of those of each round."""
    rows = {}
    for size in times[base]:
        row = {variant: round(statistics.median(of[size]), 4) for variant, of in times.items()}
        for variant in times:
            if variant != base:
                ratios = [one / other for one, other in zip(times[variant][size], times[base][size], strict=True)]
                row[f"{variant} / {base}"] = round(statistics.median(ratios), 4)
        rows[str(size)] = row
    return rows


def run(kind, name, arguments):
    """Measure one part and put it into the results."""
    torch.set_num_threads(arguments.threads)
    setting = SETTINGS[name]
    rounds = arguments.rounds or setting.rounds
    with torch.inference_mode():
        if kind == "torch":
            rows = summary(measure(torch_variants(setting, arguments.sizes), setting, rounds), "extracted")
        else:
            rows = summary(measure(onnx_variants(setting, arguments.folder, arguments.sizes), setting, rounds), "torch")
    if kind == "onnx":
        for size, row in rows.items():
            row["int8 file MB"] = round(
                onnx_files(arguments.folder, setting.shape, size)["onnx int8"].stat().st_size / 2**20, 2
            )
    model = make_model(setting.shape)
    for size, row in rows.items():
        row["parameters"] = count_parameters(model, size).total
        row["flops"] = count_flops(model, size, batch_size=setting.batch_size, sequence_length=setting.length)
    command = f"python benchmarks/inference.py {kind} {name} --threads {arguments.threads} --rounds {rounds}"
    part = {
        "command": command + "".join(f" --size {size}" for size in arguments.sizes or ()),
        "machine": {**machine(), "transformers": transformers.__version__},
        "threads": arguments.threads,
        "rounds": rounds,
        "passes per round": setting.passes,
        "sizes": rows,
    }
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[f"{kind} {name}"] = part
    if not arguments.dry:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(table(f"{kind} {name}", part))


def table(name, part):
    """One part as Markdown."""
    rows = part["sizes"]
    full = rows[str(SubNetwork())]
    columns = [column for column in next(iter(rows.values())) if column not in ("parameters", "flops")]
    variants = [column for column in columns if "/" not in column and "MB" not in column]
    base = variants[1] if name.startswith("torch") else variants[0]
    header = ["size", "GFLOPs", *columns, f"speed-up of {base}", "FLOPs say"]
    lines = [f"### {name}\n", f"`{part['command']}`\n", _row(header), _row(["---", *["---:"] * (len(header) - 1)])]
    for size, row in reversed(rows.items()):
        cells = [size, f"{row['flops'] / 1e9:.2f}"]
        cells += [f"{row[column]:.3f}" if "/" in column else f"{row[column]:.4g}" for column in columns]
        cells += [f"{full[base] / row[base]:.2f}x", f"{full['flops'] / row['flops']:.2f}x"]
        lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _row(cells):
    return f"| {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["torch", "onnx", "export", "table"])
    parser.add_argument("name", nargs="?", help=f"for export minilm or base, else {list(SETTINGS)}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int)
    parser.add_argument(
        "--size",
        dest="sizes",
        action="append",
        type=SubNetwork.parse,
        help="may be repeated; default: all. The full one has to be among them",
    )
    parser.add_argument("--folder", type=Path, default=Path("outputs/inference"), help="of the ONNX files")
    parser.add_argument("--dry", action="store_true", help="do not touch the results")
    arguments = parser.parse_args()
    if arguments.kind == "table":
        print("\n".join(table(name, part) for name, part in json.loads(RESULTS.read_text()).items()))
    elif arguments.kind == "export":
        export(arguments.name, arguments.folder, arguments.sizes)
    else:
        run(arguments.kind, arguments.name, arguments)


if __name__ == "__main__":
    main()
