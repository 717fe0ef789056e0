"""What an order of heads for each layer of MPNet is worth, beside one order for all layers and none.

The layers of MPNet share a table with a column per head. MPNet-base, a trained encoder of sentences, is rewired by
importance measured on pairs of like sentences (each has to find its partner in the batch) and cut to fewer heads, with
all layers and neurons; nothing is trained. Printed is the mean cosine between its vectors and those of the full size.

    python benchmarks/head_orders.py --dataset_name nyu-mll/glue
"""

import argparse
import sys
from pathlib import Path

import torch
from datasets import load_dataset
from torch.nn.functional import cross_entropy, normalize
from transformers import AutoModel, AutoTokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import embedded

from dynabert_hf import DynaMPNetModel, Importance, LayerShape, measure_importance, rewire

HEADS = (12, 9, 6, 3)
NUM_PAIRS, NUM_SENTENCES, PAIRS_A_BATCH = 192, 96, 16


def vectors(states, mask):
    """The mean state of each sentence, of length one."""
    return normalize((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), dim=-1)


class FindsPartners(DynaMPNetModel):
    """Has a loss on pairs of sentences that stand side by side in the batch."""

    def forward(self, labels=None, **inputs):
        output = super().forward(**inputs)
        if labels is None:
            return output
        found = vectors(output.last_hidden_state, inputs["attention_mask"])
        scores = 20 * found[0::2] @ found[1::2].T
        return {"loss": cross_entropy(scores, torch.arange(len(scores)))}


def batches(pairs, tokenizer):
    for start in range(0, NUM_PAIRS, PAIRS_A_BATCH):
        rows = pairs[start : start + PAIRS_A_BATCH]
        texts = [text for pair in zip(rows["sentence1"], rows["sentence2"], strict=True) for text in pair]
        yield {**tokenizer(texts, padding=True, return_tensors="pt"), "labels": torch.zeros(len(texts))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", default="nyu-mll/glue", help="Hub id or folder of GLUE; STS-B is read")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = embedded.model_folder("mpnet-base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    stock = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    data = load_dataset(arguments.dataset_name, "stsb")
    pairs = data["train"].filter(lambda row: row["label"] >= 4).select(range(NUM_PAIRS))
    heads = measure_importance(FindsPartners.from_backbone(stock), batches(pairs, tokenizer), progress=False).heads
    sentences = data["validation"].select(range(NUM_SENTENCES))["sentence1"]
    inputs = tokenizer(list(sentences), padding=True, return_tensors="pt")

    @torch.no_grad()
    def embed(model):
        return vectors(model(**inputs).last_hidden_state, inputs["attention_mask"])

    full, num_neurons = embed(stock), stock.config.intermediate_size
    in_order = torch.arange(num_neurons, 0, -1.0).expand(len(heads), -1).clone()
    together = heads.sum(0).expand_as(heads).clone()
    for name, scores in (("each layer", heads), ("all layers", together), ("none", None)):
        model = DynaMPNetModel.from_backbone(stock)
        if scores is not None:
            rewire(model, Importance(scores, in_order))
        for kept in HEADS:
            model.set_active([LayerShape(layer, kept, num_neurons) for layer in range(len(heads))])
            print(f"{name}, {kept} heads: {(embed(model) * full).sum(-1).mean():.3f}", flush=True)


if __name__ == "__main__":
    main()
