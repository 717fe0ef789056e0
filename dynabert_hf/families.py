"""The families of encoders that can be made elastic: the one look-up from a stock class to its elastic class."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForPreTraining,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from .model import (
    modeling_dynabert,
    modeling_dynacamembert,
    modeling_dynadebertav2,
    modeling_dynadistilbert,
    modeling_dynaelectra,
    modeling_dynaeurobert,
    modeling_dynamodernbert,
    modeling_dynampnet,
    modeling_dynanomicbert,
    modeling_dynaroberta,
    modeling_dynaxlmroberta,
)
from .model.anatomy import Anatomy
from .model.configuration import ElasticConfigMixin
from .model.elastic_model import ElasticModelMixin
from .model.subnetwork import AnySize, LayerShape, Size, SubNetwork, SubNetworkError, as_size, size_name


class ModelTypeError(TypeError):
    """A model of a kind that cannot do what was asked: that is a caller's choice, also where a file holds it."""


ANY_LENGTH = sys.maxsize
"""More tokens than any text has."""

FAMILIES = {
    "BERT": modeling_dynabert,
    "RoBERTa": modeling_dynaroberta,
    "XLM-RoBERTa": modeling_dynaxlmroberta,
    "CamemBERT": modeling_dynacamembert,
    "ELECTRA": modeling_dynaelectra,
    "DistilBERT": modeling_dynadistilbert,
    "MPNet": modeling_dynampnet,
    "DeBERTa-v2": modeling_dynadebertav2,
    "ModernBERT": modeling_dynamodernbert,
    "NomicBERT": modeling_dynanomicbert,
    "EuroBERT": modeling_dynaeurobert,
}
"""For each family, by its name for people, the module with its configuration, its base model and its heads."""


def elastic_classes() -> Iterator[Any]:
    """Every elastic class, family by family: the base model, then the heads."""
    for module in FAMILIES.values():
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, ElasticModelMixin) and value.__name__.startswith("Dyna"):
                yield value


def stock_classes() -> list[Any]:
    """Every class of transformers that can be made elastic, in the same order."""
    return [each.backbone_class for each in elastic_classes()]


def elastic_names() -> list[str]:
    """The names of all elastic classes, which those of the code beside a checkpoint have, too."""
    return [each.__name__ for each in elastic_classes()]


AUTO_CLASSES: dict[Any, tuple[Any, ...]] = {
    auto_class: tuple(each for each in elastic_classes() if each.__name__.endswith(suffix))
    for suffix, auto_class in (
        ("Model", AutoModel),
        ("ForMaskedLM", AutoModelForMaskedLM),
        ("ForMultipleChoice", AutoModelForMultipleChoice),
        ("ForPreTraining", AutoModelForPreTraining),
        ("ForQuestionAnswering", AutoModelForQuestionAnswering),
        ("ForSequenceClassification", AutoModelForSequenceClassification),
        ("ForTokenClassification", AutoModelForTokenClassification),
    )
}
"""For each Auto class the elastic classes that it loads."""


def elastic_class_of(model: PreTrainedModel | type[PreTrainedModel]) -> Any:
    """The class that makes a model of this class elastic; of an elastic model its own.

    Raises:
        TypeError: If its family or its head is not supported.
    """
    wanted = model if isinstance(model, type) else type(model)
    if issubclass(wanted, ElasticModelMixin):
        return wanted
    for elastic_class in elastic_classes():
        if elastic_class.backbone_class is wanted:
            return elastic_class
    config_class = getattr(wanted, "config_class", None)
    heads = [each.__name__ for each in stock_classes() if each.config_class is config_class]
    possible = heads or supported_types()
    kind = "Of this family these are" if heads else "Supported types are"
    raise ModelTypeError(f"A {wanted.__name__} cannot be made elastic. {kind} {', '.join(possible)}; use one of them.")


def has_own_forward(model: ElasticModelMixin | type[ElasticModelMixin]) -> bool:
    """Whether a subclass of an elastic class has a forward pass of its own, in place of the stock one."""
    model_class = model if isinstance(model, type) else type(model)
    return model_class.forward is not model_class.backbone_class.forward


def check_elastic(model: Any) -> None:
    """Whether this is a model with sizes, itself or within a wrapper.

    Raises:
        ModelTypeError: If it is not.
    """
    if not isinstance(getattr(model, "config", None), ElasticConfigMixin):
        raise not_elastic(type(model))


def not_elastic(model_class: type) -> ModelTypeError:
    """The error that refuses a model of a class that is not elastic, or not of this package."""
    name = model_class.__name__
    if name in elastic_names():
        return ModelTypeError(
            f"The model is a {name} of the code beside its weights, as trust_remote_code=True loads it where "
            "dynabert_hf was not imported before. Import dynabert_hf first, and load the model again."
        )
    return ModelTypeError(
        f"The model is a {name}, which has one size only. Possible are elastic models: load one by from_pretrained, or "
        "make one of a stock model by from_backbone, of the Dyna... class of its family and head."
    )


def sizes_of(model: ElasticModelMixin) -> tuple[AnySize, ...]:
    """The sizes that a model was trained for, from small to large, and the one that it was extracted at."""
    config, cut = model.config, model.config.extracted_from
    return tuple(with_others(config.subnetworks, [cut["size"]] if cut else [], config))


