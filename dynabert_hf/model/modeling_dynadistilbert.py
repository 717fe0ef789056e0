"""Elastic DistilBERT: what its layers are made of, its configuration, and the stock classes with the mixin in front.

Parameter names are those of DistilBERT, so stock checkpoints load as they are.
"""

from huggingface_hub.dataclasses import strict
from transformers import (
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForMultipleChoice,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertModel,
)
from transformers.models.distilbert.modeling_distilbert import DistilBertSelfAttention, TransformerBlock

from .anatomy import Anatomy, separate_linears
from .configuration import ElasticConfigMixin
from .elastic import layer_recorder
from .elastic_model import ElasticModelMixin


@strict
class DynaDistilBertConfig(ElasticConfigMixin, DistilBertConfig):
    """Configuration of an elastic DistilBERT: `DistilBertConfig` plus the fields of `ElasticConfigMixin`."""

    model_type = "dynadistilbert"
    backbone_config_class = DistilBertConfig
    attribute_map = {**DistilBertConfig.attribute_map, "intermediate_size": "hidden_dim"}
    anatomy = Anatomy(
        "transformer.layer",
        separate_linears(
            ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"], ["ffn.lin1", "ffn.lin2"]
        ),
    )


class DynaDistilBertModel(ElasticModelMixin, DistilBertModel):
    """Elastic `DistilBertModel`: hidden states of the active size, `(batch, seq, hidden)`."""

    config_class = DynaDistilBertConfig
    _can_record_outputs = {
        "hidden_states": layer_recorder(TransformerBlock),
        "attentions": DistilBertSelfAttention,
    }


class _DynaDistilBertHead(ElasticModelMixin):
    config_class = DynaDistilBertConfig
    elastic_base_class = DynaDistilBertModel


class DynaDistilBertForSequenceClassification(_DynaDistilBertHead, DistilBertForSequenceClassification):
    """Elastic `DistilBertForSequenceClassification`: logits `(batch, num_labels)`."""


class DynaDistilBertForTokenClassification(_DynaDistilBertHead, DistilBertForTokenClassification):
    """Elastic `DistilBertForTokenClassification`: logits `(batch, seq, num_labels)`."""


class DynaDistilBertForQuestionAnswering(_DynaDistilBertHead, DistilBertForQuestionAnswering):
    """Elastic `DistilBertForQuestionAnswering`: start and end logits `(batch, seq)`."""


class DynaDistilBertForMultipleChoice(_DynaDistilBertHead, DistilBertForMultipleChoice):
    """Elastic `DistilBertForMultipleChoice`: logits `(batch, num_choices)`."""


class DynaDistilBertForMaskedLM(_DynaDistilBertHead, DistilBertForMaskedLM):
    """Elastic `DistilBertForMaskedLM`: logits `(batch, seq, vocab)`."""
