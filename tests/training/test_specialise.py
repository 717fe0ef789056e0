"""One size distilled on alone: its loss and its step by value, and what stays as it was."""

import copy
import pickle
import random

import numpy as np
import pytest
import torch
from helpers.tiny import make_batch, make_model, make_small, make_tokenizer
from helpers.trainers import make_dataset
from torch.nn.functional import cross_entropy, mse_loss
from transformers import default_data_collator

from dynabert_hf import (
    DynaBertForSequenceClassification,
    DynaBertTrainingArguments,
    SubNetwork,
    SubNetworkError,
    specialise,
    store_teacher_outputs,
)
from dynabert_hf.training.distillation import logit_loss
from dynabert_hf.training.specialise import OneSizeTrainer, _arguments_of_one_size
from dynabert_hf.training.stages import stage_defaults

SIZE = SubNetwork(0.5, 0.5)  # layers 0, 2 and 4
STEP = {
    "max_steps": 1,
    "optim": "sgd",
    "learning_rate": 0.05,
    "warmup_steps": 0,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 1e9,
    "per_device_train_batch_size": 8,
    "use_cpu": True,
    "disable_tqdm": True,
}


@pytest.fixture
def model():
    """An elastic model with dropout, and apart from its teacher."""
    return make_model(stock={"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5})


@pytest.fixture
def teacher(model):
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    return other


def loss_by_hand(student, teachers, matched, *, logit_weight=1.0, hidden_weight=1.0, label_weight=0.0):
    """The mean over teachers of the two losses of distillation, and the loss on labels, in a plain loop."""
    batch = {name: torch.tensor(column) for name, column in make_dataset()[:].items()}
    mask = batch["attention_mask"]
    ours = student(**batch, output_hidden_states=True)
    loss = label_weight * ours.loss
    for teacher in teachers:
        with torch.no_grad():
            theirs = teacher(**batch, output_hidden_states=True)
        logit = -(theirs.logits.softmax(-1) * ours.logits.log_softmax(-1)).sum(-1).mean()
        hidden = sum(
            ((mine - theirs.hidden_states[layer])[row][mask[row].bool()] ** 2).mean() / len(mask)
            for mine, layer in zip(ours.hidden_states, matched, strict=True)
            for row in range(len(mask))
        )
        loss = loss + (logit_weight * logit + hidden_weight * hidden) / len(teachers)
    return loss


@pytest.mark.parametrize(
    ("given", "matched", "num_teachers"),
    [
        ({}, (0, 1, 3, 6), 2),
        ({"hidden_matching": "published", "hidden_weight": 0.3, "logit_weight": 2.0}, (0, 2, 4, 6), 1),
        ({"label_weight": 0.7}, (0, 1, 3, 6), 1),
    ],
)
def test_a_step_is_that_of_a_plain_loop(model, teacher, tmp_path, given, matched, num_teachers):
    expected = model.extract(SIZE).eval()  # without dropout
    weights = {name: value for name, value in given.items() if name.endswith("weight")}
    loss_by_hand(expected, [model, teacher][:num_teachers], matched, **weights).backward()
    with torch.no_grad():
        for parameter in expected.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.05 * parameter.grad)
    found = specialise(
        model,
        SIZE,
        teacher=teacher if num_teachers == 2 else None,
        train_dataset=make_dataset(),
        output_dir=tmp_path,
        **STEP,
        **given,
    )
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], weight, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("label_weight", [0.0, 1.0])
def test_accumulated_batches_make_one_step_whatever_rows_and_labels_each_has(tmp_path, label_weight):
    """Six rows are batches of four, with two labels of tokens, and of two, with one."""
    labels = [[0, 1, *[-100] * 5], *[[-100] * 7] * 3, [-100, 2, *[-100] * 5], [-100] * 7]
    rows = make_dataset(6).remove_columns("labels").add_column("labels", labels)
    model, found = make_model(head="ForTokenClassification"), []
    for size, count in ((6, 1), (4, 2)):
        settings = {**STEP, "per_device_train_batch_size": size, "gradient_accumulation_steps": count}
        settings |= {"label_weight": label_weight, "train_sampling_strategy": "sequential", "output_dir": tmp_path}
        found.append(specialise(model, SIZE, train_dataset=rows, **settings).state_dict())
    for name, weight in found[0].items():
        torch.testing.assert_close(found[1][name], weight, rtol=0, atol=1e-6, msg=name)


