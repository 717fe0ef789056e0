"""How the models of the study are trained: the teacher, all sizes together, and the rivals one by one.

Every function takes a `Case` and returns numbers and answers for `Results.record`.
"""

import json
import math
import tempfile
from pathlib import Path

import numpy as np
from transformers import AutoModelForSequenceClassification

from dynabert_hf import LayerShape, SubNetwork, export_onnx, load_onnx, quantize_onnx, specialise, train_dynabert

from .metrics import METRICS
from .scoring import Clock, in_batches
from .study import Study, cost, device_name, elastic_of


def train_teacher(case):
    """Fine-tune the pre-trained model on labels, at the rate of the job's name or at the one that was chosen."""
    _, *given = case.words
    rate = given[0] if given else case.teacher_rate()
    model = case.pretrained()
    spent = case.fit(model, float(rate), case.task.teacher_epochs)
    if not given:
        model.save_pretrained(case.folder / "model")
        case.tokenizer.save_pretrained(case.folder / "model")
    numbers, answers = case.scored(model, spent)
    return {"rate": rate, **numbers}, answers


def train_arm(case):
    """All sizes together, by the call of the README."""
    _, name, rate = case.words
    arm = case.plan.arms[name]
    settings = case.settings(float(rate), arm.epochs * case.task.epochs)
    settings |= {"save_strategy": "epoch", "output_dir": str(case.folder)}  # goes on where it was interrupted
    teacher = case.model_of("teacher")
    with Clock() as clock:
        result = train_dynabert(
            str(teacher),
            train_dataset=case.rows.train,
            processing_class=case.tokenizer,
            **{**settings, **arm.arguments},
        )
    logged = [json.loads(path.read_text()) for path in case.folder.glob("*/history.json")]
    steps = sum(rows[-1]["step"] for rows in logged if rows)
    answers = case.scored(result.model, cost(clock, steps), result.model.config.subnetworks)
    case.clean()
    return answers


def distil_alone(case):
    """The same shape as a size, cut from the rewired teacher and distilled from it, with the recipe's losses."""
    kind, size, rate = case.words
    rival = case.plan.rivals[kind]
    settings = case.settings(float(rate), rival.epochs * case.task.epochs)
    return _specialised(case, case.rewired(), size, {**settings, **rival.arguments})


def train_specialised(case):
    """A size of a model of all sizes, distilled on from its full size and the teacher."""
    _, size, rate, *arm = case.words
    source = AutoModelForSequenceClassification.from_pretrained(case.model_of("/".join(arm)))
    settings = case.settings(float(rate), case.plan.specialised_share)
    return _specialised(case, source, size, settings, teacher=case.teacher())


def _specialised(case, source, size, settings, teacher=None):
    with Clock() as clock:
        small = specialise(
            source,
            size,
            teacher=teacher,
            train_dataset=case.rows.train,
            processing_class=case.tokenizer,
            **settings,
        )
    steps = math.ceil(len(case.rows.train) / settings["per_device_train_batch_size"]) * settings["num_train_epochs"]
    return case.scored(small, cost(clock, math.ceil(steps)))


def train_on_labels(case):
    """The same shape as a size, cut from the rewired teacher and fine-tuned on labels."""
    _, size, rate = case.words
    model = case.rewired().extract(size)
    return case.scored(model, case.fit(model, float(rate), case.task.epochs))


def train_first_layers(case):
    """The first layers of the pre-trained model, as many as the size has floating-point operations, on labels."""
    _, size, rate = case.words
    model, size = elastic_of(case.pretrained()), SubNetwork.parse(size)
    full = model.config.resolve(SubNetwork())
    kept = full[: math.ceil(size.width * size.depth * len(full))]
    model = model.extract([LayerShape(layer.index, layer.heads, layer.neurons) for layer in kept])
    return case.scored(model, case.fit(model, float(rate), case.task.epochs))


def quantise(case):
    """The full model in int8, weights now and activations while running: what a user tries first."""
    teacher, rows = elastic_of(case.teacher()), case.rows.scored
    logits = {}

    def evaluate(model):
        logits["model"] = np.zeros((len(rows), teacher.config.num_labels), np.float32)
        for chosen, batch in in_batches(rows, case.collator):
            logits["model"][chosen] = model(**batch)["logits"]
        prediction = logits["model"][:, 0] if teacher.config.num_labels == 1 else logits["model"].argmax(1)
        return METRICS[case.task.metric](prediction, case.rows.labels)

    with tempfile.TemporaryDirectory() as scratch, Clock() as clock:
        folder = Path(scratch) / "onnx"
        export_onnx(teacher.cpu(), folder)
        quantize_onnx(folder, evaluate)
        evaluate(load_onnx(folder, int8=True))
    return case.scored_logits(logits, cost(clock, 0))


BY_KIND = {
    "teacher": train_teacher,
    "arm": train_arm,
    "alone": distil_alone,
    "alone-long": distil_alone,
    "alone-views": distil_alone,
    "specialised": train_specialised,
    "labels": train_on_labels,
    "first": train_first_layers,
    "int8": quantise,
}
"""By the first part of a job's name what trains it."""


class GlueStudy(Study):
    """The study on tasks: its jobs are trainings."""

    def run(self, job):
        """Train and score a job, and record what came of it."""
        numbers, answers = BY_KIND[job.name.split("/")[0]](self.at(job))
        self.results.record(job, {"job": str(job), "device": device_name(self.plan), **numbers}, answers)
