"""Train all sizes of a masked language model on text of your own domain, without
labels.

    python examples/run_mlm.py --train_file texts.txt \\
        --validation_file dev.txt --model_name_or_path bert-base-uncased \\
        --output_dir outputs/mine
    python examples/run_mlm.py --dataset_name Salesforce/wikitext \\
        --dataset_config_name wikitext-2-raw-v1 \\
        --model_name_or_path bert-base-uncased --output_dir outputs/wikitext
    accelerate launch --num_processes 2 examples/run_mlm.py ...

The sizes learn from the named model. With --finetune_teacher, this model first
learns the text. Texts are the lines of a .txt file, or a column of csv, json or
parquet. The masks for evaluation are drawn once by the seed, so all sizes and
the teacher predict the same words. docs/tasks.md tells more.
"""

from dataclasses import dataclass, field

from datasets import Dataset, DatasetDict
from recipe_arguments import SourceArguments
from recipe_data import InputError, Splits, length_for, load_splits, shortened
from recipe_job import Job, measure_tests, run_script
from recipe_training import load_model, load_tokenizer
from transformers import AutoModelForMaskedLM

from dynabert_hf.data.encoding import encoded
from dynabert_hf.data.inputs import check_inputs
from dynabert_hf.data.masking import MaskedOnce
from dynabert_hf.data.text_columns import TextColumns
from dynabert_hf.tasks import MaskingCollator, task_of


@dataclass
class TextArguments(SourceArguments):
    """Where the texts come from."""

    text_column_name: str = field(default="text", metadata={"help": "Column with the texts."})


def main(argv=None):
    run_script("run_mlm.py", TextArguments, prepare, argv, description=__doc__)


def prepare(data_args, model_args, training_args, given):
    """Load and check data and model, and tokenise; returns the job and the model."""
    with training_args.main_process_first(desc="reading the data"):
        raw = load_splits(data_args, seed=training_args.seed, **model_args.download)

    def load_language_model(name, **kwargs):
        return load_model(name, AutoModelForMaskedLM, model_args, **kwargs)

    model = load_language_model(
        model_args.first_model, new_head=model_args.finetune_teacher, revision=model_args.model_revision
    )
    tokenizer = load_tokenizer(model_args)
    if tokenizer.mask_token_id is None:
        raise InputError(
            f"The tokenizer of {model_args.tokenizer!r} has no mask token, so no word can be masked. Give one that "
            "has, with its model."
        )
    data = Splits.by_name(raw)
    column = data_args.text_column_name
    texts = {
        split: with_words(split, part, column) for split, part in shortened(data, data_args, training_args.seed).items()
    }
    length = length_for(model, tokenizer, data_args, pair=False)
    rows = {split: tokenised(split, part, column, model, tokenizer, length) for split, part in texts.items()}
    collator = MaskingCollator(tokenizer)
    for split in (*data.evaluations.values(), *data.tests):
        rows[split] = Dataset.from_list(MaskedOnce(rows[split], collator, seed=training_args.seed).rows())
    trainer_kwargs = {
        "processing_class": tokenizer,
        "data_collator": collator,
        "compute_metrics": task_of(model).metrics(model),
        "preprocess_logits_for_metrics": task_of(model).preprocess_logits,
    }
    data = Splits.by_name(DatasetDict(rows), rows={split: len(part) for split, part in texts.items()})
    job = Job(model_args, data_args, training_args, given, data, trainer_kwargs, load_language_model, measure_tests)
    return job, model


def with_words(split, part, column):
    """The rows of a split whose texts are not blank."""
    if column not in part.column_names:
        raise InputError(
            f"Split {split!r} has the columns {part.column_names} but no {column!r}. Name the one with the texts by "
            "--text_column_name."
        )
    part = part.filter(lambda row: row[column] is not None and bool(str(row[column]).strip()))
    if not len(part):
        raise InputError(f"Split {split!r} holds blank texts only. Give at least one with words.")
    return part


def tokenised(split, part, column, model, tokenizer, length):
    """The texts of a split as the model reads them, those that are too long in several rows."""
    rows = encoded(part, TextColumns((column,), None), model, tokenizer, max_length=length)
    check_inputs(f"Split {split!r}", rows, model)  # the vocabulary of the tokenizer is that of the model
    return Dataset.from_list(rows)


if __name__ == "__main__":
    main()
