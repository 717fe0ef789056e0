"""What all training scripts here do: from arguments and tokenised data to all sizes, trained, measured and published.

A script reads its data, loads its model and makes a `Job` of them; `run_script` does the rest. The models themselves
are `recipe_training`'s, the arguments `recipe_arguments`'.
"""

import csv
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import embedded
from huggingface_hub import HfApi
from huggingface_hub.utils import HFValidationError
from recipe_arguments import parse_arguments, with_own_options
from recipe_data import InputError, Splits
from recipe_training import finetune_teacher, make_elastic, one_size, train_stage
from script_errors import in_one_line
from transformers import set_seed

from dynabert_hf import DynaBertTrainer, DynaBertTrainingArguments, RecipeResult, push_folder, train_dynabert
from dynabert_hf.data.columns import draw, without_missing_labels
from dynabert_hf.data.labels import collator_of
from dynabert_hf.files import check_writable_folder, json_text
from dynabert_hf.hub.card import foreign_page
from dynabert_hf.hub.push import NETWORK_ERRORS
from dynabert_hf.model.subnetwork import SubNetwork, size_name
from dynabert_hf.sizes.baseline import baseline_metrics
from dynabert_hf.sizes.metrics import check_asked
from dynabert_hf.training.callbacks import bars_of_files_in_terminals, show_progress
from dynabert_hf.training.checks import check_data
from dynabert_hf.training.publishing import content_of
from dynabert_hf.training.rehearsal import rehearse_stage
from dynabert_hf.training.run_folder import RunFolder
from dynabert_hf.training.size_evaluation import SizeEvaluation
from dynabert_hf.training.stages import evaluation_arguments, stage_defaults
from dynabert_hf.training.teaching import check_tokens_beside

NOT_OF_A_STAGE = (
    *("output_dir", "stage", "do_train", "do_eval", "do_predict"),
    *("push_to_hub", "hub_model_id", "hub_token", "hub_private_repo"),
)
"""Training arguments that a script heeds itself."""

NOT_OF_A_TEACHER = ("eval_sizes", "views")
"""Those of all stages that a teacher, which has one size and learns from labels alone, is trained without."""


@dataclass(frozen=True)
class Job:
    """What all steps share: the arguments, the data, and how to batch and score them.

    Attributes:
        model_args: `ModelArguments`.
        data_args: The script's own arguments.
        training_args: `DynaBertTrainingArguments`.
        given: All arguments that were given, by name.
        data: The data, tokenised.
        trainer_kwargs: What every trainer is given: tokenizer, collator and metrics.
        load_teacher: The model of a folder or Hub id, as the teacher of a single stage, checked against the data.
        predict: Writes what every size predicts for the test splits, or reaches on them, and returns where that is.
    """

    model_args: Any
    data_args: Any
    training_args: DynaBertTrainingArguments
    given: dict[str, Any]
    data: Splits
    trainer_kwargs: dict[str, Any]
    load_teacher: Callable[[str], Any]
    predict: Callable[[Any, Any], Path]

    @property
    def output_dir(self):
        return Path(self.training_args.output_dir)

    @property
    def importance_data(self):
        """The training examples, drawn by the seed, on which importance is measured."""
        return draw(self.data.splits["train"], self.data_args.max_importance_samples, self.training_args.seed)

    @property
    def first_evaluation(self):
        """The examples that are evaluated first; None: there are none."""
        return self.data.splits.get(next(iter(self.data.evaluations.values()), None))

    @property
    def is_main(self):
        """Whether this process writes for all."""
        return self.training_args.process_index == 0

    def write_results(self, split, metrics):
        """Leave the metrics of a test split in the output folder, and return where; what is not finite is `null`."""
        path = self.output_dir / f"{split}_results.json"
        if self.is_main:
            path.write_text(json_text(metrics, indent=2))
        return path

    def wait(self):
        """Wait until all processes are here."""
        self.training_args.distributed_state.wait_for_everyone()

    @property
    def given_training(self):
        """The training arguments that were given for all stages."""
        known = {each.name for each in fields(DynaBertTrainingArguments)} - set(NOT_OF_A_STAGE)
        return {name: value for name, value in self.given.items() if name in known}

    def stage_arguments(self, stage, *, output_dir, own=None, **defaults):
        """The training arguments of a stage: the recipe's, then those given, then those given for it alone."""
        of_all = {**self.given_training, **dict.fromkeys(NOT_OF_A_TEACHER if own == "teacher" else ())}
        merged = {**stage_defaults(), **defaults, **of_all, **self.model_args.stage_arguments.get(own or stage, {})}
        return DynaBertTrainingArguments(**{**merged, "stage": stage, "output_dir": str(output_dir)})

    def trainer(self, model, teacher, args):
        """A trainer of all sizes of a model on this job's data; what it cannot begin with is refused."""
        data = {"train_dataset": self.data.splits["train"], "eval_dataset": self.first_evaluation}
        rehearse_stage(model, args, **data, **self.trainer_kwargs)
        trainer = DynaBertTrainer(model, teacher, args, **data, **self.trainer_kwargs)
        if args.chooses_best:
            metrics = baseline_metrics(model, self.first_evaluation, self.trainer_kwargs["compute_metrics"])
            sizes = [size_name(size) for size in trainer.evaluated_sizes]
            known = ["loss", *metrics] if metrics else None
            check_asked(args.metric_for_best_model, sets=(), sizes=sizes, known=known)
        return trainer

    def evaluation(self, model, **kwargs):
        """What measures all sizes of a model and predicts with them, also of one that was cut by extraction."""
        args = evaluation_arguments(self.output_dir, self.given_training)
        given = {**self.trainer_kwargs, **kwargs}
        collator = collator_of(model, given.get("processing_class"), given.pop("data_collator", None))
        evaluation = SizeEvaluation(model, args, data_collator=collator, **given)
        show_progress(evaluation)
        return evaluation