def test_its_defaults_are_those_of_the_recipe_but_for_the_rate_the_epochs_and_the_matching(tmp_path):
    args = _arguments_of_one_size({"use_cpu": True}, str(tmp_path))
    own = {"learning_rate": 1e-4, "num_train_epochs": 0.5, "hidden_matching": "own"}
    recipe = {name: value for name, value in stage_defaults().items() if not name.startswith("save_")}
    given = {**recipe, **own, "strategy": "grid", "save_strategy": "no"}
    expected = DynaBertTrainingArguments(str(tmp_path), stage="depth", use_cpu=True, **given)
    assert [getattr(args, name) for name in given] == [getattr(expected, name) for name in given]


def test_it_draws_by_its_own_seed_and_leaves_the_draws_of_the_caller_alone(model, tmp_path):
    settings = {**STEP, "per_device_train_batch_size": 2, "max_steps": 2, "output_dir": tmp_path}
    states = []
    for seed, own in ((1, 42), (2, 42), (3, 7)):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        states.append(specialise(model, SIZE, train_dataset=make_dataset(), seed=own, **settings).state_dict())
        drawn = random.random(), np.random.rand(), torch.rand(1).item()
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())
    assert all(torch.equal(weight, states[1][name]) for name, weight in states[0].items())
    assert any(not torch.equal(weight, states[2][name]) for name, weight in states[0].items())


def test_the_result_is_of_one_size_and_nearer_to_its_teacher(model, tmp_path):
    model.config.metrics, model.config.temperatures = {str(SIZE): {"accuracy": 0.9}}, {str(SIZE): 2.0}
    before = model.extract(SIZE)
    settings = {**STEP, "max_steps": 20, "optim": "adamw_torch", "learning_rate": 1e-3}
    after = specialise(model, SIZE, train_dataset=make_dataset(), output_dir=tmp_path, **settings)
    assert after.config.stored_layers == before.config.stored_layers
    assert after.config.hidden_dropout_prob == 0.5
    assert {layer.p for layer in after.modules() if isinstance(layer, torch.nn.Dropout)} == {0.5}
    assert not after.training
    after.save_pretrained(tmp_path / "small")
    loaded = type(after).from_pretrained(tmp_path / "small")
    assert loaded.config.subnetworks == after.config.subnetworks == (SIZE,)  # though smaller ones can be run
    assert pickle.loads(pickle.dumps(after)).config.to_dict() == after.config.to_dict()
    assert after.config.metrics is after.config.temperatures is None  # those were of other weights
    assert after.config.extracted_from["metrics"] == model.config.metrics[str(SIZE)]
    with torch.no_grad():
        losses = [loss_by_hand(each.eval(), [model], (0, 1, 3, 6)) for each in (before, after)]
    assert losses[1] < losses[0]


def test_a_model_in_half_precision_learns_as_in_whole_precision(model, tmp_path):
    """Steps of 1e-4 are too small to change most of its weights, and many of them are not."""
    model.bfloat16()
    settings = {**STEP, "max_steps": 40, "optim": "adamw_torch", "learning_rate": 1e-4, "output_dir": tmp_path}
    before = model.extract(SIZE).float().state_dict()
    ours = specialise(model, SIZE, train_dataset=make_dataset(), **settings)
    assert {tensor.dtype for tensor in ours.parameters()} == {torch.bfloat16}
    whole = specialise(model.float(), SIZE, train_dataset=make_dataset(), **settings).state_dict()
    moved, expected = (
        sum((found[name].float() - weight).abs().sum() for name, weight in before.items())
        for found in (ours.state_dict(), whole)
    )
    assert abs(moved / expected - 1) < 0.1


