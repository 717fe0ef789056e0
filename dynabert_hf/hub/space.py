"""The page of a model as a Space on the Hub."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi

from .playground import check_classifies

APP = '''"""The page of {model}: sliders for its sizes, a text, and the prediction of the size."""

from dynabert_hf import make_page

make_page("{model}").launch()
'''


def check_space(model_class: str, *, revision: str | None, token: str | bool | None) -> None:
    """Whether a model can be shown by a Space, to be known before anything is pushed.

    Args:
        model_class: Name of its class.
        revision: Branch that it is pushed to, if not the main one.
        token: Access token; None: the one that is stored.

    Raises:
        TypeError: If the page does not show models of this class.
        ValueError: If it is pushed to another branch than the Space reads, or there is no token.
    """
    check_classifies(model_class)
    if revision:
        raise ValueError(
            f"space=True makes a Space that loads the main branch, but the model goes to revision={revision!r}. Leave "
            "one of the two out."
        )
    if not (token or huggingface_hub.get_token()):
        raise ValueError(
            "space=True makes a Space on the Hub, but there is no access token. Possible is token=, or one that `hf "
            "auth login` or HF_TOKEN left; give one with the right to write, or leave space out and try "
            "`dynabert demo`."
        )


def push_space(api: HfApi, model: str, *, private: bool | None = None) -> str:
    """Make or renew the Space of a model on the Hub, of the same name, and return the address of the commit.

    Args:
        api: What talks to the Hub.
        model: Id of the model, which the Space loads when it starts.
        private: Whether a Space that does not exist yet is made private.
    """
    place: Any = api.create_repo(model, repo_type="space", space_sdk="gradio", private=private, exist_ok=True).repo_id
    files = {"README.md": _readme(model), "app.py": APP.format(model=model), "requirements.txt": "dynabert_hf[demo]\n"}
    operations = [CommitOperationAdd(name, text.encode()) for name, text in files.items()]
    done = api.create_commit(place, operations, commit_message="Show the sizes of the model", repo_type="space")
    return done.commit_url


def _readme(model: str) -> str:
    """The card of the Space, whose head tells the Hub what to run."""
    try:
        version = f"sdk_version: {metadata.version('gradio')}\n"
    except metadata.PackageNotFoundError:
        version = ""
    head = f"title: {model.rpartition('/')[2]}, all sizes\nsdk: gradio\n{version}app_file: app.py\nmodels:\n- {model}"
    return f"---\n{head}\n---\n\nThe sizes of [{model}](https://huggingface.co/{model}) to try.\n"
