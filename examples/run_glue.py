"""Train all sizes of an encoder on a GLUE task, or on your own csv, json or
parquet files.

    python examples/run_glue.py --task_name sst2 --finetune_teacher \\
        --model_name_or_path bert-base-uncased --output_dir outputs/sst2
    python examples/run_glue.py --train_file train.csv \\
        --validation_file dev.csv --model_name_or_path my-bert \\
        --output_dir outputs/mine
    accelerate launch --num_processes 2 examples/run_glue.py ...

One command runs all stages: it fine-tunes the teacher with --finetune_teacher,
rewires, distils all sizes, and with --finetune trains them on labels. --stage
runs one stage alone. One json file may have all arguments instead. docs/glue.md
tells more.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import evaluate
import numpy as np
from glue_arguments import GlueArguments
from glue_data import load_free_form, load_task
from glue_labels import align_labels, load_classifier, load_teacher
from recipe_data import InputError, all_training_rows, length_for, load_splits, row_numbers, shortened
from recipe_job import Job, in_a_cell, run_script, write_predictions
from recipe_training import load_tokenizer
from transformers import DataCollatorWithPadding, default_data_collator

from dynabert_hf.messages import get_logger
from dynabert_hf.tasks import task_of

SCORES = Path(__file__).with_name("metrics") / "glue_scores.py"
SUBMISSION = {
    "cola": {"test": "CoLA"},
    "sst2": {"test": "SST-2"},
    "mrpc": {"test": "MRPC"},
    "qqp": {"test": "QQP"},
    "stsb": {"test": "STS-B"},
    "mnli": {"test_matched": "MNLI-m", "test_mismatched": "MNLI-mm"},
    "qnli": {"test": "QNLI"},
    "rte": {"test": "RTE"},
    "wnli": {"test": "WNLI"},
}
"""For each task the names that GLUE gives the files of its test splits."""
NAMED_IN_SUBMISSION = ("mnli", "qnli", "rte")
"""Tasks whose labels GLUE takes by name, not by number."""

logger = get_logger("run_glue")


def main(argv=None):
    run_script("run_glue.py", GlueArguments, prepare, argv, description=__doc__)


def prepare(data_args, model_args, training_args, given):
    """Load and check data and model, and tokenise; returns the job and the model."""
    with training_args.main_process_first(desc="reading the data"):
        data = load_data(data_args, training_args.seed, **model_args.download)
    new_head, revision = model_args.finetune_teacher, model_args.model_revision
    model = load_classifier(
        *(model_args.first_model, data.labels, model_args),
        new_head=new_head,
        has_several=data.has_several,
        revision=revision,
    )
    if not new_head:
        data = align_labels(data, model.config, logger.warning)
    tokenizer = load_tokenizer(model_args)
    with training_args.main_process_first(desc="tokenising"):
        splits = tokenised(shortened(data, data_args, training_args.seed), tokenizer, model, data_args)
    trainer_kwargs = {
        "processing_class": tokenizer,
        "data_collator": default_data_collator if data_args.pad_to_max_length else DataCollatorWithPadding(tokenizer),
        "compute_metrics": task_of(model).metrics(model) if data.has_several else metrics_of(data, data_args),
    }
    job = Job(
        *(model_args, data_args, training_args, given, replace(data, splits=splits), trainer_kwargs),
        load_teacher=partial(load_teacher, data=data, model_args=model_args),
        predict=predict,
    )
    return job, model


def load_data(data_args, seed, **download):
    """The splits of the task, the data set or the files that were named."""
    if data_args.task_name:
        config = data_args.dataset_config_name
        return load_task(data_args.task_name, dataset=data_args.dataset_name, config=config, **download)
    raw = load_splits(data_args, seed=seed, **download)
    data = load_free_form(
        raw,
        text_columns=data_args.text_column_names,
        label_column=data_args.label_column_name,
        regression=data_args.do_regression,
        train=all_training_rows(raw, data_args),
    )
    if data.has_several and data_args.metric_name:
        raise InputError(
            f"--metric_name {data_args.metric_name} was given, but rows have lists of labels, which are scored by "
            "micro F1 and the share of right answers. Leave it out."
        )
    return data


def tokenised(splits, tokenizer, model, data_args):
    """The splits as the model reads them."""
    length = length_for(model, tokenizer, data_args, pair="text_pair" in splits["train"].column_names)
    padding = "max_length" if data_args.pad_to_max_length else False

    def tokenise(rows):
        texts = [rows[name] for name in ("text", "text_pair") if name in rows]
        return tokenizer(*texts, truncation=True, max_length=length, padding=padding)

    return splits.map(
        tokenise,
        batched=True,
        remove_columns=[name for name in ("text", "text_pair") if name in splits["train"].column_names],
        load_from_cache_file=not data_args.overwrite_cache,
    )


def metrics_of(data, data_args):
    """What computes the metrics of predictions: GLUE's own of the task, or those that fit the labels."""
    name = data_args.metric_name or data_args.task_name or ("stsb" if data.labels is None else "sst2")
    try:
        is_ours = name in SUBMISSION
        metric = evaluate.load(str(SCORES), name, keep_in_memory=True) if is_ours else evaluate.load(name)
    except (FileNotFoundError, ConnectionError, ImportError) as error:
        raise InputError(
            f"The metric {name!r} cannot be loaded: {error} Give by --metric_name one of {', '.join(SUBMISSION)}, "
            "whose metrics are here, or the path of one."
        ) from error

    def compute_metrics(prediction):
        values, labels = prediction.predictions, prediction.label_ids
        if data.labels is None:
            values = values.reshape(-1)
        else:  # F1 is that of the class that the data call 1
            values, labels = own_numbers(values.argmax(-1), data), own_numbers(labels, data)
        scores = metric.compute(predictions=values, references=labels)
        if len(scores) > 1:
            scores["combined_score"] = float(np.mean(list(scores.values())))
        return scores

    return compute_metrics


def predict(job, model):
    """Predict the test splits with every size, into one folder a size, in the form that GLUE takes."""
    task = job.data_args.task_name
    evaluation = job.evaluation(model)
    for split in job.data.tests:
        output = evaluation.predict(job.data.splits[split], metric_key_prefix=split)
        if not job.is_main:
            continue
        rows = row_numbers(job.data.splits[split])
        for size, values in output.predictions.items():
            path = job.output_dir / "predictions" / size / f"{SUBMISSION.get(task, {}).get(split, split)}.tsv"
            write_predictions(path, ["index", "prediction"], zip(rows, written(values, job.data, task), strict=True))
        if "label" in job.data.splits[split].column_names:
            job.write_results(split, output.metrics)
    return job.output_dir / "predictions"


def written(values, data, task):
    """Predictions as they stand in a file: names of labels, numbers for the GLUE tasks that ask for them, or values."""
    labels = data.labels
    if labels is None:
        values = values.reshape(-1)
        return [f"{value:.3f}" for value in values.clip(0, 5)] if task else [f"{value:.6g}" for value in values]
    if data.has_several:
        own = ([label for label, value in zip(labels, row, strict=True) if value > 0] for row in values)
        return [in_a_cell(names, ",") for names in own]
    indices = values.argmax(-1)
    if task and task not in NAMED_IN_SUBMISSION:
        return own_numbers(indices, data).tolist()
    return [labels[index] for index in indices]


def own_numbers(indices, data):
    """The numbers of classes as the data have them, whatever their order is in the model."""
    return indices if data.numbers is None else np.array(data.numbers)[indices]


if __name__ == "__main__":
    main()
