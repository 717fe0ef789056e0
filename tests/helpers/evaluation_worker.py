"""Evaluates on one process or on two, and saves what was found."""

import json

import pytest
import torch
from accelerate import PartialState
from datasets import Dataset

from dynabert_hf.training.ordered_evaluation import OrderedEvaluation, evaluate_one_size
from helpers.plain_loop import assert_equal_rows, elastic, pad, plain_loop, ragged_rows
from helpers.trainers import make_dataset, make_trainer

SETTINGS = (
    {"train_sampling_strategy": "group_by_length", "dataloader_drop_last": True},
    {"accelerator_config": {"split_batches": True, "even_batches": False, "dispatch_batches": False}},
    {"per_device_eval_batch_size": 50},
)
"""Training's arguments, none of which evaluation may follow; with the last, the second process has no batch."""


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def check_evaluation(folder, head, size, settings, *, streams=False):
    """On this process and every other: predictions, labels and losses equal those of a plain loop."""
    model, rows = elastic(head), ragged_rows(head, size)
    arguments = {"per_device_eval_batch_size": 4, "train_dataset": None, "eval_dataset": None, "data_collator": pad}
    trainer = make_trainer(folder, "finetune", model, **{**arguments, **settings})
    data = Stream(rows) if streams else Dataset.from_list(rows)
    predicted, metrics = trainer.predict(data), trainer.evaluate(data)
    assert metrics["eval_samples_per_second"] > 0
    for each in model.config.subnetworks:
        with model.subnetwork(each):
            expected, loss = plain_loop(model, rows, batch_size=trainer.args.per_device_eval_batch_size)
        assert_equal_rows(predicted.predictions[str(each)], expected)
        assert predicted.metrics[f"test_{each}_loss"] == pytest.approx(loss, abs=1e-6)
        assert metrics[f"eval_{each}_loss"] == pytest.approx(loss, abs=1e-6)
    stock = model.to_backbone().eval()
    with pytest.raises(
        ValueError, match=r"On 2 processes a DataLoader was given to evaluate on, .* Return one of these"
    ):
        trainer.evaluation_loop(torch.utils.data.DataLoader(rows, collate_fn=pad), "Evaluation")
    of_stock = evaluate_one_size(stock, trainer.args, eval_dataset=data, data_collator=pad)
    assert of_stock["eval_loss"] == pytest.approx(loss, abs=1e-6)
    own = [
        row
        for batch in OrderedEvaluation(model, trainer.args, data_collator=pad).get_eval_dataloader(data)
        for row in batch["input_ids"]
    ]
    return len(own)


def logged_losses(folder, stage, num_processes, *, unlabelled=range(5, 6)):
    """What training logs of sandwich steps of accumulated batches of tokens, of which some have no label."""
    rows = ragged_rows("ForTokenClassification", 24)
    rows[0]["labels"][2:] = [-100] * len(rows[0]["labels"][2:])
    for row in unlabelled:
        rows[row]["labels"] = [-100] * len(rows[row]["labels"])
    trainer = make_trainer(
        folder,
        stage,
        elastic("ForTokenClassification", widths=[0.5, 0.75, 1.0]),
        train_dataset=rows,
        eval_dataset=None,
        data_collator=pad,
        label_weight=0.0 if stage == "finetune" else 0.5,
        strategy="sandwich",
        num_random_subnetworks=1,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=4 // num_processes,
        gradient_accumulation_steps=3,
        max_steps=3,
        logging_steps=2,  # of the third step only the mean of all tells
        optim="sgd",
        learning_rate=0.05,
    )
    result, logged = trainer.train(), trainer.state.log_history
    losses = {name: value for name, value in logged[0].items() if "loss" in name or name == "grad_norm"}
    return {**losses, "train_loss": logged[-1]["train_loss"], "returned": result.training_loss}


def stopping_message(folder):
    """How training ends on this process where the loss of the first process alone is not finite."""
    trainer = make_trainer(folder, train_dataset=make_dataset(), eval_dataset=None)
    before = trainer.model.classifier.weight.clone()
    if PartialState().is_main_process:
        with torch.no_grad():
            trainer.teacher.classifier.bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError) as caught:
        trainer.train()
    assert torch.equal(trainer.model.classifier.weight, before)
    return str(caught.value)


def main(folder, num_processes):
    found = {}
    if num_processes > 1:
        for size, settings in zip((9, 9, 5), SETTINGS, strict=True):
            found[f"{size} {settings}"] = check_evaluation(folder, "ForTokenClassification", size, settings)
        for head in ("ForQuestionAnswering", "ForMultipleChoice", "Regression"):
            check_evaluation(folder, head, 13, {})
        found["stream"] = check_evaluation(folder, "ForTokenClassification", 9, {}, streams=True)
        found["message"] = stopping_message(folder)
    found["losses"] = {stage: logged_losses(folder, stage, num_processes) for stage in ("width", "finetune")}
    found["losses"]["of one label"] = logged_losses(folder, "width", num_processes, unlabelled=range(1, 24))
    assert PartialState().num_processes == num_processes
    (folder / f"found-{num_processes}-{PartialState().process_index}.json").write_text(json.dumps(found))
