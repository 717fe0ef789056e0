"""Slicing and layer skipping: linears that compute with their leading part, and a list of layers that skips some.

The size in force lives in one `ActiveSizes` object per model, which every elastic module of that model reads. Switching
replaces a few tuples; no module is visited, no weight is copied or masked.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import is_
from types import MethodType
from typing import Any

import torch
from torch import is_grad_enabled, nn
from torch.compiler import is_compiling
from torch.jit import is_tracing
from torch.nn.functional import linear
from transformers.utils.output_capturing import OutputRecorder

from .anatomy import Anatomy, Role, head_size, layer_axes, leading_part, linear_shape
from .subnetwork import LayerShape, SubNetworkError

Window = tuple[int, int]
"""The leading rows of each block, and the leading columns, that a linear computes with."""

Parts = list[tuple[torch.Tensor, torch.Tensor | None]] | torch.Tensor
"""The leading part of weight and bias of each block of a linear, or `(blocks, inputs, outputs)` of all weights."""

_MOST_PREPARED = 256  # sizes, the trained ones included, which all stay
_MOST_KEPT = 16  # sizes


@dataclass(frozen=True, eq=False)
class PreparedSize:
    """What a size means to one model, worked out once.

    Args:
        positions: Which of the stored layers run, increasing.
        layers: For each stored layer what it keeps; all of it where it does not run.
        windows: For each linear of each stored layer what it computes with; None: all that is stored.
        is_full_width: Whether every linear computes with all that is stored.
    """

    positions: tuple[int, ...]
    layers: tuple[LayerShape, ...]
    windows: tuple[Window | None, ...]
    is_full_width: bool


class ActiveSizes:
    """What is switched on now in one model: a `PreparedSize`, also spread out for speed.

    Args:
        config: The elastic configuration of the model.

    Attributes:
        size: What is switched on now.
        in_force: The sub-network or the layer shapes that this is.
        prepared: Sizes that were switched to before, by their name; the trained ones stay.
        ready: Of each linear the parts it computes with, in a pass without gradients or of `sharing`, or `unready`.
        sharing: What a trainer sets to share work between passes, see `training.shared_prefixes`; else None.
    """

    ready: Sequence[Parts | None]

    def __init__(self, config: Any):
        self.config, self.stored, self.head_size = config, config.stored_layers, head_size(config)
        self.roles: tuple[Role, ...] = tuple(config.anatomy.linears.values())
        self.ready = self.unready = (None,) * (len(self.stored) * len(self.roles))
        self._kept: dict[PreparedSize, _KeptParts] = {}
        self.prepared: dict[Hashable, PreparedSize] = {}
        self.sharing: Any = None
        self._num_trained = len(trained := config.subnetworks)
        for size in trained:  # so that switching to one takes as little the first time
            self.prepare(size, config.resolve(size))
        self.switch(self.prepare(None, self.stored))

    def prepare(self, name: Hashable, layers: Sequence[LayerShape]) -> PreparedSize:
        """Work out once what a size means; each layer must fit into the stored layer of its index."""
        if len(self.prepared) >= _MOST_PREPARED:
            self.prepared = dict(islice(self.prepared.items(), self._num_trained))
        running = {layer.index: layer for layer in layers}
        positions = tuple(position for position, layer in enumerate(self.stored) if layer.index in running)
        kept = tuple(running.get(layer.index, layer) for layer in self.stored)
        pairs = zip(self._windows(kept), self._windows(self.stored), strict=True)
        windows = tuple(None if part == whole else part for part, whole in pairs)
        self.prepared[name] = size = PreparedSize(positions, kept, windows, not any(windows))
        return size

    def _windows(self, layers: Iterable[LayerShape]) -> list[Window]:
        axes = [layer_axes(self.config, layer) for layer in layers]
        return [(each[role.outputs], each[role.inputs]) for each in axes for role in self.roles]

    def switch(self, size: PreparedSize, in_force: Any = None) -> None:
        """Switch to a prepared size, and to its sub-network or layer shapes."""
        self.size, self.layers, self.windows, self.in_force = size, size.layers, size.windows, in_force
        self.ready = self.unready

    def make_ready(self, layers: ElasticLayers) -> None:
        """Before a pass without gradients: find what an earlier one kept. To make it takes as long as small products.

        Whether it still holds is looked up here, once for all linears that run. Nothing is kept where hooks or
        parametrisations bring the weights.
        """
        if (kept := self._kept.get(self.size)) is None or not kept.holds():
            linears = layers.elastic_linears(self.size.positions)
            if any(map(is_brought, linears)):
                self.forget()
                return
            others = {size: other for size, other in self._kept.items() if size is not self.size and other.holds()}
            kept = _KeptParts(self.size, layers, linears)
            self._kept = {**(others if len(others) < _MOST_KEPT else {}), self.size: kept}
        self.ready = kept.parts

    def forget(self) -> None:
        """Let go what was kept: it would hold the memory that weights leave."""
        self.ready, self._kept = self.unready, {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "ready": self.unready, "_kept": {}}


class _KeptParts:
    """The parts that linears compute with at a size. They hold the memory of weights, so no other has its address."""

    def __init__(self, size: PreparedSize, layers: ElasticLayers, linears: Sequence[ElasticLinear]):
        places: list[Any] = list(zip(layers.tables, layers.names, strict=True))
        places += [place[1:3] for each in size.positions for place in layers.places[each]]
        places += [(linear._parameters, name) for linear in linears for name in ("weight", "bias")]
        self.tables, self.names = zip(*places, strict=True)
        self.found = list(map(dict.get, self.tables, self.names))
        self.weights = [each for each in self.found if isinstance(each, torch.Tensor)]
        self.addresses = list(map(torch.Tensor.data_ptr, self.weights))
        self.parts: list[Any] = [None] * len(size.windows)
        with torch.inference_mode():  # torch tracks no views of what is made here, and every product takes one
            for linear in linears:
                if (window := size.windows[linear.number]) is not None:
                    self.parts[linear.number] = _untracked(linear, window)

    def holds(self) -> bool:
        """Whether these linears stand there with these weights still. No loop in Python, for speed."""
        is_same = all(map(is_, map(dict.get, self.tables, self.names), self.found))
        return is_same and self.addresses == list(map(torch.Tensor.data_ptr, self.weights))


class ElasticLinear(nn.Linear):
    """A linear layer that computes with the leading rows of its blocks and the leading columns that are switched on.

    A stock linear becomes one by `become`. At its full size it runs the stock computation on the stock weight, so that
    it is bit-equal to `nn.Linear`; below, on views of it.
    """

    active: ActiveSizes
    number: int
    blocks: int

    @classmethod
    def become(cls, stock: nn.Linear, active: ActiveSizes, *, number: int) -> None:
        """Make a stock linear elastic, in place; `number` is its place among the windows of a size."""
        stock.__class__ = cls
        stock.__dict__.update(active=active, number=number, blocks=active.roles[number % len(active.roles)].blocks)
        for name, value in list(vars(stock).items()):  # accelerate's hooks, which move weights, keep its own forward
            if getattr(value, "__func__", None) is nn.Linear.forward:
                vars(stock)[name] = MethodType(cls.forward, stock)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        active = self.active
        parts = active.ready[self.number]
        if parts is None or (is_grad_enabled() and not active.sharing):
            window = active.windows[self.number]
            if window is None:
                return linear(states, self.weight, self.bias)
            parts = self.parts(window)
        if len(parts) == 1:
            return linear(states, *parts[0])
        if isinstance(parts, torch.Tensor):
            return _side_by_side(states, parts)
        return torch.cat([linear(states, *part) for part in parts], -1)

    def slices(self, window: Window) -> list[tuple[slice, slice]]:
        """Rows and columns of the leading part of each block."""
        rows, columns = window
        starts = range(0, self.out_features, self.out_features // self.blocks)
        return [(slice(start, start + rows), slice(columns)) for start in starts]

    def parts(self, window: Window) -> Parts:
        """Views of the leading part of weight and bias, for each block."""
        weight, bias = self.weight, self.bias
        return [(weight[place], None if bias is None else bias[place[0]]) for place in self.slices(window)]

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        self.active.forget()
        return super()._apply(*args, **kwargs)


def _untracked(linear: ElasticLinear, window: Window) -> Parts:
    """Parts that share the memory of the weights, made in inference mode."""
    if linear.blocks > 1 and linear.bias is None:
        rows, columns = window
        whole = linear.weight.new_empty(0).set_(linear.weight)
        return whole.unflatten(0, (linear.blocks, -1))[:, :rows, :columns].mT
    views: Any = linear.parts(window)
    return [(w.new_empty(0).set_(w), None if b is None else b.new_empty(0).set_(b)) for w, b in views]


def _side_by_side(states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Products with the weights of each block, written side by side in one call, without gradients."""
    device = states.device.type
    if device == "meta" or torch.is_autocast_enabled(device):  # autocast leaves alone what writes in place
        return torch.cat([linear(states, weight.mT) for weight in weights], -1)
    blocks, columns, rows = weights.shape
    out = states.new_empty(*states.shape[:-1], blocks * rows)
    by_block = out.view(-1, blocks, rows).transpose(0, 1)
    by_block.baddbmm_(states.reshape(1, -1, columns).expand(blocks, -1, -1), weights, beta=0)
    return out


