"""A family of encoders that exists only in the tests, with names and fused linears that no real one has."""

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from dynabert_hf.model.anatomy import HEADS, HIDDEN, NEURONS, Anatomy, Role
from dynabert_hf.model.configuration import ElasticConfigMixin
from dynabert_hf.model.elastic_model import ElasticModelMixin


@strict
class ToyConfig(PreTrainedConfig):
    model_type = "toy"
    vocab_size: int = 99
    hidden_size: int = 32
    num_attention_heads: int = 4
    intermediate_size: int = 48
    num_hidden_layers: int = 6
    max_position_embeddings: int = 20


class ToyBlock(nn.Module):
    """Fused keys, values and queries, a gated feed-forward part, no biases there, and a tuple as output."""

    def __init__(self, config):
        super().__init__()
        self.head_size = config.hidden_size // config.num_attention_heads
        self.norm = nn.LayerNorm(config.hidden_size)
        self.mix = nn.ModuleDict({"kvq": nn.Linear(config.hidden_size, 3 * config.hidden_size)})
        self.mixed = nn.Linear(config.hidden_size, config.hidden_size)
        self.widen = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.narrow = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, states, mask):
        fused = self.mix["kvq"](self.norm(states)).unflatten(-1, (3, -1, self.head_size))
        key, value, query = fused.permute(2, 0, 3, 1, 4)
        context = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        states = states + self.mixed(context.transpose(1, 2).flatten(2))
        gate, up = self.widen(self.norm(states)).chunk(2, -1)
        return (states + self.narrow(gate.sigmoid() * up),)


class ToyPreTrained(PreTrainedModel):
    config_class = ToyConfig
    base_model_prefix = "toy"


class ToyModel(ToyPreTrained):
    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.stack = nn.ModuleDict({"blocks": nn.ModuleList(ToyBlock(config) for _ in range(config.num_hidden_layers))})
        self.post_init()

    def get_input_embeddings(self):
        return self.words

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, **kwargs):
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None]
        states = self.words(input_ids) if inputs_embeds is None else inputs_embeds
        for block in self.stack["blocks"]:
            (states,) = block(states, mask)
        return BaseModelOutput(last_hidden_state=states)


class ToyForSequenceClassification(ToyPreTrained):
    def __init__(self, config):
        super().__init__(config)
        self.toy = ToyModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        logits = self.classifier(self.toy(input_ids, attention_mask, **kwargs).last_hidden_state[:, 0])
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


@strict
class DynaToyConfig(ElasticConfigMixin, ToyConfig):
    model_type = "dynatoy"
    backbone_config_class = ToyConfig
    anatomy = Anatomy(
        "stack.blocks",
        {
            "mix.kvq": Role(HIDDEN, HEADS, blocks=3),
            "mixed": Role(HEADS, HIDDEN),
            "widen": Role(HIDDEN, NEURONS, blocks=2),
            "narrow": Role(NEURONS, HIDDEN),
        },
    )


class DynaToyModel(ElasticModelMixin, ToyModel):
    config_class = DynaToyConfig


class DynaToyForSequenceClassification(ElasticModelMixin, ToyForSequenceClassification):
    config_class = DynaToyConfig
    elastic_base_class = DynaToyModel


def make_toy(**kwargs):
    """An elastic toy in evaluation mode, all parameters random."""
    torch.manual_seed(0)
    stock = ToyForSequenceClassification(ToyConfig(num_labels=3))
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return DynaToyForSequenceClassification.from_backbone(stock, **kwargs).eval()
