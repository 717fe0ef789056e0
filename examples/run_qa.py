"""Train all sizes of an encoder that answers questions about a text of any
length, on a data set or on your own files.

    python examples/run_qa.py --dataset_name rajpurkar/squad_v2 \\
        --model_name_or_path bert-base-uncased --finetune_teacher \\
        --output_dir outputs/squad
    python examples/run_qa.py --train_file train.json \\
        --validation_file dev.json --model_name_or_path my-reader \\
        --output_dir outputs/mine
    accelerate launch --num_processes 2 examples/run_qa.py ...

A row has a question, a text and its answers, as in SQuAD. SQuAD's own json
works, too. Texts are cut into overlapping windows. Every size is scored by
SQuAD's F1 and exact match of its answers over all windows. If a question has no
answer, sizes may say so, as in SQuAD 2. docs/tasks.md tells more.
"""

import json
from dataclasses import dataclass, field
from functools import partial

from datasets import DatasetDict
from recipe_arguments import SourceArguments
from recipe_data import InputError, Splits, length_for, load_splits, row_numbers, shortened
from recipe_job import Job, run_script
from recipe_training import load_model, load_tokenizer
from transformers import AutoModelForQuestionAnswering

from dynabert_hf.data.answers import answer_scores
from dynabert_hf.data.questions import ANSWERS, COLUMNS, STRIDE, WINDOW, Questions, read_questions
from dynabert_hf.tasks import task_of


@dataclass
class QuestionArguments(SourceArguments):
    """Where questions, texts and answers come from, and how texts are cut."""

    question_column_name: str = field(default=COLUMNS[0], metadata={"help": "Column with the questions."})
    context_column_name: str = field(default=COLUMNS[1], metadata={"help": "Column with the texts."})
    answer_column_name: str = field(default=ANSWERS, metadata={"help": "Column with the answers."})
    doc_stride: int | None = field(
        default=None,
        metadata={"help": f"Tokens that two windows of a text share (default: {STRIDE}, of short windows a third)."},
    )
    max_seq_length: int = field(default=WINDOW, metadata={"help": "Tokens of a window, with the question."})

    @property
    def texts(self):
        """The columns of the question and of the text."""
        return (self.question_column_name, self.context_column_name)


def main(argv=None):
    run_script("run_qa.py", QuestionArguments, prepare, argv, description=__doc__)


def prepare(data_args, model_args, training_args, given):
    """Load and check data and model, and cut texts into windows; returns the job and the model."""
    with training_args.main_process_first(desc="reading the data"):
        read = partial(read_questions, columns=data_args.texts)
        raw = load_splits(data_args, seed=training_args.seed, read=read, **model_args.download)

    def load_reader(name, **kwargs):
        return load_model(name, AutoModelForQuestionAnswering, model_args, num_labels=2, **kwargs)  # start and end

    new_head, revision = model_args.finetune_teacher, model_args.model_revision
    model = load_reader(model_args.first_model, new_head=new_head, revision=revision)
    tokenizer = load_tokenizer(model_args)
    data = Splits.by_name(raw)
    splits = shortened(data, data_args, training_args.seed)
    questions = {split: cut(split, part, tokenizer, model, data_args) for split, part in splits.items()}
    ids = {split: ids_of(splits[split]) for split in data.tests}
    trainer_kwargs = {"processing_class": tokenizer, "data_collator": task_of(model).collator(tokenizer)}
    first = questions.get("validation")
    trainer_kwargs["compute_metrics"] = None if first is None else first.metrics

    def predict(job, elastic):
        tests = {split: (questions[split], ids[split]) for split in data.tests}
        return write_answers(job, elastic, tests, may_be_none=questions["train"].may_have_no_answer)

    windows = DatasetDict({split: own.dataset for split, own in questions.items()})
    data = Splits.by_name(windows, rows={split: len(part) for split, part in splits.items()})
    return Job(model_args, data_args, training_args, given, data, trainer_kwargs, load_reader, predict), model


def cut(split, part, tokenizer, model, data_args):
    """The questions of a split, in windows; those of a test may have no answers."""
    answers = data_args.answer_column_name if data_args.answer_column_name in part.column_names else None
    needed = [*data_args.texts, *([] if split == "test" else [data_args.answer_column_name])]
    missing = [name for name in needed if name not in part.column_names]
    if missing:
        raise InputError(
            f"Split {split!r} has the columns {part.column_names} but no {missing[0]!r}. Name the columns by "
            "--question_column_name, --context_column_name and --answer_column_name."
        )
    return Questions.from_rows(
        part,
        tokenizer,
        columns=data_args.texts,
        answer_column=answers,
        max_length=length_for(model, tokenizer, data_args, pair=True),
        stride=data_args.doc_stride,
        may_lack_answers=split == "test",
        name=f"Split {split!r}",
    )


def ids_of(part):
    """What the questions of a split are called: by their `id`, else by the number of their row."""
    ids = list(map(str, part["id"][:] if "id" in part.column_names else row_numbers(part)))
    if len(set(ids)) < len(ids):
        twice = next(each for each in ids if ids.count(each) > 1)
        raise InputError(
            f"The id {twice!r} is that of several test questions, and answers are written by ids. Give each question "
            "an id of its own, or leave that column out."
        )
    return ids


def write_answers(job, model, tests, *, may_be_none):
    """Write the answers of every size by the ids of the questions, as SQuAD's own script reads them.

    Args:
        job: The run.
        model: The elastic model.
        tests: For each test split its questions and their ids.
        may_be_none: Whether a size may say that there is no answer where the right answers are not known.
    """
    evaluation = job.evaluation(model, compute_metrics=None)
    for split, (questions, ids) in tests.items():
        output = evaluation.predict(job.data.splits[split], metric_key_prefix=split)
        scores, is_known = {}, questions.answers is not None
        for size, (starts, ends) in output.predictions.items():
            found = questions.answered(starts, ends, may_be_none=None if is_known else may_be_none)
            answers = [each.text for each in found]
            if is_known:
                scores[size] = answer_scores(answers, questions.answers)
            if job.is_main:
                path = job.output_dir / "predictions" / size / f"{split}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                told = json.dumps(dict(zip(ids, answers, strict=True)), indent=2, ensure_ascii=False)
                path.write_text(told, encoding="utf-8")
        if scores:
            job.write_results(split, scores)
    return job.output_dir / "predictions"


if __name__ == "__main__":
    main()
