"""How well a table of layers tells the latency of shapes: predicted against measured, for random shapes.

    python benchmarks/shape_latency.py MODEL    # a folder or Hub id of an elastic model for sentences

One sentence, one thread. Given are Spearman's rank correlation, also that of FLOPs alone, and the median ratio.
"""

import argparse
import json
import random
import statistics

import torch
from scipy.stats import spearmanr
from transformers import AutoModelForSequenceClassification

from dynabert_hf import LayerShape, measure_costs, measure_latency


def random_shapes(config, count, seed):
    """Shapes of two layers and more, with any number of heads and whole twelfths of the neurons."""
    draw, step = random.Random(seed), config.intermediate_size // 12
    for _ in range(count):
        kept = sorted(draw.sample(range(config.num_hidden_layers), draw.randint(2, config.num_hidden_layers)))
        yield tuple(
            LayerShape(layer, draw.randint(1, config.num_attention_heads), step * draw.randint(1, 12)) for layer in kept
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--shapes", type=int, default=50)
    parser.add_argument("--length", type=int, default=32, help="tokens")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.model).eval()
    shapes = list(random_shapes(model.config, arguments.shapes, seed=0))
    setting = {"sequence_length": arguments.length, "rounds": arguments.rounds}
    costs = measure_costs(model, **setting)
    measured = measure_latency(model, shapes, **setting)
    predicted, taken = [costs.of(shape) for shape in shapes], [record.latency_ms for record in measured]
    ratios = [ours / theirs for ours, theirs in zip(taken, predicted, strict=True)]
    told = {
        "rank_correlation": float(spearmanr(predicted, taken).statistic),
        "of_flops_alone": float(spearmanr([record.flops for record in measured], taken).statistic),
        "median_ratio": statistics.median(ratios),
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
