"""Train all sizes of an encoder on a GLUE task, or on your own csv, json or parquet files.

    python examples/run_glue.py --task_name sst2 --model_name_or_path bert-base-uncased --finetune_teacher \\
        --output_dir outputs/sst2
    python examples/run_glue.py --train_file train.csv --validation_file dev.csv --model_name_or_path my-bert \\
        --output_dir outputs/mine
    accelerate launch --num_processes 2 examples/run_glue.py ...

One command runs all stages: fine-tuning of the teacher if asked, rewiring, depth or --stages width depth, and finetune
if asked. With --stage it runs that stage alone. All arguments may also stand in one json file. docs/glue.md tells more.
"""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import embedded
import evaluate
import numpy as np
from glue_arguments import parse_arguments
from glue_data import GLUE, InputError, load_files, load_named, load_task
from glue_training import Job, align_labels, finetune_teacher, load_model, make_elastic, one_size, train_stage
from huggingface_hub import HfApi
from transformers import AutoTokenizer, DataCollatorWithPadding, default_data_collator, set_seed
from transformers.utils import logging

from dynabert_hf import RecipeResult, push_folder, train_dynabert
from dynabert_hf.data.columns import drawn_rows
from dynabert_hf.families import longest_input
from dynabert_hf.hub.push import NETWORK_ERRORS
from dynabert_hf.sizes.baseline import baseline_metrics
from dynabert_hf.tasks import has_generic_names

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

logger = logging.get_logger("run_glue")


def main(argv=None):
    model_args, data_args, training_args, given = parse_arguments(sys.argv[1:] if argv is None else argv, __doc__)
    set_seed(training_args.seed)
    try:
        job, model = prepare(model_args, data_args, training_args, given)
        repository = make_repository(training_args) if training_args.push_to_hub and job.is_main else None
        folder = run(job, model)
    except InputError as error:
        sys.exit(f"run_glue.py: {error}")
    if repository:
        print(push_folder(folder, repository, token=training_args.hub_token))


def make_repository(training_args):
    """The id of the repository on the Hub to push to, made before the work begins, that no rights are missing after."""
    name = training_args.hub_model_id or training_args.output_dir.rstrip("/").rpartition("/")[2]
    api, is_private = HfApi(token=training_args.hub_token), training_args.hub_private_repo
    try:
        return api.create_repo(name, private=is_private, exist_ok=True).repo_id
    except NETWORK_ERRORS as error:
        raise InputError(
            f"--push_to_hub was given, but the repository {name!r} cannot be made: {error} Nothing was trained. Log in "
            "by `hf auth login`, or leave --push_to_hub out and push later with push_folder."
        ) from error


def prepare(model_args, data_args, training_args, given):
    """Load and check data and model, and tokenise; returns the job and the model."""
    download = {"cache_dir": model_args.cache_dir, "token": model_args.token}
    with training_args.main_process_first(desc="reading the data"):
        data = load_data(data_args, **download)
    new_head = model_args.finetune_teacher
    revision = model_args.model_revision
    name = embedded.model_folder(model_args.model_name_or_path)
    model = load_model(name, data.labels, model_args, new_head=new_head, revision=revision)
    if not new_head:
        data = align_labels(data, model.config, logger.warning)
    tokenizer = AutoTokenizer.from_pretrained(model_args.tokenizer_name or name, revision=revision, **download)
    with training_args.main_process_first(desc="tokenising"):
        splits = tokenised(shortened(data, data_args, training_args.seed), tokenizer, model.config, data_args)
    trainer_kwargs = {
        "processing_class": tokenizer,
        "data_collator": default_data_collator if data_args.pad_to_max_length else DataCollatorWithPadding(tokenizer),
        "compute_metrics": metrics_of(data, data_args),
    }
    for wanted, found, what in (("do_eval", data.evaluations, "validation"), ("do_predict", data.tests, "test")):
        if getattr(training_args, wanted) and not found:
            raise InputError(f"--{wanted} was given, but the data have no split {what!r}, only {sorted(data.splits)}.")
    return Job(model_args, data_args, training_args, given, replace(data, splits=splits), trainer_kwargs), model