def test_in_mixed_precision_the_teachers_compute_in_it_too(model, teacher, tmp_path):
    computed = {}

    def note(module, inputs, output):
        computed[module] = output.dtype, output.requires_grad

    for each in (model, teacher):
        each.classifier.register_forward_hook(note)
    specialise(model, SIZE, teacher=teacher, train_dataset=make_dataset(), output_dir=tmp_path, bf16=True, **STEP)
    assert computed == dict.fromkeys((model.classifier, teacher.classifier), (torch.bfloat16, False))


def test_what_was_trained_in_mixed_precision_computes_as_it_does_when_loaded(model, tmp_path):
    small = specialise(model, SIZE, train_dataset=make_dataset(), output_dir=tmp_path, bf16=True, **STEP)
    small.save_pretrained(tmp_path / "small")
    batch = make_batch()
    assert torch.equal(small(**batch).logits, type(small).from_pretrained(tmp_path / "small")(**batch).logits)
    assert not vars(small).keys() & {"forward", "_is_accelerate_prepared"}  # else it would be trained as before again


def test_an_only_step_is_no_warm_up(model, tmp_path):
    told = {"train_dataset": make_dataset(), "output_dir": tmp_path, "max_steps": 1, "learning_rate": 1e-3}
    told |= {"use_cpu": True, "disable_tqdm": True}
    by_default = specialise(model, SIZE, **told).state_dict()
    without = specialise(model, SIZE, **told, warmup_steps=0).state_dict()
    assert all(torch.equal(by_default[name], weight) for name, weight in without.items())
    before = model.extract(SIZE).state_dict()
    assert (by_default["classifier.weight"] - before["classifier.weight"]).abs().max() > 1e-5
    args = DynaBertTrainingArguments(str(tmp_path), warmup_steps=0.1)  # nor is it in a stage
    assert [args.get_warmup_steps(steps) for steps in (1, 2, 30)] == [0, 1, 3]


def test_no_folder_is_left_where_none_was_asked_for(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    specialise(model, SIZE, train_dataset=make_dataset(), **STEP)
    assert list(tmp_path.iterdir()) == []
    specialise(model, SIZE, train_dataset=make_dataset(), save_strategy="steps", save_steps=1, **STEP)
    assert [path.name for path in tmp_path.iterdir()] == ["specialised"]


def test_what_was_given_is_as_before(model, teacher, tmp_path):
    model.set_active(width=0.25).train()
    model.bert.encoder.eval()
    teacher.train()
    weights, config = copy.deepcopy(model.state_dict()), copy.deepcopy(model.config)
    modes = [[module.training for module in each.modules()] for each in (model, teacher)]
    specialise(model, SIZE, teacher=teacher, train_dataset=make_dataset(), output_dir=tmp_path, **STEP)
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in weights.items())
    assert model.config.to_dict() == config.to_dict()
    assert [[module.training for module in each.modules()] for each in (model, teacher)] == modes


def test_labels_are_not_needed(model, tmp_path):
    rows = make_dataset().remove_columns("labels")
    with_labels, without = (
        specialise(model, SIZE, train_dataset=data, output_dir=tmp_path, **STEP) for data in (make_dataset(), rows)
    )
    assert all(torch.equal(without.state_dict()[name], weight) for name, weight in with_labels.state_dict().items())


def test_evaluation_reports_the_loss_on_labels(model, tmp_path):
    small = model.extract(SIZE)
    trainer = OneSizeTrainer(
        small, [model], _arguments(tmp_path), eval_dataset=make_dataset(), data_collator=default_data_collator
    )
    batch = {name: torch.tensor(column) for name, column in make_dataset()[:].items()}
    assert trainer.evaluate()["eval_loss"] == pytest.approx(small.eval()(**batch).loss.item(), rel=1e-5)


