"""What a teacher says of training texts, computed once and kept in files: for those that do not fit beside a model.

A text is found again by its tokens, so that neither the order of the data nor its batches matter.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from ..data.columns import are_rows, column_names
from ..data.fingerprints import fingerprint_of_rows, fingerprint_of_weights
from ..data.labels import collator_of
from ..data.reading import read_datasets
from ..files import changed, check_writable_folder, write_whole
from ..messages import check_counts, check_one_of
from ..model.subnetwork import SubNetwork
from ..tasks import LABELS, has_several_texts, task_of
from .checks import check_tokenised
from .ordered_evaluation import unchanged
from .teacher_facts import TeacherFacts, at_size, check_whole, parameters_of
from .token_types import telling_apart_for

ABOUT = "teacher_outputs.json"
"""File of a folder of stored outputs that says whose they are, and of what."""

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ROWS_A_PART = {False: 256, True: 32}
"""How many rows a file holds, without and with hidden states; as many are held in memory at once."""

HIDDEN = "hidden_states"


def store_teacher_outputs(
    teacher: PreTrainedModel,
    dataset: Any,
    folder: str | PathLike,
    *,
    processing_class: PreTrainedTokenizerBase | None = None,
    data_collator: Callable | None = None,
    hidden_states: bool = False,
    dtype: str = "float32",
    batch_size: int = 32,
    progress: bool = True,
) -> StoredOutputs:
    """Run a teacher once over training data and store its outputs in a folder; a repeated call continues.

    Args:
        teacher: The fine-tuned model, at its full size, on the device where it is to run; it stays as it is.
        dataset: Rows of known length, tokenised or, with a `processing_class`, as text by the usual columns.
        folder: Where to. It holds files of a few rows each, as safetensors.
        processing_class: The tokenizer, used for padding.
        data_collator: Makes a batch of rows; None: that of the head's task.
        hidden_states: Whether to keep the hidden states, too, without which only logits can be learned. They take
            `(layers + 1) * hidden_size` numbers a token.
        dtype: `"float32"`, with which training equals one beside the teacher, `"float16"` or `"bfloat16"`.
        batch_size: Rows that the teacher reads at once.
        progress: Whether to show a bar.

    Raises:
        TypeError: If the teacher is no model.
        ValueError: If an argument is not possible, the teacher was cut by extraction, the data set is empty or has no
            known length, its words are yet to be masked, or the folder holds the outputs of another teacher or of other
            data.
        OSError: If the folder cannot be written to.
    """
    check_whole(teacher)
    check_counts(batch_size=batch_size)
    check_one_of("dtype", dtype, DTYPES)
    _check_rows(dataset)
    folder = Path(folder)
    if data_collator is None:
        dataset = read_datasets({"dataset": dataset}, teacher, processing_class)[0]["dataset"]
        check_tokenised("dataset", dataset)
        _check_masked(teacher, dataset)
    rows_a_part = ROWS_A_PART[hidden_states]
    about: dict[str, Any] = {
        "teacher": asdict(TeacherFacts.of(teacher)),
        "weights": fingerprint_of_weights(teacher),
        "data": fingerprint_of_rows(dataset),
        "rows": len(dataset),
        "hidden_states": hidden_states,
        "dtype": dtype,
        "rows_a_part": rows_a_part,
    }
    _open(folder, about)
    collate = collator_of(teacher, processing_class, data_collator)
    with (
        unchanged(teacher),
        telling_apart_for(teacher, processing_class),
        tqdm(total=len(dataset), desc="Asking the teacher", unit="row", disable=None if progress else True) as bar,
    ):
        teacher.eval()
        for start, file in _parts(folder, about):
            numbers = range(start, min(start + rows_a_part, len(dataset)))
            if not file.exists():
                rows = [dataset[number] for number in numbers]
                tensors = _asked(teacher, rows, collate, batch_size, DTYPES[dtype], hidden_states)
                write_whole(file, partial(save_file, tensors))
            bar.update(len(numbers))
    return StoredOutputs(folder)


class StoredOutputs:
    """The outputs of a teacher for texts, from a folder of `store_teacher_outputs`; may be used as a teacher.

    Files are mapped into memory, and only the rows of a batch are read.

    Args:
        folder: The folder.

    Raises:
        FileNotFoundError: If it is no such folder.
        ValueError: If a part is missing.
    """

    def __init__(self, folder: str | PathLike):
        self.folder = Path(folder)
        if not is_folder_of_outputs(folder):
            raise FileNotFoundError(
                f"{str(folder)!r} holds no {ABOUT}. Give a folder that store_teacher_outputs made of a teacher."
            )
        self.about = json.loads((self.folder / ABOUT).read_text(encoding="utf-8"))
        self.facts = TeacherFacts(**self.about["teacher"])
        self.files = [file for _, file in _parts(self.folder, self.about)]
        missing = sum(not file.exists() for file in self.files)
        if missing:
            raise ValueError(
                f"{str(self.folder)!r} holds {len(self.files) - missing} of {len(self.files)} parts. Call "
                "store_teacher_outputs again with the same arguments to go on."
            )
        self.has_hidden_states = bool(self.about["hidden_states"])
        self.opened = lru_cache(maxsize=16)(partial(safe_open, framework="pt"))
        keys, lengths = zip(*map(self._index, self.files), strict=True)
        self._order = np.argsort(np.concatenate(keys), kind="stable")
        self._keys = np.concatenate(keys)[self._order]
        self._part = np.concatenate([np.full(len(own), number) for number, own in enumerate(keys)])
        self._row = np.concatenate([np.arange(len(own)) for own in keys])
        self._end = np.concatenate([np.cumsum(own) for own in lengths])
        self._length = np.concatenate(lengths)

    def check_rows(self, name: str, dataset: Any) -> None:
        """Check that the rows of a data set are among those that the teacher was asked of.

        Rows that are made by a collator alone are looked at batch by batch.

        Raises:
            ValueError: If one is not.
        """
        if not are_rows(dataset) or "input_ids" not in column_names(dataset):
            return
        for number in range(len(dataset)):
            row = dataset[number]
            ids = row["input_ids"]
            mask = row.get("attention_mask", [np.ones(len(text)) for text in _texts(ids)])
            if self._place(_key(ids, mask)) is None:
                raise self._unknown(f"{name} has a text in row {number}")

    def outputs(self, inputs: Mapping[str, torch.Tensor], *, hidden_states: bool) -> ModelOutput:
        """What the teacher says of a batch, padded as that is; where there is padding, it is 0.

        Args:
            inputs: The batch, `input_ids` `(batch, seq)` or `(batch, choices, seq)`.
            hidden_states: Whether its hidden states are wanted.

        Raises:
            ValueError: If it was not asked of one of the texts.
        """
        ids = inputs["input_ids"]
        mask = inputs.get("attention_mask", torch.ones_like(ids)).bool()
        arrays = ids.cpu().numpy(), mask.cpu().numpy()
        places = [self._place(_key(*row)) for row in zip(*arrays, strict=True)]
        for row, place in enumerate(places):
            if place is None:
                raise self._unknown(f"A batch has the text {ids[row].tolist()}")
        names = [name for name in self._names() if hidden_states or not name.startswith(HIDDEN)]
        found = {name: self._gathered(name, places, mask) for name in names}
        states = tuple(found.pop(name).flatten(0, -3) for name in names if name.startswith(HIDDEN))
        return ModelOutput(**found, **({HIDDEN: states} if hidden_states else {}))

    def _gathered(self, name: str, places: Sequence[Any], mask: torch.Tensor) -> torch.Tensor:
        """A tensor of a batch, its rows from their files."""
        rows = [self._read(name, place) for place in places]
        if not self.facts.is_of_tokens and not name.startswith(HIDDEN):
            return torch.stack(rows).to(mask.device)
        whole = rows[0].new_zeros((*mask.shape, *rows[0].shape[1:]), device=mask.device)
        whole[mask] = torch.cat(rows).to(mask.device)
        return whole

    def _read(self, name: str, place: int) -> torch.Tensor:
        tensor = self.opened(self.files[self._part[place]]).get_slice(name)
        if not self.facts.is_of_tokens and not name.startswith(HIDDEN):
            return tensor[int(self._row[place])].float()
        end = int(self._end[place])
        return tensor[end - int(self._length[place]) : end].float()

    def _names(self) -> list[str]:
        states = [f"{HIDDEN}.{number}" for number in range((self.facts.num_hidden_layers or 0) + 1)]
        return [*self.facts.outputs, *(states if self.has_hidden_states else [])]

    def _index(self, file: Path) -> tuple[np.ndarray, np.ndarray]:
        with safe_open(file, framework="pt") as tensors:
            return tensors.get_tensor("keys").numpy(), tensors.get_tensor("lengths").numpy()

    def _place(self, key: int) -> int | None:
        near = int(np.searchsorted(self._keys, key))
        return int(self._order[near]) if near < len(self._keys) and self._keys[near] == key else None

    def _unknown(self, what: str) -> ValueError:
        return ValueError(
            f"{what} that the teacher was not asked of: {str(self.folder)!r} holds its outputs of "
            f"{self.about['rows']} other rows. Train on these data, tokenised alike, or store the outputs of the new "
            "ones in another folder."
        )


def is_folder_of_outputs(folder: Any) -> bool:
    """Whether a name is that of a folder of stored outputs."""
    return isinstance(folder, str | PathLike) and (Path(folder) / ABOUT).is_file()


def _parts(folder: Path, about: Mapping[str, Any]) -> list[tuple[int, Path]]:
    count = math.ceil(about["rows"] / about["rows_a_part"])
    return [(number * about["rows_a_part"], folder / f"part-{number:06}.safetensors") for number in range(count)]


def _check_rows(dataset: Any) -> None:
    if not are_rows(dataset) or not len(dataset):
        raise ValueError(
            f"The data set is a {type(dataset).__name__} without rows that can be read by their number. Give a "
            "tokenised datasets.Dataset or a list, with at least one row."
        )


def _check_masked(teacher: PreTrainedModel, dataset: Any) -> None:
    """Refuse rows of a masked language model that each batch of a training would mask anew."""
    if task_of(teacher).head == "ForMaskedLM" and "labels" not in column_names(dataset):
        raise ValueError(
            f"The rows have no labels, so training masks other words of them in every batch, and what a "
            f"{type(teacher).__name__} says of one draw is of no use then. Possible are rows that were masked before, "
            "with input_ids and labels. Give these, or give the teacher itself to the training."
        )


def _without_kind(about: dict[str, Any]) -> dict[str, Any]:
    """All but the `problem_type`, which stock's forward pass notes in the configuration once it sees labels."""
    facts = {name: value for name, value in about["teacher"].items() if name != "problem_type"}
    return {**about, "teacher": facts}