def load_data(data_args, **download):
    """The splits of the task, the data set or the files that were named."""
    if data_args.task_name:
        config = data_args.dataset_config_name
        return load_task(data_args.task_name, dataset=data_args.dataset_name, config=config, **download)
    columns = {
        "text_columns": data_args.text_column_names,
        "label_column": data_args.label_column_name,
        "regression": data_args.do_regression,
    }
    if data_args.dataset_name:
        return load_named(data_args.dataset_name, data_args.dataset_config_name, **columns, **download)
    files = {"train": data_args.train_file, "validation": data_args.validation_file, "test": data_args.test_file}
    return load_files(files, **columns, cache_dir=download["cache_dir"])


def shortened(data, data_args, seed):
    """The splits, with as many examples as were asked for, drawn by the seed; those of a test keep order and number."""
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
    """These rows of a test split, and in a column `row` which ones they are."""
    return part.select(rows).add_column("row", rows)


def tokenised(splits, tokenizer, config, data_args):
    """The splits as the model reads them."""
    length = data_args.max_seq_length
    possible = longest_input(config)
    if length > possible:
        logger.warning(
            f"--max_seq_length {length} is more than the {possible} tokens of the model; texts are cut to these."
        )
        length = possible
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
        values = prediction.predictions
        values = values.reshape(-1) if data.labels is None else values.argmax(-1)
        scores = metric.compute(predictions=values, references=prediction.label_ids)
        if len(scores) > 1:
            scores["combined_score"] = float(np.mean(list(scores.values())))
        return scores

    return compute_metrics


def run(job, model):
    """Train, evaluate and predict, as asked; returns the folder of the model."""
    training_args, stage = job.training_args, job.given.get("stage")
    folder, result, stages = job.output_dir, None, {}
    teacher, named_teacher = model, load_teacher(job)
    if training_args.do_train and job.model_args.finetune_teacher:
        teacher = finetune_teacher(job, model)
    if not training_args.do_train:
        elastic = make_elastic(model, job.model_args, job.given)
    elif stage is None:
        result = train_all_stages(job, teacher)
        elastic, folder = result.model, job.output_dir / "model"
    else:
        elastic, stages = train_stage(job, stage, teacher, named_teacher)
    if training_args.do_eval:
        is_shown = result is not None and not training_args.disable_tqdm and len(job.data.evaluations) == 1
        result = measure(job, elastic, result or evaluated(job, elastic, "", stages=stages), teacher)
        leave(job, result, folder)
        if job.is_main and not is_shown:
            result.show()
    if training_args.do_predict:
        predict(job, elastic)
    return folder


def load_teacher(job):
    """The teacher of a single stage that was named; None: the model itself."""
    name = job.model_args.teacher_name_or_path
    if name is None:
        return None
    teacher = load_model(name, job.data.labels, job.model_args, new_head=False)
    if has_generic_names(teacher.config):
        align_labels(job.data, teacher.config, logger.warning)
    elif job.data.labels is not None:
        order = [teacher.config.id2label[index].lower() for index in range(teacher.config.num_labels)]
        if order != [label.lower() for label in job.data.labels]:
            raise InputError(
                f"The teacher {name!r} has the labels {order}, the model {list(job.data.labels)}. Give one that was "
                "trained on the same labels in the same order."
            )
    return teacher


def train_all_stages(job, teacher):
    """The whole recipe, and the metrics of every size on the first of the evaluations."""
    first = next(iter(job.data.evaluations.values()), None)
    return train_dynabert(
        teacher,
        train_dataset=job.data.splits["train"],
        eval_dataset=job.data.splits[first] if job.training_args.do_eval else None,
        importance_dataset=job.importance_data,
        max_importance_samples=None,
        keep_stages=job.model_args.keep_stages,
        widths=tuple(job.model_args.widths),
        depths=tuple(job.model_args.depths),
        stages=tuple(job.model_args.stages),
        dropout=job.model_args.dropout,
        finetune=job.model_args.finetune,
        output_dir=job.output_dir,
        stage_arguments={name: own for name, own in job.model_args.stage_arguments.items() if name != "teacher"},
        **job.given_training,
        **job.trainer_kwargs,
    )


