"""What the command line names: a model, its tokenizer, labelled text and sizes, loaded or refused."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.class_names import check_label_order
from ..data.labelled_sentences import LabelledSentences
from ..data.labelled_text import LabelledText
from ..data.reading import load_tokenizer
from ..data.sentence_encoder import heed_files
from ..families import elastic_classes, parsed_sizes, read_config, sizes_of, supported_types
from ..files import check_writable_file
from ..hub.card import check_refreshable
from ..hub.facts import is_hub_id
from ..hub.push import has_weights
from ..model.configuration import REFERENCES, ElasticConfigMixin
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import SubNetworkError, parse_size
from ..onnx.session import INDEX
from ..sizes.named_metrics import named_metrics
from ..tasks import is_sentence_encoder, task_of


@contextmanager
def refused_by_name(name: str, *errors: type[Exception]) -> Iterator[None]:
    """Inside, what is wrong with the folder or Hub id of a model is told with its name, in place of long advice."""
    try:
        yield
    except errors as error:
        first = str(error).splitlines()[0].partition(" Give ")[0].rstrip(".")
        if not Path(name).exists() and not is_hub_id(name):
            first = "there is no such folder"
        elif not Path(name).exists() and "/" in name and Path(name).parent.is_dir():  # either may be meant
            first = f"there is no such folder, and on the Hub: {first}"
        possible = "Give a folder that save_pretrained or train_dynabert wrote, or a Hub id."
        raise OSError(f"{name!r} holds no model: {first}. {possible}") from error


def config_of(name: str) -> Any:
    """The configuration of a folder or Hub id, which an error names."""
    with refused_by_name(name, OSError, ValueError):
        return read_config(name)


def _config(name: str) -> Any:
    """The elastic configuration of a folder or Hub id."""
    config = config_of(name)
    if not isinstance(config, ElasticConfigMixin):
        types = supported_types()
        possible = f"one can be made of these types: {', '.join(types)}"
        raise ValueError(
            f"{name!r} holds a model of type {config.model_type!r}, which has one size only. Give an elastic model; "
            f"{'train_dynabert makes one of it' if config.model_type in types else possible}."
        )
    return config


def _class(config: Any) -> Any:
    """The class that a checkpoint was saved from."""
    known = {each.__name__: each for each in elastic_classes()}
    name = (config.architectures or ["none"])[0]
    if name not in known:
        raise ValueError(f"The configuration names the class {name!r}. Possible is one of this package; save again.")
    return known[name]


def load_shell(name: str) -> ElasticModelMixin:
    """The model without its weights: enough to count, and to tell what is stored of its sizes."""
    config = _config(name)
    _check_measured(name, config)
    with torch.device("meta"):
        return _class(config)(config)


def _check_measured(name: str, config: Any) -> None:
    """Check that all metrics that a model stores are of sizes that it holds."""
    for size in (config.metrics or {}).keys() - set(REFERENCES):
        try:
            config.resolve(parse_size(size))
        except SubNetworkError as error:
            raise ValueError(
                f"The config.json of {name!r} stores metrics of {size!r}, which is no size of its model: {error} "
                "Remove them there."
            ) from error


def load_model(name: str) -> Any:
    model_class = _class(_config(name))
    if Path(name, INDEX).is_file() and not has_weights(name):
        raise ValueError(
            f"{name!r} is an ONNX export, which has no weights for torch. Give the model that it was made of; the "
            "export itself runs by load_onnx in Python."
        )
    model = model_class.from_pretrained(name).eval()
    heed_files(model, name)
    return model


def load_with_head(auto_class: Any, name: str, wanted: str, **kwargs: Any) -> Any:
    """A model of a class whose head the checkpoint holds; one that lacks it, so that it would be random, is refused."""
    with refused_by_name(name, OSError):
        model, about = auto_class.from_pretrained(name, output_loading_info=True, **kwargs)
    if about["missing_keys"]:
        missing = ", ".join(sorted(about["missing_keys"])[:3])
        raise ValueError(f"{name!r} is no {wanted}: {missing} would be random. Give one that is.")
    return model


def needed_tokenizer(name: str) -> Any:
    tokenizer = load_tokenizer(name)
    if tokenizer is None:
        raise ValueError(f"{name!r} has no tokenizer. Save the one that it was trained with beside it.")
    return tokenizer


def read_at_once(model: Any) -> str:
    """What the rows of `tokenised_texts` are: of questions and of masked words a long text makes several."""
    task = task_of(model)
    return "windows" if task.predicts == "span" else "parts" if task.head == "ForMaskedLM" else "texts"


def fastest_device() -> Any:
    """An accelerator, if there is one."""
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"


def labelled_text(arguments: Namespace, model: ElasticModelMixin) -> LabelledText | LabelledSentences:
    given = {
        "text_columns": arguments.text_column,
        "label_column": arguments.label_column,
        "batch_size": arguments.eval_batch_size,
    }
    tokenizer = needed_tokenizer(arguments.model)
    text: Any
    if is_sentence_encoder(model):
        check_label_order(arguments.label_order, model)
        text = LabelledSentences.from_file(arguments.file, model, tokenizer, **given)
    else:
        text = LabelledText.from_file(arguments.file, model, tokenizer, label_order=arguments.label_order, **given)
    return text if not arguments.metrics else replace(text, metrics=named_metrics(text.metrics, arguments.metrics))


def stored_config(arguments: Namespace) -> Path:
    """The config.json of the folder of a model, in which something is to be stored."""
    path = Path(arguments.model, "config.json")
    if not path.is_file():
        raise ValueError(f"--store needs the folder of a model; {arguments.model!r} is none. Download it first.")
    check_writable_file(path)
    check_refreshable(arguments.model)
    _check_measured(arguments.model, _config(arguments.model))
    return path


def named_sizes(arguments: Namespace, model: ElasticModelMixin) -> list[Any]:
    """The sizes that were named, each once, checked before anything is run; else all."""
    return list(parsed_sizes(arguments.sizes, model.config) if arguments.sizes else sizes_of(model))
