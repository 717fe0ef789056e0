"""Mixed precision: every size computes what its own model would, every stage learns what it learns in float32."""

import pytest
import torch
from helpers.devices import to
from helpers.tiny import make_batch, make_model
from helpers.trainers import LastGradients, make_dataset, make_trainer
from transformers import TrainerCallback

pytestmark = pytest.mark.gpu

STAGES = ("width", "depth", "finetune")
TOLERANCES = {"bf16": 0.02, "fp16": 0.0025}
"""How far gradients may be from those of float32, as a share of their norm. bfloat16 rounds to 8 bits, half a step of
which is 0.002 of a number; a gradient went through about forty rounded operations, whose errors add up like random
steps, to 0.012. float16 has 11 bits, an eighth of that."""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_size_is_its_extracted_model_in_mixed_precision(family, dtype, device):
    """Gradients of the kept part included. A GPU may take another kernel for a view than for a whole matrix, which
    adds up in another order: the last of the bits, once more after each of the layers."""
    model = make_model(family).to(device)
    batch, labels = to(device, make_batch()), torch.tensor([0, 2], device=device)
    close = {"rtol": 0, "atol": 0} if device.type == "cpu" else {"rtol": 4 * torch.finfo(dtype).eps, "atol": 0.01}
    for size in model.config.subnetworks:
        extracted = model.extract(size)
        with model.subnetwork(size), torch.autocast(device.type, dtype):
            ours, theirs = (each(**batch, labels=labels) for each in (model, extracted))
        torch.testing.assert_close(ours.logits, theirs.logits, **close)
        model.zero_grad()
        ours.loss.backward()
        theirs.loss.backward()
        gradients = dict(model.named_parameters())
        for name in (f"{family.lower()}.embeddings.{part}.weight" for part in ("word_embeddings", "LayerNorm")):
            torch.testing.assert_close(gradients[name].grad, extracted.get_parameter(name).grad, **close)


def gradients_and_losses(tmp_path, device, stage, **arguments):
    """Of steps that are all alike, at a learning rate of 0, so that one was not left out for its scale."""
    last = LastGradients()
    settings = {"max_steps": 6, "learning_rate": 0.0, "optim": "sgd", "max_grad_norm": 1e9, "logging_steps": 6}
    data = {"train_dataset": make_dataset(4), "callbacks": [last]}
    use_cpu = device.type == "cpu"
    trainer = make_trainer(tmp_path, stage, make_model(), use_cpu=use_cpu, **settings, **data, **arguments)
    trainer.train()
    (logged,) = (entry for entry in trainer.state.log_history if "loss" in entry)
    return last.gradients, {name: value for name, value in logged.items() if name.endswith("_loss")}


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_the_gradients_and_losses_of_float32(stage, mixed, device, tmp_path):
    tolerance = TOLERANCES[mixed]
    exact, exact_losses = gradients_and_losses(tmp_path / "exact", device, stage)
    half, half_losses = gradients_and_losses(tmp_path / "half", device, stage, **{mixed: True})
    assert half.keys() == exact.keys()
    difference = sum((half[name] - exact[name]).square().sum() for name in exact).sqrt()
    norm = sum(gradient.square().sum() for gradient in exact.values()).sqrt()
    assert 0 < difference < tolerance * norm  # equal to the last bit would mean that nothing was rounded
    assert half_losses == pytest.approx(exact_losses, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_trains_float32_weights_in_mixed_precision(stage, mixed, device, tmp_path):
    model = make_model()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    settings = {"max_steps": 4, "learning_rate": 1e-3, mixed: True, "use_cpu": device.type == "cpu"}
    make_trainer(tmp_path, stage, model, **settings).train()
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.float32
        assert torch.isfinite(weight).all(), name
    assert not torch.equal(model.classifier.weight.cpu(), before["classifier.weight"])


def test_a_step_whose_gradients_overflow_is_left_out_and_the_scale_halved(card, tmp_path):
    weights = []

    class Weights(TrainerCallback):
        def on_step_end(self, args, state, control, model, **kwargs):
            weights.append(model.classifier.weight.detach().clone())

    settings = {"max_steps": 40, "learning_rate": 1e-3, "fp16": True, "use_cpu": False}
    trainer = make_trainer(tmp_path, "depth", make_model(), callbacks=[Weights()], **settings)
    start = trainer.model.classifier.weight.detach().clone()
    trainer.accelerator.scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    trainer.train()
    assert torch.equal(weights[0], start)
    assert not torch.equal(weights[-1], start)
    assert trainer.accelerator.scaler.get_scale() <= 2.0**30
