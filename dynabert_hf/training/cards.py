"""The card that a training leaves beside its model: what is known of every size that was measured.

How a card looks is up to `hub.card`; here is only what a trainer knows.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ..hub.card import foreign_page, write_model_card
from ..hub.facts import ModelCardFacts
from ..messages import get_logger
from ..model.shipping import NETWORK_ERRORS, make_branch, push_error
from ..sizes.evaluation import keep_measured
from ..sizes.metrics import directions_by_name, told_directions
from .result import RecipeResult, count_rows
from .size_evaluation import SizeEvaluation

logger = get_logger(__name__)


class CardTrainer(SizeEvaluation):
    """A trainer of an elastic model that writes the model card."""

    _revision: str | None = None
    """The branch of the last push."""

    def remember_metrics(self) -> None:
        """Store what was measured of the weights as they are in the configuration of the model, in place.

        Metrics of other names stay, which training would have cleared.
        """
        model: Any = self.accelerator.unwrap_model(self.model)
        before = copy.copy(model.config)
        facts = self._facts(model)
        rows = tuple(record for record in facts.sizes if record.metrics)
        if rows:
            RecipeResult(model, rows, {}, directions=dict(facts.directions), eval_rows=self.eval_rows).record()
            keep_measured(model.config, before)

    def _facts(self, model: Any, **given: Any) -> ModelCardFacts:
        """What is known of this training and its last evaluation, and what is given."""
        given, sets = {"same_rows_since": self.measured.since, **given}, self.evaluation_sets
        facts = ModelCardFacts.from_training(model, self.args, self.state, **given)
        known = directions_by_name(facts.metrics, told_directions(self.args, sets), sets)
        return replace(facts, directions=given.get("directions", known))

    @property
    def eval_rows(self) -> int | Mapping[str, int] | None:
        """On how many rows `evaluate()` measured last, of several sets on each; before, how many there are."""
        own = {name: count for name, count in self.measured.rows.items() if f"{name}_".startswith("eval_")}
        counts = {name.removeprefix("eval").removeprefix("_"): count for name, count in own.items()}
        return counts[""] if list(counts) == [""] else counts or count_rows(self.eval_dataset)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save as transformers does, outside of training with what was measured of these weights in `config.json`."""
        if not self.is_in_train:
            self.remember_metrics()
        super().save_model(output_dir, _internal_call)

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **card: Any,
    ) -> Any:
        """Push as transformers does, with the card and the code, to a branch that is made if it does not exist.

        Args:
            commit_message: Title of the commit.
            blocking: Whether to wait until it is done.
            token: Access token; None: that of the arguments, or the one that `hf auth login` stored.
            revision: The branch, or a pull request, such as `refs/pr/1`; None: that of the arguments.
            private: Whether a repository that does not exist yet is made private.
            **card: What `create_model_card` takes.

        Raises:
            ConnectionError: If the Hub cannot be reached or refuses.
        """
        self._revision, token = revision or self.args.hub_revision, token or self.args.hub_token
        try:
            if self.hub_model_id is None:
                self._make_repository(token, private)
            if self.is_world_process_zero():
                make_branch(str(self.hub_model_id), self._revision, token=token)
            return super().push_to_hub(commit_message, blocking, token, self._revision, **card)
        except NETWORK_ERRORS as error:
            state = f"What was saved lies in {str(self.args.output_dir)!r}."
            raise push_error(self.hub_model_id or self.args.hub_model_id, error, state=state) from error

    def _make_repository(self, token: str | None, private: bool | None) -> None:
        """As `init_hf_repo`, which older releases of transformers do not tell whether it is private."""
        given = self.args.hub_private_repo
        self.args.hub_private_repo = given if private is None else private
        try:
            self.init_hf_repo(token=token)
        finally:
            self.args.hub_private_repo = given

    def create_model_card(  # type: ignore[override]
        self,
        *,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        **facts: Any,
    ) -> None:
        """Write the card of the model as training left it, with every size that was measured, into `output_dir`.

        Done at the end of training, unless a page of another kind has its place, and by `push_to_hub`, which takes
        these arguments, too. If the model is there, its code is put beside it.

        Args:
            language: Code of a language, such as `en`.
            license: Id of a license, such as `apache-2.0`.
            tags: More tags for the Hub.
            model_name: Heading of the card.
            finetuned_from: Id of the model that training began with; None: where the model was loaded from.
            dataset_tags: Id of the data set on the Hub; of several the card names the first.
            dataset: Its name for people.
            **facts: Other fields of `ModelCardFacts`; what else transformers' method takes has no effect.
        """
        if not self.is_world_process_zero():
            return
        model: Any = self.accelerator.unwrap_model(self.model)
        folder = Path(str(self.args.output_dir))
        given = {
            "language": language,
            "license": license,
            "tags": tuple(_as_list(tags)),
            "title": model_name,
            "model_id": self.hub_model_id,
            "revision": (self._revision or self.args.hub_revision) if self.hub_model_id else None,
            "train_rows": count_rows(self.train_dataset),
            "eval_rows": self.eval_rows,
            "base_model": finetuned_from or model.config.name_or_path,
            "dataset_id": next(iter(_as_list(dataset_tags)), None),
            "dataset_name": next(iter(_as_list(dataset)), None),
            **{name: value for name, value in facts.items() if name not in ("tasks", "dataset_args")},
        }
        write_model_card(folder, self._facts(model, **given))
        if (folder / "config.json").exists():
            model.save_code(folder)


class CardAtTheEnd(TrainerCallback):
    """Leaves a card of what was trained and measured, unless a page of the user's own has its place."""

    def __init__(self, trainer: CardTrainer):
        self.trainer = trainer

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.remember_metrics()
        page = foreign_page(args.output_dir)
        if page is None:
            self.trainer.create_model_card()
        else:
            logger.warning(
                f"{str(page)!r} is no card of an elastic model, and stays as it is. Give an output_dir of its own to "
                "get a card, or call create_model_card() to write it there."
            )


def _as_list(given: str | list[str] | None) -> list[str]:
    if given is None:
        return []
    return [given] if isinstance(given, str) else list(given)
