"""Following a long run: the size in work on the progress bar, tags that TensorBoard groups, the history as files.

These callbacks take the place of transformers' own, which know nothing of sizes and would mix dozens of names. Bars are
for terminals and notebooks; in a file or a pipe there is a line for each step that is logged.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import datasets
from tqdm.auto import tqdm
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.utils import is_in_notebook, logging

from ..files import finite, json_text
from ..model.subnetwork import AnySize, size_name
from ..sizes.metrics import SUMMARIES, TIMING, MetricName, is_number, parse_metric_name

_SECONDS_BETWEEN_SHOWS = 0.2


def parse_logged_name(name: str) -> MetricName | None:
    """What the name of a size's loss or metric says; None for a name without a size. Losses are of the split `train`.

    Example:
        >>> parse_logged_name("w0.5-d0.75_logit_loss")
        MetricName(split='train', size='w0.5-d0.75', metric='logit_loss')
    """
    parsed = parse_metric_name(name)
    if parsed is None or parsed.size in SUMMARIES:
        return None
    return parsed._replace(split=parsed.split or "train")


def log_line(args: TrainingArguments, state: TrainerState, logs: Mapping[str, Any], model: Any = None) -> str:
    """What was logged, as one line that names the stage and the step; without the values of single sizes.

    Example:
        >>> from types import SimpleNamespace as It
        >>> log_line(It(stage="depth"), It(global_step=25, max_steps=84), {"loss": 2.77312, "epoch": 0.9})
        'Stage depth, step 25 of 84: loss 2.773, epoch 0.9'
    """
    left_out = ("total_flos", *(f"eval_{name}" for name in TIMING))
    shown = {name: value for name, value in logs.items() if name not in left_out and parse_logged_name(name) is None}
    values = (f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in shown.items())
    return f"{_work(args, model)}, step {state.global_step} of {state.max_steps}: {', '.join(values)}"


def _work(args: Any, model: Any) -> str:
    """What is being trained, in a word or two."""
    config = getattr(model, "config", None)
    is_cut = getattr(config, "stored_shape", None) is not None  # and is trained at its own size alone
    has_one_size = is_cut or len(getattr(config, "subnetworks", ())) == 1
    return f"Stage {args.stage}" if hasattr(args, "stage") and not has_one_size else "Training"


class SizeLinesCallback(PrinterCallback):
    """While training, a line for each step that is logged, and no bars; it goes by the name of transformers' own."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and state.max_steps > 0:  # 0: measured outside of training
            print(log_line(args, state, logs or {}, kwargs.get("model")), flush=True)


class SizeProgressCallback(ProgressCallback):
    """transformers' progress bars with the stage and the size in work; logs beside them show no single sizes."""

    _shown_at = 0.0
    _num_sizes = 1

    def show_size(self, size: AnySize) -> None:
        """Tell which size is in work now; costs next to nothing, and nothing where there is no bar."""
        if self.training_bar is None:
            return
        self.training_bar.set_postfix_str(size_name(size), refresh=False)
        now = time.monotonic()
        if now - self._shown_at >= _SECONDS_BETWEEN_SHOWS:
            self._shown_at = now
            self.training_bar.refresh()

    def expect_sizes(self, count: int) -> None:
        """Tell how many sizes the coming evaluation has, so that one bar is of all of them."""
        self._num_sizes = count

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description(_work(args, kwargs.get("model")))

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero and self.prediction_bar is None:
            several = f" {self._num_sizes} sizes" if self._num_sizes > 1 else ""
            self.prediction_bar = tqdm(
                total=len(eval_dataloader) * self._num_sizes,
                desc=f"Evaluating{several}",
                leave=self.training_bar is None,
                dynamic_ncols=True,
            )
        super().on_prediction_step(args, state, control, eval_dataloader, **kwargs)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero and self.training_bar is not None:
            self.training_bar.write(log_line(args, state, logs or {}, kwargs.get("model")))


class SizeTensorBoardCallback(TensorBoardCallback):
    """transformers' TensorBoard scalars, those of the sizes grouped by metric: `eval_accuracy/w0.5-d0.75`.

    What is no number, such as a report by class, is transformers' to show or to leave out.
    """

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        names = {name: parse_logged_name(name) if is_number(value) else None for name, value in (logs or {}).items()}
        general = {name: value for name, value in (logs or {}).items() if names[name] is None}
        super().on_log(args, state, control, logs=general, **kwargs)
        if self.tb_writer is not None and logs:
            for name, parsed in names.items():
                if parsed is not None:
                    group = f"{parsed.split}_{parsed.metric}"  # as TensorBoard takes what stands before a slash
                    self.tb_writer.add_scalar(f"{group}/{parsed.size}", logs[name], state.global_step)
            self.tb_writer.flush()


