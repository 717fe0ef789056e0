"""Elastic CamemBERT: what its layers are made of, its configuration, and the stock classes with the mixin in front.

Parameter names are those of CamemBERT, so stock checkpoints load as they are.
"""

from huggingface_hub.dataclasses import strict
from transformers import (
    CamembertConfig,
    CamembertForMaskedLM,
    CamembertForMultipleChoice,
    CamembertForQuestionAnswering,
    CamembertForSequenceClassification,
    CamembertForTokenClassification,
    CamembertModel,
)
from transformers.models.camembert.modeling_camembert import CamembertLayer, CamembertSelfAttention

from .anatomy import BERT_LINEARS, Anatomy
from .configuration import ElasticConfigMixin
from .elastic import layer_recorder
from .elastic_model import ElasticModelMixin


@strict
class DynaCamembertConfig(ElasticConfigMixin, CamembertConfig):
    """Configuration of an elastic CamemBERT: `CamembertConfig` plus the fields of `ElasticConfigMixin`."""

    model_type = "dynacamembert"
    backbone_config_class = CamembertConfig
    anatomy = Anatomy("encoder.layer", BERT_LINEARS, skips_padding_positions=True)


class DynaCamembertModel(ElasticModelMixin, CamembertModel):
    """Elastic `CamembertModel`: hidden states of the active size, `(batch, seq, hidden)`."""

    config_class = DynaCamembertConfig
    _can_record_outputs = {
        "hidden_states": layer_recorder(CamembertLayer),
        "attentions": CamembertSelfAttention,
    }


class _DynaCamembertHead(ElasticModelMixin):
    config_class = DynaCamembertConfig
    elastic_base_class = DynaCamembertModel


class DynaCamembertForSequenceClassification(_DynaCamembertHead, CamembertForSequenceClassification):
    """Elastic `CamembertForSequenceClassification`: logits `(batch, num_labels)`."""


class DynaCamembertForTokenClassification(_DynaCamembertHead, CamembertForTokenClassification):
    """Elastic `CamembertForTokenClassification`: logits `(batch, seq, num_labels)`."""


class DynaCamembertForQuestionAnswering(_DynaCamembertHead, CamembertForQuestionAnswering):
    """Elastic `CamembertForQuestionAnswering`: start and end logits `(batch, seq)`."""


class DynaCamembertForMultipleChoice(_DynaCamembertHead, CamembertForMultipleChoice):
    """Elastic `CamembertForMultipleChoice`: logits `(batch, num_choices)`."""


class DynaCamembertForMaskedLM(_DynaCamembertHead, CamembertForMaskedLM):
    """Elastic `CamembertForMaskedLM`: logits `(batch, seq, vocab)`."""
