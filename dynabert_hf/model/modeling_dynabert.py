"""Elastic BERT: what its layers are made of, its configuration, and the stock classes with the mixin in front.

Parameter names are those of BERT, so stock checkpoints load as they are. Decoders and pre-training heads other than
masked language modelling are left out.
"""

from huggingface_hub.dataclasses import strict
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)
from transformers.models.bert.modeling_bert import BertLayer, BertSelfAttention

from .anatomy import BERT_LINEARS, Anatomy
from .configuration import ElasticConfigMixin
from .elastic import layer_recorder
from .elastic_model import ElasticModelMixin


@strict
class DynaBertConfig(ElasticConfigMixin, BertConfig):
    """Configuration of an elastic BERT: `BertConfig` plus the fields of `ElasticConfigMixin`.

    Example:
        >>> config = DynaBertConfig(widths=[0.5, 1.0], depths=[1.0])
        >>> [str(subnetwork) for subnetwork in config.subnetworks]
        ['w0.5-d1', 'w1-d1']
    """

    model_type = "dynabert"
    backbone_config_class = BertConfig
    anatomy = Anatomy("encoder.layer", BERT_LINEARS)


class DynaBertModel(ElasticModelMixin, BertModel):
    """Elastic `BertModel`: hidden states of the active size, `(batch, seq, hidden)`."""

    config_class = DynaBertConfig
    _can_record_outputs = {
        "hidden_states": layer_recorder(BertLayer),
        "attentions": BertSelfAttention,
    }


class _DynaBertHead(ElasticModelMixin):
    config_class = DynaBertConfig
    elastic_base_class = DynaBertModel


class DynaBertForSequenceClassification(_DynaBertHead, BertForSequenceClassification):
    """Elastic `BertForSequenceClassification`: logits `(batch, num_labels)`."""


class DynaBertForTokenClassification(_DynaBertHead, BertForTokenClassification):
    """Elastic `BertForTokenClassification`: logits `(batch, seq, num_labels)`."""


class DynaBertForQuestionAnswering(_DynaBertHead, BertForQuestionAnswering):
    """Elastic `BertForQuestionAnswering`: start and end logits `(batch, seq)`."""


class DynaBertForMultipleChoice(_DynaBertHead, BertForMultipleChoice):
    """Elastic `BertForMultipleChoice`: logits `(batch, num_choices)`."""


class DynaBertForMaskedLM(_DynaBertHead, BertForMaskedLM):
    """Elastic `BertForMaskedLM`: logits `(batch, seq, vocab)`."""
