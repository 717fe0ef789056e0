"""What a run of the recipe leaves: model, tokenizer, table and card, in its folder and on the Hub."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from accelerate import PartialState
from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..files import write_whole
from ..hub.push import push_folder
from ..sizes.evaluation import edited_config
from .preparation import Recipe
from .result import RecipeResult, refresh_card


def publish(recipe: Recipe, result: RecipeResult) -> None:
    """Leave model, tokenizer, table and card in the folder, whole or not at all, and show the table.

    Of a finished run only what was measured is written anew, and only if it is something else.
    """
    is_finished = recipe.folder.is_finished()
    if PartialState().is_main_process:
        if not is_finished:
            write_whole(recipe.folder.model, partial(_write_result, recipe, result))
        else:
            _write_anew(recipe, result)
        if not recipe.evaluation.disable_tqdm:
            result.show()
            print(_where(recipe))
    PartialState().wait_for_everyone()


def _where(recipe: Recipe) -> str:
    """Where everything lies that a run left."""
    logs = " ".join(str(stage.folder / "history.csv") for stage in recipe.stages)
    return f"{content_of(recipe.folder.model)}\nLogs: {logs}"


def content_of(folder: Path) -> str:
    """What of a result lies in a folder, and where that is."""
    kinds = {"model": "model.safetensors*", "card": "README.md", "table": "results.csv", "pictures": "pareto.png"}
    found = ", ".join(name for name, file in kinds.items() if any(folder.glob(file)))
    return f"{found.capitalize()}: {folder}"


def check_repository(recipe: Recipe) -> None:
    """Check that a result that is to be pushed has a place to go to.

    Raises:
        ValueError: If its name is not possible on the Hub.
    """
    if recipe.publishing.get("push_to_hub"):
        try:
            validate_repo_id(_repository(recipe))
        except HFValidationError as error:
            raise ValueError(
                f"push_to_hub=True was given, but the result cannot be called {_repository(recipe)!r} on the Hub: "
                f"{error} Give a hub_model_id such as 'me/my-model'."
            ) from error


def _repository(recipe: Recipe) -> str:
    return str(recipe.publishing.get("hub_model_id") or recipe.folder.path.resolve().name)


def push(recipe: Recipe) -> None:
    """Push the result, if that was asked for; nothing is lost where it fails."""
    to = recipe.publishing
    if to.get("push_to_hub") and PartialState().is_main_process:
        push_folder(
            recipe.folder.model,
            _repository(recipe),
            private=to.get("hub_private_repo"),
            revision=to.get("hub_revision"),
            token=to.get("hub_token"),
        )
    PartialState().wait_for_everyone()


def _write_result(recipe: Recipe, result: RecipeResult, folder: Path) -> None:
    """Put model, tokenizer, table and card into a folder."""
    result.model.save_pretrained(folder, with_code=True)  # the card says that it loads without this package
    tokenizer = recipe.trainer_kwargs["processing_class"]
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    result.save(folder)
    origin = recipe.teacher.name_or_path or recipe.teacher.config.name_or_path  # where a rewired model came from
    result.write_card(folder, base_model=origin, rewired=True)


def _write_anew(recipe: Recipe, result: RecipeResult) -> None:
    """Let the folder of a finished run say what was measured now and what labels are called; its weights stay."""
    now, was = result.model.config, recipe.elastic_class.config_class.from_pretrained(recipe.folder.model)
    names: list[str] = []
    if (now.metrics, now.metric_rows) != (was.metrics, was.metric_rows):
        names += ["metrics", "metric_rows", "metric_order", "metric_directions"]
    if now.id2label != was.id2label:
        names += ["id2label", "label2id"]
    if names:
        result.save(recipe.folder.model)
        refresh_card(recipe.folder.model, result.model)
        with edited_config(recipe.folder.model / "config.json") as config:  # last: it tells the next call what is new
            config |= {name: getattr(now, name) for name in names}