class HistoryCallback(TrainerCallback):
    """Everything that was logged as `history.json` and, a line a value, `history.csv`, with every checkpoint."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            save_history(state.log_history, Path(str(args.output_dir)))

    on_train_end = on_save


class AveragedWeights(TrainerCallback):
    """Leaves the weights to use at the end of an epoch, which an optimiser without a schedule has beside its own."""

    def on_epoch_end(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        if callable(getattr(optimizer, "eval", None)):
            optimizer.eval()


class KeptPositions(TrainerCallback):
    """Keeps the id after which a model counts positions, where the tokenizer pads with another.

    transformers writes the padding token of the tokenizer into the configuration when training begins. The positions of
    RoBERTa and its like begin after that id, so the model, loaded again, would read every token at another position
    than it learned.

    Args:
        config: Configuration of the elastic model, before training.
    """

    def __init__(self, config: Any):
        self.config, self.pad_token_id = config, config.pad_token_id

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.config.anatomy.skips_padding_positions:
            self.config.pad_token_id = self.pad_token_id


def save_history(logs: list[dict[str, Any]], folder: Path) -> None:
    """Write logs, as `TrainerState.log_history` holds them, as `history.json` and `history.csv` into a folder.

    The columns of the table are step, epoch, split, size (empty: of no single one), metric and value. What is not
    finite is `null` in the one and empty in the other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.json").write_text(json_text(logs, indent=1))
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "epoch", "split", "size", "metric", "value"])
        for entry in logs:
            for name, value in entry.items():
                if name not in ("step", "epoch"):
                    writer.writerow([entry.get("step"), entry.get("epoch"), *_columns(name), finite(value)])


def _columns(name: str) -> tuple[str, str, str]:
    parsed = parse_logged_name(name)
    if parsed is not None:
        return parsed
    split, _, metric = name.partition("_")
    return (split, "", metric) if split in ("eval", "test") else ("train", "", name.removeprefix("train_"))


def follow(trainer: Trainer) -> SizeProgressCallback:
    """Give a trainer the callbacks of this module, in place, where it has transformers' own.

    Callbacks of one's own, also subclasses of transformers', stay.

    Returns:
        What is to be told the size in work. Without bars it does nothing.
    """
    progress = show_progress(trainer)
    callbacks = trainer.callback_handler.callbacks
    for index, callback in enumerate(callbacks):
        if type(callback) is TensorBoardCallback:
            callbacks[index] = own = SizeTensorBoardCallback(callback.tb_writer)
            if own.logging_dir is not None:  # TENSORBOARD_LOGGING_DIR, which is one for all stages
                own.logging_dir = str(Path(own.logging_dir, Path(str(trainer.args.output_dir)).name))
    trainer.add_callback(HistoryCallback())
    trainer.add_callback(AveragedWeights())
    model: Any = trainer.model
    trainer.add_callback(KeptPositions(model.config))
    return progress


def show_progress(trainer: Trainer) -> SizeProgressCallback:
    """Give a trainer, in place, the bars or the lines of this module where it has transformers' own.

    Returns:
        What is to be told the size in work. Without bars it does nothing.
    """
    progress = SizeProgressCallback()
    callbacks = trainer.callback_handler.callbacks
    for index, callback in enumerate(callbacks):
        if type(callback) in (DEFAULT_PROGRESS_CALLBACK, ProgressCallback, PrinterCallback):  # of notebooks, too
            has_bars = type(callback) is not PrinterCallback and is_terminal()
            callbacks[index] = progress if has_bars else SizeLinesCallback()
    return progress


def is_terminal() -> bool:
    """Whether progress bars have a terminal to be drawn in, or a notebook."""
    return sys.stderr.isatty() or is_in_notebook()


@contextmanager
def without_bars_of_files() -> Iterator[None]:
    """Inside, transformers and datasets draw no bars of their own for all that is loaded, saved or tokenised."""
    of_models, of_data = logging.is_progress_bar_enabled(), datasets.are_progress_bars_disabled()
    logging.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if of_models:
            logging.enable_progress_bar()
        if not of_data:
            datasets.enable_progress_bars()


def bars_of_files_in_terminals() -> AbstractContextManager[None]:
    """Inside, transformers and datasets draw such bars only where they have a terminal, or a notebook."""
    return nullcontext() if is_terminal() else without_bars_of_files()
