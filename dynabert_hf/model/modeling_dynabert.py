"""Elastic BERT: the stock classes with `ElasticModelMixin` in front.

Parameter names are those of BERT, so stock checkpoints load as they are. Decoders and pre-training heads other than
masked language modelling are left out.
"""

from transformers import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)
from transformers.models.bert.modeling_bert import BertLayer, BertSelfAttention

from .configuration import DynaBertConfig
from .elastic import layer_recorder
from .elastic_model import ElasticModelMixin


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
