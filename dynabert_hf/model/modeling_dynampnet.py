"""Elastic MPNet: what its layers are made of, its configuration, and the stock classes with the mixin in front.

Parameter names are those of MPNet, so stock checkpoints load as they are.
All layers share a table of position biases with a column per head, which each layer may read in an order of its own.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from transformers import (
    MPNetConfig,
    MPNetForMaskedLM,
    MPNetForMultipleChoice,
    MPNetForQuestionAnswering,
    MPNetForSequenceClassification,
    MPNetForTokenClassification,
    MPNetModel,
)
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention

from .anatomy import HEADS, Anatomy, head_size, separate_linears
from .configuration import ElasticConfigMixin
from .elastic import CountsHeads
from .elastic_model import ElasticModelMixin
from .subnetwork import SubNetworkError


class ElasticMPNetSelfAttention(CountsHeads, MPNetSelfAttention):
    """Takes the columns of the heads in force from the position bias, which all layers share."""

    def forward(self, hidden_states, attention_mask=None, position_bias=None, *args, **kwargs):
        if position_bias is not None:
            orders, layer = self.active.config.head_orders, self.active.layers[self.position]
            if orders is None:
                position_bias = position_bias[:, : layer.heads]
            else:  # the bias is the same for every sentence, so that the order is applied to one
                position_bias = position_bias[:1, orders[layer.index][: layer.heads]]
        return super().forward(hidden_states, attention_mask, position_bias, *args, **kwargs)


@strict
class DynaMPNetConfig(ElasticConfigMixin, MPNetConfig):
    """Configuration of an elastic MPNet: `MPNetConfig` plus the fields of `ElasticConfigMixin`.

    Args:
        head_orders: For every layer of the full network which column of the shared table of position biases each of its
            heads reads, as rewiring leaves it; None: each its own.
    """

    head_orders: list[list[int]] | None = None

    model_type = "dynampnet"
    backbone_config_class = MPNetConfig
    anatomy = Anatomy(
        "encoder.layer",
        separate_linears(
            ["attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"],
            ["intermediate.dense", "output.dense"],
        ),
        attention="attention.attn",
        attention_class=ElasticMPNetSelfAttention,
        head_table="encoder.relative_attention_bias",
        skips_padding_positions=True,
        passes_gradients_beside=True,
    )

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        columns = list(range(self.num_attention_heads))
        orders = self.head_orders
        if orders is not None and [sorted(order) for order in orders] != [columns] * self.num_hidden_layers:
            raise SubNetworkError(
                f"head_orders={orders!r:.80} is not possible. Give each of the {self.num_hidden_layers} layers an "
                f"order of the columns 0 to {columns[-1]}, or None for all."
            )


class _DynaMPNet(ElasticModelMixin):
    config_class = DynaMPNetConfig

    def to_backbone(self) -> Any:
        """A new stock model with copies of all stored weights, its heads in the order of the shared table.

        Raises:
            SubNetworkError: If heads were cut, or layers differ: no stock model expresses that.
            TypeError: If this model is of a subclass with a forward pass of its own, which would be lost.
        """
        stock = super().to_backbone()
        anatomy, orders, size = self.config.anatomy, self.config.head_orders, head_size(self.config)
        layers = anatomy.stored_layers(stock.base_model)
        for layer, shape in zip(layers, self.config.stored_layers, strict=True) if orders else ():
            rows = torch.arange(len(orders[shape.index]) * size).view(-1, size)
            back = rows[torch.tensor(orders[shape.index]).argsort()].flatten()
            for _, role, linear in anatomy.linears_of(layer):
                if role.outputs == HEADS:
                    linear.weight.data, linear.bias.data = linear.weight.data[back], linear.bias.data[back]
                if role.inputs == HEADS:
                    linear.weight.data = linear.weight.data[:, back]
        return stock


class DynaMPNetModel(_DynaMPNet, MPNetModel):
    """Elastic `MPNetModel`: hidden states of the active size, `(batch, seq, hidden)`."""


class _DynaMPNetHead(_DynaMPNet):
    elastic_base_class = DynaMPNetModel


class DynaMPNetForSequenceClassification(_DynaMPNetHead, MPNetForSequenceClassification):
    """Elastic `MPNetForSequenceClassification`: logits `(batch, num_labels)`."""


class DynaMPNetForTokenClassification(_DynaMPNetHead, MPNetForTokenClassification):
    """Elastic `MPNetForTokenClassification`: logits `(batch, seq, num_labels)`."""


class DynaMPNetForQuestionAnswering(_DynaMPNetHead, MPNetForQuestionAnswering):
    """Elastic `MPNetForQuestionAnswering`: start and end logits `(batch, seq)`."""


class DynaMPNetForMultipleChoice(_DynaMPNetHead, MPNetForMultipleChoice):
    """Elastic `MPNetForMultipleChoice`: logits `(batch, num_choices)`."""


class DynaMPNetForMaskedLM(_DynaMPNetHead, MPNetForMaskedLM):
    """Elastic `MPNetForMaskedLM`: logits `(batch, seq, vocab)`."""
