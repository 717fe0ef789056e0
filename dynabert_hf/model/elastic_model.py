"""What every elastic model can do: switch its size, share its weights, become a stand-alone or a stock model.

A class is elastic by inheriting `ElasticModelMixin` before a stock class. The methods live here and not in functions of
the package, so that they also work where only the files shipped with a checkpoint are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from .checkpoint import active_parts, check_finite, check_location, check_shapes, open_tensors
from .configuration import ElasticConfigMixin, take_fields
from .copies import new_model, pooler_of, shared_model
from .elastic import ActiveSizes, ElasticLayers
from .shipping import IS_COPY, PUSH_ARGUMENTS, prepare_upload, push, save_code, save_sentence_encoder
from .subnetwork import AnySize, LayerShape, Size, SubNetwork, SubNetworkError, as_size

if TYPE_CHECKING:  # the mixin always stands before a stock model class
    _Model = PreTrainedModel
else:
    _Model = object


class ElasticModelMixin(_Model):
    """One network that holds many sizes, of which one is active at a time.

    `set_active` switches between them; forward passes, gradients and attention then touch only the active part. The
    full size is bit-equal to the stock model.

    Forward and backward of one size belong inside one `with model.subnetwork(...)`: activation checkpointing runs the
    forward pass again during backward, at the size that is active then.
    """

    if TYPE_CHECKING:
        config: Any
        config_class: Any
        backbone_class: Any  # the stock class that a class makes elastic
        active_sizes: ActiveSizes
        elastic_base_class: type
        base_model: Any
        list_of_layers: ElasticLayers

    accepts_loss_kwargs = False  # the stock heads take **kwargs but do not divide by num_items_in_batch

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.backbone_class = cls.__mro__[cls.__mro__.index(ElasticModelMixin) + 1]

    def __init__(self, config: ElasticConfigMixin, *args: Any, only_active: bool = False, **kwargs: Any):
        if (fields := take_fields(kwargs)) or not isinstance(config, self.config_class):  # given beside a configuration
            config = self.config_class.from_backbone(config, **fields)
        config = copy.deepcopy(config)  # the active size is the model's own, never shared through a configuration
        _check_architecture(config)
        checkpointing = getattr(config, "gradient_checkpointing", False)  # an old switch that is read once and deleted
        self.config_in_files = config
        if only_active:
            config = config.extract(config.active)
        super().__init__(config, *args, **kwargs)
        if not hasattr(self, self.base_model_prefix):
            self.active_sizes = ActiveSizes(config)
            layers = ElasticLayers(self, self.active_sizes, config.anatomy)
            if config.stored_shape is None:  # else they stay stock linears until a smaller size is asked for
                layers.elastic_linears(range(len(layers.stored)))
        else:
            base = self.elastic_base_class(config, **pooler_of(getattr(self, self.base_model_prefix)))
            setattr(self, self.base_model_prefix, base)
            self.config = base.config
        if checkpointing:
            self.config.gradient_checkpointing = True
        if (config.extracted_from or {}).get("parent") == self.name_or_path:  # by which adapters find their model
            self.name_or_path = ""
        self.post_init()
        self._switch(config.active)

    @property
    def elastic_layers(self) -> ElasticLayers:
        """The list of layers: iterating gives the active ones, and its `stored` holds all of them."""
        if not isinstance(base := self.base_model, ElasticModelMixin):
            raise SubNetworkError(f"The base model is a {type(base).__name__} now, of one size. Make it elastic first.")
        return base.list_of_layers

    @property
    def active(self) -> AnySize:
        """The active size: a `SubNetwork`, or layer shapes if no width and depth describe it."""
        return self.elastic_layers.active.in_force

    @property
    def active_layers(self) -> tuple[LayerShape, ...]:
        """The active layers, with their heads and neurons."""
        return self.config.resolve(self.active)

    def set_active(
        self, size: Size | None = None, *, width: float | None = None, depth: float | None = None
    ) -> ElasticModelMixin:
        """Switch this model, in place, to a size, and return it.

        Args:
            size: A sub-network, its text, or the shapes of the layers to run; instead of `width` and `depth`.
            width: Width multiplier in (0, 1]; None keeps the active one, or 1 after layer shapes.
            depth: Depth multiplier in (0, 1]; None keeps the active one, or 1 after layer shapes.

        Raises:
            SubNetworkError: If the size cannot exist, or its weights are not all present. The active size stays.

        Example:
            >>> model.set_active(width=0.5, depth=0.75).active  # doctest: +SKIP
            SubNetwork(width=0.5, depth=0.75)
        """
        self._switch(self._requested(size, width, depth))
        return self

    def _requested(self, size: Size | None, width: float | None, depth: float | None) -> AnySize:
        """The one size that the three arguments of the public methods name."""
        if size is not None:
            if width is not None or depth is not None:
                raise SubNetworkError(f"Both {size} and width={width}, depth={depth} were given. Give one of them.")
            return as_size(size)
        if width is None and depth is None:
            return self.active
        old = self.active if isinstance(self.active, SubNetwork) else SubNetwork()
        return SubNetwork(old.width if width is None else width, old.depth if depth is None else depth)

    def _switch(self, size: AnySize) -> None:
        layers, active = self.elastic_layers, self.base_model.active_sizes
        prepared = active.prepared.get(size) or active.prepare(size, self.config.resolve(size))
        layers.check_place(self.base_model.get_submodule(self.config.anatomy.layers), prepared.positions)
        if not prepared.is_full_width:
            layers.elastic_linears(prepared.positions)
        active.switch(prepared, size)
        self.config._record_active(size)

    @contextmanager
    def subnetwork(
        self, size: Size | None = None, *, width: float | None = None, depth: float | None = None
    ) -> Iterator[ElasticModelMixin]:
        """Run at a size inside a `with` block; the size before is restored on exit, also after an error.

        Takes the arguments of `set_active` and raises what it raises.
        """
        before = self.active
        self.set_active(size, width=width, depth=depth)
        try:
            yield self
        finally:
            self._switch(before)

    def share(
        self, size: Size | None = None, *, width: float | None = None, depth: float | None = None
    ) -> ElasticModelMixin:
        """A new model of this class on the same parameters, with an active size of its own: nothing is copied.

        So several sizes serve at once, from several threads, with one copy of the weights in memory: one model for
        each size, and a forward pass changes none of them. In common they have what belongs to the weights: values,
        gradients, `requires_grad`, device and number format. Each has its own active size, configuration, attention
        implementation, `train()` or `eval()` mode, hooks, and modules that replace others, such as adapters. A copy or
        pickle of one has weights of its own. Call `resize_token_embeddings` and `rewire` before: they change only one
        configuration. So does training: the others still tell metrics and temperatures of the weights before.

        Takes the arguments of `set_active` and raises what it raises.
        """
        size = self._requested(size, width, depth)
        self.config.resolve(size)  # before the work of making a model
        return shared_model(self).set_active(size)

    @classmethod
    def from_backbone(cls, backbone: PreTrainedModel, **kwargs: Any) -> ElasticModelMixin:
        """A new elastic model with copies of the weights of a stock one of the same head, none of them frozen.

        Args:
            backbone: A stock model.
            **kwargs: Fields of the elastic configuration, such as `widths` and `depths`.

        Raises:
            TypeError: If `backbone` is not of the stock class that this class makes elastic, or runs otherwise.
        """
        return new_model(cls, cls.config_class.from_backbone(backbone, **kwargs), backbone)

    def extract(
        self, size: Size | None = None, *, width: float | None = None, depth: float | None = None
    ) -> ElasticModelMixin:
        """A new, stand-alone model of this class that holds copies of the weights of one size and nothing else.

        It runs at that size on stock linears, which `quantize_dynamic` and other tools know by their type, and is
        elastic below it: widths and depths mean the same sub-networks as in this model.
        Its configuration says in `extracted_from` where it came from; no weight is frozen. This model stays as it is.

        Takes the arguments of `set_active` and raises what it raises; on the meta device, without weights, ValueError.
        """
        config = self.config.extract(self._requested(size, width, depth))
        positions = {layer.index: position for position, layer in enumerate(self.config.stored_layers)}
        return new_model(type(self), config, self, [positions[layer.index] for layer in config.stored_layers])

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: Any, *args: Any, only_active: bool = False, **kwargs: Any
    ) -> Any:
        """Load as transformers does: from a folder or by Hub id, elastic or stock checkpoints.

        Args:
            pretrained_model_name_or_path: Folder or Hub id.
            *args: Passed on to transformers.
            only_active: Hold only the weights of the active size, as if the model had been loaded, switched and
                extracted, but without ever reading the rest: peak memory is that of the small model.
            **kwargs: Passed on to transformers, also fields of the configuration: `active_width`, `active_depth`.

        Raises:
            SubNetworkError: If the size is not in the checkpoint, or its configuration is impossible.
            RuntimeError: If its configuration does not fit its weights.
            OSError: If a weight file is broken, outside of the folder, or would run code when read.
        """
        if only_active and kwargs.get("state_dict") is not None:
            raise SubNetworkError(
                "only_active=True reads files in part, but state_dict was given. Load it whole and extract() the part."
            )
        kwargs |= {"only_active": True} if only_active else {}  # which a subclass with its own __init__ need not take
        wants_info, kwargs = kwargs.get("output_loading_info", False), {**kwargs, "output_loading_info": True}
        try:
            made: Any = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except SafetensorError as error:
            raise OSError(
                f"A weight file of {str(pretrained_model_name_or_path)!r} cannot be read: {error}. It may have been "
                "cut off while it was written or copied. Fetch it again, from the Hub with force_download=True."
            ) from error
        except UnpicklingError as error:
            raise OSError(
                f"The PyTorch weight file of {str(pretrained_model_name_or_path)!r} holds more than tensors, and "
                "reading it could run code. Only files of tensors are read; ask its authors for safetensors."
            ) from error
        others = [each for names in made[1].values() for each in names if not str(each).startswith("pooler.")]
        is_other = {each.__name__ for each in cls.__mro__}.isdisjoint(made[0].config.architectures or [cls.__name__])
        if others or is_other:  # of which nothing was measured
            made[0].config.forget_measured()
        return made if wants_info else made[0]

    @staticmethod
    def _load_pretrained_model(
        model: Any, state_dict: Any, checkpoint_files: Any, load_config: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Between finding the files and allocating memory for them: check them, and read only what is active.

        Only here does transformers know the files of a Hub id, revision, variant, subfolder or index of shards.
        """
        if (getattr(model, "_tp_size", None) or 1) > 1:
            raise SubNetworkError(
                "tp_plan splits weights over processes, and sizes need whole ones. Load without it, or a stock model."
            )
        of_encoder = checkpoint_files and state_dict is None and not args and not kwargs  # else of an adapter
        is_prequantised = (quantizer := load_config.hf_quantizer) is not None and quantizer.pre_quantized
        config, in_files = model.config, model.config_in_files
        if is_prequantised and in_files.stored_layers != config.stored_layers:
            raise SubNetworkError(
                "only_active=True cannot cut weights that were saved quantised. Load the whole model, or the part from "
                "a checkpoint that is not quantised."
            )
        if of_encoder and not is_prequantised:
            check_location(checkpoint_files, load_config.pretrained_model_name_or_path)
            tensors = list(open_tensors(checkpoint_files))
            if not load_config.ignore_mismatched_sizes:
                base = model.base_model
                if quantizer is not None or in_files.stored_layers != config.stored_layers:
                    with torch.device("meta"):
                        base = type(base)(in_files, **pooler_of(base))
                check_shapes(config, base, tensors)
            if in_files.stored_layers != config.stored_layers:
                state_dict = active_parts(config, tensors, stored=in_files.stored_layers, kept=config.stored_layers)
                checkpoint_files = None  # weights that go to disk would be read from there, under other names
        info = PreTrainedModel._load_pretrained_model(model, state_dict, checkpoint_files, load_config, *args, **kwargs)
        if kwargs:  # of an adapter
            model.elastic_layers.heed_weights(info[0].unexpected_keys, f"{config.anatomy.layers}.")
        if quantizer is None:
            check_finite(model)
        return info

    def to_backbone(self) -> PreTrainedModel:
        """A new stock model with copies of all stored weights.

        Raises:
            SubNetworkError: If heads or ModernBERT's layer 0 were cut, or layers differ: no stock model expresses that.
            TypeError: If this model is of a subclass with a forward pass of its own, which would be lost.
        """
        return new_model(self.backbone_class, self.config.to_backbone(), self)

    def save_pretrained(
        self,
        save_directory: Any,
        is_main_process: bool = True,
        *args: Any,
        save_original_format: bool = False,
        with_code: bool = False,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save as transformers does, with current parameter names even if the model was loaded with older ones.

        Checkpoints that call LayerNorm's weights `gamma` and `beta` would otherwise be saved so again, and resuming
        from them would leave those weights out. A sentence encoder is saved as `SentenceTransformer` loads it.

        Args:
            save_directory: Folder to save to.
            is_main_process: Whether this process writes what is not a weight.
            *args: Passed on to transformers.
            save_original_format: Whether to keep the parameter names of the file that the model came from.
            with_code: Also save the code, see `save_code`. Always done where the model itself runs from such code,
                and when pushing to the Hub.
            push_to_hub: Push afterwards; `push_to_hub` says by which further arguments.
            **kwargs: Passed on to transformers.
        """
        wanted = {name: kwargs.pop(name) for name in list(kwargs) if name in PUSH_ARGUMENTS} if push_to_hub else {}
        kwargs = {"max_shard_size": "50GB", "save_original_format": save_original_format, **kwargs}
        if self.config.anatomy.skips_padding_positions:  # where positions begin, whatever a trainer wrote there
            self.config.pad_token_id = self.base_model.embeddings.padding_idx
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)
        if is_main_process and (Path(save_directory) / "config.json").exists():  # of an adapter, that alone is saved
            if with_code or IS_COPY or push_to_hub:
                self.save_code(save_directory)
            save_sentence_encoder(self, save_directory)
        if push_to_hub and is_main_process:
            to = {"repo_id": Path(save_directory).name, "max_shard_size": kwargs["max_shard_size"], **wanted}
            self.push_to_hub(**to)

    def save_code(self, folder: Any) -> None:
        """Put the code of the family beside a model saved in `folder`, and name it in its configuration.

        The Auto classes then load every head from there with `trust_remote_code=True`, where this package is not
        installed. Where it is, its own classes win and the copies stay unread.
        """
        save_code(type(self.base_model), folder)

    def prepare_upload(self, folder: Any) -> None:
        """Prepare a saved model for the Hub: add its code, and remove the local path of its parent."""
        prepare_upload(type(self.base_model), folder)

    def push_to_hub(self, repo_id: str, *, max_shard_size: int | str = "50GB", **kwargs: Any) -> Any:  # type: ignore[override]
        """Save with the code, and push that to the Hub, into a repository that is made if it does not exist.

        Takes the arguments of transformers that `shipping.push` names, and raises what it raises.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, max_shard_size=max_shard_size)
            if (Path(folder) / "config.json").exists():
                self.prepare_upload(folder)
            return push(folder, repo_id, **{"tags": self.model_tags, **kwargs})


def _check_architecture(config: ElasticConfigMixin) -> None:
    if config.hidden_size % config.num_attention_heads:
        possible = [n for n in range(1, config.hidden_size + 1) if config.hidden_size % n == 0]
        raise SubNetworkError(
            f"num_attention_heads={config.num_attention_heads} does not divide hidden_size={config.hidden_size}. "
            f"Possible numbers of heads are {possible}; change one of the two."
        )
    if getattr(config, "is_decoder", False) or getattr(config, "add_cross_attention", False):
        raise SubNetworkError("is_decoder or add_cross_attention is set. Elastic models are encoders only; unset both.")
