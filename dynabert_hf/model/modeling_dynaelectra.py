"""Elastic ELECTRA: what its layers are made of, its configuration, and the stock classes with the mixin in front.

Parameter names are those of ELECTRA, so stock checkpoints load as they are.
"""

from huggingface_hub.dataclasses import strict
from transformers import (
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForMultipleChoice,
    ElectraForPreTraining,
    ElectraForQuestionAnswering,
    ElectraForSequenceClassification,
    ElectraForTokenClassification,
    ElectraModel,
)
from transformers.models.electra.modeling_electra import ElectraLayer, ElectraSelfAttention

from .anatomy import BERT_LINEARS, Anatomy
from .configuration import ElasticConfigMixin
from .elastic import layer_recorder
from .elastic_model import ElasticModelMixin


@strict
class DynaElectraConfig(ElasticConfigMixin, ElectraConfig):
    """Configuration of an elastic ELECTRA: `ElectraConfig` plus the fields of `ElasticConfigMixin`."""

    model_type = "dynaelectra"
    backbone_config_class = ElectraConfig
    anatomy = Anatomy("encoder.layer", BERT_LINEARS)


class DynaElectraModel(ElasticModelMixin, ElectraModel):
    """Elastic `ElectraModel`: hidden states of the active size, `(batch, seq, hidden)`."""

    config_class = DynaElectraConfig
    _can_record_outputs = {
        "hidden_states": layer_recorder(ElectraLayer),
        "attentions": ElectraSelfAttention,
    }


class _DynaElectraHead(ElasticModelMixin):
    config_class = DynaElectraConfig
    elastic_base_class = DynaElectraModel


class DynaElectraForSequenceClassification(_DynaElectraHead, ElectraForSequenceClassification):
    """Elastic `ElectraForSequenceClassification`: logits `(batch, num_labels)`."""


class DynaElectraForTokenClassification(_DynaElectraHead, ElectraForTokenClassification):
    """Elastic `ElectraForTokenClassification`: logits `(batch, seq, num_labels)`."""


class DynaElectraForQuestionAnswering(_DynaElectraHead, ElectraForQuestionAnswering):
    """Elastic `ElectraForQuestionAnswering`: start and end logits `(batch, seq)`."""


class DynaElectraForMultipleChoice(_DynaElectraHead, ElectraForMultipleChoice):
    """Elastic `ElectraForMultipleChoice`: logits `(batch, num_choices)`."""


class DynaElectraForMaskedLM(_DynaElectraHead, ElectraForMaskedLM):
    """Elastic `ElectraForMaskedLM`: logits `(batch, seq, vocab)`."""


class DynaElectraForPreTraining(_DynaElectraHead, ElectraForPreTraining):
    """Elastic `ElectraForPreTraining`: logits `(batch, seq)`, whether each token was replaced."""