def measure(job, model, result, teacher):
    """The metrics of every size on all evaluations, and those of the teacher where the result knows it.

    Args:
        job: The job.
        model: The elastic model.
        result: The metrics on the first evaluation.
        teacher: The model of whom `result` has metrics as the teacher.
    """
    several = {split: len(job.data.splits[split]) for split in job.data.evaluations.values()}
    if len(several) > 1:
        result = replace(result, eval_rows=several)
    for suffix in filter(None, job.data.evaluations):
        others = evaluated(job, model, suffix).rows
        rows = [
            replace(row, metrics=row.metrics | other.metrics) for row, other in zip(result.rows, others, strict=True)
        ]
        result = replace(result, rows=tuple(rows))
        if result.teacher_metrics:
            [one] = evaluated(job, one_size(teacher), suffix).rows
            result = replace(result, teacher_metrics=result.teacher_metrics | one.metrics)
        baseline = baseline_of(job, model, suffix)
        result = replace(result, baseline_metrics={**result.baseline_metrics, **baseline})
    return result


def baseline_of(job, model, suffix):
    """The metrics of predicting the same for every row of one evaluation, with its suffix."""
    split = job.data.splits[job.data.evaluations[suffix]]
    metrics = baseline_metrics(model, split, job.trainer_kwargs["compute_metrics"])
    return {f"{name}_{suffix}" if suffix else name: value for name, value in metrics.items()}


def evaluated(job, model, suffix, **facts):
    """The metrics of every size on one evaluation, with its suffix, as a result with these facts."""
    prefix = f"eval_{suffix}" if suffix else "eval"
    args = job.stage_arguments("finetune", output_dir=job.output_dir)
    split = job.data.splits[job.data.evaluations[suffix]]
    metrics = job.trainer(model, None, args).evaluate(split, metric_key_prefix=prefix)
    rows = {"train_rows": len(job.data.splits["train"]), "eval_rows": len(split)}
    rows["baseline_metrics"] = baseline_of(job, model, suffix)
    result = RecipeResult.from_metrics(model, metrics, prefix=prefix, **rows, **facts)
    if not suffix:
        return result
    rows = (
        replace(row, metrics={f"{name}_{suffix}": value for name, value in row.metrics.items()}) for row in result.rows
    )
    return replace(result, rows=tuple(rows))


def leave(job, result, folder):
    """Leave the table in a folder, and where that is the folder of the model, a card that says what was measured."""
    if not job.is_main:
        return
    folder.mkdir(parents=True, exist_ok=True)
    result.save(folder)
    if not job.training_args.do_train:
        return
    result.record()
    result.model.config.save_pretrained(folder)
    result.model.save_code(folder)
    task, stage, limit = job.data_args.task_name, job.given.get("stage"), job.data_args.max_eval_samples
    drawn = "" if limit is None else f", of which at most {limit:,} were drawn"
    result.write_card(
        folder,
        base_model=embedded.hub_id(job.model_args.model_name_or_path),
        dataset_id=GLUE if task and not job.data_args.dataset_name else None,
        dataset_name=f"the validation data of GLUE's {task}{drawn}" if task else None,
        rewired=stage is None,
    )


def predict(job, model):
    """Predict the test splits with every size, into one folder a size, in the form that GLUE takes."""
    task, labels = job.data_args.task_name, job.data.labels
    trainer = job.trainer(model, None, job.stage_arguments("finetune", output_dir=job.output_dir))
    for split in job.data.tests:
        output = trainer.predict(job.data.splits[split], metric_key_prefix=split)
        if not job.is_main:
            continue
        data = job.data.splits[split]
        rows = data["row"] if "row" in data.column_names else range(len(data))
        for size, values in output.predictions.items():
            path = job.output_dir / "predictions" / size / f"{SUBMISSION.get(task, {}).get(split, split)}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="") as file:
                writer = csv.writer(file, delimiter="\t", lineterminator="\n")
                writer.writerow(["index", "prediction"])
                writer.writerows(zip(rows, written(values, labels, task), strict=True))
        if "label" in job.data.splits[split].column_names:
            path = job.output_dir / f"{split}_results.json"
            path.write_text(json.dumps(output.metrics, indent=2))


def written(values, labels, task):
    """Predictions as they stand in a file: names of labels, numbers for the GLUE tasks that ask for them, or values."""
    if labels is None:
        values = values.reshape(-1)
        return [f"{value:.3f}" for value in (values.clip(0, 5) if task == "stsb" else values)]
    indices = values.argmax(-1).tolist()
    return indices if task and task not in NAMED_IN_SUBMISSION else [labels[index] for index in indices]


if __name__ == "__main__":
    main()
