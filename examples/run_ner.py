"""Train all sizes of an encoder that tags words, such as named entities, on a
data set or on your own files.

    python examples/run_ner.py --dataset_name eriktks/conll2003 \\
        --model_name_or_path bert-base-cased --finetune_teacher \\
        --output_dir outputs/conll
    python examples/run_ner.py --train_file train.conll \\
        --validation_file dev.conll --model_name_or_path my-tagger \\
        --output_dir outputs/mine
    accelerate launch --num_processes 2 examples/run_ner.py ...

A file is text with a word and its tag per line (.conll, .bio, .iob, .txt), or
json, jsonl or parquet with a list of words and a list of tags per row. If a
word has several tokens, only the first one counts. docs/tasks.md tells more.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict
from glue_data import warn_of_places
from glue_labels import told_names
from recipe_arguments import SourceArguments
from recipe_data import InputError, Splits, all_training_rows, length_for, load_splits, row_numbers, shortened
from recipe_job import Job, in_a_cell, run_script, write_predictions
from recipe_training import load_model, load_tokenizer
from transformers import AutoModelForTokenClassification

from dynabert_hf.cli.tags import OUTSIDE
from dynabert_hf.data.encoding import encoded
from dynabert_hf.data.text_columns import TAGS, WORDS, TextColumns
from dynabert_hf.data.text_files import read_rows, read_tagged_words
from dynabert_hf.task_metrics import IGNORED
from dynabert_hf.tasks import task_of


@dataclass
class TaggingArguments(SourceArguments):
    """Where the tagged words come from."""

    text_column_name: str | None = field(
        default=None, metadata={"help": f"Column with the words of a row (default: {' or '.join(WORDS)})."}
    )
    label_column_name: str | None = field(
        default=None, metadata={"help": f"Column with a tag for each word (default: {' or '.join(TAGS)})."}
    )


def main(argv=None):
    run_script("run_ner.py", TaggingArguments, prepare, argv, description=__doc__)


def prepare(data_args, model_args, training_args, given):
    """Load and check data and model, and tokenise; returns the job and the model."""
    with training_args.main_process_first(desc="reading the data"):
        read = partial(read_words, cache_dir=model_args.cache_dir)
        raw = load_splits(data_args, seed=training_args.seed, read=read, **model_args.download)
    columns = columns_of(raw["train"], data_args)
    labels = tags_of(all_training_rows(raw, data_args), columns.labels)

    def load_tagger(name, *, new_head=False, **kwargs):
        told = told_names(name, labels, model_args, new_head=new_head, revision=kwargs.get("revision", "main"))
        if told:
            told["num_labels"] = len(labels)
        model = load_model(name, AutoModelForTokenClassification, model_args, new_head=new_head, **told, **kwargs)
        check_names(name, model.config, labels)
        return model

    model = load_tagger(
        model_args.first_model, new_head=model_args.finetune_teacher, revision=model_args.model_revision
    )
    tokenizer = load_tokenizer(model_args)
    data = Splits.by_name(raw, labels)
    splits = shortened(data, data_args, training_args.seed)
    for split, part in splits.items():
        if has_numbers(part, columns.labels) and not {*tags_of(part, columns.labels)} <= {*labels}:
            warn_of_places(columns.labels, split, labels)
    rows = {split: tokenised(split, part, columns, model, tokenizer, data_args) for split, part in splits.items()}
    words = {split: splits[split][columns.texts[0]] for split in data.tests}
    numbers = {split: row_numbers(splits[split]) for split in data.tests}
    trainer_kwargs = {
        "processing_class": tokenizer,
        "data_collator": task_of(model).collator(tokenizer),
        "compute_metrics": task_of(model).metrics(model),
    }

    def predict(job, elastic):
        return write_tags(job, elastic, words, numbers)

    data = Splits.by_name(DatasetDict(rows), labels)
    job = Job(model_args, data_args, training_args, given, data, trainer_kwargs, load_tagger, predict)
    return job, model


def read_words(path, *, cache_dir):
    """The rows of a file, of which a `.txt` has a word and its tag a line."""
    return read_tagged_words(path) if Path(path).suffix == ".txt" else read_rows(path, cache_dir=cache_dir)


def columns_of(train, data_args):
    """The columns of the words and of their tags."""
    found = {}
    for given, usual, what in (
        (data_args.text_column_name, WORDS, "--text_column_name"),
        (data_args.label_column_name, TAGS, "--label_column_name"),
    ):
        found[what] = next((name for name in ([given] if given else usual) if name in train.column_names), None)
        if found[what] is None:
            raise InputError(
                f"The training data have the columns {train.column_names} but no {given or ' or '.join(usual)}. Name "
                f"the right one by {what}."
            )
    words, tags = found.values()
    return TextColumns((words,), tags)


def tags_of(train, column):
    """The names of the tags: those of the data set, else all that occur, O first."""
    kind = getattr(train.features[column], "feature", None)
    if isinstance(kind, ClassLabel):
        return tuple(kind.names)
    found = {str(tag) for row in train[column] if isinstance(row, list) for tag in row if tag != IGNORED}
    return tuple(sorted(found, key=lambda tag: (tag != "O", tag.partition("-")[::-1])))


def has_numbers(part, column):
    """Whether the tags of a split are numbers that it does not name."""
    kind = getattr(part.features.get(column), "feature", None)
    return not isinstance(kind, ClassLabel) and getattr(kind, "dtype", "").startswith("int")


def are_hidden(part, column):
    """Whether no word of a split has a tag: lists are missing, empty, or hold -1 alone."""
    return {tag for tags in part[column] for tag in tags or ()} <= {-1}


def check_names(name, config, labels):
    """Refuse a model that knows other tags than the data have."""
    unknown = sorted(set(labels) - set(map(str, config.id2label.values())))
    if unknown:
        raise InputError(
            f"The data have the tags {unknown[:5]}, which {name!r} does not know: it has "
            f"{list(config.id2label.values())[:9]}. Give --finetune_teacher to fine-tune it with a new head, or a "
            "model that was fine-tuned on these tags."
        )


def tokenised(split, part, columns, model, tokenizer, data_args):
    """A split as the model reads it; how many words were cut off is said."""
    has_tags = columns.labels in part.column_names and not (split == "test" and are_hidden(part, columns.labels))
    own = TextColumns(columns.texts, columns.labels if has_tags else None)
    missing = [name for name in columns.texts if name not in part.column_names]
    if missing or (own.labels is None and split != "test"):
        raise InputError(
            f"Split {split!r} has the columns {part.column_names} but no {(missing or [columns.labels])[0]!r}, which "
            "the training data have. Give all splits the same columns."
        )
    try:
        length = length_for(model, tokenizer, data_args, pair=False)
        rows = encoded(part, own, model, tokenizer, max_length=length, needs_labels=split != "train")
    except ValueError as error:
        raise InputError(f"Split {split!r}: {error}") from error
    return Dataset.from_list(rows)


def write_tags(job, model, words, numbers):
    """Write the tags of every size for the words of the test splits, a sentence a row, parted by blanks.

    Where the words have tags, the metrics are written, too.

    Args:
        job: The run.
        model: The elastic model.
        words: For each test split the words of its sentences.
        numbers: For each test split which of its rows they are.
    """
    evaluation = job.evaluation(model)
    names = model.config.id2label
    for split in job.data.tests:
        rows = job.data.splits[split]
        output = evaluation.predict(rows, metric_key_prefix=split)
        if not job.is_main:
            continue
        firsts = first_pieces(job.trainer_kwargs["processing_class"], words[split], rows["input_ids"])
        for size, logits in output.predictions.items():
            best = [
                [OUTSIDE if at is None else names[int(row[at].argmax())] for at in own]
                for row, own in zip(logits, firsts, strict=True)
            ]
            tags = [in_a_cell(own, " ") for own in best]
            path = job.output_dir / "predictions" / size / f"{split}.tsv"
            write_predictions(path, ["index", "tags"], zip(numbers[split], tags, strict=True))
        if "labels" in rows.column_names:
            job.write_results(split, output.metrics)
    return job.output_dir / "predictions"


def first_pieces(tokenizer, words, ids):
    """For each row the place of the first piece of each word, None where it has none, up to where the row is cut."""
    firsts = []
    for row, own in zip(words, ids, strict=True):
        encoding = tokenizer(list(row), is_split_into_words=True, truncation=True, max_length=len(own))
        places = encoding.word_ids()
        found = {word: at for at, word in reversed(list(enumerate(places))) if word is not None}
        read = max(found, default=-1) + 1 if encoding.encodings[0].overflowing else len(row)
        firsts.append([found.get(word) for word in range(read)])
    return firsts


if __name__ == "__main__":
    main()
