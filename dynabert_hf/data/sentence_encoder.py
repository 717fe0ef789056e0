"""Sentence encoders as sentence-transformers saves them: found by folder, Hub id or in memory, checked, and read.

What is read is the encoder itself and, in its configuration, the files beside it; saving an elastic model writes them
again. The package sentence-transformers is not needed for that.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoTokenizer, PreTrainedModel

from ..families import ModelTypeError, elastic_classes, read_config, supported_types
from ..messages import get_logger
from ..task_metrics import encoder_file
from ..tasks import is_sentence_encoder
from .masking import drawn_by
from .pooling import POOLING_FILE, POOLINGS, module_kind, pooling_mode

logger = get_logger(__name__)

MODULES = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
"""The chains of modules that sizes keep."""

SETTINGS = [
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
]
"""What the file of an encoder that says how it reads may be called; all but the first are of old releases."""

OWN_READING = ("processing_kwargs", "query_length", "document_length", "query_expansion")
"""Settings by which an encoder reads texts in a way of its own."""


@dataclass(frozen=True)
class SentenceEncoder:
    """A sentence encoder.

    Args:
        model: The encoder, stock or elastic, with the files of sentence-transformers in its configuration.
        tokenizer: Its tokenizer, which knows how many tokens the encoder reads.
    """

    model: PreTrainedModel
    tokenizer: Any

    @classmethod
    def of(cls, given: Any, **download: Any) -> SentenceEncoder | None:
        """The sentence encoder that was given or named; None if it is another kind of model.

        So is a model alone that sentence-transformers saved, without a module that pools: a `CrossEncoder`.

        Args:
            given: A `SentenceTransformer`, which stays as it is, or its folder or Hub id.
            **download: How files of a Hub id are fetched: `revision`, `token` and `cache_dir`.

        Raises:
            ValueError: If its modules, its pooling or its dimensions are none that the sizes keep.
            TypeError: If the family of its encoder is not supported.
            OSError: If the Hub cannot be asked which files there are.
        """
        if _is_sentence_transformer(given):
            return cls._of_instance(given)
        if isinstance(given, str | Path):
            modules = _modules_of_folder(str(given), **download)
            return cls._of_folder(str(given), modules, **download) if modules else None
        return None

    @classmethod
    def _of_folder(cls, name: str, modules: list[dict[str, Any]], **download: Any) -> SentenceEncoder:
        place = modules[0]["path"]
        config = read_config(name, subfolder=place, **download)
        files = _files_of_folder(name, modules, config, **download)
        model_class = _encoder_class(config)
        with drawn_by(0):  # a pooler that is not in the file has weights that nobody asks for
            model = model_class.from_pretrained(name, subfolder=place, dtype=torch.float32, **download)
        tokenizer = AutoTokenizer.from_pretrained(name, subfolder=place, **download)
        if longest := files["sentence_bert_config.json"]["max_seq_length"]:
            tokenizer.model_max_length = longest
        model.config.sentence_encoder = files
        return cls(model.eval(), tokenizer)

    @classmethod
    def _of_instance(cls, given: Any) -> SentenceEncoder:
        modules = list(given)
        kinds = [type(module).__name__ for module in modules]
        name = f"The {type(given).__name__}"
        _check_modules(name, kinds)
        encoder, lowers = modules[0].auto_model, getattr(modules[0], "do_lower_case", False)
        settings = {**modules[0].get_config_dict(), "max_seq_length": given.max_seq_length, "do_lower_case": lowers}
        _encoder_class(encoder.config)
        about = {
            "prompts": dict(given.prompts or {}),
            "default_prompt_name": given.default_prompt_name,
            "similarity_fn_name": getattr(given.similarity_fn_name, "value", given.similarity_fn_name),
            "truncate_dim": given.truncate_dim,
        }
        pooling = modules[1].get_config_dict()
        files = _files(name, pooling, settings, about, num_modules=len(modules), hidden_size=encoder.config.hidden_size)
        model = copy.deepcopy(encoder).cpu()
        model.config.sentence_encoder = files
        return cls(model.eval(), copy.deepcopy(given.tokenizer))


def heed_files(model: PreTrainedModel, name: str | Path) -> None:
    """Let a sentence encoder, in place, pool and read as the files beside it say, which others may have written.

    Args:
        model: The model, with any head.
        name: The folder or Hub id that it was loaded from.

    Raises:
        ValueError: If its modules, its pooling or its dimensions are none that the sizes keep.
        OSError: If the Hub cannot be asked which files there are.
    """
    modules = _modules_of_folder(str(name)) if is_sentence_encoder(model) else []
    if modules:
        model.config.sentence_encoder = _files_of_folder(str(name), modules, model.config)


def _modules_of_folder(name: str, **download: Any) -> list[dict[str, Any]]:
    """The modules of the sentence encoder in a folder or on the Hub, if they are possible; none of another model."""
    modules = _read_json(name, "modules.json", **download) or []
    if len(modules) < 2:  # without one that pools
        if modules:
            _warn_of_prompt(name, **download)
        return []
    _check_modules(name, list(map(module_kind, modules)))
    return modules


def _warn_of_prompt(name: str, **download: Any) -> None:
    """Say so where a `CrossEncoder` puts a prompt before its texts, which the classifier that it is does not do."""
    about = _read_json(name, "config_sentence_transformers.json", **download) or {}
    prompt = (about.get("prompts") or {}).get(about.get("default_prompt_name"))
    if prompt:
        logger.warning(
            f"The CrossEncoder in {name!r} puts {prompt!r} before the first text of each pair (default_prompt_name). "
            "Here it is read as a classifier, which gets texts as they are. Put the prompt before these texts yourself."
        )


def _files_of_folder(name: str, modules: list[dict[str, Any]], config: Any, **download: Any) -> dict[str, Any]:
    """What the files of a folder or Hub id say of a sentence encoder with this configuration."""
    place, pooling = modules[0]["path"], _read_json(name, f"{modules[1]['path']}/config.json", **download)
    if pooling is None:
        raise ValueError(f"{name!r} has no {modules[1]['path']}/config.json, which says how it pools. Save it again.")
    read = (_read_json(name, f"{place}/{file}".lstrip("/"), **download) for file in SETTINGS)
    settings: dict[str, Any] = next(filter(None, read), {})
    about = _read_json(name, "config_sentence_transformers.json", **download) or {}
    return _files(name, pooling, settings, about, num_modules=len(modules), hidden_size=config.hidden_size)


def prompt_of(config: Any) -> str:
    """What a sentence encoder with this configuration puts before every text; mostly nothing."""
    about = encoder_file(config, "config_sentence_transformers.json")
    return (about.get("prompts") or {}).get(about.get("default_prompt_name")) or ""


def as_encoder_reads(config: Any, text: str, prompt: str) -> str:
    """What a sentence encoder with this configuration is given of a text behind a prompt."""
    is_lowered = encoder_file(config, "sentence_bert_config.json").get("do_lower_case")  # whatever its tokenizer does
    return (prompt + text).lower() if is_lowered else prompt + text


def behind_all_prompts(config: Any, texts: Sequence[Any]) -> list[Any]:
    """Texts in all ways that a sentence encoder with this configuration may read them; words of texts stay as they are.

    That is alone and behind each of its prompts, whichever is put before a text by default.
    """
    prompts = encoder_file(config, "config_sentence_transformers.json").get("prompts") or {}
    return [
        as_encoder_reads(config, text, prompt) if isinstance(text, str) else text
        for prompt in dict.fromkeys(["", *prompts.values()])
        for text in texts
    ]


def _is_sentence_transformer(given: Any) -> bool:
    """Whether this is a `SentenceTransformer`, asked without importing its package."""
    return any(
        each.__name__ == "SentenceTransformer" and each.__module__.startswith("sentence_transformers.")
        for each in type(given).__mro__
    )


def _check_modules(name: str, kinds: list[str]) -> None:
    if kinds not in MODULES:
        chains = " or ".join(", ".join(chain) for chain in MODULES)
        raise ValueError(
            f"{name} has the modules {', '.join(kinds)}. Possible are {chains}, since all sizes share what follows the "
            "encoder. Give an encoder without the others: SentenceTransformer(modules=[encoder[0], ...]) keeps some."
        )


def _files(
    name: str,
    pooling: Mapping[str, Any],
    settings: Mapping[str, Any],
    about: Mapping[str, Any],
    *,
    num_modules: int,
    hidden_size: int,
) -> dict[str, Any]:
    """The files that every release of sentence-transformers reads, once what they say is possible."""
    dimension = pooling.get("embedding_dimension", pooling.get("word_embedding_dimension"))
    if dimension != hidden_size:
        raise ValueError(
            f"{name} pools vectors of {dimension} numbers, and its encoder gives {hidden_size}. Both have to be "
            "equal. Save the encoder again together with its pooling."
        )
    if pooling.get("include_prompt", True) is False:
        raise ValueError(
            f"{name} leaves prompts out of its pooling (include_prompt=False). The sizes pool all tokens of a text. "
            "Give an encoder that does so, too."
        )
    _check_settings(name, settings)
    mode = pooling_mode(pooling)
    if mode not in POOLINGS:
        raise ValueError(
            f"{name} pools by {mode!r}. Possible is one of {', '.join(POOLINGS)}, which the sizes keep. Give an "
            "encoder with one of these."
        )
    chain = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")][:num_modules]
    return {
        "modules.json": [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for number, (path, kind) in enumerate(chain)
        ],
        POOLING_FILE: {
            "word_embedding_dimension": hidden_size,
            **{older: each == mode for each, older in POOLINGS.items()},
        },
        "sentence_bert_config.json": {
            "max_seq_length": settings.get("max_seq_length"),
            "do_lower_case": bool(settings.get("do_lower_case", False)),
        },
        "config_sentence_transformers.json": {key: value for key, value in about.items() if key != "__version__"},
    }


def _check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse what no size keeps: all read every text alike, as their tokenizer does, and pool their last states."""
    own = [each for each in OWN_READING if settings.get(each)]
    text = (settings.get("modality_config") or {}).get("text") or {}
    if text.get("method_output_name", "last_hidden_state") != "last_hidden_state":
        own.append("modality_config")
    if own:
        raise ValueError(
            f"{name} has {' and '.join(own)} of its own. The sizes read all texts alike, as the tokenizer does up to "
            "max_seq_length, and pool the last hidden states. Give an encoder that was loaded without these."
        )


