"""Scoring on the test part: once for each job that the report names, after all choices are made."""

from transformers import BertForSequenceClassification

from dynabert_hf import DynaBertForSequenceClassification

from .jobs import Job
from .scoring import score
from .teacher import collator, data_of


def score_on_test(study):
    """Add the test accuracies to the results of the jobs under `tested`; those that have them are left as they are."""
    settings = study.settings
    for job in map(Job.parse, settings["tested"]):
        result = study.result(job)
        if result is None or "test" in result:
            print(f"{job}: {'not trained' if result is None else 'scored before'}")
            continue
        split = data_of(study, job)["test"]
        split = split.select(range(settings.get("num_test", len(split))))
        is_teacher = job.name == "teacher"
        model_class = BertForSequenceClassification if is_teacher else DynaBertForSequenceClassification
        model = model_class.from_pretrained(study.models / result["model"])
        sizes = None if is_teacher or "/" in job.name else model.config.subnetworks
        result["test"] = score(model, split, collator(), sizes)
        study.record(job, result)
        mean = sum(summary["accuracy"] for summary in result["test"].values()) / len(result["test"])
        print(f"{job}: {mean:.4f}", flush=True)
