"""Elastic EuroBERT: what its layers are made of, its configuration, and the stock classes with the mixin in front.

Parameter names are those of EuroBERT, so stock checkpoints load as they are.
Several heads of queries may share those of keys and values; widths count such groups.
"""

from huggingface_hub.dataclasses import strict
from transformers import (
    EuroBertConfig,
    EuroBertForMaskedLM,
    EuroBertForSequenceClassification,
    EuroBertForTokenClassification,
    EuroBertModel,
)
from transformers.models.eurobert.modeling_eurobert import EuroBertAttention, EuroBertDecoderLayer

from .anatomy import KEYS, Anatomy, separate_linears
from .configuration import ElasticConfigMixin
from .elastic import layer_recorder
from .elastic_model import ElasticModelMixin


@strict
class DynaEuroBertConfig(ElasticConfigMixin, EuroBertConfig):
    """Configuration of an elastic EuroBERT: `EuroBertConfig` plus the fields of `ElasticConfigMixin`."""

    model_type = "dynaeurobert"
    backbone_config_class = EuroBertConfig
    anatomy = Anatomy(
        "layers",
        separate_linears(
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"],
            ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
            keys=KEYS,
        ),
    )


class DynaEuroBertModel(ElasticModelMixin, EuroBertModel):
    """Elastic `EuroBertModel`: hidden states of the active size, `(batch, seq, hidden)`."""

    config_class = DynaEuroBertConfig
    _can_record_outputs = {
        "hidden_states": layer_recorder(EuroBertDecoderLayer),
        "attentions": EuroBertAttention,
    }


class _DynaEuroBertHead(ElasticModelMixin):
    config_class = DynaEuroBertConfig
    elastic_base_class = DynaEuroBertModel


class DynaEuroBertForSequenceClassification(_DynaEuroBertHead, EuroBertForSequenceClassification):
    """Elastic `EuroBertForSequenceClassification`: logits `(batch, num_labels)`."""


class DynaEuroBertForTokenClassification(_DynaEuroBertHead, EuroBertForTokenClassification):
    """Elastic `EuroBertForTokenClassification`: logits `(batch, seq, num_labels)`."""


class DynaEuroBertForMaskedLM(_DynaEuroBertHead, EuroBertForMaskedLM):
    """Elastic `EuroBertForMaskedLM`: logits `(batch, seq, vocab)`."""
