"""Copies of models: new ones with a part of the weights of another, or on the same weights.

What a size is, and which layers it keeps, is decided elsewhere; here tensors are only found, and copied or shared.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .anatomy import Anatomy, leading_part


def new_model(model_class: Any, config: Any, source: Any, positions: Sequence[int] | None = None) -> Any:
    """A new model with copies of the leading weights of `source`, in its mode and on its device.

    It is built on the meta device, so that nothing is initialised and nothing of the full size is allocated.

    Args:
        model_class: Class of the new model, stock or elastic.
        config: Its configuration.
        source: The model to copy from.
        positions: For each layer of the new model the layer of `source` to copy; None: all in order.

    Raises:
        TypeError: If `source` is of another head, or runs otherwise than the new model would.
        ValueError: If `source` is on the meta device, or holds other tensors than its configuration says.
    """
    stock, state = getattr(model_class, "backbone_class", model_class), source.state_dict()
    if not isinstance(source, stock) or type(source).forward not in (stock.forward, model_class.forward):
        raise TypeError(
            f"A {type(source).__name__} cannot become a {model_class.__name__}; give a {stock.__name__}, stock or "
            "elastic, with the forward pass of that class. Load the weights as one."
        )
    if any(torch.is_tensor(tensor) and tensor.is_meta for tensor in state.values()):
        raise ValueError("The model is on the meta device, without values to copy. Load it with from_pretrained.")
    elastic: Any = config if hasattr(config, "anatomy") else source.config
    told = len(getattr(source.config, "stored_layers", range(source.config.num_hidden_layers)))
    held = len(source.base_model.get_submodule(elastic.anatomy.layers))
    if held > told:
        raise ValueError(
            f"The configuration says that there are {told} layers, the model holds {held}. Make the configuration say "
            "what the model is (num_hidden_layers), and call again."
        )
    if elastic.anatomy.skips_padding_positions:  # since the model was made it may have been set to a tokenizer's
        config.pad_token_id = source.base_model.embeddings.padding_idx
    with torch.device("meta"):
        model = model_class(config, **pooler_of(source))
    leading = {
        name: _leading(state, name, target.shape, anatomy=elastic.anatomy, positions=positions)
        for name, target in model.state_dict().items()
    }
    model.load_state_dict(leading, assign=True)
    _copy_buffers(model, source)
    model.tie_weights(missing_keys=set())  # not where both were there with different values
    return model.train(source.training)


def pooler_of(base: Any) -> dict[str, bool]:
    """The argument that says whether a base model has a pooler, where it may have one; heads take no such argument."""
    may_have_one = base.base_model is base and hasattr(base, "pooler")
    return {"add_pooling_layer": base.pooler is not None} if may_have_one else {}


def _leading(
    state: dict[str, torch.Tensor], name: str, shape: torch.Size, *, anatomy: Anatomy, positions: Sequence[int] | None
) -> torch.Tensor:
    """A copy of the leading part of a tensor for a new model; only those of elastic linears may be larger there."""
    before, layers, after = name.partition(f"{anatomy.layers}.")
    position, _, rest = after.partition(".")
    role = anatomy.linears.get(rest.rpartition(".")[0]) if layers else None
    source = f"{before}{layers}{positions[int(position)]}.{rest}" if layers and positions is not None else name
    if (tensor := state.get(source)) is None:
        raise ValueError(
            f"The model has no tensor {source}: an adapter, a quantised or pruned layer or one of your own has its "
            "place. Merge adapters first (merge_and_unload), remove parametrisations, and quantise modules in the copy."
        )
    if tensor.shape != shape and role is None:
        raise ValueError(
            f"The configuration says that {source} is of size {tuple(shape)}, the model holds it as "
            f"{tuple(tensor.shape)}. Make the configuration say what the model is (num_labels, vocab_size, "
            "max_position_embeddings, type_vocab_size), and call again."
        )
    return leading_part(tensor, shape, blocks=role.blocks if role else 1).clone()


def _copy_buffers(model: nn.Module, source: nn.Module) -> None:
    """Give `model`, in place, the buffers that a state dict leaves out, without what a long text made of them."""
    originals = dict(source.named_buffers())
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:
            parent, _, leaf = name.rpartition(".")
            first = originals.get(f"{name.removesuffix('inv_freq')}original_inv_freq", originals[name])
            model.get_submodule(parent).register_buffer(leaf, first.clone(), persistent=False)


def shared_model(source: Any) -> Any:
    """A new model of modules and configuration of its own, on the same parameters and buffers as `source`.

    The tables that hold them are the same, as `to(device)` fills these anew; so are rotary modules, which note lengths.
    """
    tables = [table for module in source.modules() for table in (module._parameters, module._buffers)]
    rotary = [module for module in source.modules() if hasattr(module, "max_seq_len_cached")]
    return copy.deepcopy(source, {id(each): each for each in [*tables, *rotary]})