def run_script(name, data_kind, prepare, argv, *, description):
    """Do what a script was asked for.

    Args:
        name: Name of the script.
        data_kind: The dataclass of its own arguments, a `SourceArguments`.
        prepare: Makes of what `parse_arguments` returns the `Job` and the model to begin with.
        argv: The words of the command line; None: those that Python was given.
        description: What the script does.
    """
    argv = sys.argv[1:] if argv is None else argv
    *kinds, given = parse_arguments(argv, data_kind, script=name, description=description)
    training_args = kinds[-1]
    set_seed(training_args.seed)
    reword = partial(with_own_options, kinds=kinds)
    with in_one_line(name, reword), bars_of_files_in_terminals():
        job, model = prepare(*kinds, given)
        check_splits(job, model)
        repository = make_repository(training_args) if training_args.push_to_hub and job.is_main else None
        check_output_folder(job)
        folder = run(job, model)
        if repository:
            revision, token = training_args.hub_revision, training_args.hub_token
            print(push_folder(folder, repository, revision=revision, token=token))
        job.wait()
        training_args.distributed_state.destroy_process_group()  # else one process may abort while another ends


def check_splits(job, model):
    """Refuse to evaluate or predict where there is nothing to do so on, or rows that cannot be measured."""
    args, data = job.training_args, job.data
    named = (("do_eval", data.evaluations.values(), "validation"), ("do_predict", data.tests, "test"))
    for wanted, found, what in named:
        if not getattr(args, wanted):
            continue
        if not found:
            hint = "" if wanted == "do_predict" else " Give --validation_split_percentage 10, or --do_train alone."
            raise InputError(
                f"--{wanted} was given, but the data have no split {what!r}, only {sorted(data.splits)}.{hint}"
            )
        for split in found:
            check_data(f"Split {split!r}", without_missing_labels(data.splits[split]), model)


def check_output_folder(job):
    """Refuse an output folder that cannot be made or written to, or holds a model or page that would be replaced."""
    check_writable_folder(job.output_dir)
    if not job.training_args.do_train:
        return
    if "stage" not in job.given:
        RunFolder(job.output_dir).check_model()
    elif (page := foreign_page(job.output_dir)) is not None:
        raise InputError(
            f"A single stage leaves its model and card in --output_dir, where {str(page)!r} is another page. Give a "
            "folder of its own, or move that page."
        )


def make_repository(training_args):
    """The id of the repository on the Hub to push to, made before the work begins, that no rights are missing after."""
    name = training_args.hub_model_id or training_args.output_dir.rstrip("/").rpartition("/")[2]
    api, is_private = HfApi(token=training_args.hub_token), training_args.hub_private_repo
    try:
        return api.create_repo(name, private=is_private, exist_ok=True).repo_id
    except (*NETWORK_ERRORS, HFValidationError) as error:
        raise InputError(
            f"--push_to_hub was given, but the repository {name!r} cannot be made: {str(error).rstrip('.')}. Nothing "
            "was trained. Log in by `hf auth login`, or leave --push_to_hub out and push later with push_folder."
        ) from error


