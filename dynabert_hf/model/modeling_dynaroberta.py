"""Elastic RoBERTa: what its layers are made of, its configuration, and the stock classes with the mixin in front.

Parameter names are those of RoBERTa, so stock checkpoints load as they are. Decoders and pre-training heads other than
masked language modelling are left out.
"""

from huggingface_hub.dataclasses import strict
from transformers import (
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForMultipleChoice,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)
from transformers.models.roberta.modeling_roberta import RobertaLayer, RobertaSelfAttention

from .anatomy import BERT_LINEARS, Anatomy
from .configuration import ElasticConfigMixin
from .elastic import layer_recorder
from .elastic_model import ElasticModelMixin


@strict
class DynaRobertaConfig(ElasticConfigMixin, RobertaConfig):
    """Configuration of an elastic RoBERTa: `RobertaConfig` plus the fields of `ElasticConfigMixin`.

    Example:
        >>> config = DynaRobertaConfig(widths=[0.5, 1.0], depths=[1.0])
        >>> [str(subnetwork) for subnetwork in config.subnetworks]
        ['w0.5-d1', 'w1-d1']
    """

    model_type = "dynaroberta"
    backbone_config_class = RobertaConfig
    anatomy = Anatomy("encoder.layer", BERT_LINEARS, skips_padding_positions=True)


class DynaRobertaModel(ElasticModelMixin, RobertaModel):
    """Elastic `RobertaModel`: hidden states of the active size, `(batch, seq, hidden)`."""

    config_class = DynaRobertaConfig
    _can_record_outputs = {
        "hidden_states": layer_recorder(RobertaLayer),
        "attentions": RobertaSelfAttention,
    }


class _DynaRobertaHead(ElasticModelMixin):
    config_class = DynaRobertaConfig
    elastic_base_class = DynaRobertaModel


class DynaRobertaForSequenceClassification(_DynaRobertaHead, RobertaForSequenceClassification):
    """Elastic `RobertaForSequenceClassification`: logits `(batch, num_labels)`."""


class DynaRobertaForTokenClassification(_DynaRobertaHead, RobertaForTokenClassification):
    """Elastic `RobertaForTokenClassification`: logits `(batch, seq, num_labels)`."""


class DynaRobertaForQuestionAnswering(_DynaRobertaHead, RobertaForQuestionAnswering):
    """Elastic `RobertaForQuestionAnswering`: start and end logits `(batch, seq)`."""


class DynaRobertaForMultipleChoice(_DynaRobertaHead, RobertaForMultipleChoice):
    """Elastic `RobertaForMultipleChoice`: logits `(batch, num_choices)`."""


class DynaRobertaForMaskedLM(_DynaRobertaHead, RobertaForMaskedLM):
    """Elastic `RobertaForMaskedLM`: logits `(batch, seq, vocab)`."""