def with_others(sizes: Iterable[AnySize], others: Iterable[Size], config: Any) -> list[AnySize]:
    """Sizes, and others where they belong among them, each once and from small to large."""
    known = list(sizes)
    new = [size for size in dict.fromkeys(map(as_size, others)) if size not in known]
    return sorted([*known, *new], key=config.share_of) if new else known


def parsed_sizes(sizes: Iterable[Size], config: Any, *, once: bool = True) -> tuple[AnySize, ...]:
    """The sizes that were given for a model with this configuration, in their order, each once or as often as given.

    Raises:
        SubNetworkError: If one is not possible, or there is none.
    """
    is_list = isinstance(sizes, Iterable) and not isinstance(sizes, str | SubNetwork | LayerShape)
    listed = list(sizes) if is_list else []  # an array has no truth of its own
    if not listed:
        raise SubNetworkError(
            f"sizes={sizes!r} is no list of sizes. Possible are lists such as {[size_name(config.active)]}. Give at "
            "least one size."
        )
    parsed = tuple(map(as_size, listed))
    for size in parsed:
        config.resolve(size)
    return tuple(dict.fromkeys(parsed)) if once else parsed


def family_name(class_name: str) -> str:
    """What people call the family of an elastic class, such as `"XLM-RoBERTa"` of `"DynaXLMRobertaModel"`.

    Raises:
        ValueError: If no elastic class has this name.
    """
    for family, module in FAMILIES.items():
        if class_name.startswith("Dyna") and hasattr(module, class_name):
            return family
    known = ", ".join(elastic_names())
    raise ValueError(f"{class_name!r} is no elastic class. Possible are {known}; give one of these names.")


def elastic_class_name(model: ElasticModelMixin) -> str:
    """Name of the class of the package that a model is of, also for a subclass of it with another name."""
    return f"Dyna{model.backbone_class.__name__}"


def supported_types() -> list[str]:
    """The stock model types that can be made elastic, as `config.json` names them."""
    return list(dict.fromkeys(each.config_class.backbone_config_class.model_type for each in elastic_classes()))


def check_model_folder(folder: Path) -> None:
    """Check that a folder has a configuration.

    Raises:
        FileNotFoundError: If it has none.
    """
    if (folder / "config.json").is_file():
        return
    advice = "Give a folder that save_pretrained or train_dynabert wrote"
    if (folder / "adapter_config.json").is_file():
        advice = (
            "It holds an adapter alone: load it with the model that it was trained on, and give what "
            "merge_and_unload() returns, or the folder where you save that"
        )
    raise FileNotFoundError(f"{str(folder)!r} has no config.json, so it is not the folder of a model. {advice}.")


def read_config(name: Any, **kwargs: Any) -> PreTrainedConfig:
    """The configuration of a folder or Hub id, stock or elastic; takes what `AutoConfig.from_pretrained` takes.

    Raises:
        FileNotFoundError: If it is a folder without a configuration.
        ValueError: If it does not say of which type the model is.
    """
    folder = Path(name, kwargs.get("subfolder") or "")
    if folder.is_dir():
        check_model_folder(folder)
    try:
        return AutoConfig.from_pretrained(name, **kwargs)
    except ValueError as error:
        if "model_type" not in str(error):
            raise
        raise ValueError(f"{str(name)!r} does not say of which type its model is. {how_to_load(name)}") from error


def how_to_load(name: Any, model_type: str = "bert") -> str:
    """What to do with a checkpoint that does not say what it is, beside perhaps its type."""
    usual = (each for each in elastic_classes() if each.__name__.endswith("ForSequenceClassification"))
    of_type = (each.__name__ for each in usual if each.config_class.backbone_config_class.model_type == model_type)
    return (
        "So are those of DynaBERT's authors: load it by "
        f"{next(of_type, 'DynaBertForSequenceClassification')}.from_pretrained({str(name)!r}), or by the elastic class "
        "that fits, and give that model, or save it and give the folder."
    )


def anatomy_of(model: PreTrainedModel | PreTrainedConfig) -> Anatomy:
    """What a layer of an elastic or stock model, or of one with this configuration, is made of.

    Raises:
        TypeError: If its family is not supported.
    """
    config: Any = getattr(model, "config", model)
    is_plain = isinstance(model, PreTrainedModel | PreTrainedConfig)  # and not one with adapters around it
    if is_plain and hasattr(config, "anatomy"):
        return config.anatomy
    for each in elastic_classes():
        if is_plain and type(config) is each.config_class.backbone_config_class:
            return each.config_class.anatomy
    raise ModelTypeError(
        f"A {type(model).__name__} is neither an elastic model nor a stock one that can be made elastic. Supported "
        f"types are {', '.join(supported_types())}. Give a model of one of them; of a model with adapters that is what "
        "merge_and_unload() returns."
    )


def longest_input(config: Any) -> int:
    """The most tokens that fit into an elastic or stock model with this configuration; `ANY_LENGTH` where all do.

    DeBERTa-v3 knows relative positions alone, and takes all beyond a distance for the same one.
    """
    if not getattr(config, "position_biased_input", True):
        return ANY_LENGTH
    unused = (config.pad_token_id or 0) + 1 if anatomy_of(config).skips_padding_positions else 0
    return config.max_position_embeddings - unused


def usual_input(config: Any, tokenizer: Any) -> int:
    """As many tokens of a text as such a model and its tokenizer take, or the model was made for if both take all."""
    longest = min(longest_input(config), tokenizer.model_max_length)
    return longest if longest < ANY_LENGTH else config.max_position_embeddings
