"""Pushing to the Hub: a saved model with all its sizes, or extracted sizes to choose from, each with its card.

What stands on a card is `model_card`'s; a push of a model in memory is `push_to_hub` of the model or of the trainer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub import HfApi
from huggingface_hub.utils import filter_repo_objects, validate_repo_id

from ..families import check_elastic, check_model_folder, parsed_sizes
from ..model.elastic_model import ElasticModelMixin
from ..model.shipping import NETWORK_ERRORS, WEIGHT_FILES, make_branch, push_error
from ..model.subnetwork import Size, size_name
from ..sizes.evaluation import stored_metrics
from ..sizes.records import SizeRecord
from .card import write_model_card
from .card_example import place_in_code
from .facts import ModelCardFacts
from .space import check_space, push_space

UNCHANGED = "Nothing on this machine was changed."

OF_ALL_SIZES = ["results.json", "results.csv", "pareto.png", "grid.png"]
"""What `train_dynabert` leaves beside a model of all sizes: a branch of one size begins as a copy of the main one."""


def push_subnetworks(
    model: ElasticModelMixin,
    repo_id: str,
    sizes: Iterable[Size],
    *,
    processing_class: Any = None,
    facts: ModelCardFacts | None = None,
    parent: str | None = None,
    private: bool | None = None,
    token: str | None = None,
) -> dict[str, str]:
    """Extract sizes and push each to the Hub, with the code, its card and a link to the model with all sizes.

    Args:
        model: The elastic model.
        repo_id: Where to: with `{size}` in it, as in `"me/sst2-{size}"`, each size becomes a repository of its own;
            without, each becomes a branch of that repository with the name of the size.
        sizes: The sizes to push.
        processing_class: The tokenizer, pushed with each.
        facts: What the card of the whole model says; each card shows the row of its size. None: the metrics that the
            configuration remembers.
        parent: Id of the model with all sizes; None: `repo_id`, where that names one repository.
        private: Whether repositories that do not exist yet are made private.
        token: Access token; None: the one that `hf auth login` stored.

    Returns:
        For each size the address of its commit.

    Raises:
        SubNetworkError: If a size is not in the model. Nothing has been pushed then.
        ValueError: If there is no size, or an id is not possible, such as one with the text of many layers in it.
            Likewise.
        ConnectionError: If the Hub cannot be reached or refuses; says which sizes were pushed.
    """
    check_elastic(model)
    wanted = {size_name(size): size for size in parsed_sizes(sizes, model.config)}
    separate = "{size}" in repo_id
    for name in wanted:
        validate_repo_id(repo_id.replace("{size}", name))
    parent = parent or (None if separate else repo_id)
    facts = facts or ModelCardFacts.from_stored(model)
    api, done = HfApi(token=token), {}
    for name, size in wanted.items():
        place = repo_id.replace("{size}", name)
        branch = None if separate else name
        with tempfile.TemporaryDirectory() as folder:
            extracted = model.extract(size)
            extracted.config.extracted_from["parent"] = parent  # else where it lies on this machine
            extracted.save_pretrained(folder, with_code=True)
            if processing_class is not None:
                processing_class.save_pretrained(folder)
            write_card_of_size(folder, model, size, facts, model_id=place, revision=branch, parent=parent)
            try:
                place = api.create_repo(place, private=private, exist_ok=True).repo_id
                if branch:
                    api.create_branch(place, branch=branch, exist_ok=True)
                message = f"Add size {name}"
                to: dict[str, Any] = {
                    "repo_id": place,
                    "revision": branch,
                    "delete_patterns": [*WEIGHT_FILES, *OF_ALL_SIZES],
                }
                done[name] = str(api.upload_folder(folder_path=folder, commit_message=message, **to))
            except NETWORK_ERRORS as error:
                before, left = (", ".join(names) or "none" for names in (done, list(wanted)[len(done) :]))
                state = f"Pushed before: {before}; not pushed: {left}. {UNCHANGED}"
                raise push_error(place, error, state=state) from error
    return done


def write_card_of_size(
    folder: str | Path, model: ElasticModelMixin, size: Any, facts: ModelCardFacts, **changes: Any
) -> None:
    """Write the card of an extracted size into its folder, from the facts of the whole model and some of its own."""
    name = size_name(size)
    record = SizeRecord.counted(model, size, stored_metrics(model.config).get(name, {}))
    records = tuple(one for one in facts.sizes if one.size == size) or (record,)
    own = replace(facts, sizes=records, pictures={}, **changes)
    write_model_card(folder, replace(own, title=f"{own.heading}, {name}"))


def push_folder(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str = "Upload elastic model",
    space: bool = False,
) -> str:
    """Push a saved model with its card, its tokenizer and the code to the Hub, and return the address of the commit.

    The folder itself is only read; the example on the card there loads the model from the Hub. Checkpoints of a
    training, its optimiser, its arguments, a teacher that was fine-tuned for it (`0-teacher`) and the `predictions` of
    a script stay at home.

    Args:
        folder: A folder with a model, as `save_pretrained` or `train_dynabert` leave it.
        repo_id: Where to; the repository is made if it does not exist.
        private: Whether a repository that does not exist yet is made private.
        revision: Branch to push to, made if it does not exist, or a pull request, such as `refs/pr/1`.
        token: Access token; None: the one that `hf auth login` stored.
        commit_message: Title of the commit.
        space: Whether to publish the page of `dynabert demo` as a Space of the same name, too.

    Raises:
        FileNotFoundError: If the folder holds no elastic model, or no weights.
        ValueError: If a Space is asked for without an access token, or beside a `revision`, which it would not show.
        TypeError: If a Space is asked for of a model that does not classify texts.
        ConnectionError: If the Hub cannot be reached or refuses. The folder is as it was; call again to go on.
    """
    folder, api = Path(folder), HfApi(token=token)
    check_model_folder(folder)
    if not has_weights(folder):
        raise FileNotFoundError(
            f"{str(folder)!r} has no weights, neither .safetensors nor .bin, so nobody could load it. Give the folder "
            "of a model that save_pretrained or train_dynabert wrote; `hf upload` takes others, such as ONNX exports."
        )
    model, state = _shell_of(folder), UNCHANGED
    if space:
        saved_as, *_ = model.config.architectures or [type(model).__name__]
        check_space(saved_as, revision=revision, token=token)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "config.json").write_bytes((folder / "config.json").read_bytes())
        model.prepare_upload(scratch)
        files = {file.relative_to(scratch): file for file in Path(scratch).iterdir()}
        for file in folder.rglob("*"):
            name = file.relative_to(folder)
            if file.is_file() and not _stays_at_home(name):
                files.setdefault(name, file)
        card = files.pop(Path("README.md"), None)
        operations: list[Any] = [
            huggingface_hub.CommitOperationAdd(name.as_posix(), str(file)) for name, file in sorted(files.items())
        ]
        try:
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
            if card is not None:
                text = card.read_bytes().replace(place_in_code().encode(), place_in_code(repo_id, revision).encode())
                operations.append(huggingface_hub.CommitOperationAdd(card.name, text))
            make_branch(repo_id, revision, token=token)
            known = filter_repo_objects(api.list_repo_files(repo_id, revision=revision), allow_patterns=WEIGHT_FILES)
            stale = [name for name in known if Path(name) not in files]
            operations += map(huggingface_hub.CommitOperationDelete, stale)
            done = api.create_commit(repo_id, operations, commit_message=commit_message, revision=revision)
            if space:
                state = f"The model was pushed, its Space was not. {UNCHANGED}"
                push_space(api, repo_id, private=private)
        except NETWORK_ERRORS as error:
            raise push_error(repo_id, error, state=state) from error
    return done.commit_url


def has_weights(folder: str | Path) -> bool:
    """Whether there are weights for torch in a folder."""
    return any(file.suffix in (".safetensors", ".bin") for file in Path(folder).glob("*model*"))


def _stays_at_home(name: Path) -> bool:
    """Whether a file in the folder of a model is not part of it."""
    hidden = any(part.startswith((".", "_", "checkpoint-", "0-teacher", "predictions")) for part in name.parts)
    return hidden or name.suffix in (".pt", ".pth") or name.name in ("training_args.bin", "trainer_state.json")


def _shell_of(folder: Path) -> ElasticModelMixin:
    """The encoder that a saved configuration describes, without weights."""
    config = transformers.AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    if not isinstance(model, ElasticModelMixin):
        raise FileNotFoundError(
            f"{str(folder)!r} holds a model of type {config.model_type!r}, which has one size only. Give the folder of "
            "an elastic model, or push this one with its own push_to_hub."
        )
    return model
