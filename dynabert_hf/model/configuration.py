"""What an elastic configuration has beside a stock one: all that an elastic checkpoint remembers.

That is the sizes it was trained for, the size in force, and after extraction the layers that are physically present.
The counts of the stock part (`num_hidden_layers`, `num_attention_heads`, `intermediate_size`) always describe the
full-size network, so that a width or depth means the same sub-network before and after extraction.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from transformers import PreTrainedConfig

from .anatomy import Anatomy, head_group
from .subnetwork import AnySize, LayerShape, Size, SubNetwork, SubNetworkError, as_size, by_depth, grid, size_name

FORMAT_VERSION = 1
"""Version of the elastic fields. A checkpoint with a higher one was written by a later release."""

_LARGEST = {
    "vocab_size": 10**8,
    "hidden_size": 10**6,
    "intermediate_size": 10**7,
    "max_position_embeddings": 10**7,
    "num_attention_heads": 10**5,
    "num_hidden_layers": 10**4,
    "type_vocab_size": 10**5,
    "num_labels": 10**6,
}
"""Far above any encoder. Only larger ones are refused without a look at the weights, which decide about the others."""

REFERENCES = ("teacher", "fine-tuned", "baseline")
"""What metrics tell of beside sizes: the teacher, the model that training began with, the same answer for every row."""

_MEASURED = ("metrics", "metric_rows", "metric_order", "temperatures")
_SUPPORTED = (
    "Supported encoders are BERT and its kin RoBERTa, XLM-RoBERTa, CamemBERT, ELECTRA, DistilBERT, MPNet, DeBERTa-v2, "
    "ModernBERT, NomicBERT and EuroBERT; use the Dyna... class of the family that fits."
)


def _layer_shapes(layers: Sequence[dict[str, int]]) -> tuple[LayerShape, ...]:
    try:
        return tuple(LayerShape(**layer) for layer in layers)
    except TypeError as error:
        raise SubNetworkError(
            f"{layers!r} does not describe layers. Possible is a list with an entry like "
            "{'index': 0, 'heads': 12, 'neurons': 3072} for each layer."
        ) from error


def _size_texts(given: Any) -> list[str] | None:
    """The listed sizes as JSON can hold them, each once."""
    if given is None:
        return None
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise SubNetworkError(f"sizes={given!r} is not possible. Give a list of sizes, such as ['w0.6-d1'].")
    return list(dict.fromkeys(size_name(as_size(size)) for size in given))


def _check_increasing(name: str, indices: Sequence[int], num_layers: int) -> None:
    if not all(0 <= index < num_layers for index in indices) or any(a >= b for a, b in pairwise(indices)):
        raise SubNetworkError(
            f"{name}={list(indices)!r} is not possible. Layer indices must increase and lie between 0 and "
            f"{num_layers - 1}, the last layer of this network."
        )


if TYPE_CHECKING:  # the mixin always stands before a stock configuration class
    _Config = PreTrainedConfig
else:
    _Config = object


@dataclass(kw_only=True)
class ElasticConfigMixin(_Config):
    """The fields and rules that elastic configurations add to a stock configuration.

    A model reads them when it is made. Later the size in force is changed by its `set_active`, not here.

    Args:
        widths: Width multipliers that the network was or will be trained for, each in (0, 1].
        depths: Depth multipliers that the network was or will be trained for, each in (0, 1].
        sizes: Texts of sizes trained besides every width at every depth, `"w0.6-d1"` or `"l0h12n3072-l5h6n1000"`.
        active_width: Width multiplier in force.
        active_depth: Depth multiplier in force.
        active_layers: Layers in force where no width and depth describe them (`LayerShape` fields as dictionaries).
        kept_layers: For a depth, as text (`"0.5"`), the increasing indices of its layers, instead of the depth rule.
        stored_shape: Layers physically present after extraction (`LayerShape` fields as dictionaries); None: all.
        metrics: For each size, by its text, and each of `REFERENCES` the metrics measured on held-out data, for
            instance `{"w0.5-d0.75": {"accuracy": 0.86}}`.
        metric_rows: For each of these metrics in words the rows that it was measured on.
        metric_order: The names of these metrics, the most telling first, which a file of JSON would forget.
        metric_directions: For metrics whose names do not say it, whether `"lower"` or `"higher"` is better.
        temperatures: For sizes, by their text, what to divide their logits by so that their confidences come true.
        extracted_from: After extraction where this network came from: `parent` (name or path, None if it has none),
            `size` (as text) and `metrics` (of that size, None if the parent had none).
        trimmed_vocabulary: What `trim_vocabulary` cut: `before` and `after` of `tokens`, `parameters` and so on.
        format_version: Version of these fields.

    Raises:
        SubNetworkError: If a field asks for a sub-network that cannot exist, or was written by a later release.
    """

    if TYPE_CHECKING:
        anatomy: ClassVar[Anatomy]  # of each family
        backbone_config_class: ClassVar[type[PreTrainedConfig]]

    widths: list[float | int] | tuple[float | int, ...] = (0.25, 0.5, 0.75, 1.0)
    depths: list[float | int] | tuple[float | int, ...] = (0.5, 0.75, 1.0)
    sizes: list[Any] | tuple[Any, ...] | None = None
    active_width: float | int = 1.0
    active_depth: float | int = 1.0
    active_layers: list[dict[str, int]] | None = None
    kept_layers: dict[str, list[int]] | None = None
    stored_shape: list[dict[str, int]] | None = None
    metrics: dict[str, dict[str, Any]] | None = None
    metric_rows: dict[str, dict[str, str]] | None = None
    metric_order: list[str] | None = None
    metric_directions: dict[str, str] | None = None
    temperatures: dict[str, float] | None = None
    extracted_from: dict[str, Any] | None = None
    trimmed_vocabulary: dict[str, dict[str, Any]] | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self, **kwargs: Any) -> None:
        self._check_family(kwargs.pop("model_type", self.model_type))
        if self._auto_class is None:
            kwargs.pop("auto_map", None)  # names files of the folder read, which another folder need not have
        self._check_counts(kwargs.get("num_labels"))
        super().__post_init__(**kwargs)
        if not isinstance(self.format_version, int) or self.format_version > FORMAT_VERSION:
            raise SubNetworkError(
                f"This configuration has format_version={self.format_version!r}, this release reads up to "
                f"{FORMAT_VERSION}. Update with `pip install -U dynabert_hf`."
            )
        self.widths = [subnetwork.width for subnetwork in grid(self.widths, [1.0])]
        self.depths = [subnetwork.depth for subnetwork in grid([1.0], self.depths)]
        self.sizes = _size_texts(self.sizes)
        self.kept_layers = by_depth(self.kept_layers)
        for field, value in (("metrics", 0.9), ("metric_rows", "872 rows")):
            told = getattr(self, field) or {}
            if not isinstance(told, dict) or not all(isinstance(own, dict) for own in told.values()):
                usual = {"w1-d1": {"f1": value}}
                raise SubNetworkError(f"{field}={told!r:.80} is not possible. Give {field} by size, such as {usual}.")
        for name, own in (self.metrics or {}).items():
            order = (metric for metric in self.metric_order or () if metric in own)
            self.metrics = {**(self.metrics or {}), name: {metric: own[metric] for metric in (*order, *own)}}
        if self.stored_shape is None:
            self._check_grid()
        else:
            self._check_stored()
        self.resolve(self.active)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers; elastic fields given besides the dictionary are checked as if they stood in it."""
        given, kept = take_fields(kwargs), config_dict.get("kept_layers")
        has_others = by_depth(given.get("kept_layers", kept)) != by_depth(kept)  # of which nothing was measured
        return super().from_dict({**config_dict, **(dict.fromkeys(_MEASURED) if has_others else {}), **given}, **kwargs)

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a config.json; a stock one without its type and what the user has there under names of these fields."""
        config_dict, rest = super().get_config_dict(*args, **kwargs)
        if config_dict.get("model_type") == cls.backbone_config_class.model_type:
            del config_dict["model_type"]
            take_fields(config_dict)
        return config_dict, rest

    def _check_family(self, model_type: str) -> None:
        """A config.json names its architecture; left among the attributes, a stock name would hide the class's own."""
        if model_type not in (self.model_type, self.backbone_config_class.model_type):
            raise SubNetworkError(
                f"This configuration is of an encoder of type {model_type!r}; {type(self).__name__} reads "
                f"{self.model_type!r} and {self.backbone_config_class.model_type!r}. {_SUPPORTED}"
            )

    def _check_counts(self, num_labels: Any) -> None:
        """Before anything is made of them: a file could ask for more than any memory holds."""
        counts = {name: getattr(self, name) for name in _LARGEST if name != "num_labels" and hasattr(self, name)}
        counts |= {} if num_labels is None else {"num_labels": num_labels}
        for name, count in counts.items():
            least = 0 if name in ("num_labels", "type_vocab_size") else 1
            if not isinstance(count, int) or not least <= count <= _LARGEST[name]:
                raise SubNetworkError(
                    f"{name}={count!r} is not possible. It must be an integer from {least} to {_LARGEST[name]}; "
                    "correct the configuration, or load the model from where it was first published."
                )

    def _check_stored(self) -> None:
        for layer in self.stored_layers:
            full = LayerShape(layer.index, self.num_attention_heads, self.intermediate_size)
            if layer.index >= self.num_hidden_layers or not layer.fits_in(full):
                raise SubNetworkError(
                    f"stored_shape has {layer}, but the full network has {self.num_hidden_layers} layers of "
                    f"{full.heads} heads and {full.neurons} neurons. Load the configuration as it was saved."
                )
        _check_increasing("stored_shape", [layer.index for layer in self.stored_layers], self.num_hidden_layers)

    def _check_grid(self) -> None:
        for name, multipliers in (("widths", self.widths), ("depths", self.depths)):
            if not multipliers:
                raise SubNetworkError(f"{name} is empty. Give at least one multiplier, for instance {name}=[1.0].")
        for depth, indices in (self.kept_layers or {}).items():
            _check_increasing(f"kept_layers[{depth!r}]", indices, self.num_hidden_layers)
            if len(indices) != (expected := round(float(depth) * self.num_hidden_layers)):
                raise SubNetworkError(
                    f"kept_layers[{depth!r}] has {len(indices)} layers. Depth {depth} of {self.num_hidden_layers} "
                    f"layers is {expected}; give that many."
                )
        for subnetwork in self.subnetworks:
            self.resolve(subnetwork)

    @property
    def stored_layers(self) -> tuple[LayerShape, ...]:
        """The layers whose weights this model holds."""
        return self._by_rule(SubNetwork()) if self.stored_shape is None else _layer_shapes(self.stored_shape)

    @property
    def active(self) -> AnySize:
        """The active size: a sub-network, or layer shapes if no width and depth describe it."""
        if self.active_layers is None:
            return SubNetwork(self.active_width, self.active_depth)
        return _layer_shapes(self.active_layers)

    @property
    def num_active_layers(self) -> int:
        """Number of layers that a forward pass runs."""
        return len(self.resolve(self.active))

    @property
    def subnetworks(self) -> tuple[AnySize, ...]:
        """The sizes that the network was trained for, from small to large; after extraction those that are left.

        They are every width at every depth, and those of `sizes`.
        """
        everything: Any = grid(self.widths, self.depths)
        if self.sizes:
            everything = sorted(dict.fromkeys((*everything, *map(as_size, self.sizes))), key=self.share_of)
        return tuple(size for size in everything if self.stored_shape is None or self.holds(size))

    def share_of(self, size: Size) -> float:
        """How large a size is: the shares of heads and of neurons that its layers keep, summed; to compare sizes by."""
        layers = self._layers_of(size)
        return sum(each.heads / self.num_attention_heads + each.neurons / self.intermediate_size for each in layers)

    def holds(self, size: Size) -> bool:
        """Whether the weights of this size are present."""
        return self._first_missing(self._layers_of(size)) is None

    def _first_missing(self, layers: Sequence[LayerShape]) -> LayerShape | None:
        stored = {layer.index: layer for layer in self.stored_layers}
        return next((each for each in layers if each.index not in stored or not each.fits_in(stored[each.index])), None)

    def resolve(self, size: Size) -> tuple[LayerShape, ...]:
        """The layers that a size, or its text, keeps in this network.

        Raises:
            SubNetworkError: If the size leaves nothing of the network, or asks for more than is stored.
        """
        layers = self._layers_of(size)
        _check_increasing("layers", [layer.index for layer in layers], self.num_hidden_layers)
        if (missing := self._first_missing(layers)) is not None:
            asked = f"{size} needs {missing}" if isinstance(size, SubNetwork | str) else str(missing)
            held = ", ".join(f"{s.index} ({s.heads} heads, {s.neurons} neurons)" for s in self.stored_layers)
            fitting = ", ".join(map(size_name, filter(self.holds, self.subnetworks))) or "none of the trained ones"
            raise SubNetworkError(
                f"{asked}, which this model does not hold. It holds layers {held}. Sizes that fit: {fitting}. Choose "
                "one that fits, or load the model that this one was extracted from."
            )
        group = head_group(self)
        for layer in layers:
            if layer.heads % group:
                raise SubNetworkError(
                    f"{layer} is not possible: {group} attention heads share keys and values in this network, and are "
                    f"kept or cut together. Give a multiple of {group} heads."
                )
        return layers

    def _layers_of(self, size: Size) -> tuple[LayerShape, ...]:
        return self._by_rule(value) if isinstance(value := as_size(size), SubNetwork) else value

    def _kept_at(self, depth: float) -> Sequence[int] | None:
        """The layers that a depth keeps, where not those of the depth rule."""
        return {float(name): indices for name, indices in (self.kept_layers or {}).items()}.get(depth)

    def _by_rule(self, subnetwork: SubNetwork) -> tuple[LayerShape, ...]:
        group = head_group(self)
        layers = subnetwork.layers(
            num_layers=self.num_hidden_layers,
            num_heads=self.num_attention_heads // group,
            num_neurons=self.intermediate_size,
            kept_layers=self._kept_at(subnetwork.depth),
        )
        return tuple(LayerShape(layer.index, layer.heads * group, layer.neurons) for layer in layers)

    @classmethod
    def from_backbone(cls, backbone: Any, **kwargs: Any) -> ElasticConfigMixin:
        """An elastic configuration of the same network as `backbone`, a stock configuration or a model with one.

        Args:
            backbone: A configuration of the stock class, or a model that has it.
            **kwargs: Fields of this class, such as `widths` and `depths`.

        Raises:
            TypeError: If `backbone` is of another architecture, or the name of a field is misspelt.
        """
        config = getattr(backbone, "config", backbone)
        if not isinstance(config, cls.backbone_config_class):
            given = getattr(config, "model_type", None) or type(config).__name__
            raise TypeError(
                f"{cls.__name__} cannot be made from {given!r}; it needs {cls.backbone_config_class.model_type!r}. "
                + _SUPPORTED
            )
        for name in kwargs:
            near = get_close_matches(name, [field.name for field in fields(cls)], 1, 0.7)
            if near and near[0] != name and not hasattr(config, name):
                raise TypeError(f"{name} is no field. The nearest is {near[0]}; give that, or a size to set_active.")
        given = take_fields(kwargs)
        made = cls.from_dict({**_constructor_fields(config), **kwargs}, **given)
        made._attn_implementation_internal = config._attn_implementation_internal
        return made

    def to_backbone(self) -> PreTrainedConfig:
        """The stock configuration of the stored network.

        Raises:
            SubNetworkError: If heads are missing, layers differ, or a first layer that stock builds otherwise was cut,
                which a stock configuration cannot express.
        """
        stored = self.stored_layers
        neurons = {layer.neurons for layer in stored}
        if any(layer.heads != self.num_attention_heads for layer in stored) or len(neurons) != 1:
            raise SubNetworkError(
                "A stock configuration cannot express this network: every layer needs all "
                f"{self.num_attention_heads} heads and as many neurons as the others, but it has {list(stored)}. "
                "Only cuts in depth, or in neurons of all layers alike, become a stock model."
            )
        if self.anatomy.has_own_first_layer and stored[0].index != 0:
            raise SubNetworkError(
                f"A {self.backbone_config_class.__name__} cannot express this network: stock builds the first layer "
                f"otherwise than the rest, and this network begins with layer {stored[0].index}. Only cuts that keep "
                "layer 0 become a stock model; keep it (kept_layers), or use the elastic model as it is."
            )
        own = {each.name for each in fields(self)} - {each.name for each in fields(self.backbone_config_class)}
        values = {name: value for name, value in _constructor_fields(self).items() if name not in own}
        counts = {"num_hidden_layers": len(stored), "intermediate_size": neurons.pop()}
        values.update({self.attribute_map.get(name, name): count for name, count in counts.items()})
        if values.get("layer_types"):
            values["layer_types"] = [values["layer_types"][layer.index] for layer in stored]
        made = self.backbone_config_class(**values)
        made._attn_implementation_internal = self._attn_implementation_internal
        return made

    def extract(self, size: Size) -> ElasticConfigMixin:
        """A new configuration of the network that remains when only the layers of `size` are kept.

        Its counts stay those of the full-size network, its metrics those of the sizes that are left.

        Raises:
            SubNetworkError: If this network does not hold the size.
        """
        size = as_size(size)
        layers, name = self.resolve(size), size_name(size)
        made = copy.deepcopy(self)
        made.stored_shape = [asdict(layer) for layer in layers]
        made._record_active(size if isinstance(size, SubNetwork) else layers)
        metrics = (self.metrics or {}).get(name)
        made.extracted_from = {"parent": self.name_or_path or None, "size": name, "metrics": metrics}
        for field in ("metrics", "metric_rows"):
            told = (getattr(self, field) or {}).items()
            setattr(made, field, {key: own for key, own in told if key in REFERENCES or made.holds(key)} or None)
        return made

    def forget_measured(self) -> None:
        """Forget, in place, what was measured of weights that are about to change; quickly, as every pass asks."""
        vars(self).update(dict.fromkeys(_MEASURED))

    def _record_active(self, size: AnySize) -> None:
        """Remember the size in force, already checked; past the validation of every assignment, for speed."""
        shapes = None if isinstance(size, SubNetwork) else [dict(vars(layer)) for layer in size]
        width, depth = (size.width, size.depth) if isinstance(size, SubNetwork) else (1.0, 1.0)
        self.__dict__.update(active_width=width, active_depth=depth, active_layers=shapes)


def take_fields(arguments: dict[str, Any]) -> dict[str, Any]:
    """Take the elastic fields out of arguments, in place; a width or depth in force comes instead of layers."""
    taken = {each.name: arguments.pop(each.name) for each in fields(ElasticConfigMixin) if each.name in arguments}
    return {**({"active_layers": None} if {"active_width", "active_depth"} & taken.keys() else {}), **taken}


def _constructor_fields(config: PreTrainedConfig) -> dict[str, Any]:
    left_out = ("model_type", "transformers_version", "architectures", "auto_map")
    given = {name: value for name, value in copy.deepcopy(config.to_dict()).items() if name not in left_out}
    if not hasattr(config, "stored_layers"):  # a stock one: what it has under names of ours is the user's own
        take_fields(given)
    return given
