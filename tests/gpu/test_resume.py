"""A run that goes on from a checkpoint ends with the weights of one that never stopped, to the last bit."""

import pytest
import torch
from helpers.tiny import make_model
from helpers.trainers import make_trainer

pytestmark = pytest.mark.gpu

STEPWISE = {
    "max_steps": 6,
    "save_strategy": "steps",
    "save_steps": 2,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "strategy": "sandwich",
    "num_random_subnetworks": 1,
}


@pytest.mark.parametrize("stage", ["width", "depth", "finetune"])
def test_a_resumed_run_ends_as_a_whole_one(stage, device, deterministic, tmp_path):
    check(tmp_path, device, stage)


def test_a_resumed_run_in_mixed_precision_ends_as_a_whole_one(mixed, device, deterministic, tmp_path):
    check(tmp_path, device, "depth", **{mixed: True})


def check(tmp_path, device, stage, **precision):
    def trainer():
        dropout = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
        model = make_model(stock=dropout, widths=[0.25, 0.5, 1.0], depths=[0.5, 1.0])
        return make_trainer(tmp_path, stage, model, use_cpu=device.type == "cpu", **STEPWISE, **precision)

    whole, resumed = trainer(), trainer()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert resumed.state.global_step == 6
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name
    assert not torch.equal(whole.model.classifier.weight.cpu(), make_model().classifier.weight)
