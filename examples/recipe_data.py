"""The data of all training scripts here: splits of a data set or of files, read and drawn from."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from datasets import DatasetDict, concatenate_datasets, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError

from dynabert_hf.data.columns import drawn_rows
from dynabert_hf.data.encoding import most_tokens
from dynabert_hf.data.text_files import read_rows
from dynabert_hf.families import longest_input
from dynabert_hf.messages import get_logger

logger = get_logger("recipe_data")

ROW = "__row_of_the_split__"
"""The column with the number of a drawn row: no column of a file, which may have one called `row`, is called so."""


class InputError(ValueError):
    """What was given cannot be worked with; the message says why and what to do."""


@dataclass(frozen=True)
class Splits:
    """Data of one form.

    Attributes:
        splits: Split by its name, `train` among them.
        labels: Names of the labels in their order; None: there are no classes.
        evaluations: Splits to evaluate on by the suffix of their metrics; the first, without one, is looked at first.
        tests: Splits to predict.
        has_several: Whether a row has any number of the labels, as a list of 0 and 1.
        numbers: For each label the number that it had, where the labels were brought into the order of a model.
        rows: For each split whose texts were cut into several how many rows it had before.
    """

    splits: DatasetDict
    labels: tuple[str, ...] | None = None
    evaluations: dict[str, str] = field(default_factory=dict)
    tests: tuple[str, ...] = ()
    has_several: bool = False
    numbers: tuple[int, ...] | None = None
    rows: dict[str, int] = field(default_factory=dict)

    @classmethod
    def by_name(cls, splits, labels=None, **others):
        """Splits of which `validation` is evaluated and `test` is predicted, where they are there."""
        evaluations = {"": "validation"} if "validation" in splits else {}
        return cls(splits, labels, evaluations, ("test",) if "test" in splits else (), **others)

    def num_rows(self, split):
        """How many rows a split has, or had."""
        return self.rows.get(split, len(self.splits[split]))


def load_splits(data_args, *, seed, read=None, **download):
    """The splits of the data set or the files that were named: train and perhaps validation and test.

    Args:
        data_args: `SourceArguments`.
        seed: Draws the rows that are held back to evaluate on, where that was asked for.
        read: Reads a file; None: as `read_rows` does.
        **download: As for `load_dataset`.
    """
    read = read or partial(read_rows, cache_dir=download["cache_dir"])
    return held_back(_named_splits(data_args, read, download), data_args, seed)


def _named_splits(data_args, read, download):
    if data_args.dataset_name:
        raw = load_named(data_args.dataset_name, data_args.dataset_config_name, **download)
        if "train" not in raw:
            raise InputError(
                f"{data_args.dataset_name!r} has the splits {sorted(raw)} but no 'train'. Give one that has it."
            )
        return DatasetDict({split: raw[split] for split in ("train", "validation", "test") if split in raw})
    named = {name.removesuffix("_file"): path for name, path in data_args.files.items() if path is not None}
    return DatasetDict({split: read(path) for split, path in named.items()})


def held_back(splits, data_args, seed):
    """The splits, with a share of the training rows as split `validation`, if that was asked for."""
    share, train = data_args.validation_split_percentage, splits["train"]
    if share is None:
        return splits
    if "validation" in splits:
        raise InputError(
            f"--validation_split_percentage {share} was given, but the data have a part to evaluate on, of "
            f"{len(splits['validation'])} rows. Leave it out."
        )
    count = round(len(train) * share / 100)
    if not 0 < count < len(train):
        raise InputError(
            f"--validation_split_percentage {share} of {len(train)} training rows leaves none on one side. Give more "
            "rows, or another share."
        )
    held = set(drawn_rows(train, count, seed, label=getattr(data_args, "label_column_name", None)))
    parts = {"train": train.select([row for row in range(len(train)) if row not in held])}
    return DatasetDict({**splits, **parts, "validation": train.select(sorted(held))})


def all_training_rows(splits, data_args):
    """The rows to train on, with those that were held back from them: which labels there are, all of them tell."""
    is_held_back = data_args.validation_split_percentage is not None
    return concatenate_datasets([splits["train"], splits["validation"]]) if is_held_back else splits["train"]


def load_named(source, config, *, option="--dataset_name", **kwargs):
    """The data set of a Hub id, or of a folder, which `option` names."""
    if (Path(source) / "dataset_dict.json").is_file():
        return load_from_disk(source)
    try:
        return load_dataset(source, config, **kwargs)
    except (OSError, ValueError, DatasetGenerationError) as error:  # no network, no such data, files of other columns
        cause = (isinstance(error, DatasetGenerationError) and error.__cause__) or error
        name = f"{source!r} ({config})" if config else repr(source)
        raise InputError(
            f"The data set {name} cannot be loaded: {str(cause).rstrip('.')}. Give the id of one on the Hub, or "
            f"with {option} a folder with a copy, such as DatasetDict.save_to_disk makes."
        ) from error


def shortened(data, data_args, seed):
    """The splits, with as many rows as were asked for, drawn by the seed; those of a test keep order and number."""
    limits = {"train": data_args.max_train_samples}
    limits |= dict.fromkeys(data.evaluations.values(), data_args.max_eval_samples)
    limits |= dict.fromkeys(data.tests, data_args.max_predict_samples)
    for split, limit in limits.items():
        part = data.splits[split]
        if limit is None or limit >= len(part):
            continue
        rows = drawn_rows(part, limit, seed)
        data.splits[split] = part.select(rows) if split not in data.tests else numbered(part, sorted(rows))
    return data.splits


def numbered(part, rows):
    """These rows of a test split, and in a column which ones they are."""
    return part.select(rows).add_column(ROW, rows)


def row_numbers(part):
    """Which rows of its test split these are, also where some were drawn."""
    return part[ROW][:] if ROW in part.column_names else list(range(len(part)))


def length_for(model, tokenizer, data_args, *, pair):
    """The tokens after which a text or a pair of texts is cut, or begins a new window."""
    possible = longest_input(model.config)
    if data_args.max_seq_length > possible:
        logger.warning(
            f"--max_seq_length {data_args.max_seq_length} is more than the {possible} tokens of the model; texts are "
            "cut to these."
        )
    return most_tokens(model, tokenizer, data_args.max_seq_length, pair=pair)
