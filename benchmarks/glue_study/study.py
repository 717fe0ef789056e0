"""What a study has at hand: its plan, its folders, and the teachers that several jobs share."""

import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from dynabert_hf import Importance, count_flops, measure_importance, rewire
from dynabert_hf.families import elastic_class_of
from dynabert_hf.files import write_whole

from .data import load_rows
from .jobs import CHOICE, Job, Results
from .plan import Plan
from .scoring import Clock, predict, summarise


@dataclass(frozen=True)
class Study:
    """A plan and where its parts lie.

    Args:
        plan: The configuration.
        work: Folder for models, which may be deleted when a study is done.
        results: Where the numbers go.
        sources: For the id of a data set or model a local folder to take instead.
        rows: On how many rows models train for choices, by the task's name; else as the plan says.
    """

    plan: Plan
    work: Path
    results: Results
    sources: dict[str, str]
    rows: dict[str, int] = field(default_factory=dict)

    def source(self, name):
        return self.sources.get(name, name)

    def choice(self, task):
        """The part of a task that choices are made on: `"choice"` or, with rows of its own, such as `"choice-1500"`."""
        return f"{CHOICE}-{self.rows[task]}" if task in self.rows else CHOICE

    def at(self, job):
        return Case(self, job)

    def run(self, job):
        """Do a job, and record what came of it."""
        raise NotImplementedError

    def trials(self, task, backbone, prefix):
        """The jobs that a rate is chosen by, with the first seed of the plan, by rate."""
        own, part, seed = self.plan.backbones[backbone], self.choice(task), self.plan.seeds[0]
        rates = own.teacher_rates if prefix == "teacher" else own.rates
        return {f"{rate:g}": Job(task, backbone, part, seed, f"{prefix}/{rate:g}") for rate in rates}

    def needed(self, trials):
        """The trials that a choice needs; where there is one rate alone, nothing is chosen."""
        return list(trials.values()) if len(trials) > 1 else []

    def best_rate(self, trials, judge):
        """The rate whose trial has the lowest divergence or the highest metric, in the mean of its sizes."""
        if not self.needed(trials):
            return next(iter(trials))
        means = {
            rate: np.mean([size[judge] for size in self.results.get(job)["sizes"].values()])
            for rate, job in trials.items()
        }
        return (min if judge == "divergence" else max)(means, key=means.get)


@dataclass(frozen=True)
class Case:
    """A job of a study with its data, made when first asked for."""

    study: Study
    job: Job

    @property
    def plan(self):
        return self.study.plan

    @property
    def task(self):
        return self.plan.tasks[self.job.task]

    @property
    def backbone(self):
        return self.plan.backbones[self.job.backbone]

    @property
    def folder(self):
        return self.study.work / self.job.stem

    @property
    def words(self):
        """The parts of the job's name."""
        return self.job.name.split("/")

    @cached_property
    def tokenizer(self):
        return AutoTokenizer.from_pretrained(self.study.source(self.backbone.name))

    @cached_property
    def collator(self):
        return DataCollatorWithPadding(self.tokenizer)

    @cached_property
    def rows(self):
        source = self.study.sources.get(self.task.dataset)
        return load_rows(self.task, self.job.part, self.job.seed, self.tokenizer, source=source)

    @property
    def device(self):
        return device_of(self.plan)

    def pretrained(self):
        """The pre-trained model with a new head."""
        set_seed(self.job.seed)
        source = self.study.source(self.backbone.name)
        return AutoModelForSequenceClassification.from_pretrained(
            source, num_labels=self.rows.num_labels, dtype=torch.float32
        )

    def model_of(self, name):
        """The folder of the model of another job of the same task, part and seed, which is run if it is not there."""
        other = self.study.at(self.job.with_name(name))
        other.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{other.folder}.lock"):  # of several jobs that lack it, one makes it
            if self.study.results.get(other.job) is None or not (other.folder / "model").exists():
                self.study.run(other.job)
        return other.folder / "model"

    def teacher(self):
        return AutoModelForSequenceClassification.from_pretrained(self.model_of("teacher")).eval()

    def teacher_rate(self):
        """The rate of the teacher's fine-tuning, which is chosen first where it is not yet."""
        trials = self.study.trials(self.job.task, self.job.backbone, "teacher")
        for job in self.study.needed(trials):
            if self.study.results.get(job) is None:
                self.study.run(job)
        return self.study.best_rate(trials, "metric")

    def rewired(self):
        """An elastic copy of the teacher, as the recipe begins with."""
        model = elastic_of(self.teacher()).to(self.device)
        path = self.study.work / self.job.folder / "importance.safetensors"
        if not path.exists():  # of the teacher, so all rivals share it
            batches = DataLoader(self.rows.train, batch_size=32, collate_fn=self.collator)
            write_whole(path, measure_importance(model, batches, progress=False).save)
        return rewire(model, Importance.load(path))

    def fit(self, model, rate, epochs, **settings):
        """Fine-tune a model on labels; what it cost."""
        args = TrainingArguments(**self.settings(rate, epochs), **settings)
        trainer = Trainer(model, args, train_dataset=self.rows.train, data_collator=self.collator)
        with Clock() as clock:
            trainer.train()
        return cost(clock, trainer.state.global_step)

    def settings(self, rate, epochs):
        """Arguments that every training has in common."""
        return {
            "output_dir": str(self.folder / "training"),
            "learning_rate": rate,
            "num_train_epochs": epochs,
            "per_device_train_batch_size": 32,
            "warmup_steps": 0.1,
            "train_sampling_strategy": "group_by_length",
            "save_strategy": "no",
            "report_to": "none",
            "logging_steps": 50,
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "seed": self.job.seed,
            **self.plan.trainer,
        }

    def scored(self, model, cost, sizes=None):
        """Numbers and answers of a trained model."""
        logits = predict(model.to(self.device), self.rows.scored, self.collator, sizes)
        numbers, answers = self.scored_logits(logits, cost)
        for size in sizes or ():
            numbers["sizes"][str(size)]["flops"] = count_flops(model, size)
        return numbers, answers

    def scored_logits(self, logits, cost):
        path = self.study.work / self.job.folder / "teacher.npy"
        if self.job.name == "teacher":
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, logits["model"])
        teacher = logits["model"] if self.words[0] == "teacher" else np.load(path)
        numbers, answers = summarise(logits, self.rows.labels, teacher, self.task.metric)
        if self.job.name == "teacher":
            answers["labels"] = self.rows.labels
        return {"sizes": numbers, **cost}, answers

    def clean(self):
        """Delete what training left, but for the model."""
        for path in self.folder.glob("*"):
            if path.name != "model":
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def elastic_of(model):
    """An elastic copy of a stock model."""
    return elastic_class_of(model).from_backbone(model)


def cost(clock, steps):
    return {"seconds": clock.seconds, "cpu_seconds": clock.cpu_seconds, "steps": steps}


def device_of(plan):
    return torch.device("cpu" if plan.trainer.get("use_cpu") or not torch.cuda.is_available() else "cuda")


def device_name(plan):
    return "cpu" if device_of(plan).type == "cpu" else torch.cuda.get_device_name()
