"""Elastic ModernBERT: what its layers are made of, its configuration, and the stock classes with the mixin in front.

Parameter names are those of ModernBERT, so stock checkpoints load as they are.
Queries, keys and values are one fused linear, and so are gate and values of the feed-forward part.
Some layers attend to all tokens, most to those around: a smaller depth keeps the ratio of both.
"""

from collections.abc import Sequence

from huggingface_hub.dataclasses import strict
from transformers import (
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForMultipleChoice,
    ModernBertForQuestionAnswering,
    ModernBertForSequenceClassification,
    ModernBertForTokenClassification,
    ModernBertModel,
)
from transformers.models.modernbert.modeling_modernbert import ModernBertAttention, ModernBertEncoderLayer

from .anatomy import HEADS, HIDDEN, NEURONS, Anatomy, Role
from .configuration import ElasticConfigMixin
from .elastic import layer_recorder
from .elastic_model import ElasticModelMixin


@strict
class DynaModernBertConfig(ElasticConfigMixin, ModernBertConfig):
    """Configuration of an elastic ModernBERT: `ModernBertConfig` plus the fields of `ElasticConfigMixin`."""

    model_type = "dynamodernbert"
    backbone_config_class = ModernBertConfig
    anatomy = Anatomy(
        "layers",
        {
            "attn.Wqkv": Role(HIDDEN, HEADS, blocks=3),
            "attn.Wo": Role(HEADS, HIDDEN),
            "mlp.Wi": Role(HIDDEN, NEURONS, blocks=2),
            "mlp.Wo": Role(NEURONS, HIDDEN),
        },
        has_own_first_layer=True,  # it has no norm before its attention
    )

    def _kept_at(self, depth: float) -> Sequence[int] | None:
        own = super()._kept_at(depth)
        if own is not None:
            return own
        is_global = [kind == "full_attention" for kind in self.layer_types or ()]
        everywhere, nearby = ([index for index, found in enumerate(is_global) if found is one] for one in (True, False))
        total = round(depth * self.num_hidden_layers)
        count = min(len(everywhere), total, max(1, round(depth * len(everywhere))))  # one at least that sees all tokens
        rest = total - count
        return sorted(_at_equal_distances(everywhere, count) + _at_equal_distances(nearby, rest))


def _at_equal_distances(layers: Sequence[int], count: int) -> list[int]:
    """So many of these layers, the first of them and others evenly after it, as the depth rule takes them."""
    return [layers[place * len(layers) // count] for place in range(count)]


class _DynaModernBert(ElasticModelMixin):
    config_class = DynaModernBertConfig

    @classmethod
    def is_custom_code(cls) -> bool:
        """No: of custom code transformers leaves out how stock draws new weights, which differs from part to part."""
        return False


class DynaModernBertModel(_DynaModernBert, ModernBertModel):
    """Elastic `ModernBertModel`: hidden states of the active size, `(batch, seq, hidden)`."""

    _can_record_outputs = {
        "hidden_states": layer_recorder(ModernBertEncoderLayer),
        "attentions": ModernBertAttention,
    }


class _DynaModernBertHead(_DynaModernBert):
    elastic_base_class = DynaModernBertModel


class DynaModernBertForSequenceClassification(_DynaModernBertHead, ModernBertForSequenceClassification):
    """Elastic `ModernBertForSequenceClassification`: logits `(batch, num_labels)`."""


class DynaModernBertForTokenClassification(_DynaModernBertHead, ModernBertForTokenClassification):
    """Elastic `ModernBertForTokenClassification`: logits `(batch, seq, num_labels)`."""


class DynaModernBertForQuestionAnswering(_DynaModernBertHead, ModernBertForQuestionAnswering):
    """Elastic `ModernBertForQuestionAnswering`: start and end logits `(batch, seq)`."""


class DynaModernBertForMultipleChoice(_DynaModernBertHead, ModernBertForMultipleChoice):
    """Elastic `ModernBertForMultipleChoice`: logits `(batch, num_choices)`."""


class DynaModernBertForMaskedLM(_DynaModernBertHead, ModernBertForMaskedLM):
    """Elastic `ModernBertForMaskedLM`: logits `(batch, seq, vocab)`."""
