"""A study of two steps each on a few sentences, to see that every part works."""

import json
from dataclasses import replace

from .jobs import Study

LIMITS = {"num_train_epochs": 1, "max_steps": 2}


def smoke_study(full: Study):
    """A configuration like that of the study, cut down, with folders of its own."""
    settings = full.settings
    folder = full.models.with_name("smoke-study")
    folder.mkdir(parents=True, exist_ok=True)
    arms = settings["arms"]
    for arm in arms.values():
        if "stages" in arm:
            arm["stages"] = [{**stage, **LIMITS} for stage in arm["stages"]]
    rivals = [f"{kind}/w0.25-d0.5/2e-4" for kind in settings["rivals"]["kinds"]]
    names = [settings["rivals"]["equal_cpu_of"], *rivals, f"{rivals[0]}/equal-cpu"]
    cut = {
        **settings,
        "num_validation": 64,
        "num_test": 64,
        "arms": arms,
        "teacher": LIMITS,
        "rivals": {**settings["rivals"], "limits": LIMITS},
        "epochs": {"64": 1},
        "queue": [f"{name}:64:0" for name in names],
    }
    path = folder / "study.json"
    path.write_text(json.dumps(cut, indent=1))
    return replace(full, path=path, models=folder, results=folder / "results")
