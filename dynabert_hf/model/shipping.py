"""What a model takes along where this package may be missing: its code, beside its weights, and on the Hub.

Every relative import here has the form `from .name import Thing`, and every shipped file lies in this one folder: that
is how transformers copies code.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from inspect import signature
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, create_branch, create_repo, file_exists, hf_hub_download, upload_folder
from huggingface_hub.errors import HfHubHTTPError
from transformers.utils import TRANSFORMERS_DYNAMIC_MODULE_NAME

_CORE = ("subnetwork", "anatomy", "configuration", "elastic", "checkpoint", "copies", "shipping", "elastic_model")
CORE_FILES = tuple(f"{name}.py" for name in _CORE)
"""The modules that a model of any family takes along, beside that of its family."""

_CONFIGS = ("config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json")
SENTENCE_ENCODER_FILES = ("modules.json", *_CONFIGS)
"""The files of sentence-transformers beside a model, which its configuration may hold."""

WEIGHT_FILES = ["model.safetensors", "model.safetensors.index.json", "model-?????-of-?????.safetensors"]
"""Weights, whole or in shards: whole ones of an earlier push would be loaded in the place of new shards."""

NETWORK_ERRORS: Any = (OSError, RuntimeError, HfHubHTTPError.__bases__[0])
"""What huggingface_hub raises when a push fails; the last is the base of all errors of its HTTP library."""

IS_COPY = __name__.startswith(f"{TRANSFORMERS_DYNAMIC_MODULE_NAME}.")
"""Whether this module is such a copy itself."""


def shipped_files(base_class: type) -> tuple[str, ...]:
    """The files that a model of this family takes along."""
    return (*CORE_FILES, f"{base_class.__module__.rpartition('.')[2]}.py")


def save_code(base_class: type, folder: str | Path) -> None:
    """Put the code of a family beside a model saved in `folder`, and name it in its configuration."""
    for name in shipped_files(base_class):
        shutil.copyfile(Path(__file__).with_name(name), Path(folder) / name)
    _write_config(folder, {**_read_config(folder), "auto_map": _auto_map(base_class)})


def save_sentence_encoder(model: Any, folder: str | Path) -> None:
    """Put beside a saved model the files by which sentence-transformers loads it, if it is a sentence encoder.

    They stand by their path in the field `sentence_encoder` of its configuration, as in that of each of its sizes.

    Raises:
        ValueError: If one of them would be another file than those of sentence-transformers.
    """
    files = getattr(model.config, "sentence_encoder", None) if model.base_model is model else None
    for name, content in (files or {}).items():
        if name not in SENTENCE_ENCODER_FILES:
            raise ValueError(
                f"The field sentence_encoder of the configuration names the file {name!r}. Possible are "
                f"{', '.join(SENTENCE_ENCODER_FILES)}. Remove the field, or load the model from where it was first "
                "published."
            )
        path = Path(folder) / name
        if not path.exists() or '"__version__"' not in path.read_text("utf-8"):  # else of a SentenceTransformer's save
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def prepare_upload(base_class: type, folder: str | Path) -> None:
    """Prepare a saved model for the Hub: add its code, and remove the local path of its parent."""
    save_code(base_class, folder)
    config = _read_config(folder)
    parent = (config.get("extracted_from") or {}).get("parent")
    if parent and (Path(parent).exists() or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", parent)):
        config["extracted_from"]["parent"] = None
        _write_config(folder, config)


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = "Upload elastic model",
    commit_description: str | None = None,
    tags: list[str] | None = None,
) -> Any:
    """Push a folder to the Hub, making repository and branch where needed, and return what the Hub says of the commit.

    Raises:
        ConnectionError: If the Hub cannot be reached or refuses.
    """
    try:
        repo_id = create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
        make_branch(repo_id, revision, token=token)
        place: dict[str, Any] = {"repo_id": repo_id, "revision": revision, "token": token}
        if tags:  # in the same commit, on the card of this branch, which need not be that of main
            file = {"filename": "README.md", **place}
            card: Any = ModelCard.load(hf_hub_download(**file)) if file_exists(**file) else ModelCard("---\n\n---\n")
            card.data.tags = list(dict.fromkeys([*(card.data.tags or ()), *tags]))
            card.save(Path(folder) / "README.md")
        stale = WEIGHT_FILES if (Path(folder) / "config.json").exists() else None  # beside an adapter they stay
        told: dict[str, Any] = {"commit_message": commit_message, "commit_description": commit_description}
        return upload_folder(folder_path=folder, create_pr=create_pr, delete_patterns=stale, **told, **place)
    except NETWORK_ERRORS as error:
        raise push_error(repo_id, error, state="The model is as it was.") from error


def make_branch(repo_id: str, revision: str | None, *, token: str | None = None) -> None:
    """Make the branch to push to if it does not exist; a pull request, such as `refs/pr/1`, has its own."""
    if revision and not revision.startswith("refs/pr"):
        create_branch(repo_id, branch=revision, token=token, exist_ok=True)


PUSH_ARGUMENTS = tuple(signature(push).parameters)[1:]


def push_error(repo_id: str | None, error: Exception, *, state: str) -> ConnectionError:
    """What to say of a push that failed: to where, if that is known, and what is true of the model and the Hub now."""
    where = f"to {repo_id!r}" if repo_id else "to the Hub"
    return ConnectionError(
        f"Pushing {where} failed: {str(error).rstrip('.')}. {state} See whether the network, the token (`hf auth "
        "login`) and your rights to the repository are in order, and call again: what the Hub has already is not sent "
        "twice."
    )


def _read_config(folder: str | Path) -> dict[str, Any]:
    return json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))


def _write_config(folder: str | Path, config: dict[str, Any]) -> None:
    (Path(folder) / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _auto_map(base_class: Any) -> dict[str, str]:
    """For each Auto class the class of this family that it loads, as `file.Class`."""
    module, family = base_class.__module__, base_class.__name__.removesuffix("Model")
    names = [name for name in vars(sys.modules[module]) if name.startswith(family)]
    file = module.rpartition(".")[2]
    return {name.replace(family, "Auto").replace("For", "ModelFor"): f"{file}.{name}" for name in names}
