"""The data of run_glue.py: the GLUE tasks, or csv, json and parquet files, in one form, checked before any work.

Whatever the source, a data set ends as splits with the columns `text`, for pairs `text_pair`, and `label`.
"""

import math
from dataclasses import replace
from decimal import Decimal

from datasets import ClassLabel, DatasetDict, Features, Sequence, Value
from recipe_data import InputError, Splits, load_named

from dynabert_hf.data.text_columns import NO_TEXTS, TEXTS
from dynabert_hf.messages import get_logger

logger = get_logger("glue_data")

GLUE = "nyu-mll/glue"
TEXT_COLUMNS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "stsb": ("sentence1", "sentence2"),
    "mnli": ("premise", "hypothesis"),
    "qnli": ("question", "sentence"),
    "rte": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
}
LABELS = {
    "cola": ("unacceptable", "acceptable"),
    "sst2": ("negative", "positive"),
    "mrpc": ("not_equivalent", "equivalent"),
    "qqp": ("not_duplicate", "duplicate"),
    "mnli": ("entailment", "neutral", "contradiction"),
    "qnli": ("entailment", "not_entailment"),
    "rte": ("entailment", "not_entailment"),
    "wnli": ("not_entailment", "entailment"),
}
"""The labels of each task in their order; `stsb` has values."""


def load_task(task, *, dataset=None, config=None, **kwargs):
    """A GLUE task from the Hub, or from a copy of it: another data set, or a folder.

    Args:
        task: Name of the task.
        dataset: Hub id or folder of the copy; None: GLUE itself.
        config: Configuration of the copy; None: the name of the task.
        **kwargs: As for `load_dataset`.
    """
    source = dataset or GLUE
    raw = load_named(source, config or task, **kwargs)
    evaluations, tests = {"": "validation"}, ("test",)
    if task == "mnli":
        evaluations, tests = (
            {"": "validation_matched", "mm": "validation_mismatched"},
            ("test_matched", "test_mismatched"),
        )
    for split in ("train", *evaluations.values()):
        if split not in raw:
            raise InputError(f"{source!r} has the splits {sorted(raw)} but no {split!r}, which task {task!r} needs.")
    tests = tuple(split for split in tests if split in raw)
    raw = DatasetDict({split: raw[split] for split in ("train", *evaluations.values(), *tests)})
    splits = named_alike(raw, TEXT_COLUMNS[task], "label", tests=tests)
    labels = LABELS.get(task)
    return Splits(with_labels(splits, labels, column="label"), labels, evaluations, tests)


def load_free_form(raw, *, text_columns, label_column, regression, train=None):
    """Data whose columns and labels are to be found out.

    Args:
        raw: The splits train and perhaps validation and test.
        text_columns: Columns of the text or the pair of texts; None: those of usual names, else all with text.
        label_column: Column of the label.
        regression: Whether labels are values; None: as the column's type says.
        train: The rows that tell columns and labels; None: those of the split train.
    """
    train = raw["train"] if train is None else train
    tests = ("test",) if "test" in raw else ()
    if label_column not in train.column_names:
        raise InputError(
            f"The training data have the columns {train.column_names} but no {label_column!r}. Name the one with the "
            "labels by --label_column_name."
        )
    splits = named_alike(raw, text_columns or _find_text(train, label_column), label_column, tests=tests)
    evaluations = {"": "validation"} if "validation" in raw else {}
    if hasattr(train.features[label_column], "feature") and not regression:
        labels = names_in_lists(train, label_column)
        splits = with_several_labels(splits, labels, column=label_column)
        return Splits(splits, labels, evaluations, tests, has_several=True)
    labels = None if _is_regression(train, label_column, regression) else label_names(train, label_column)
    return Splits(with_labels(splits, labels, column=label_column), labels, evaluations, tests)


def relabel(data, labels):
    """The same data with the same labels in another order."""
    order = tuple(data.labels.index(label) for label in labels)
    if data.has_several:
        splits = data.splits.map(lambda row: {"label": [row["label"][at] for at in order]} if "label" in row else {})
    else:
        splits = with_labels(data.splits, tuple(labels), column="label")
    return replace(data, splits=splits, labels=tuple(labels), numbers=order)


