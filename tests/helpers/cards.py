"""Facts for cards."""

from dynabert_hf.hub.card import ModelCardFacts, SizeFacts
from dynabert_hf.sizes.counting import count_flops, count_parameters


def make_facts(model, **changes):
    """Facts with counted costs, and metrics that tell the sizes apart."""
    sizes = [
        SizeFacts(
            size,
            {"accuracy": 0.5 + number / 31, "loss": 1 / (number + 3)},
            count_parameters(model, size).total,
            count_flops(model, size),
            latency_ms=number + 0.25,
        )
        for number, size in enumerate(model.config.subnetworks)
    ]
    facts = {"dataset_id": "me/reviews", "dataset_name": "Reviews", "license": "apache-2.0", "language": "en"}
    return ModelCardFacts.from_rows(model, sizes, **{**facts, **changes})
