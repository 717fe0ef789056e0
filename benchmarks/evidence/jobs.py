"""What the study consists of, read from `study.json`: arms, rivals, and the order in which they run.

A job is written `name:num_train:seed`, for instance `sandwich:1500:0`, or, for a rival with its size and learning rate,
`distilled/w0.5-d0.5/2e-4:1500:0`.
"""

import copy
import fcntl
import json
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent.parent
ALL = "all"


@dataclass(frozen=True)
class Job:
    """One model to train: an arm or a rival, on a number of sentences (`"all"`: all of them), with a seed."""

    name: str
    num_train: str
    seed: int

    @classmethod
    def parse(cls, text):
        name, num_train, seed = text.split(":")
        return cls(name, num_train, int(seed))

    def __str__(self):
        return f"{self.name}:{self.num_train}:{self.seed}"

    @property
    def file_name(self):
        return str(self).replace("/", "_").replace(":", "_") + ".json"

    def __lt__(self, other):
        return str(self) < str(other)


@dataclass(frozen=True)
class Study:
    """The configuration and the two folders of a study: models in one, results in the other."""

    path: Path = HERE / "study.json"
    models: Path = HERE.parent / "outputs" / "study"
    results: Path = HERE / "results" / "study"

    @property
    def settings(self):
        """The configuration as it is in the file now, so that a running worker sees what was changed."""
        return json.loads(self.path.read_text())

    def arm(self, name):
        """The settings of an arm, those it is `like` filled in."""
        arm = copy.deepcopy(self.settings["arms"][name])
        if "like" not in arm:
            return arm
        base = self.arm(arm.pop("like"))
        arguments = {**base.get("arguments", {}), **arm.pop("arguments", {})}
        return {**base, **arm, "arguments": arguments}

    def queue(self):
        return [Job.parse(text) for text in self.settings["queue"]]

    def result_path(self, job):
        return self.results / job.file_name

    def result(self, job):
        """What was measured of a job, or None."""
        path = self.result_path(job)
        return json.loads(path.read_text()) if path.exists() else None

    def rivals(self, num_train, kind="*", size="*"):
        """Names `kind/size/learning rate` of the rivals at equal epochs that have a result with any seed."""
        stems = [path.stem.split("_") for path in self.results.glob(f"{kind}_{size}_*_{num_train}_*.json")]
        return sorted({"/".join(stem[:3]) for stem in stems if len(stem) == 5})

    def record(self, job, result):
        """Write the result of a job, whole or not at all."""
        path = self.result_path(job)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"job": str(job), **result}, indent=1) + "\n")
        partial.rename(path)

    @contextmanager
    def lock(self, name, *, wait):
        """Hold a job for this process; yields whether that worked. Ends with the process, however it ends."""
        path = self.models / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True