def _arguments(tmp_path):
    return DynaBertTrainingArguments(
        tmp_path, stage="depth", use_cpu=True, disable_tqdm=True, report_to="none", per_device_eval_batch_size=8
    )


def test_a_subclass_of_any_name_learns_by_its_own_forward_pass(tmp_path):
    class Mirrored(DynaBertForSequenceClassification):
        def forward(self, input_ids=None, labels=None, **kwargs):
            return super().forward(input_ids=input_ids.flip(-1), labels=labels, **kwargs)

    stock = make_small()
    own = Mirrored(stock.config)
    own.load_state_dict(stock.state_dict())
    rows = [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in make_dataset()]
    flipped = [{**row, "input_ids": row["input_ids"][::-1]} for row in rows]
    mine, plain, other = (
        specialise(each, SIZE, train_dataset=data, **STEP)
        for each, data in ((own, rows), (stock, flipped), (stock, rows))
    )
    assert type(mine) is Mirrored
    weights, others = plain.state_dict(), other.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in mine.state_dict().items())
    assert any(not torch.equal(value, others[name]) for name, value in mine.state_dict().items())


def test_a_cut_model_is_refused(model):
    with pytest.raises(SubNetworkError, match=r"cut by extraction.*Give the elastic model that it was extracted from"):
        specialise(model.extract(SIZE), SIZE, train_dataset=make_dataset())


def test_a_model_without_a_head_says_nothing_to_learn(tmp_path):
    with pytest.raises(TypeError, match=r"is a DynaBertModel\. .*ForSequenceClassification"):
        specialise(make_model(head="Model"), "w0.5-d0.5", train_dataset=make_dataset(4), use_cpu=True)


@pytest.mark.parametrize("number", [0, -1, float("nan")])
@pytest.mark.parametrize("name", ["num_train_epochs", "learning_rate"])
def test_a_number_that_trains_nothing_is_refused(model, name, number):
    with pytest.raises(ValueError, match=rf"{name}={number} trains nothing\. .*extract\(\)"):
        specialise(model, SIZE, train_dataset=make_dataset(4), use_cpu=True, **{name: number})


def test_several_devices_in_one_process_are_refused(model, monkeypatch):
    monkeypatch.setattr(DynaBertTrainingArguments, "n_gpu", 2)
    with pytest.raises(ValueError, match=r"has 2 devices.*DataParallel.*start 2 processes by accelerate"):
        specialise(model, SIZE, train_dataset=make_dataset(4), use_cpu=True)


def test_arguments_about_several_sizes_are_refused(model):
    with pytest.raises(ValueError, match=r"strategy was given, which is about .* together.*Leave it out"):
        specialise(model, SIZE, train_dataset=make_dataset(), strategy="sandwich")
    with pytest.raises(ValueError, match=r"eval_sizes was given, which is about"):
        specialise(model, SIZE, train_dataset=make_dataset(), eval_sizes=["w1-d1"])


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("epochs", "Give num_train_epochs instead"),
        ("tokenizer", "Give processing_class instead"),
        ("args", r"DynaBertTrainingArguments one by one\. Leave it out"),  # nobody can give `**arguments` by its name
    ],
)
def test_an_unknown_argument_is_refused_with_the_nearest_one(model, name, advice):
    with pytest.raises(TypeError, match=rf"{name} is no argument of specialise\. Possible are .*{advice}"):
        specialise(model, SIZE, train_dataset=make_dataset(4), use_cpu=True, **{name: 1})


