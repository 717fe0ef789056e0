"""What fresh views of the text and copies with replaced words gain: the same teacher, as many steps, held-out rows.

    python -m benchmarks.views --task mrpc --rows 500 --epochs 3
    python -m benchmarks.views --task stsb --epochs 1 --teacher-epochs 3 --teacher-rate 2e-4 --bf16

The primary measure is the official metric of the task on validation and labelled test rows, the mean over the twelve
sizes, less that of the text as it is; a paired bootstrap over the rows gives the interval. Copies are TinyBERT's, by
the masked language model that `--masked-lm` names. Without one, all their words are neighbours in the table of the
backbone's embeddings. A run goes on where it stopped.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from datasets import load_dataset
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from benchmarks.glue_study.data import MAX_LENGTH, load_rows
from benchmarks.glue_study.jobs import SCORE
from benchmarks.glue_study.metrics import METRICS
from benchmarks.glue_study.plan import PLAN
from benchmarks.glue_study.scoring import predict
from benchmarks.glue_study.statistics import Pair, bootstrap
from benchmarks.glue_study.tables import markdown
from dynabert_hf import WordReplacement, augment_rows, train_dynabert
from dynabert_hf.data.augmentation import Word
from dynabert_hf.data.views import VIEWS

WAYS = {"plain": "the text as it is", "views": "fresh views", "copies": "copies with replaced words"}
QUIET = {"report_to": "none", "disable_tqdm": True, "use_cpu": not torch.cuda.is_available()}


class Neighbours(WordReplacement):
    """Replaces all words by neighbours, those of one piece, too: for a model whose head for words is not trained."""

    def words(self, texts):
        read = self.tokenizer(list(texts), list(texts), truncation=True, max_length=self.max_length)
        places = [list(self._replaceable(text, read.encodings[row])) for row, text in enumerate(texts)]
        found = {text[start:end] for text, own in zip(texts, places, strict=True) for start, end, _ in own}
        near = self.vectors.neighbours(sorted(found), self.num_candidates)
        return [
            [Word(start, end, near[text[start:end]]) for start, end, _ in own]
            for text, own in zip(texts, places, strict=True)
        ]


class Comparison:
    """The rows of a task, its teacher, and what the sizes of each way answer on held-out rows."""

    def __init__(self, given):
        self.given, self.task = given, PLAN.tasks[given.task]
        self.tokenizer = AutoTokenizer.from_pretrained(given.backbone)
        self.collator = DataCollatorWithPadding(self.tokenizer)
        self.rows = load_rows(self.task, SCORE, given.seed, self.tokenizer, source=given.dataset)
        self.metric = METRICS[self.task.metric]
        self.folder = given.output / f"{given.task}-{given.rows or 'all'}-{given.seed}"
        self.folder.mkdir(parents=True, exist_ok=True)

    def drawn(self, rows):
        """The training rows, as many as were asked for."""
        return rows.shuffle(seed=self.given.seed).select(range(self.given.rows or len(rows)))

    def teacher(self):
        """The backbone fine-tuned on the training rows, or what an earlier run left of it."""
        path, given = self.folder / "teacher", self.given
        if not (path / "config.json").exists():
            set_seed(given.seed)
            model = AutoModelForSequenceClassification.from_pretrained(given.backbone, num_labels=self.rows.num_labels)
            args = TrainingArguments(
                str(self.folder / "training"),
                num_train_epochs=given.teacher_epochs,
                learning_rate=given.teacher_rate,
                per_device_train_batch_size=32,
                warmup_steps=0.1,
                seed=given.seed,
                bf16=given.bf16,
                save_strategy="no",
                **QUIET,
            )
            Trainer(model, args, train_dataset=self.drawn(self.rows.train), data_collator=self.collator).train()
            model.save_pretrained(path)
            self.tokenizer.save_pretrained(path)
        return AutoModelForSequenceClassification.from_pretrained(path)

    def answers(self, way):
        """What every size predicts for the held-out rows, trained in one way: by its name `(rows,)`."""
        path = self.folder / f"{way}.npz"
        if not path.exists():
            model = self.train(way)
            np.savez(path, **self.predicted(model, model.config.subnetworks))
        return dict(np.load(path))

    def predicted(self, model, sizes=None):
        """Of each size (None: the one size of the model) the classes or values `(rows,)` of the held-out rows."""
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.given.bf16):
            logits = predict(model, self.rows.scored, self.collator, sizes)
        return {size: own[:, 0] if self.rows.num_labels == 1 else own.argmax(1) for size, own in logits.items()}

    def train(self, way):
        given, text = self.given, list(self.task.text)
        splits = load_dataset(str(given.dataset or self.task.dataset), self.task.config)
        train = self.drawn(splits["train"].select_columns([*text, "label"]))
        return train_dynabert(
            str(self.folder / "teacher"),
            train_dataset=self.copied(train) if way == "copies" else train,
            importance_dataset=train,
            max_importance_samples=256,
            processing_class=self.tokenizer,
            text_columns=text,
            label_column="label",
            max_length=MAX_LENGTH,
            views=list(VIEWS) if way == "views" else None,
            max_steps=round(math.ceil(len(train) / 32) * given.epochs),
            learning_rate=given.learning_rate,
            output_dir=self.folder / way,
            seed=given.seed,
            bf16=given.bf16,
            **QUIET,
        ).model

    def copied(self, train):
        """The training rows with up to five copies of each."""
        kind = WordReplacement if self.given.masked_lm else Neighbours
        name = self.given.masked_lm or self.given.backbone
        replacement = kind(AutoModelForMaskedLM.from_pretrained(name), AutoTokenizer.from_pretrained(name))
        return augment_rows(train, replacement, text_columns=list(self.task.text), copies=5, seed=self.given.seed)

    def ahead(self, ours, theirs):
        """How far the twelve sizes of one way are ahead of those of another, in points."""
        task, labels = self.task, self.rows.labels
        return bootstrap(
            [Pair(self.given.task, task.metric, labels, ours[size][None], theirs[size][None]) for size in ours]
        )


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.views", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=sorted(PLAN.tasks), required=True)
    parser.add_argument("--rows", type=int, help="training rows (default: all)")
    parser.add_argument("--epochs", type=float, default=1, help="of distillation over the rows without copies")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--learning-rate", type=float, default=4e-4, help="of distillation")
    parser.add_argument("--teacher-epochs", type=float, default=4)
    parser.add_argument("--teacher-rate", type=float, default=1e-4)
    parser.add_argument("--backbone", default="sentence-transformers/all-MiniLM-L6-v2", help="folder or Hub id")
    parser.add_argument("--masked-lm", help="folder or Hub id of a masked language model that replaces words")
    parser.add_argument("--dataset", help="a folder to read instead of the id of the data set on the Hub")
    parser.add_argument("--bf16", action="store_true", help="train and predict in bfloat16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("outputs/views"))
    run = Comparison(parser.parse_args(argv))
    labels, scored = run.rows.labels, len(run.rows.labels)
    [teacher] = run.predicted(run.teacher()).values()
    print(f"Teacher: {100 * run.metric(teacher, labels):.1f} on {scored} held-out rows ({run.task.metric}, times 100)")
    found = {way: run.answers(way) for way in run.given.ways}
    table = []
    for way, own in found.items():
        points = {size: 100 * run.metric(answers, labels) for size, answers in own.items()}
        ahead = "" if way == "plain" or "plain" not in found else str(run.ahead(own, found["plain"]))
        ends = [f"{points[size]:.1f}" for size in ("w1-d1", "w0.25-d0.5")]
        table.append([WAYS[way], f"{np.mean(list(points.values())):.2f}", *ends, ahead])
    print(markdown(["", "mean of twelve sizes", "full size", "smallest", "mean ahead of the text as it is"], table))


if __name__ == "__main__":
    main()