def run(job, model):
    """Train, evaluate and predict, as asked; returns the folder of the model."""
    training_args, stage, named = job.training_args, job.given.get("stage"), job.model_args.teacher_name_or_path
    folder, result, stages = job.output_dir, None, {}
    teacher, named_teacher = model, None if named is None else job.load_teacher(named)
    if named is not None:
        check_tokens_beside(named, job.trainer_kwargs["processing_class"])
    if training_args.do_train and job.model_args.finetune_teacher:
        teacher = finetune_teacher(job, model, named_teacher)
    if not training_args.do_train:
        elastic = make_elastic(model, job.model_args, job.given)
    elif stage is None:
        result = train_all_stages(job, teacher)
        elastic, folder = result.model, job.output_dir / "model"
    else:
        elastic, stages = train_stage(job, stage, teacher, named_teacher)
    is_shown = result is not None and not training_args.disable_tqdm  # by train_dynabert
    if training_args.do_eval:
        is_shown = is_shown and len(job.data.evaluations) == 1
        result = measure(job, elastic, result or evaluated(job, elastic, "", stages=stages), teacher)
        leave(job, result, folder)
        if job.is_main and not is_shown:
            result.show()
    if job.is_main and not is_shown and (training_args.do_train or training_args.do_eval):
        print(content_of(folder))
    if training_args.do_predict:
        written = job.predict(job, elastic)
        if job.is_main:
            print(f"The test split at every size: {written}")
    return folder


def train_all_stages(job, teacher):
    """The whole recipe, and the metrics of every size on the first of the evaluations."""
    return train_dynabert(
        teacher,
        train_dataset=job.data.splits["train"],
        eval_dataset=job.first_evaluation if job.training_args.do_eval else None,
        importance_dataset=job.importance_data,
        max_importance_samples=None,
        keep_stages=job.model_args.keep_stages,
        widths=job.given.get("widths"),
        depths=job.given.get("depths"),
        stages=tuple(job.model_args.stages),
        dropout=job.model_args.dropout,
        finetune=job.model_args.finetune,
        output_dir=job.output_dir,
        stage_arguments={name: own for name, own in job.model_args.stage_arguments.items() if name != "teacher"},
        **job.given_training,
        **job.trainer_kwargs,
    )


def measure(job, model, result, teacher):
    """The metrics of the same sizes on all evaluations, and those of the teacher where the result knows it.

    Args:
        job: The job.
        model: The elastic model.
        result: The metrics on the first evaluation.
        teacher: The model of whom `result` has metrics as the teacher.
    """
    counts = {split: job.data.num_rows(split) for split in job.data.evaluations.values()}
    eval_rows = counts if len(counts) > 1 else next(iter(counts.values()))
    result = replace(result, train_rows=job.data.num_rows("train"), eval_rows=eval_rows)
    sizes = [row.size for row in result.rows if row.metrics] or None
    for suffix in filter(None, job.data.evaluations):
        others = evaluated(job, model, suffix, sizes=sizes).rows
        rows = [
            replace(row, metrics=row.metrics | other.metrics) for row, other in zip(result.rows, others, strict=True)
        ]
        result = replace(result, rows=tuple(rows))
        if result.teacher_metrics:
            [one] = evaluated(job, one_size(teacher), suffix, sizes=[SubNetwork()]).rows
            result = replace(result, teacher_metrics=result.teacher_metrics | one.metrics)
        baseline = baseline_of(job, model, suffix)
        result = replace(result, baseline_metrics={**result.baseline_metrics, **baseline})
    return result


def baseline_of(job, model, suffix):
    """The metrics of predicting the same for every row of one evaluation, with its suffix."""
    split = job.data.splits[job.data.evaluations[suffix]]
    metrics = baseline_metrics(model, split, job.trainer_kwargs["compute_metrics"])
    return {f"{name}_{suffix}" if suffix else name: value for name, value in metrics.items()}


def evaluated(job, model, suffix, *, sizes=None, **facts):
    """The metrics of sizes, by default those of `--eval_sizes`, on one evaluation with its suffix, as a result."""
    prefix = f"eval_{suffix}" if suffix else "eval"
    split = job.data.splits[job.data.evaluations[suffix]]
    metrics = job.evaluation(model).evaluate(split, metric_key_prefix=prefix, sizes=sizes)
    facts["baseline_metrics"] = baseline_of(job, model, suffix)
    result = RecipeResult.from_metrics(model, metrics, prefix=prefix, **facts)
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
    about = job.data_args.about
    result.record(about["dataset_name"])
    result.model.config.save_pretrained(folder)
    result.model.save_code(folder)
    is_rewired = job.given.get("stage") is None
    result.write_card(
        folder, base_model=embedded.hub_id(job.model_args.model_name_or_path), rewired=is_rewired, **about
    )


def write_predictions(path, header, rows):
    """Write what a size predicts, a row each, as tab-separated values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def in_a_cell(names, delimiter):
    """Names in one cell, parted by a sign and, where they hold it, in quotes, as the cells of a csv are."""
    cell = StringIO()
    csv.writer(cell, delimiter=delimiter, lineterminator="").writerow(names)
    return cell.getvalue()


def measure_tests(job, model):
    """Measure every size on the test split, where there is nothing to predict, and leave the metrics in the folder."""
    [split] = job.data.tests
    return job.write_results(split, job.evaluation(model).evaluate(job.data.splits[split], metric_key_prefix=split))