def _find_text(train, label_column):
    others = {label_column, *NO_TEXTS}
    texts = [name for name, kind in train.features.items() if name not in others and _is_text(kind)]
    usual = next((names for names in TEXTS if set(names) <= set(texts)), None)
    if usual is not None:
        return usual
    if len(texts) == 2:
        logger.warning(
            f"The columns {texts[0]!r} and {texts[1]!r} are read as a pair of texts. Name other columns, or these, by "
            "--text_column_names."
        )
    if len(texts) in (1, 2):
        return tuple(texts)
    found = f"{len(texts)} columns with text: {texts}" if texts else f"no column with text: {train.column_names}"
    raise InputError(f"The training data have {found}. Name one or two of them by --text_column_names.")


def _is_text(kind):
    return getattr(kind, "dtype", None) in ("string", "large_string")


def _is_regression(train, column, regression):
    kind = train.features[column]
    if regression is None:
        dtype = getattr(kind, "dtype", "")
        return dtype.startswith(("float", "double")) or (dtype.startswith("decimal") and not dtype.endswith(" 0)"))
    if regression and (_is_text(kind) or isinstance(kind, ClassLabel)):
        raise InputError(
            f"Column {column!r} holds names, not values. Leave out --do_regression, or name another column."
        )
    return regression


def label_names(train, column):
    """The labels as text, in the order of their values."""
    kind = train.features[column]
    if isinstance(kind, ClassLabel):
        return tuple(kind.names)
    if not hasattr(kind, "dtype") or kind.dtype in ("null", "binary"):
        raise InputError(f"Column {column!r} holds {kind}, not labels. Name another one.")
    found = sorted(label for label in train.unique(column) if label is not None)
    if len(found) < 2:
        raise InputError(f"Column {column!r} holds one label only, {found}. Training needs at least two.")
    rows_of_each = 2 if _is_text(kind) else 10  # names may be intents with few rows each; so many numbers are values
    if len(found) > max(100, len(train) // rows_of_each):
        raise InputError(
            f"Column {column!r} holds {len(found)} different labels in {len(train)} rows. Name the column with the "
            "labels; if these are values, run_glue.py takes them by --do_regression."
        )
    return tuple(map(_name, found))


def names_in_lists(train, column):
    """The labels that stand in lists, of which a row has any number: those of the data set, else all that occur."""
    kind = train.features[column].feature
    if isinstance(kind, ClassLabel):
        return tuple(kind.names)
    if not _is_text(kind):
        raise InputError(
            f"Column {column!r} holds lists of {kind}. Possible are lists of the names of the labels that a row has. "
            "Give those, or name another column by --label_column_name."
        )
    found = {label for row in train[column] for label in row or ()}
    if len(found) < 2:
        raise InputError(
            f"Column {column!r} holds lists of {len(found)} different labels, {sorted(found)}. Training needs at least "
            "two. Name the column with the labels by --label_column_name."
        )
    return tuple(sorted(found))


def with_several_labels(splits, labels, *, column):
    """The splits with a 0 or 1 for each label in the place of lists; a test split without any loses them.

    Args:
        splits: Splits with a column `label` of lists of names, or of numbers that the data set names.
        labels: Names of the labels in their order.
        column: What the column was called where it came from.
    """
    for split, data in splits.items():
        if "label" not in data.column_names:
            continue
        if split.startswith("test") and data.data.column("label").null_count == len(data):
            splits[split] = data.remove_columns("label")
            continue
        if not hasattr(data.features["label"], "feature"):
            raise InputError(
                f"Column {column!r} of split {split!r} holds {data.features['label']}, and lists of labels in the "
                "training data. Give a list of names in each row."
            )
        kind = data.features["label"].feature
        known = dict(enumerate(kind.names)) if isinstance(kind, ClassLabel) else {}
        rows = [None if row is None else [known.get(label, label) for label in row] for row in data["label"]]
        for number, row in enumerate(rows):
            unknown = [None] if row is None else [label for label in row if label not in labels]
            if unknown:
                raise InputError(
                    f"Column {column!r} of split {split!r} has the label {unknown[0]!r} in row {number}. Possible is a "
                    f"list of some of {list(labels)}. Correct the label; where a row has none, give an empty list."
                )
        own = [[float(label in row) for label in labels] for row in rows]
        features = Features({**data.features, "label": Sequence(Value("float32"))})
        splits[split] = data.remove_columns("label").add_column("label", own).cast(features)
    return splits


def _name(label):
    """A label as text: 1.0, which stands in a file where a label is missing elsewhere, is label 1."""
    return str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)


