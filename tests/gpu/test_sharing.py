"""Several sizes on one copy of the weights: from threads, on streams of their own; and two models on one device."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from helpers.devices import to
from helpers.tiny import make_batch, make_model

from dynabert_hf import Cascade

pytestmark = pytest.mark.gpu

SIZES = ("w0.25-d0.5", "w0.5-d0.75", "w0.75-d1", "w1-d1")
PASSES = 20


def run(model, batch):
    with torch.no_grad():
        return model(**batch).logits


def alone(model, batches):
    """What each size gives for each batch when nothing else runs."""
    return {size: [run(model.set_active(size), batch) for batch in batches] for size in SIZES}


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def test_threads_serve_sizes_of_shared_weights_on_streams_of_their_own(family, device, deterministic):
    model = make_model(family).to(device)
    batches = [to(device, make_batch(seed=seed)) for seed in range(PASSES)]
    expected = alone(model, batches)
    shared = {size: model.share(size) for size in SIZES}
    wait(device)  # for the weights: a new stream knows nothing of what others are still at

    def serve(size):
        stream = torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else nullcontext()
        with stream:
            return [run(shared[size], batch) for batch in batches]

    with ThreadPoolExecutor(len(SIZES)) as threads:
        found = dict(zip(SIZES, threads.map(serve, SIZES), strict=True))
    wait(device)
    for size in SIZES:
        assert all(map(torch.equal, found[size], expected[size])), size


def test_one_thread_keeps_several_streams_busy(card, deterministic):
    model = make_model().to(card)
    batches = [to(card, make_batch(seed=seed)) for seed in range(PASSES)]
    expected = alone(model, batches)
    streams = {size: torch.cuda.Stream(card) for size in SIZES}
    wait(card)
    found = {size: [] for size in SIZES}
    for batch in batches:
        for size, stream in streams.items():
            with torch.cuda.stream(stream):
                found[size].append(run(model.set_active(size), batch))
    wait(card)
    for size in SIZES:
        assert all(map(torch.equal, found[size], expected[size])), size


def test_a_cascade_follows_its_model_to_the_device(device, deterministic):
    model = make_model()
    cascade = Cascade(model, SIZES[0], SIZES[-1], threshold=0.5)
    expected = cascade(**make_batch()).logits
    model.to(device)
    answer = cascade(**make_batch()).logits
    assert answer.device.type == device.type
    torch.testing.assert_close(answer.cpu(), expected, atol=1e-5, rtol=1e-5)  # what float32 leaves of another order


def test_two_models_on_one_device_keep_sizes_weights_and_gradients_of_their_own(device, deterministic):
    models = {family: make_model(family).to(device) for family in ("Bert", "Roberta")}
    batch, labels = to(device, make_batch()), torch.tensor([0, 2], device=device)
    expected = {family: alone(model, [batch]) for family, model in models.items()}
    for ours, theirs in zip(SIZES, reversed(SIZES), strict=True):
        sizes = {"Bert": ours, "Roberta": theirs}
        for family, size in sizes.items():
            models[family].set_active(size)
        for family, size in sizes.items():
            assert torch.equal(run(models[family], batch), expected[family][size][0]), (family, size)
    models["Bert"](**batch, labels=labels).loss.backward()
    assert models["Bert"].classifier.weight.grad.any()
    assert all(parameter.grad is None for parameter in models["Roberta"].parameters())
