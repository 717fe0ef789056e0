"""Elastic MPNet: what its layers are made of, its configuration, and the stock classes with the mixin in front.

Parameter names are those of MPNet, so stock checkpoints load as they are.
All layers share a table of position biases with a column per head.
"""

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

from .anatomy import Anatomy, separate_linears
from .configuration import ElasticConfigMixin
from .elastic import CountsHeads
from .elastic_model import ElasticModelMixin


class ElasticMPNetSelfAttention(CountsHeads, MPNetSelfAttention):
    """Takes the columns of the heads in force from the position bias, which all layers share."""

    def forward(self, hidden_states, attention_mask=None, position_bias=None, *args, **kwargs):
        if position_bias is not None:
            position_bias = position_bias[:, : self.num_attention_heads]
        return super().forward(hidden_states, attention_mask, position_bias, *args, **kwargs)


@strict
class DynaMPNetConfig(ElasticConfigMixin, MPNetConfig):
    """Configuration of an elastic MPNet: `MPNetConfig` plus the fields of `ElasticConfigMixin`."""

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


class DynaMPNetModel(ElasticModelMixin, MPNetModel):
    """Elastic `MPNetModel`: hidden states of the active size, `(batch, seq, hidden)`."""

    config_class = DynaMPNetConfig


class _DynaMPNetHead(ElasticModelMixin):
    config_class = DynaMPNetConfig
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