def named_alike(raw, text_columns, label_column, *, tests):
    """The splits with the columns text, text_pair and label only."""
    if len(text_columns) not in (1, 2):
        raise InputError(
            f"--text_column_names names {len(text_columns)} columns, {list(text_columns)}. Name one or two."
        )
    if len({*text_columns, label_column}) <= len(text_columns):
        raise InputError(
            f"Texts are to be read from {list(text_columns)}, labels from {label_column!r}. Name a column of its own "
            "for each."
        )
    names = dict(zip(text_columns, ("text", "text_pair"), strict=False))
    splits = DatasetDict()
    for split, data in raw.items():
        has_labels = label_column in data.column_names
        for column in (*names, *([] if split in tests and not has_labels else [label_column])):
            if column not in data.column_names:
                raise InputError(
                    f"Split {split!r} has the columns {data.column_names} but no {column!r}. Give all splits the same "
                    "columns, or name others."
                )
        for column in names:
            if not _is_text(data.features[column]):
                raise InputError(f"Column {column!r} of split {split!r} holds {data.features[column]}, not text.")
            if missing := data.data.column(column).null_count:
                raise InputError(
                    f"Column {column!r} of split {split!r} is empty in {missing} rows. Fill or remove them."
                )
        if len(data) == 0:
            raise InputError(f"Split {split!r} is empty. Give at least one row.")
        wanted = {**names, **({label_column: "label"} if has_labels else {})}
        splits[split] = data.select_columns(list(wanted)).rename_columns(
            {old: new for old, new in wanted.items() if old != new}
        )
    return splits


def with_labels(splits, labels, *, column):
    """The splits with labels of one type, each of them checked; a test split without any, or with -1 only, loses them.

    Args:
        splits: Splits with a column `label`.
        labels: Names of the labels in their order; None: the labels are values.
        column: What the column was called where it came from.
    """
    has_names = labels is not None and _is_text(splits["train"].features["label"])
    for split, data in splits.items():
        if "label" not in data.column_names:
            continue
        kind = data.features["label"]
        if not hasattr(kind, "dtype"):
            raise InputError(f"Column {column!r} of split {split!r} holds {kind}, not labels. Give one label a row.")
        found = data.unique("label")
        are_places = labels is not None and _are_places(kind, labels, found)
        convert = _value_of if labels is None else _index_of(kind, labels, are_places)
        if split.startswith("test") and set(found) <= {None, -1}:
            splits[split] = data.remove_columns("label")
            continue
        if has_names and are_places:
            warn_of_places(column, split, labels)
        for label in found:
            if convert(label) is None:
                raise InputError(
                    f"Column {column!r} of split {split!r} has the label {label!r}. Possible "
                    + ("are finite numbers." if labels is None else f"is one of {list(labels)}.")
                    + " Correct the label, or remove its rows."
                )
        features = data.features.copy()
        features["label"] = Value("float32") if labels is None else ClassLabel(names=list(labels))
        table = {label: convert(label) for label in found}
        splits[split] = data.map(
            lambda rows, table=table: {"label": [table[label] for label in rows["label"]]},
            batched=True,
            features=features,
        )
    return splits


def warn_of_places(column, split, labels):
    """Say that numbers in a split are taken for the places of labels, which have names in the training data."""
    logger.warning(
        f"Column {column!r} holds numbers in split {split!r} and names in the training data. The numbers are taken to "
        f"count {list(labels)}, from 0. If they mean others, give the names there, too."
    )


def _value_of(label):
    is_value = isinstance(label, (int, float, Decimal)) and not isinstance(label, bool) and math.isfinite(label)
    return float(label) if is_value else None


def _are_places(kind, labels, found):
    """Whether a column holds whole numbers that count the labels from 0, since these are other names."""
    is_number = not isinstance(kind, ClassLabel) and kind.dtype.startswith("int")
    are_names = all(name.lstrip("-").isdigit() for name in labels) or {_name(label) for label in found} <= {*labels}
    return is_number and not are_names


def _index_of(kind, labels, are_places):
    """What turns a label of a column into its index; None for one that is not among `labels`."""
    if isinstance(kind, ClassLabel):
        names = kind.names
        known = {index: labels.index(name) for index, name in enumerate(names) if name in labels}
        return known.get
    if are_places:
        return lambda label: label if label is not None and 0 <= label < len(labels) else None
    return lambda label: labels.index(_name(label)) if label is not None and _name(label) in labels else None
