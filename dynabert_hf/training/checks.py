"""What is wrong with a data set or a teacher, said before any work.

What rows and labels must look like is told by `data.inputs` and `data.labels`, and how much of a data set is looked at
by `data.columns`.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import datasets
from transformers import PreTrainedModel

from ..data.class_names import warn_of_other_order
from ..data.columns import are_rows, column_names, is_stream, short
from ..data.inputs import check_inputs
from ..data.labels import check_counted, check_labels
from ..data.pooling import Pooling
from ..messages import get_logger, is_main_process
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import size_name
from ..sizes.metrics import SUMMARIES, can_begin
from ..tasks import is_sentence_encoder, task_of
from .argument_checks import check_smoothing, check_taught
from .arguments import DynaBertTrainingArguments

logger = get_logger(__name__)


def check_datasets(
    model: Any,
    args: DynaBertTrainingArguments,
    train_dataset: Any,
    eval_dataset: Any,
    *,
    has_own_batches: bool = False,
) -> None:
    """Check the data sets of a trainer: not empty, enough for the processes, labels that the model can predict.

    Raises:
        ValueError: If one of them is not so; the data set is named as the trainer's argument is.
    """
    named = {"train_dataset": train_dataset, **evaluated(eval_dataset)}
    warn_of_other_order({name: named[name] for name in named if args.learns_labels or name != "train_dataset"}, model)
    for name, dataset in named.items():
        if dataset is not None:
            learned = args if name == "train_dataset" else None
            check_data(name, dataset, model, args=learned, has_own_batches=has_own_batches)
    check_smoothing(model, args, named.values())
    if is_stream(train_dataset):
        _warn_of_unheeded(args)
    if train_dataset is not None:
        check_enough(train_dataset, args)


def _warn_of_unheeded(args: DynaBertTrainingArguments) -> None:
    """Say which arguments have no effect on a stream, which is read in its order and to its end."""
    given = {name: getattr(args, name) for name in ("dataloader_drop_last", "train_sampling_strategy")}
    unheeded = [f"{name}={value!r}" for name, value in given.items() if value in (True, "group_by_length")]
    if unheeded:
        logger.warning(
            f"Without effect on train_dataset: {' and '.join(unheeded)}. A stream is read in its order and to its end. "
            "Leave that out, and shuffle or cut the stream itself."
        )


def evaluated(eval_dataset: Any) -> dict[str, Any]:
    """The data sets to evaluate on, one or several, by what to call each in a message.

    Raises:
        ValueError: If there are several of which one is none, or is called as sizes are or by no text; or if they are
            no data set.
    """
    if not isinstance(eval_dataset, dict):
        return {"eval_dataset": eval_dataset}
    unnamed = [name for name in eval_dataset if not isinstance(name, str) or not name]
    if unnamed:
        raise ValueError(
            f"eval_dataset has a set called {unnamed[0]!r}. Names of metrics begin with that of their set, so it "
            "has to be a text of at least one letter: give {'first': ..., 'second': ...}."
        )
    nothing = [name for name, each in eval_dataset.items() if each is None]
    if nothing or not eval_dataset:
        what = f"eval_dataset[{nothing[0]!r}] is None" if nothing else "eval_dataset is a dictionary of no data set"
        raise ValueError(f"{what}, so nothing would be measured on it. Give a data set, or leave it out.")
    unclear = next((name for name in eval_dataset if not can_begin(f"eval_{name}")), None)
    if unclear is not None:
        raise ValueError(
            f"eval_dataset has a set {unclear!r}, which metrics would name as they name sizes. Possible are names "
            f"without {', '.join(map(repr, SUMMARIES))} or a size as a part. Give it another name."
        )
    return {f"eval_dataset[{name!r}]": each for name, each in eval_dataset.items()}


def check_data(
    name: str,
    dataset: Any,
    model: Any,
    *,
    args: DynaBertTrainingArguments | None = None,
    has_own_batches: bool = False,
    is_part: bool = False,
) -> None:
    """Check data: not empty, inputs that the model can read, and labels that it can predict, as far as they are used.

    Args:
        name: What to call the data set in errors.
        dataset: The data set.
        model: The model.
        args: The arguments of the training that learns from it; None: it is measured on, for which all labels count.
        has_own_batches: Whether a collator of the user's own makes the batches, and may make columns.
        is_part: Whether these are a part of the rows, in which no token need have a label that counts.

    Raises:
        ValueError: If something is not so.
    """
    check_not_empty(name, dataset)
    if not has_own_batches:
        check_tokenised(name, dataset)
    check_inputs(name, dataset, model)
    if args is None or args.learns_labels:
        may_be_missing = args is not None and args.stage != "finetune"
        check_labels(name, dataset, model, may_be_missing=may_be_missing, is_part=is_part)
    elif not has_own_batches:
        check_counted(name, dataset, model)


def check_teacher(model: ElasticModelMixin, teachers: Sequence[Any], args: DynaBertTrainingArguments) -> None:
    """Check that there is a teacher where the stage of the arguments has one; `teacher_checks` tells who can teach.

    Raises:
        ValueError: If there is none, or nothing to learn from it.
    """
    check_taught(model, args)
    if is_sentence_encoder(model):
        check_sentence_encoder(model.config, args)
    elif model.base_model is model and args.stage != "finetune" and args.logit_weight > 0:
        raise ValueError(
            f"A {type(model).__name__} has no head, so there are no predictions to distil. Give logit_weight=0 to "
            "distil its hidden states alone, a model with a head, or to train_dynabert a SentenceTransformer."
        )
    if args.stage == "finetune":
        if teachers:
            logger.warning("Stage 'finetune' learns from labels; the teacher has no effect. Leave it out.")
        return
    if not teachers:
        source = "the fine-tuned model" if args.stage == "width" else "the result of stage 'width'"
        raise ValueError(f"Stage {args.stage!r} has no teacher. Give teacher={source}, or choose stage 'finetune'.")


def check_sentence_encoder(config: Any, args: DynaBertTrainingArguments) -> None:
    """Check that a sentence encoder with this configuration can learn by these arguments.

    Raises:
        ValueError: If they ask for labels, or its pooling or its Matryoshka dimensions are not possible.
    """
    length = min(config.hidden_size, Pooling.of(config).truncate_dim or config.hidden_size)
    if args.label_weight > 0:
        raise ValueError(
            f"label_weight={args.label_weight} was given, but a sentence encoder learns from its teacher alone, and "
            "labels and scores only measure it. Leave label_weight out."
        )
    dims = getattr(config, "matryoshka_dims", None)
    if dims is not None:
        check_matryoshka_dims(dims, length)
        if args.stage != "finetune" and args.similarity_weight == 0:
            raise ValueError(
                f"matryoshka_dims={list(dims)} was given with similarity_weight=0, but the first parts of vectors "
                "learn from similarities alone. Give similarity_weight=1, or leave matryoshka_dims out."
            )


def check_matryoshka_dims(dims: Any, length: int) -> None:
    """Check how many leading numbers of vectors of this length are to be of use alone.

    Raises:
        ValueError: If one of them is not possible.
    """
    if not dims or any(not isinstance(dim, int) or not 1 <= dim <= length for dim in dims):
        raise ValueError(
            f"matryoshka_dims={dims!r} is not possible. Vectors have {length} numbers. Give a list of lengths to "
            f"which they may be cut, such as [{length // 2}, {length // 4}]."
        )


def check_rows(name: str, dataset: Any, model: PreTrainedModel, *, has_own_batches: bool = False) -> None:
    """Check that the rows of a data set can be read by their number, are tokenised, and are inputs of a model.

    Args:
        name: What to call the data set in errors.
        dataset: The data set.
        model: The model that reads it.
        has_own_batches: Whether a collator of the user's own makes the batches, and may make columns.

    Raises:
        ValueError: If something is not so, or there is no row.
    """
    check_one(name, dataset, or_else="train the stages by DynaBertTrainer to evaluate on several")
    if not are_rows(dataset):
        raise ValueError(
            f"{name} is a {type(dataset).__name__}. The recipe needs one data set of known length, whose rows can be "
            "read by their number: give a datasets.Dataset or a list, or train the stages by DynaBertTrainer."
        )
    check_not_empty(name, dataset)
    if not has_own_batches:
        check_tokenised(name, dataset, possible=["input_ids"])
    check_inputs(name, dataset, model)


def check_batches(batches: Any, such_as: str) -> None:
    """Check that something can be passed over as batches.

    Args:
        batches: What was given for them.
        such_as: Where such batches are, for the error.

    Raises:
        TypeError: If it is one batch, a text or nothing to pass over.
    """
    has_many = hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")
    if not has_many or isinstance(batches, Mapping | str):
        raise TypeError(
            f"batches is a {type(batches).__name__}. Possible is a list, a loader or the like of dictionaries of "
            f"tensors. Give {such_as} of a LabelledText, or put a single batch into a list."
        )


def check_one(name: str, dataset: Any, *, or_else: str) -> None:
    """Check that a data set is there, and that it is one.

    Args:
        name: What to call the data set in errors.
        dataset: The data set.
        or_else: What else may be done with several.

    Raises:
        ValueError: If it is not so.
    """
    if dataset is None:
        raise ValueError(f"{name} is None. Give a data set.")
    if isinstance(dataset, Mapping):
        raise ValueError(
            f"{name} is a {type(dataset).__name__} of {list(dataset)}. Possible is one data set. Give one of these, "
            f"such as data[{next(iter(dataset), '')!r}], or {or_else}."
        )


def check_ignored(ignore_keys: Sequence[str] | None, model: Any, compute_metrics: Any) -> None:
    """Check that something is left for metrics where outputs are ignored.

    Raises:
        ValueError: If nothing is.
    """
    task, ignored = task_of(model), list(ignore_keys or ())
    if ignored and compute_metrics is not None and task.predicts != "vector" and set(task.outputs).issubset(ignored):
        raise ValueError(
            f"ignore_keys={ignored} leaves out all that a {type(model).__name__} predicts, "
            f"{list(task.outputs)}, so compute_metrics would have nothing to score. Leave that out, or make a trainer "
            "without compute_metrics."
        )


def check_tokenised(name: str, dataset: Any, *, possible: Collection[str] = ("input_ids", "inputs_embeds")) -> None:
    """Check that rows are mappings with tokens in a possible column, as far as their columns can be known.

    Raises:
        ValueError: If they are not.
    """
    _check_mappings(name, dataset)
    columns = column_names(dataset)
    if columns and not set(possible) & set(columns):
        raise ValueError(
            f"{name} has the columns {sorted(columns)} but no 'input_ids'. Tokenise it first: "
            "dataset.map(lambda rows: tokenizer(rows['text'], truncation=True), batched=True). train_dynabert, "
            "specialise and store_teacher_outputs do so themselves with processing_class=tokenizer."
        )


def _check_mappings(name: str, dataset: Any) -> None:
    if is_stream(dataset) or not hasattr(dataset, "__getitem__"):
        return
    advice = "Give a datasets.Dataset or a list of dictionaries"
    if isinstance(dataset, datasets.Dataset):  # of another format
        advice = "Give dataset.with_format(None)"
    try:
        row = dataset[0]
    except KeyError as error:
        raise ValueError(
            f"{name} is a {type(dataset).__name__}, which has no row number 0. Possible are data sets whose rows can "
            f"be read by their number. {advice}; Dataset.from_pandas and Dataset.from_dict make one of a table."
        ) from error
    if not isinstance(row, Mapping):
        raise ValueError(
            f"{name} has the {type(row).__name__} {short(row)} as its first row. Possible are rows that map the names "
            f"of columns to values, such as {{'input_ids': [5, 6], 'labels': 0}}. {advice}, or the data_collator that "
            "makes batches of such rows."
        )


def how_to_label(model: PreTrainedModel) -> str:
    """What the columns of labels have to be called."""
    if task_of(model).predicts == "span":
        return (
            "Add start_positions and end_positions, the tokens of each answer as the model reads them, 0 and 0 where a "
            "row has no answer"
        )
    return "Rename the column that holds them to 'labels'"


def warn_of_equal_sizes(config: Any) -> None:
    """Warn of sizes that are the same network, since a small model has too few heads or layers to tell them apart."""
    names: dict[Any, list[str]] = {}
    for size in config.subnetworks:
        names.setdefault(config.resolve(size), []).append(size_name(size))
    same = [" and ".join(each) for each in names.values() if len(each) > 1]
    if same and is_main_process():
        warnings.warn(
            f"Some sizes are the same network under several names: {'; '.join(same)}. With "
            f"{config.num_attention_heads} heads and {config.num_hidden_layers} layers there are {len(names)} different"
            " ones, and the same ones are trained and measured alike. Give fewer widths or depths to silence this.",
            stacklevel=4,
        )


def check_not_empty(name: str, dataset: Any) -> None:
    """Check that a data set of known length has an example.

    Raises:
        ValueError: If it is empty.
    """
    if hasattr(dataset, "__len__") and len(dataset) == 0:
        raise ValueError(f"{name} is empty. Give at least one example.")


def check_enough(dataset: Any, args: DynaBertTrainingArguments) -> None:
    """Check that every process gets something of its own to train on, if the data have a known length.

    Raises:
        ValueError: If there are fewer examples than processes, or no full batch where others are left out.
    """
    batch_size, num_processes = args.rows_in_a_batch, args.world_size
    if batch_size < num_processes:
        raise ValueError(
            f"A batch of {batch_size} cannot be split over {num_processes} processes. Give a per_device_train_batch_"
            f"size of at least {num_processes}, or leave split_batches off."
        )
    if not hasattr(dataset, "__len__"):
        return
    if len(dataset) < num_processes:
        raise ValueError(
            f"train_dataset has {len(dataset)} examples for {num_processes} processes, so that some would have "
            "nothing of their own to learn. Give more examples, or launch fewer processes."
        )
    if args.dataloader_drop_last and len(dataset) < batch_size:
        raise ValueError(
            f"train_dataset has {len(dataset)} examples, a batch of all processes {batch_size}, and "
            "dataloader_drop_last leaves out a batch that is not full: there would be no step at all. Give a smaller "
            "per_device_train_batch_size, or dataloader_drop_last=False."
        )
