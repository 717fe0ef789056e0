"""Elastic RoBERTa: the stock classes with `ElasticModelMixin` in front.

Parameter names are those of RoBERTa, so stock checkpoints load as they are. Decoders and pre-training heads other than
masked language modelling are left out.
"""

from transformers import (
    RobertaForMaskedLM,
    RobertaForMultipleChoice,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)
from transformers.models.roberta.modeling_roberta import RobertaLayer, RobertaSelfAttention

from .configuration import DynaRobertaConfig
from .elastic import layer_recorder
from .elastic_model import ElasticModelMixin


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
