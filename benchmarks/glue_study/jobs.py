"""Jobs, and the files that say what came of them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CHOICE, SCORE = "choice", "score"


@dataclass(frozen=True)
class Job:
    """One model to train and to score.

    Args:
        task: Name in the plan.
        backbone: Name in the plan.
        part: `"choice"`, on part of the training split, scored on its held-out rows; `"choice-1500"`, on so many rows;
            or `"score"`, on the whole training split, scored on validation and labelled test.
        seed: Of training, and of which rows.
        name: `teacher`, `teacher/4e-4` where its rate is chosen, `int8`, `arm/own/4e-4` or, with size and rate,
            `alone/w0.5-d1/4e-4`.
    """

    task: str
    backbone: str
    part: str
    seed: int
    name: str

    @property
    def folder(self):
        """Where the data, the teacher and its rewired copy are shared with other jobs."""
        return Path(self.task, self.backbone, f"{self.part}-{self.seed}")

    @property
    def stem(self):
        return self.folder / self.name.replace("/", "_")

    def with_name(self, name):
        return Job(self.task, self.backbone, self.part, self.seed, name)

    def __str__(self):
        return f"{self.folder.as_posix()}: {self.name}"


@dataclass(frozen=True)
class Results:
    """What is known of the jobs: for each a JSON file of numbers and an `.npz` of answers, for paired tests."""

    folder: Path

    def get(self, job):
        """The numbers of a job, or None."""
        path = self.folder / job.stem.with_name(f"{job.stem.name}.json")
        return json.loads(path.read_text()) if path.exists() else None

    def answers(self, job):
        """Arrays by name: `<size>.prediction`, of a teacher also `labels`."""
        with np.load(self.folder / job.stem.with_name(f"{job.stem.name}.npz")) as arrays:
            return dict(arrays)

    def record(self, job, numbers, answers):
        """Write both files; the numbers, whose file says that a job is done, whole and last."""
        path = self.folder / job.stem.with_name(f"{job.stem.name}.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path.with_suffix(".npz"), **answers)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(numbers, indent=1) + "\n")
        partial.rename(path)