def _encoder_class(config: Any) -> Any:
    """The class of the encoder alone of a stock or elastic configuration."""
    for elastic_class in elastic_classes():
        if not elastic_class.__name__.endswith("Model"):
            continue
        for each in (elastic_class, elastic_class.backbone_class):
            if type(config) is each.config_class:
                return each
    raise ModelTypeError(
        f"The encoder is of type {config.model_type!r}. Possible are {', '.join(supported_types())}. Give a sentence "
        "encoder of one of these families."
    )


def _read_json(name: Any, file: str, **download: Any) -> Any:
    """The content of a file of a folder or Hub id; None if there is none."""
    path = Path(name, file) if Path(name).is_dir() else _fetched(str(name), file, **download)
    if path is None or not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} of {str(name)!r} is no JSON: {error}. Save or fetch the encoder again.") from error


def _fetched(name: str, file: str, **download: Any) -> Path | None:
    """Where a file of a Hub id lies; None if it has none, or if what is in the cache has to do (`HF_HUB_OFFLINE=1`).

    Raises:
        OSError: If the Hub did not say whether there is one.
    """
    try:
        return Path(hf_hub_download(name, file, **download))
    except LocalEntryNotFoundError as error:  # nobody could be asked
        place = {key: value for key, value in download.items() if key in ("revision", "cache_dir")}
        if is_offline_mode() or try_to_load_from_cache(name, file, **place) is not None:  # noted there as missing
            return None
        raise OSError(
            f"The Hub did not say whether {name!r} has a {file}, by which a sentence encoder reads and pools. Try "
            "again when it can be reached, or set HF_HUB_OFFLINE=1 to go by the files that are in the cache."
        ) from error
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        return None