def _open(folder: Path, about: dict[str, Any]) -> None:
    """Make the folder, or check that it belongs to this teacher and these data."""
    if is_folder_of_outputs(folder):
        stored = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        was, asked = changed(_without_kind(stored), _without_kind(json.loads(json.dumps(about))))
        if asked:
            raise ValueError(
                f"{str(folder)!r} holds outputs with {was}, now {asked} is asked. Give the same teacher and data to go "
                "on, or another folder."
            )
        return
    check_writable_folder(folder, name="folder", lost="The teacher was not asked", room="its outputs")
    write_whole(folder / ABOUT, lambda partial: partial.write_text(json.dumps(about, indent=2), encoding="utf-8"))


@torch.no_grad()
def _asked(
    teacher: PreTrainedModel,
    rows: Sequence[Any],
    collate: Callable,
    batch_size: int,
    dtype: torch.dtype,
    hidden_states: bool,
) -> dict[str, torch.Tensor]:
    """The tensors of a part: keys and numbers of tokens of its rows, and what the teacher says of them."""
    parts: dict[str, list[torch.Tensor]] = {}
    facts, accepted = TeacherFacts.of(teacher), parameters_of(teacher)
    for start in range(0, len(rows), batch_size):
        batch = collate(rows[start : start + batch_size])
        inputs = {
            name: value.to(teacher.device) for name, value in batch.items() if name in accepted and name not in LABELS
        }
        mask = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"])).bool()
        with at_size(teacher, SubNetwork()):
            output = teacher(**inputs, output_hidden_states=hidden_states, return_dict=True)
        arrays = inputs["input_ids"].cpu().numpy(), mask.cpu().numpy()
        keys = [_key(*row) for row in zip(*arrays, strict=True)]
        own = {"keys": torch.tensor(keys), "lengths": mask.flatten(1).sum(-1).cpu()}
        for name in facts.outputs:
            own[name] = (output[name][mask] if facts.is_of_tokens else output[name]).to("cpu", dtype)
        for number, states in enumerate(output.hidden_states if hidden_states else ()):
            own[f"{HIDDEN}.{number}"] = states[mask.flatten(0, -2)].to("cpu", dtype)
        for name, tensor in own.items():
            parts.setdefault(name, []).append(tensor)
    return {name: torch.cat(tensors).contiguous() for name, tensors in parts.items()}


def _key(ids: Any, mask: Any) -> int:
    """A number for the tokens of a text, or of its choices, without padding."""
    digest = hashlib.blake2b(digest_size=8)
    for own, real in zip(_texts(ids), _texts(mask), strict=True):
        digest.update(np.asarray(own, dtype=np.int64)[np.asarray(real, dtype=bool)].tobytes())
        digest.update(b"end")
    return int.from_bytes(digest.digest(), "little", signed=True)


def _texts(row: Any) -> Sequence[Any]:
    """What a row holds for each of its choices, which may be of several lengths, or for its one text."""
    texts: Sequence[Any] = row if has_several_texts(row) else [row]
    return texts