def is_brought(linear: ElasticLinear) -> bool:
    """Whether the weights of a linear may be others at each pass."""
    weight = linear._parameters.get("weight")
    is_own = type(weight) is nn.Parameter and not weight.is_meta and "bias" in linear._parameters
    return "_hf_hook" in linear.__dict__ or not is_own


class CountsHeads:
    """In front of a stock attention that remembers how many heads it has: asks for the number in force instead."""

    active: ActiveSizes
    position: int

    @property
    def num_attention_heads(self) -> int:
        """Heads that run now."""
        return self.active.layers[self.position].heads

    @property
    def all_head_size(self) -> int:
        """Size of all of them together."""
        return self.num_attention_heads * self.active.head_size


class ElasticLayers(nn.ModuleList):
    """The list of layers: who walks it, as every stock forward pass does, meets those that are switched on.

    It takes the place of a stock encoder's list, so that nothing of an encoder is written again. An index is that of a
    stored layer, `len` is their number, and `stored` is all of them.

    Args:
        base: The stock base model, of the full size. Its list is replaced, in place.
        active: Where the current size is read from.
        anatomy: What a layer is made of.
    """

    def __init__(self, base: nn.Module, active: ActiveSizes, anatomy: Anatomy):
        stock = anatomy.stored_layers(base)
        super().__init__(stock[shape.index] for shape in active.stored)
        self.active, vars(base)["list_of_layers"] = active, self  # whatever takes its place
        self.places: list[list[tuple[int, Any, str, torch.Size]]] = []
        self.paths = list(anatomy.linears)
        for position, (layer, shape) in enumerate(zip(self.stored, active.stored, strict=True)):
            self.places.append([])
            for path, role, module in anatomy.linears_of(layer):
                _cut(module, role, layer_axes(active.config, shape))
                parent, _, name = path.rpartition(".")
                number = position * len(self.paths) + self.paths.index(path)
                self.places[-1].append((number, layer.get_submodule(parent)._modules, name, module.weight.shape))
            if anatomy.attention_class is not None:
                attention = layer.get_submodule(anatomy.attention)
                attention.__class__ = anatomy.attention_class
                attention.active, attention.position = active, position
        base.set_submodule(anatomy.layers, self)
        tables = [part._modules for part in self.modules()]
        links = [(table, name) for table in tables for name, part in table.items() if part and part._modules]
        self.tables, self.names = zip(*links, strict=True)
        self.made = [*self.stored, *map(dict.get, self.tables, self.names)]
        self.register_load_state_dict_pre_hook(ElasticLayers.heed_weights)

    def heed_weights(self, names: Iterable[str], prefix: str, *others: Any) -> None:
        """As weights are loaded: forget what was measured; refuse those of cut layers whose numbers others have."""
        stored, numbers = self.active.stored, re.findall(rf"{re.escape(prefix)}(\d+)\.", " ".join(names))
        if stored[-1].index >= len(stored) <= max(map(int, numbers), default=0):
            raise SubNetworkError(
                "These weights are of layers that were cut, and layers that are left would get them. Load an adapter "
                "into the whole model, merge_and_unload() it there, and extract the size from that."
            )
        if not next(self.parameters()).is_meta:  # else it is a new copy
            self.active.config.forget_measured()

    def check_place(self, found: Any, positions: Sequence[int]) -> None:
        """Refuse to skip layers where another list took the place of this one: a pass would walk all of that."""
        is_other = found is not self and (len(found) != len(positions) or self._gone(list(found)))
        if is_other or len(found) != len(self.places):
            raise SubNetworkError(
                f"The list of this model's {len(self.places)} layers is a {type(found).__name__} of {len(found)} now, "
                "which cannot skip layers. Possible are sizes of all layers, if it has them all. Extract a depth "
                "instead of cutting the list, and compile the whole model instead of its layers."
            )

    @property
    def stored(self) -> list[Any]:
        """All layers, also those that do not run."""
        return list(self._modules.values())

    def elastic_linears(self, positions: Iterable[int]) -> list[ElasticLinear]:
        """The linears of layers; stock ones become elastic, in place; anything else in place of one is refused."""
        linears, stock, active, gone = [], [], self.active, self._gone(self.stored)
        for number, table, name, shape in (place for each in positions for place in self.places[each]):
            linears.append(module := table[name])
            is_stock = type(module) is nn.Linear and module.weight.shape == shape
            is_own = isinstance(module, ElasticLinear) and module.number == number and module.active is active
            if not (is_stock or is_own) or module in gone:
                position, path = divmod(number, len(self.paths))
                raise SubNetworkError(
                    "A smaller width or another order was asked for, but an adapter, a quantised layer or a part of "
                    f"your own stands in layer {position}.{self.paths[path]}, and it has one width only. Possible are "
                    "all depths at full width. For other widths merge adapters first (merge_and_unload), load weights "
                    "into a part instead of replacing it, or extract the size and adapt that."
                )
            if is_stock:
                stock.append((module, number))
        for module, number in stock:
            ElasticLinear.become(module, active, number=number)
        return linears

    def _gone(self, layers: list[Any]) -> set[Any]:
        """Linears that no longer stand in the layers at their positions, or beside others that may run instead.

        Wrappers have them within. Looks closer only where something else stands than at first.
        """
        gone: set[Any] = set()
        standing = [*layers, *map(dict.get, self.tables, self.names)]
        if standing != self.made and "_is_replica" not in vars(self):
            for layer, places in zip(layers, self.places, strict=False):
                inside, own = set(layer.modules()), {table[name]: shape for _, table, name, shape in places}
                twins = [linear.weight.shape for linear in inside - own.keys() if isinstance(linear, nn.Linear)]
                gone |= {linear for linear, shape in own.items() if linear not in inside or shape in twins}
        return gone

    def __iter__(self) -> Iterator[Any]:
        active, stored = self.active, self.stored
        if self.training and is_grad_enabled():
            active.config.forget_measured()
        self.check_place(self, active.size.positions)
        layers = [stored[position] for position in active.size.positions]
        if not (active.size.is_full_width or is_compiling()):
            is_replica = "_is_replica" in vars(self)  # of DataParallel, with weights of its own
            if not (is_grad_enabled() or is_tracing() or active.sharing or is_replica):
                return self._pass_without_gradients(layers)
            linears = self.elastic_linears(active.size.positions)  # an adapter may have come after the size
            if active.sharing is not None:
                active.sharing.make_ready(linears)
        return iter(layers if active.sharing is None else active.sharing.walk(layers))

    def _pass_without_gradients(self, layers: Sequence[Any]) -> Iterator[Any]:
        self.active.make_ready(self)
        try:
            yield from layers
        finally:
            self.active.ready = self.active.unready

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index] if isinstance(index, slice) else super().__getitem__(index)


def _cut(stock: nn.Linear, role: Role, axes: Sequence[int]) -> None:
    """Leave of a stock linear, in place, the leading part that a layer of these sizes has."""
    rows, columns = stock.out_features, stock.in_features = linear_shape(role, axes)
    for name, shape in (("weight", (rows, columns)), ("bias", (rows,))):
        whole = stock._parameters[name]
        if whole is not None and tuple(whole.shape) != shape:
            part = leading_part(whole.detach(), shape, blocks=role.blocks).clone()
            setattr(stock, name, nn.Parameter(part, requires_grad=whole.requires_grad))


def layer_recorder(layer_class: type[nn.Module]) -> OutputRecorder:
    """How transformers collects the hidden states of the layers that run.

    Newer versions resolve negative indices of `output_hidden_states` and are told the configuration's property for it.
    """
    key = "num_hidden_layers_key"
    newer: dict[str, Any] = {key: "num_active_layers"} if key in OutputRecorder.__dataclass_fields__ else {}
    return OutputRecorder(layer_class, index=0, **newer)
