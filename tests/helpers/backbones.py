"""Tiny models of every family, and the masked stock models that their sizes have to equal."""

import torch
import transformers

import dynabert_hf
from dynabert_hf import LayerShape
from dynabert_hf.model.anatomy import HIDDEN, head_group, layer_axes
from helpers.made import made_once
from helpers.tiny import TINY, make_batch

NO_DROPOUT = {"attention_dropout": 0.0}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
CONFIGS = {
    "Bert": TINY,
    "Roberta": TINY,
    "XLMRoberta": TINY,
    "Camembert": TINY,
    "Electra": {**TINY, "embedding_size": 16},
    "DistilBert": {
        "dim": 32,
        "n_heads": 4,
        "hidden_dim": 48,
        "n_layers": 6,
        "vocab_size": 99,
        "max_position_embeddings": 20,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "seq_classif_dropout": 0.0,
        "qa_dropout": 0.0,
    },
    "MPNet": {**TINY, "relative_attention_num_buckets": 32},
    "DebertaV2": {
        **TINY,
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "norm_rel_ebd": "layer_norm",
        "position_buckets": 4,
        "conv_kernel_size": 3,
        "conv_act": "gelu",
        "pooler_hidden_size": 32,
    },
    "ModernBert": {
        **TINY,
        "hidden_size": 36,
        "num_attention_heads": 6,
        "intermediate_size": 50,
        **TOKENS,
        **NO_DROPOUT,
        "global_attn_every_n_layers": 2,
        "local_attention": 4,
    },
    "NomicBert": {**TINY, **TOKENS},
    "EuroBert": {
        **TINY,
        "hidden_size": 36,
        "num_attention_heads": 18,
        "num_key_value_heads": 6,
        "intermediate_size": 50,
        **TOKENS,
    },
}
"""The stock configuration of each family, by what its class names begin with; EuroBERT's heads share keys in threes.

No width divides the fused parts of ModernBERT, and the heads and neurons of EuroBERT, evenly.
"""

HEADS = {
    family: [
        name.removeprefix(f"Dyna{family}")
        for name in dynabert_hf.__all__
        if name.startswith((f"Dyna{family}For", f"Dyna{family}Model"))
    ]
    for family in CONFIGS
}


def of_layers(family, count):
    """What `make_stock` takes for a model of so many layers: where depth does not matter, few are faster."""
    return {"n_layers" if family == "DistilBert" else "num_hidden_layers": count}


@made_once
def make_stock(family, head="ForSequenceClassification", **kwargs):
    """A tiny stock model in evaluation mode, every parameter random, norms and biases included."""
    torch.manual_seed(0)
    num_labels = 2 if head in ("ForQuestionAnswering", "ForPreTraining") else 3
    config = getattr(transformers, f"{family}Config")(**{**CONFIGS[family], "num_labels": num_labels, **kwargs})
    model = getattr(transformers, f"{family}{head}")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@made_once
def make_backbone(
    family, head="ForSequenceClassification", *, widths=(0.25, 0.5, 0.75, 1.0), depths=(0.5, 0.75, 1.0), **kwargs
):
    """An elastic copy of such a model."""
    elastic_class = getattr(dynabert_hf, f"Dyna{family}{head}")
    return elastic_class.from_backbone(make_stock(family, head, **kwargs), widths=list(widths), depths=list(depths))


def irregular(model):
    """Layers that differ, without the first."""
    group = head_group(model.config)
    shapes = ((1, 3, 20), (2, 1, 7), (5, 2, 48))
    return tuple(LayerShape(index, groups * group, neurons) for index, groups, neurons in shapes)


def masked(model, size):
    """The stock model with the layers of a size only, which read nothing of cut heads and neurons."""
    anatomy, config = model.config.anatomy, model.config
    stock = model.to_backbone()
    layers = anatomy.stored_layers(stock.base_model)
    kept = config.resolve(size)
    with torch.no_grad():
        for shape in kept:
            axes = layer_axes(config, shape)
            for _, role, linear in anatomy.linears_of(layers[shape.index]):
                if role.inputs != HIDDEN:
                    linear.weight[:, axes[role.inputs] :] = 0
    parent, _, name = anatomy.layers.rpartition(".")
    setattr(stock.base_model.get_submodule(parent), name, torch.nn.ModuleList(layers[shape.index] for shape in kept))
    return stock.eval()


def tensors(output):
    """All that a model returns, hidden states too, in one list."""
    flat = []
    for value in output.to_tuple():
        flat += list(value) if isinstance(value, tuple) else [value]
    return [value for value in flat if isinstance(value, torch.Tensor)]


def run(model, head="ForSequenceClassification", **kwargs):
    """The outputs on a padded batch, without gradients, where it is not padding."""
    inputs = make_batch(choices=3 if head == "ForMultipleChoice" else None)
    mask = inputs["attention_mask"].flatten(0, -2).bool()
    with torch.no_grad():
        given = tensors(model(**inputs, **kwargs))
    return [each[mask] if each.shape[:2] == mask.shape else each for each in given]
