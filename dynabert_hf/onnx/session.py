"""Run what `export_onnx` wrote, in ONNX Runtime. Needs the extra `onnx`."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig

from ..data.reading import load_tokenizer
from ..families import usual_input
from ..messages import require
from ..model.subnetwork import Size, as_size, size_name
from ..tasks import answers_of

INDEX = "index.json"
"""The table of contents of an export."""

LIMITS = ("longest_input", "vocab_size", "type_vocab_size")
"""What a graph says of itself, so that inputs beyond it are refused by name."""

_SIZES = {"input_ids": "vocab_size", "token_type_ids": "type_vocab_size"}
_CHANGE_OUTPUTS = ("token_type_ids", "position_ids", "inputs_embeds", "encoder_hidden_states", "past_key_values")


class OnnxModel:
    """A size in ONNX Runtime on the CPU: call it as the torch model, get arrays by name."""

    def __init__(self, path: str | os.PathLike, *, num_threads: int | None = None):
        require("ONNX", "onnxruntime", extra="onnx")
        import onnxruntime

        self.path = Path(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        self.session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
        self.input_names = [value.name for value in self.session.get_inputs()]
        self.output_names = [value.name for value in self.session.get_outputs()]
        self._axes = len(self.session.get_inputs()[0].shape)
        limits = self.session.get_modelmeta().custom_metadata_map
        self._limits = {name: int(limits[name]) for name in LIMITS if name in limits}

    def __call__(self, *ordered: Any, **named: Any) -> dict[str, np.ndarray]:
        """Outputs by name.

        Args:
            *ordered: Inputs in the order of `input_names`, as the torch model takes them: `input_ids`, then the others.
            **named: Inputs by name: arrays, tensors or lists of whole numbers, `(batch, seq)`, with a choice axis
                between for multiple choice. Without `attention_mask` every token counts, without `token_type_ids` all
                are 0. What neither the graph nor the torch model computes with, such as labels, is passed over.

        Raises:
            ValueError: If `input_ids` is missing, a name is misspelt or of an input that the graph does not have, or
                values are not whole numbers, of another shape, or beyond what the model knows.
        """
        by_order = dict(zip(self.input_names, ordered, strict=False))
        if len(by_order) < len(ordered) or by_order.keys() & named.keys():
            raise ValueError(
                f"{len(ordered)} inputs without a name and {sorted(named)} were given. Possible are, in this order, "
                f"{self.input_names}; give each once."
            )
        given = {name: value for name, value in {**by_order, **named}.items() if value is not None}
        if "input_ids" not in given:
            raise ValueError(
                f"The inputs {sorted(given)} do not contain 'input_ids'. Possible are {self.input_names}; give at "
                "least input_ids."
            )
        self._check_names(given)
        input_ids = _whole_numbers("input_ids", given["input_ids"])
        self._check_ids(input_ids)
        self._check_range("input_ids", input_ids)
        arrays = {"input_ids": input_ids}
        for name in self.input_names[1:]:
            if name in given:
                arrays[name] = _whole_numbers(name, given[name])
                if arrays[name].shape != input_ids.shape:
                    raise ValueError(
                        f"{name} has shape {arrays[name].shape}, and input_ids has {input_ids.shape}. Only "
                        "equal shapes are possible; give what one call of the tokenizer returned."
                    )
                self._check_range(name, arrays[name])
            else:
                arrays[name] = np.full_like(input_ids, name == "attention_mask")
        return dict(zip(self.output_names, self.session.run(None, arrays), strict=True))

    @cached_property
    def config(self) -> Any:
        """The configuration of the model, which names its labels.

        Raises:
            FileNotFoundError: If it does not lie beside the graph, where `export_onnx` writes it.
        """
        self._check_beside("config.json", "configuration")
        return AutoConfig.from_pretrained(self.path.parent)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the model, which truncates texts to the model's length.

        Raises:
            FileNotFoundError: If it does not lie beside the graph, where `export_onnx(..., tokenizer=)` writes it.
            ValueError: If its files cannot be read, or lack the words.
        """
        self._check_beside("tokenizer_config.json", "tokenizer")
        tokenizer: Any = load_tokenizer(self.path.parent)
        tokenizer.model_max_length = usual_input(self.config, tokenizer)
        return tokenizer

    def predict(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Predictions for each text: a label with its score, several labels with scores, or values.

        Args:
            texts: The texts.
            pairs: For each text the second of its pair.

        Raises:
            ValueError: If one is no text, or the model does not give one answer to a text.
            FileNotFoundError: If configuration or tokenizer do not lie beside the graph.
        """
        columns = [_texts("texts", texts), *([] if pairs is None else [_texts("pairs", pairs)])]
        counts = list(map(len, columns))
        if counts[0] != counts[-1]:
            raise ValueError(
                f"There are {counts[0]} texts and {counts[1]} second ones of pairs. Give each text its second one."
            )
        model_class = read_index(self.path.parent)["model_class"]
        if not model_class.endswith("ForSequenceClassification"):
            raise ValueError(
                f"A {model_class} does not give one answer to a text. Possible are models ForSequenceClassification; "
                "call this one with what its tokenizer returns."
            )
        rows = zip(*columns, strict=True)
        logits = [self(**self.tokenizer(*row, truncation=True, return_tensors="np"))["logits"][0] for row in rows]
        return answers_of(np.array(logits), self.config) if logits else []

    def _check_beside(self, file: str, what: str) -> None:
        if not (self.path.parent / file).exists():
            raise FileNotFoundError(
                f"There is no {file} beside {str(self.path)!r}. Give a graph in the folder that export_onnx wrote with "
                f"its {what}."
            )

    def _check_names(self, given: dict[str, Any]) -> None:
        has_no_types = "longest_input" in self._limits and not self._limits.get("type_vocab_size")
        for name in given.keys() - set(self.input_names):
            if name == "token_type_ids" and (has_no_types or not _whole_numbers(name, given[name]).any()):
                continue  # some tokenizers make them for a model that has one type of token, or none
            if name in _CHANGE_OUTPUTS or get_close_matches(name, [*self.input_names, "attention_mask"], cutoff=0.85):
                raise ValueError(f"{name} is no input of this graph. Possible are {self.input_names}; give only these.")

    def _check_ids(self, input_ids: np.ndarray) -> None:
        if input_ids.ndim != self._axes:
            axes = "(batch, seq)" if self._axes == 2 else "(batch, choices, seq)"
            raise ValueError(f"input_ids has shape {input_ids.shape}. Possible is {axes}; give a batch, padded.")
        if not input_ids.size:
            raise ValueError(f"input_ids has shape {input_ids.shape}. Possible is at least one token; give a text.")
        longest = self._limits.get("longest_input")
        if longest is not None and input_ids.shape[-1] > longest:
            raise ValueError(
                f"input_ids has {input_ids.shape[-1]} tokens a text. The model takes at most {longest}; tokenize with "
                f"truncation=True, max_length={longest}."
            )

    def _check_range(self, name: str, array: np.ndarray) -> None:
        known = self._limits.get(_SIZES.get(name, ""))
        if known is not None and not 0 <= array.min() <= array.max() < known:
            raise ValueError(
                f"{name} has values from {array.min()} to {array.max()}. The model knows 0 to {known - 1}; use the "
                "tokenizer that the model was trained with."
            )


def _texts(name: str, given: Iterable[str]) -> list[str]:
    if isinstance(given, str):
        raise ValueError(f"{name} is the text {given!r}. Give a list of texts.")
    texts = list(given)
    for place, each in enumerate(texts):
        if not isinstance(each, str):
            raise ValueError(f"{name}[{place}] is {each!r}, which is no text. Give a list of texts.")
    return texts


def _whole_numbers(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{name} has rows of several lengths. Possible is one length; tokenize with padding=True."
        ) from error
    if array.dtype.kind not in "iubf" or not np.array_equal(array, np.rint(array)):
        raise ValueError(
            f"{name} holds {array.dtype} that are not whole. Whole numbers are possible; give what the tokenizer "
            "returned."
        )
    return array.astype(np.int64)


def load_onnx(
    folder: str | os.PathLike, size: Size | None = None, *, int8: bool = False, num_threads: int | None = None
) -> OnnxModel:
    """A size from a folder that `export_onnx` wrote.

    Args:
        folder: The folder.
        size: The size; None: the only one.
        int8: Whether to take what `quantize_onnx` added.
        num_threads: Threads within one operation; None: as ONNX Runtime decides.

    Raises:
        FileNotFoundError: If the folder holds no export.
        ValueError: If it does not hold this size, or holds several and none was named, or none in int8.
    """
    known = read_index(Path(folder))["sizes"]
    names = list(known) if size is None else [size_name(as_size(size))]
    if len(names) != 1 or names[0] not in known:
        raise ValueError(f"size={size!r} is not in {str(folder)!r}. Give one of {list(known)}.")
    [name] = names
    if int8 and "int8" not in known[name]:
        raise ValueError(f"{name} in {str(folder)!r} was not quantised. Run quantize_onnx on the folder first.")
    file = known[name]["int8"]["file"] if int8 else known[name]["file"]
    return OnnxModel(Path(folder) / file, num_threads=num_threads)


@contextmanager
def quiet(name: str | None = None) -> Iterator[None]:
    """Without what exporters say of themselves, by a logger and in warnings, and of packages that no model needs."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    if not path.exists():
        raise FileNotFoundError(f"{str(folder)!r} has no {INDEX}. Give a folder that export_onnx wrote.")
    return json.loads(path.read_text())
