"""Elastic DeBERTa-v2 and v3: what their layers are made of, their configuration, and the stock classes made elastic.

Parameter names are those of DeBERTa-v2 and v3, so stock checkpoints load as they are.
Its layers are given the embedding of relative positions beside their states.
"""

from huggingface_hub.dataclasses import strict
from transformers import (
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    DebertaV2ForMultipleChoice,
    DebertaV2ForQuestionAnswering,
    DebertaV2ForSequenceClassification,
    DebertaV2ForTokenClassification,
    DebertaV2Model,
)
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from .anatomy import HEADS, HIDDEN, Anatomy, Role, separate_linears
from .configuration import ElasticConfigMixin
from .elastic import CountsHeads
from .elastic_model import ElasticModelMixin


class ElasticDisentangledSelfAttention(CountsHeads, DisentangledSelfAttention):
    """Splits its states by the number of heads in force."""


@strict
class DynaDebertaV2Config(ElasticConfigMixin, DebertaV2Config):
    """Configuration of an elastic DeBERTa-v2 and v3: `DebertaV2Config` plus the fields of `ElasticConfigMixin`."""

    model_type = "dynadebertav2"
    backbone_config_class = DebertaV2Config
    anatomy = Anatomy(
        "encoder.layer",
        {
            **separate_linears(
                [
                    "attention.self.query_proj",
                    "attention.self.key_proj",
                    "attention.self.value_proj",
                    "attention.output.dense",
                ],
                ["intermediate.dense", "output.dense"],
            ),
            "attention.self.pos_key_proj": Role(HIDDEN, HEADS, is_optional=True),
            "attention.self.pos_query_proj": Role(HIDDEN, HEADS, is_optional=True),
        },
        attention="attention.self",
        attention_class=ElasticDisentangledSelfAttention,
        passes_gradients_beside=True,
    )


class DynaDebertaV2Model(ElasticModelMixin, DebertaV2Model):
    """Elastic `DebertaV2Model`: hidden states of the active size, `(batch, seq, hidden)`."""

    config_class = DynaDebertaV2Config


class _DynaDebertaV2Head(ElasticModelMixin):
    config_class = DynaDebertaV2Config
    elastic_base_class = DynaDebertaV2Model


class DynaDebertaV2ForSequenceClassification(_DynaDebertaV2Head, DebertaV2ForSequenceClassification):
    """Elastic `DebertaV2ForSequenceClassification`: logits `(batch, num_labels)`."""


class DynaDebertaV2ForTokenClassification(_DynaDebertaV2Head, DebertaV2ForTokenClassification):
    """Elastic `DebertaV2ForTokenClassification`: logits `(batch, seq, num_labels)`."""


class DynaDebertaV2ForQuestionAnswering(_DynaDebertaV2Head, DebertaV2ForQuestionAnswering):
    """Elastic `DebertaV2ForQuestionAnswering`: start and end logits `(batch, seq)`."""


class DynaDebertaV2ForMultipleChoice(_DynaDebertaV2Head, DebertaV2ForMultipleChoice):
    """Elastic `DebertaV2ForMultipleChoice`: logits `(batch, num_choices)`."""


class DynaDebertaV2ForMaskedLM(_DynaDebertaV2Head, DebertaV2ForMaskedLM):
    """Elastic `DebertaV2ForMaskedLM`: logits `(batch, seq, vocab)`."""
