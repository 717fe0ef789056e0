"""Evaluation and prediction of many sizes of one model, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from transformers.trainer_callback import ProgressCallback
from transformers.trainer_utils import EvalLoopOutput, PredictionOutput

from ..data.class_names import warn_of_other_order
from ..data.columns import has_all_rows, is_stream, without_missing_labels
from ..families import parsed_sizes, sizes_of
from ..messages import get_logger
from ..model.subnetwork import AnySize, size_name
from ..sizes.metrics import check_asked, did_not_come, full_name, parse_metric_name, told_directions, with_summary
from .arguments import DynaBertTrainingArguments
from .callbacks import SizeProgressCallback
from .checked_batches import CheckedBatches
from .checkpoints import last_whole_checkpoint
from .checks import check_data, check_ignored, check_one, evaluated
from .collated_batches import CollatedBatches
from .order import OrderedLoader
from .ordered_evaluation import OrderedEvaluation

logger = get_logger(__name__)


@dataclass
class MeasuredLog:
    """Of which data the metrics in a log are, by what their names begin with, such as `eval`.

    Args:
        log: What was logged since training began, or before it.
        data: The data that were measured last.
        rows: How many rows they have.
        since: From which entry on the log is of them, so that sizes of others do not stand beside theirs.
    """

    log: list[dict[str, Any]]
    data: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)

    def note(self, prefix: str, data: Any, *, since: int, rows: int, is_own: bool) -> None:
        """Note of which data the entries since this one are, if they are of an evaluation of one set.

        What a log holds before the first of them it has from a checkpoint, measured on the trainer's `own` data.
        """
        if any(f"{prefix}_runtime" in entry for entry in self.log[since:]):
            self.rows[prefix] = rows
            if self.data.get(prefix) is not data:
                self.since[prefix] = 0 if is_own and prefix not in self.data else since
                self.data[prefix] = data


class SizeEvaluation(OrderedEvaluation):
    """Evaluates and predicts with every size of an elastic model, or with those that are asked for.

    One size runs after the other, and only the predictions of one are held, unless predictions are what was asked for.
    """

    args: DynaBertTrainingArguments
    _sizes: tuple[AnySize, ...] | None = None
    _keeps_predictions = False
    _measured: MeasuredLog | None = None
    _num_rows = 0
    has_own_batches = False
    """Whether a collator of the user's own makes the batches, and may make columns."""

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
        *,
        sizes: Sequence[AnySize | str] | None = None,
    ) -> dict[str, float]:
        """The metrics of sizes, `eval_w0.5-d0.75_accuracy`, their mean, `eval_mean_accuracy`, and their worst.

        Args:
            eval_dataset: As for transformers' `Trainer`.
            ignore_keys: As for transformers' `Trainer`.
            metric_key_prefix: As for transformers' `Trainer`.
            sizes: The sizes to measure; None: those of the argument `eval_sizes`, by default all.

        Raises:
            SubNetworkError: If a size is not possible.
            ValueError: If a data set that was given lacks labels in some rows, or has inputs or labels that the model
                does not take; if `ignore_keys` leave nothing to score; or if training needs a metric that did not
                come. A checkpoint of the work so far is saved before.
        """
        check_ignored(ignore_keys, self.model, self.compute_metrics)
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            named = evaluated(eval_dataset)
            warn_of_other_order(named, self.model)
            for name, dataset in named.items():
                check_data(name, dataset, self.model, has_own_batches=self.has_own_batches)
        began = len(self.state.log_history)
        try:
            with self._at(self._sizes if sizes is None else sizes, keeps_predictions=False):
                metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        finally:  # a callback may raise once it was logged
            is_own = eval_dataset is None or isinstance(eval_dataset, str)
            data = self.eval_dataset if eval_dataset is None else eval_dataset
            self.measured.note(metric_key_prefix, data, since=began, rows=self._num_rows, is_own=is_own)
        if self.label_names and not any(map(parse_metric_name, metrics)):
            logger.warning_once(
                "Nothing was measured: losses and metrics need labels in the batches, called "
                f"{' and '.join(self.label_names)}. Give them, or call predict, which needs none."
            )
        asked = self.args.metric_for_best_model
        if self.is_in_train and eval_dataset is None and asked is not None and full_name(asked) not in metrics:
            self._save_checkpoint(self.model, trial=None)
            raise did_not_come(asked, metrics, saved=str(last_whole_checkpoint(str(self.args.output_dir))))
        return metrics

    @property
    def measured(self) -> MeasuredLog:
        """What is known of the log as it is now; a training begins a new one."""
        if self._measured is None or self._measured.log is not self.state.log_history:
            self._measured = MeasuredLog(self.state.log_history)
        return self._measured

    def predict(
        self,
        test_dataset: Any,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
        *,
        sizes: Sequence[AnySize | str] | None = None,
    ) -> PredictionOutput:
        """The predictions of sizes, a dictionary from their names, and their metrics where there are labels.

        Args:
            test_dataset: As for transformers' `Trainer`.
            ignore_keys: As for transformers' `Trainer`.
            metric_key_prefix: As for transformers' `Trainer`.
            sizes: The sizes to predict with, whose predictions are all held in memory; None: all.

        Raises:
            SubNetworkError: If a size is not possible.
            ValueError: If some rows have labels and others none, if it has inputs or labels that the model does not
                take, or if `ignore_keys` leave nothing to score.
        """
        check_one("test_dataset", test_dataset, or_else="call predict for each")
        check_ignored(ignore_keys, self.model, self.compute_metrics)
        test_dataset = without_missing_labels(list(test_dataset) if is_stream(test_dataset) else test_dataset)
        warn_of_other_order({"test_dataset": test_dataset}, self.model)
        check_data("test_dataset", test_dataset, self.model, has_own_batches=self.has_own_batches)
        with self._at(sizes_of(self.model) if sizes is None else sizes, keeps_predictions=True):
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)

    def get_test_dataloader(self, test_dataset: Any) -> OrderedLoader:
        """The batches of this process of a data set, of which a stream is read to its end and checked first."""
        settings: dict[str, Any] = {"has_own_batches": self.has_own_batches}
        if is_stream(test_dataset):
            test_dataset = list(test_dataset)
            check_data("The stream to evaluate on", test_dataset, self.model, **settings)
        loader = super().get_test_dataloader(test_dataset)
        if not has_all_rows(test_dataset):
            loader.collate_fn = CheckedBatches("the data to evaluate on", loader.collate_fn, self.model, **settings)
        return loader

    def run_loop(self, batches: CollatedBatches, *args: Any) -> EvalLoopOutput:
        """transformers' loop once for every size, on batches that were collated once."""
        *how, prefix = args
        predictions: Any = {}
        metrics: dict[str, Any] = {}
        sizes = self._sizes or self.evaluated_sizes
        bars = [each for each in self.callback_handler.callbacks if isinstance(each, ProgressCallback)]
        for bar in bars:
            if isinstance(bar, SizeProgressCallback):
                bar.expect_sizes(len(sizes))
        for size in sizes:
            with self.model.subnetwork(size):
                output = super().run_loop(batches, *how, f"{prefix}_{size_name(size)}")
            metrics[size_name(size)] = output.metrics
            if self._keeps_predictions:
                predictions[size_name(size)] = output.predictions
            output = output._replace(predictions=predictions)  # the next size needs the room
            for bar in bars:
                if not isinstance(bar, SizeProgressCallback):  # a bar a size; else the first would pass its end
                    bar.on_predict(self.args, self.state, self.control)
        self._num_rows = sum(batches.rows)
        told = told_directions(self.args, self.evaluation_sets)
        merged = with_summary(metrics, prefix, asked=self.args.metric_for_best_model, directions=told)
        return output._replace(metrics=merged)

    @property
    def evaluation_sets(self) -> tuple[str, ...]:
        """The names of the evaluation sets; none where there is only one."""
        return tuple(self.eval_dataset) if isinstance(self.eval_dataset, dict) else ()

    def _check_eval_sizes(self) -> None:
        trained = self.model.config.subnetworks
        others = [size_name(size) for size in self.evaluated_sizes if size not in trained]
        if others:
            logger.warning_once(
                f"eval_sizes names {', '.join(others)}, which the model can run but is not trained at. Means and "
                "worst values count them, tables and cards leave them out. Trained are "
                f"{', '.join(map(size_name, trained))}. Give these, and measure others by evaluate(sizes=[...])."
            )

    def _check_metric_for_best_model(self) -> None:
        if self.args.eval_strategy == "no" or self.eval_dataset is None:
            return
        known = ["loss"] if self.compute_metrics is None else None
        sizes = [size_name(size) for size in self.evaluated_sizes]
        args = self.args
        check_asked(args.metric_for_best_model, sets=self.evaluation_sets, sizes=sizes, known=known)
        if args.load_best_model_at_end and args.save_strategy == "steps" and args.save_steps != args.eval_steps:
            logger.warning(
                f"With load_best_model_at_end, save_steps={args.save_steps:g} leaves out evaluations of "
                f"eval_steps={args.eval_steps:g}. If the best of them is not saved, the end has the best that was, or "
                f"the last weights. Give save_steps={args.eval_steps:g}, or save_strategy='best'."
            )

    @property
    def evaluated_sizes(self) -> tuple[AnySize, ...]:
        """The sizes that `evaluate()` measures if it is not told: those of the argument `eval_sizes`, else all."""
        asked = self.args.eval_sizes
        return sizes_of(self.model) if asked is None else parsed_sizes(asked, self.model.config)

    @contextmanager
    def _at(self, sizes: Sequence[AnySize | str] | None, *, keeps_predictions: bool) -> Iterator[None]:
        """Inside, evaluations are of these sizes, also those of several data sets."""
        before = self._sizes, self._keeps_predictions
        self._sizes = None if sizes is None else parsed_sizes(sizes, self.model.config)
        self._keeps_predictions = keeps_predictions
        try:
            yield
        finally:
            self._sizes, self._keeps_predictions = before
