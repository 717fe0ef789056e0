"""Train all sizes of a sentence encoder on texts without labels, of a data set or
of csv, json or parquet files.

    python examples/run_embeddings.py --dataset_name nyu-mll/glue \\
        --dataset_config_name stsb --output_dir outputs/stsb \\
        --model_name_or_path sentence-transformers/all-MiniLM-L6-v2
    python examples/run_embeddings.py --train_file texts.csv \\
        --validation_file pairs.csv --retrieval_file intents.csv \\
        --model_name_or_path mine --output_dir outputs/sizes
    accelerate launch --num_processes 2 examples/run_embeddings.py ...

The model is a folder or Hub id of sentence-transformers. The texts to learn
from are all columns of text, one or two, or those of --text_column_names.
Labels are not used. An evaluation has two columns of text and a `score`,
measured by Spearman's correlation, or one and a `label`, measured by retrieval
of texts with the same label. docs/embeddings.md tells more.
"""

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from datasets import DatasetDict
from recipe_arguments import SourceArguments, listed
from recipe_data import InputError, Splits, load_splits, shortened
from recipe_job import Job, measure_tests, run_script

from dynabert_hf.data.sentence_encoder import SentenceEncoder
from dynabert_hf.data.sentences import SCORE_COLUMNS, texts_to_learn, texts_to_measure
from dynabert_hf.data.text_files import read_rows
from dynabert_hf.tasks import task_of


@dataclass
class EmbeddingArguments(SourceArguments):
    """Where the texts come from, and what else they are measured on."""

    text_column_names: str | None = field(
        default=None,
        metadata={"help": "Column of texts or, with a comma, two to learn from, and to measure on where they are."},
    )
    label_column_name: str | None = field(
        default=None, metadata={"help": f"Column to measure by (default: one of {', '.join(SCORE_COLUMNS)})."}
    )
    retrieval_file: str | None = field(
        default=None, metadata={"help": "File of texts with labels to measure retrieval on, too."}
    )
    matryoshka_dims: list[int] | None = field(
        default=None, metadata={"help": "How many leading numbers of a vector are to be of use alone, such as 192 96."}
    )

    @property
    def about(self):
        """What a card says of the data that sizes are measured on."""
        about = super().about
        if self.retrieval_file is not None:
            about["dataset_name"] += f" and {Path(self.retrieval_file).name}"
        return about

    def __post_init__(self):
        super().__post_init__()
        self.text_column_names = listed(self.text_column_names)


def main(argv=None):
    run_script("run_embeddings.py", EmbeddingArguments, prepare, argv, description=__doc__)


def prepare(data_args, model_args, training_args, given):
    """Load and check data and encoder, and tokenise; returns the job and the encoder."""
    for name in ("finetune", "finetune_teacher", "label_order"):
        if given.get(name):
            raise InputError(f"--{name} was given, but a sentence encoder learns without labels. Leave it out.")
    with training_args.main_process_first(desc="reading the data"):
        raw = load_splits(data_args, seed=training_args.seed, **model_args.download)
        if data_args.retrieval_file:
            raw["retrieval"] = read_rows(data_args.retrieval_file, cache_dir=model_args.cache_dir)
    encoder = load_encoder(model_args.first_model, model_args, data_args, revision=model_args.model_revision)
    tests = ("test",) if training_args.do_predict and "test" in raw else ()
    measured = [split for split in ("validation", "retrieval") if split in raw]
    data = Splits(raw, None, dict(zip(("", "retrieval"), measured, strict=False)), tests)
    with training_args.main_process_first(desc="tokenising"):
        rows = shortened(data, data_args, training_args.seed)
        splits = tokenised(rows, encoder, data_args)
    for split in (*(data.evaluations.values() if training_args.do_eval else ()), *tests):
        if "labels" not in splits[split].column_names:
            raise InputError(
                f"Split {split!r} has the columns {raw[split].column_names} but none to measure by. Possible are "
                f"{data_args.label_column_name or ', '.join(SCORE_COLUMNS)}. Call the scores or labels so, or name "
                "their column by --label_column_name."
            )
    kwargs = {"processing_class": encoder.tokenizer, "compute_metrics": task_of(encoder.model).metrics(encoder.model)}
    data = replace(data, splits=splits, rows={split: len(part) for split, part in rows.items()})
    job = Job(
        *(model_args, data_args, training_args, given, data, kwargs),
        load_teacher=partial(load_teacher, model_args=model_args, data_args=data_args),
        predict=measure_tests,
    )
    return job, encoder.model


def load_encoder(name, model_args, data_args, **download):
    """A sentence encoder with its tokenizer, and the Matryoshka dimensions that were asked for."""
    encoder = SentenceEncoder.of(name, **model_args.download, **download)
    if encoder is None:
        raise InputError(
            f"{name!r} is no sentence encoder: it has no modules.json. Give a folder or Hub id of "
            "sentence-transformers."
        )
    if data_args.matryoshka_dims:
        encoder.model.config.matryoshka_dims = data_args.matryoshka_dims
    return encoder


def load_teacher(name, *, model_args, data_args):
    """The sentence encoder that teaches a single stage."""
    return load_encoder(name, model_args, data_args).model


def tokenised(splits, encoder, data_args):
    """The splits as the encoder reads them: the texts to learn from, and those to measure on with their labels."""
    texts, label = data_args.text_column_names, data_args.label_column_name
    encoded = DatasetDict()
    for split, rows in splits.items():
        given = {"model": encoder.model, "tokenizer": encoder.tokenizer, "max_length": data_args.max_seq_length}
        if split == "train":
            encoded[split] = texts_to_learn(split, rows, **given, text_columns=texts, label_column=label)
        else:
            own = texts if texts and set(texts) <= set(rows.column_names) else None
            encoded[split] = texts_to_measure(split, rows, **given, text_columns=own, label_column=label)
    return encoded


if __name__ == "__main__":
    main()
