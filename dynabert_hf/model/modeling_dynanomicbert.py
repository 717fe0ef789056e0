"""Elastic NomicBERT: what its layers are made of, its configuration, and the stock classes with the mixin in front.

Parameter names are those of NomicBERT, so stock checkpoints load as they are.
Files on the Hub name some weights otherwise; transformers converts them while it loads, here as for the stock class.
"""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import (
    NomicBertConfig,
    NomicBertForMaskedLM,
    NomicBertForSequenceClassification,
    NomicBertForTokenClassification,
    NomicBertModel,
)
from transformers.conversion_mapping import get_checkpoint_conversion_mapping, register_checkpoint_conversion_mapping
from transformers.models.nomic_bert.modeling_nomic_bert import NomicBertAttention, NomicBertLayer

from .anatomy import Anatomy, separate_linears
from .configuration import ElasticConfigMixin
from .elastic import layer_recorder
from .elastic_model import ElasticModelMixin


@strict
class DynaNomicBertConfig(ElasticConfigMixin, NomicBertConfig):
    """Configuration of an elastic NomicBERT: `NomicBertConfig` plus the fields of `ElasticConfigMixin`."""

    model_type = "dynanomicbert"
    backbone_config_class = NomicBertConfig
    anatomy = Anatomy(
        "layers",
        separate_linears(
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"],
            ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"],
        ),
    )


class DynaNomicBertModel(ElasticModelMixin, NomicBertModel):
    """Elastic `NomicBertModel`: hidden states of the active size, `(batch, seq, hidden)`."""

    config_class = DynaNomicBertConfig
    _can_record_outputs = {
        "hidden_states": layer_recorder(NomicBertLayer),
        "attentions": NomicBertAttention,
    }

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # Only here, not at import, as transformers then makes the conversions of all its models.
        conversions = get_checkpoint_conversion_mapping(NomicBertConfig.model_type)
        register_checkpoint_conversion_mapping(DynaNomicBertConfig.model_type, conversions, overwrite=True)


class _DynaNomicBertHead(ElasticModelMixin):
    config_class = DynaNomicBertConfig
    elastic_base_class = DynaNomicBertModel


class DynaNomicBertForSequenceClassification(_DynaNomicBertHead, NomicBertForSequenceClassification):
    """Elastic `NomicBertForSequenceClassification`: logits `(batch, num_labels)`."""


class DynaNomicBertForTokenClassification(_DynaNomicBertHead, NomicBertForTokenClassification):
    """Elastic `NomicBertForTokenClassification`: logits `(batch, seq, num_labels)`."""


class DynaNomicBertForMaskedLM(_DynaNomicBertHead, NomicBertForMaskedLM):
    """Elastic `NomicBertForMaskedLM`: logits `(batch, seq, vocab)`."""