def test_a_size_that_cannot_be_and_another_teacher_are_refused_before_training(model, tmp_path):
    with pytest.raises(SubNetworkError, match="width"):  # and before the data are looked at
        specialise(model, "w7-d1", train_dataset=[], output_dir=tmp_path / "run", use_cpu=True)
    other = make_model(stock={"num_hidden_layers": 5})
    with pytest.raises(
        ValueError, match=r"has 5 layers of 32 in a .bert., the model 6 layers.*Give the fine-tuned model"
    ):
        specialise(model, SIZE, train_dataset=make_dataset(), teacher=other, output_dir=tmp_path / "run", use_cpu=True)
    with pytest.raises(TypeError, match=r"The teacher is a str\. Give the model that from_pretrained loads"):
        specialise(model, SIZE, train_dataset=make_dataset(), teacher="mine", output_dir=tmp_path / "run", use_cpu=True)
    with pytest.raises(TypeError, match=r"The teacher is a str\. Give"):
        store_teacher_outputs("mine", make_dataset(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["class", "value"])
def test_rows_without_labels_learn_from_the_teacher_alone(tmp_path, kind):
    """What a step adds for labels is the mean over the rows that have one; smoothing counts, as in a stage."""
    model = make_model(stock={} if kind == "class" else {"num_labels": 1})
    some = [row["labels"] if number % 2 else None for number, row in enumerate(make_dataset())]
    rows = make_dataset().remove_columns("labels").add_column("labels", some)
    expected = model.extract(SIZE)
    batch = {name: torch.tensor(make_dataset()[name]) for name in ("input_ids", "attention_mask")}
    own = torch.arange(1, 8, 2)
    true = torch.tensor([some[row] for row in own])
    logits = expected(**batch).logits[own]
    by_hand = {
        "class": lambda: cross_entropy(logits, true, label_smoothing=0.2),
        "value": lambda: mse_loss(logits[:, 0], true.float()),
    }[kind]()
    with torch.no_grad():
        full = model(**batch, output_hidden_states=True)
    ours = expected(**batch, output_hidden_states=True)
    weight = {"problem_type": "regression"} if kind == "value" else {}
    (0.5 * by_hand + logit_loss(ours.logits, full.logits, **weight)).backward()
    found = specialise(
        model, SIZE, train_dataset=rows, output_dir=tmp_path, label_weight=0.5, hidden_weight=0.0,
        label_smoothing_factor=0.2 if kind == "class" else 0.0, **STEP,
    )  # fmt: skip
    for name, parameter in expected.named_parameters():
        wanted = parameter if parameter.grad is None else parameter - 0.05 * parameter.grad
        torch.testing.assert_close(found.state_dict()[name], wanted.detach(), rtol=0, atol=1e-6, msg=name)


def test_text_teaches_as_its_tokens_do(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(5, 99))]
    tokenizer, model = make_tokenizer(words, model_max_length=20), make_small()
    rows = [{"text": f"w{5 + n} w{9 + n}" + " w7" * (n % 3), "label": n % 3} for n in range(8)]
    tokens = [{**tokenizer(row["text"]), "labels": row["label"]} for row in rows]
    settings = {**STEP, "label_weight": 0.5, "processing_class": tokenizer}
    one, two = (
        specialise(model, "w0.5-d0.5", train_dataset=data, output_dir=tmp_path, **settings).state_dict()
        for data in (rows, tokens)
    )
    assert all(torch.equal(weight, two[name]) for name, weight in one.items())
    of_text = store_teacher_outputs(model, rows, tmp_path / "text", processing_class=tokenizer, progress=False)
    of_text.check_rows("train_dataset", tokens)
    with pytest.raises(ValueError, match=r"dataset has the columns .* but no 'input_ids'. Tokenise it first"):
        store_teacher_outputs(model, rows, tmp_path / "none", progress=False)
    assert not (tmp_path / "none").exists()


def test_a_model_that_lies_nowhere_is_not_pushed(model):
    with pytest.raises(
        ValueError, match=r"push_to_hub=True was given, but specialise returns .* Push that by its push"
    ):
        specialise(model, SIZE, train_dataset=make_dataset(), push_to_hub=True)


def test_a_size_is_not_trained_on_from_a_checkpoint(model):
    with pytest.raises(
        ValueError, match=r"resume_from_checkpoint=True was given, but specialise begins anew.* Leave it"
    ):
        specialise(model, SIZE, train_dataset=make_dataset(), resume_from_checkpoint=True)
