"""Facts for cards."""

from dataclasses import replace

from dynabert_hf import ModelCardFacts, SizeRecord


def make_facts(model, **changes):
    """Facts with counted costs, and metrics that tell the sizes apart."""
    counted = [
        SizeRecord.counted(model, size, {"loss": 1 / (number + 3), "accuracy": 0.5 + number / 31})
        for number, size in enumerate(model.config.subnetworks)
    ]
    records = [replace(one, costs={**one.costs, "latency_ms": n + 0.25}) for n, one in enumerate(counted)]
    facts = {"dataset_id": "me/reviews", "dataset_name": "Reviews", "license": "apache-2.0", "language": "en"}
    return ModelCardFacts.from_records(model, records, **{**facts, **changes})
