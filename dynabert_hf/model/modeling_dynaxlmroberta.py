"""Elastic XLM-RoBERTa: what its layers are made of, its configuration, and the stock classes with the mixin in front.

Parameter names are those of XLM-RoBERTa, so stock checkpoints load as they are.
"""

from huggingface_hub.dataclasses import strict
from transformers import (
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaForMultipleChoice,
    XLMRobertaForQuestionAnswering,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
    XLMRobertaModel,
)
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaLayer, XLMRobertaSelfAttention

from .anatomy import BERT_LINEARS, Anatomy
from .configuration import ElasticConfigMixin
from .elastic import layer_recorder
from .elastic_model import ElasticModelMixin


@strict
class DynaXLMRobertaConfig(ElasticConfigMixin, XLMRobertaConfig):
    """Configuration of an elastic XLM-RoBERTa: `XLMRobertaConfig` plus the fields of `ElasticConfigMixin`."""

    model_type = "dynaxlmroberta"
    backbone_config_class = XLMRobertaConfig
    anatomy = Anatomy("encoder.layer", BERT_LINEARS, skips_padding_positions=True)


class DynaXLMRobertaModel(ElasticModelMixin, XLMRobertaModel):
    """Elastic `XLMRobertaModel`: hidden states of the active size, `(batch, seq, hidden)`."""

    config_class = DynaXLMRobertaConfig
    _can_record_outputs = {
        "hidden_states": layer_recorder(XLMRobertaLayer),
        "attentions": XLMRobertaSelfAttention,
    }


class _DynaXLMRobertaHead(ElasticModelMixin):
    config_class = DynaXLMRobertaConfig
    elastic_base_class = DynaXLMRobertaModel


class DynaXLMRobertaForSequenceClassification(_DynaXLMRobertaHead, XLMRobertaForSequenceClassification):
    """Elastic `XLMRobertaForSequenceClassification`: logits `(batch, num_labels)`."""


class DynaXLMRobertaForTokenClassification(_DynaXLMRobertaHead, XLMRobertaForTokenClassification):
    """Elastic `XLMRobertaForTokenClassification`: logits `(batch, seq, num_labels)`."""


class DynaXLMRobertaForQuestionAnswering(_DynaXLMRobertaHead, XLMRobertaForQuestionAnswering):
    """Elastic `XLMRobertaForQuestionAnswering`: start and end logits `(batch, seq)`."""


class DynaXLMRobertaForMultipleChoice(_DynaXLMRobertaHead, XLMRobertaForMultipleChoice):
    """Elastic `XLMRobertaForMultipleChoice`: logits `(batch, num_choices)`."""


class DynaXLMRobertaForMaskedLM(_DynaXLMRobertaHead, XLMRobertaForMaskedLM):
    """Elastic `XLMRobertaForMaskedLM`: logits `(batch, seq, vocab)`."""
