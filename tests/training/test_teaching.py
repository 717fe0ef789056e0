"""Teachers of another shape or family, and several: what is learned from them, by value, and what is kept of them."""

import copy

import pytest
import torch
from datasets import Dataset
from helpers import HELPERS, teaching_worker
from helpers.backbones import make_stock
from helpers.processes import launch
from helpers.recipes import make_sentences, make_teacher, run_recipe
from helpers.tiny import make_model, make_small, make_tokenizer
from helpers.trainers import make_dataset, make_trainer
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification
from transformers.utils import ModelOutput

from dynabert_hf import (
    DynaBertTrainingArguments,
    DynaDistilBertForSequenceClassification,
    SubNetwork,
    plan_stage,
    store_teacher_outputs,
)
from dynabert_hf.training.teaching import ask, check_tokens_beside, mean_predictions, projections_to

LARGER = {"hidden_size": 48, "num_hidden_layers": 9, "intermediate_size": 64}
DISTILBERT = {"dim": 48, "n_layers": 3}
SMALL = {"widths": [0.5, 1.0], "depths": [0.5, 1.0]}


def batch_of(data):
    return {name: torch.tensor(data[name]) for name in data.column_names}


def test_what_a_teacher_says_in_half_precision_is_heard_in_float32():
    model, inputs = make_model(), batch_of(make_dataset())
    exact = model(**inputs, output_hidden_states=True)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(**inputs, output_hidden_states=True)
        known = {"config": model.config, "labels": None, "hidden_states": True, "device": model.device}
        said = ask([model], SubNetwork(), inputs, **known)
    assert half.logits.dtype == torch.bfloat16
    assert {states.dtype for states in (said.logits, *said.hidden_states)} == {torch.float32}
    assert torch.equal(said.logits, half.logits.float())
    torch.testing.assert_close(said.logits, exact.logits, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("returned", "missing"),
    [(dict, None), (tuple, "without logits and hidden_states"), (ModelOutput, "without hidden_states, .* hidden_weig")],
)
def test_a_teacher_of_ones_own_class_tells_all_that_is_learned_from_it(returned, missing):
    class OwnForSequenceClassification(BertForSequenceClassification):
        def forward(self, *args, **kwargs):
            outputs = super().forward(*args, **kwargs)
            return {dict: dict(outputs), tuple: (outputs.logits,), ModelOutput: ModelOutput(logits=outputs.logits)}[
                returned
            ]

    stock, inputs = make_stock("Bert"), {"input_ids": torch.tensor([[5, 6, 7]])}
    own = OwnForSequenceClassification(stock.config).eval()
    own.load_state_dict(stock.state_dict())
    asked = {"config": stock.config, "labels": None, "hidden_states": True, "device": stock.device}
    if missing:
        with pytest.raises(TypeError, match=f"The teacher, a Own.*, returned a {returned.__name__} {missing}"):
            ask([own], SubNetwork(), inputs, **asked)
        return
    found, expected = (ask([each], SubNetwork(), inputs, **asked) for each in (own, stock))
    assert torch.equal(found.logits, expected.logits)
    assert all(map(torch.equal, found.hidden_states, expected.hidden_states))


def mean_square(ours, theirs, mask):
    errors = [(one - other).square().mean(-1)[real].mean() for one, other, real in zip(ours, theirs, mask, strict=True)]
    return torch.stack(errors).mean()


@pytest.mark.parametrize(
    ("teacher", "layers"),
    [
        (make_stock("Bert", **LARGER), (0, 2, 3, 4, 6, 8, 9)),  # 1.5 layers for one, rounded to even
        (make_stock("Bert", num_hidden_layers=12), (0, 2, 4, 6, 8, 10, 12)),
        (make_stock("DistilBert", **DISTILBERT), (0, 0, 1, 2, 2, 2, 3)),
        (make_stock("DistilBert"), (0, 1, 2, 3, 4, 5, 6)),  # of the same shape, and of states of its own
    ],
)
def test_a_step_learns_through_projections_from_layers_in_proportion(tmp_path, teacher, layers):
    model, data = make_model(**SMALL), make_dataset()
    trainer = make_trainer(
        tmp_path, model=model, teacher=teacher, teacher_width="full", hidden_matching="own", train_dataset=data
    )
    assert trainer.plan[-1].teacher_hidden_layers == layers
    batch = batch_of(data)
    loss = trainer.training_step(trainer.model, dict(batch))
    projections, inputs = trainer._projections, {name: batch[name] for name in ("input_ids", "attention_mask")}
    mask, expected = batch["attention_mask"].bool(), 0.0
    target = teacher(**inputs, output_hidden_states=True)
    for pair in plan_stage(model.config, "depth", teacher_width="full", hidden_matching="own"):
        with model.subnetwork(pair.student), torch.no_grad():
            output = model(**inputs, output_hidden_states=True)
        expected += -(target.logits.softmax(-1) * output.logits.log_softmax(-1)).sum(-1).mean()
        for number, (states, own) in enumerate(zip(output.hidden_states, pair.teacher_hidden_layers, strict=True)):
            linear = projections.layers if number else projections.embeddings
            other = target.hidden_states[layers[own]]
            expected += mean_square(states @ linear.weight.T, other, mask)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert all(weight.grad.abs().sum() > 0 for weight in projections.parameters())


def train_from_larger(folder, **kwargs):
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "learning_rate": 1e-2}
    return make_trainer(
        folder,
        model=make_model(**SMALL),
        teacher=make_stock("Bert", **LARGER),
        teacher_width="full",
        **settings,
        **kwargs,
    )


def test_projections_are_trained_resumed_and_never_saved_with_the_model(tmp_path):
    whole = train_from_larger(tmp_path / "whole")
    before = copy.deepcopy(whole._projections.state_dict())
    whole.train()
    assert all(not torch.equal(before[name], now) for name, now in whole._projections.state_dict().items())
    assert not hasattr(whole.model, "teacher_projections")
    assert whole.model._keys_to_ignore_on_save == make_model()._keys_to_ignore_on_save

    checkpoint = tmp_path / "whole" / "checkpoint-2"
    assert load_file(checkpoint / "model.safetensors").keys() <= make_model().state_dict().keys()
    resumed = train_from_larger(tmp_path / "whole")
    resumed.train(resume_from_checkpoint=checkpoint)
    for ours, theirs in ((resumed.model, whole.model), (resumed._projections, whole._projections)):
        expected = theirs.state_dict()
        assert all(torch.equal(expected[name], value) for name, value in ours.state_dict().items())

    whole.save_model(tmp_path / "saved")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert again.state_dict().keys() == make_model(**SMALL).state_dict().keys()
    other = make_trainer(tmp_path / "whole", model=make_model(**SMALL), teacher_width="full", max_steps=4)
    with pytest.raises(ValueError, match=r"is of a training with .*'projections': \[48, 32\]"):
        other.train(resume_from_checkpoint=checkpoint)


def test_an_optimiser_made_by_hand_that_lacks_the_projections_is_refused(tmp_path):
    model, folder = make_model(**SMALL), tmp_path / "made"
    optimizer = torch.optim.SGD(model.parameters())
    given = {"model": model, "teacher": make_stock("Bert", **LARGER), "teacher_width": "full"}
    with pytest.raises(ValueError, match=r"optimizers was given with a teacher of 9 layers of 48, .* Give opt"):
        make_trainer(folder, **given, optimizers=(optimizer, None))
    assert not folder.exists()
    make_trainer(folder, **given, optimizers=(optimizer, None), hidden_weight=0.0)


def test_a_family_without_token_types_teaches_one_that_has_them(tmp_path):
    data = make_dataset()
    data = data.add_column("token_type_ids", [[0, 0, 1, 1, 1, 1, 1]] * len(data))
    teacher = make_stock("DistilBert")
    trainer = make_trainer(tmp_path, teacher=teacher, teacher_width="full", hidden_weight=0.0, train_dataset=data)
    assert trainer._projections is None
    trainer.train()
    outputs = trainer.teacher_outputs(trainer._teachers, trainer.plan[0].teacher, batch_of(data))
    assert torch.equal(outputs.logits, teacher(batch_of(data)["input_ids"], batch_of(data)["attention_mask"]).logits)


def pairs_of_texts(tokenizer):
    texts = [("w5 w6", "w7"), ("w8", "w9 w10 w11"), ("w12 w13", "w14 w15")] * 2
    told = tokenizer(*map(list, zip(*texts, strict=True)), return_token_type_ids=True)
    read = {name: told[name] for name in ("input_ids", "attention_mask")}
    return Dataset.from_dict({**read, "labels": [0, 1] * 3}), tokenizer.pad(told, return_tensors="pt")


def teacher_of_pairs():
    """A BERT whose token types decide what it says."""
    teacher = make_stock("Bert", num_labels=2)
    with torch.no_grad():
        teacher.bert.embeddings.token_type_embeddings.weight.mul_(30)
    return teacher.eval()


def test_a_teacher_is_told_the_two_texts_of_a_pair_that_its_student_does_not_tell_apart(tmp_path, named):
    tokenizer, teacher = named[1], teacher_of_pairs()
    data, as_pairs = pairs_of_texts(tokenizer)
    with torch.no_grad():
        expected = teacher(**as_pairs).logits
        alike = teacher(**{**as_pairs, "token_type_ids": torch.zeros_like(as_pairs["token_type_ids"])}).logits
    assert (expected - alike).abs().min() > 1e-3
    student = make_stock("DistilBert", num_labels=2)
    said = []
    teacher.register_forward_hook(lambda module, args, outputs: said.append(outputs.logits.detach()))
    settings = {"train_dataset": data, "eval_dataset": data, "processing_class": tokenizer, "max_steps": 1}
    one_batch = {"per_device_train_batch_size": 6, "train_sampling_strategy": "sequential", "hidden_weight": 0.0}
    run_recipe(tmp_path, teacher=student, taught_by=teacher, **SMALL, **settings, **one_batch)
    assert len(said) == 2  # measured once, and asked in the one step
    for logits in said:
        torch.testing.assert_close(logits, expected)
    assert not teacher._forward_pre_hooks

    tokenizer.model_input_names = ["input_ids", "attention_mask"]  # as DistilBERT's tokenizer has them
    stored = store_teacher_outputs(teacher, data, tmp_path / "stored", processing_class=tokenizer, progress=False)
    inputs = {name: as_pairs[name] for name in ("input_ids", "attention_mask")}
    torch.testing.assert_close(stored.outputs(inputs, hidden_states=False).logits, expected)


def test_a_teacher_of_pairs_without_a_tokenizer_that_tells_them_apart_is_said(tmp_path, caplog):
    model = DynaDistilBertForSequenceClassification.from_backbone(make_stock("DistilBert"), **SMALL)
    trainer = make_trainer(tmp_path, model=model, teacher=make_stock("Bert"), teacher_width="full", hidden_weight=0.0)
    with caplog.at_level("WARNING"):
        trainer.train()
    assert "tells the two texts of a pair apart by token types, which a DynaDistilBert" in caplog.text
    assert "Give the tokenizer as processing_class; of single texts, go on." in caplog.text


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification", "regression"])
def test_several_teachers_teach_the_mean_of_their_distributions(kind):
    logits = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)) * 3
    mean = mean_predictions([ModelOutput(logits=each) for each in logits], kind=kind)["logits"]
    if kind == "regression":
        assert torch.allclose(mean, logits.mean(0))
    else:
        distribution = torch.sigmoid if kind.startswith("multi") else (lambda values: values.softmax(-1))
        assert torch.allclose(distribution(mean), distribution(logits).mean(0), atol=1e-6)


def test_several_answers_are_averaged_over_real_tokens():
    starts, ends = torch.randn(2, 2, 3, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 0, 0], [1] * 6, [1, 1, 1, 0, 0, 0]])
    outputs = [ModelOutput(start_logits=start, end_logits=end) for start, end in zip(starts, ends, strict=True)]
    mean = mean_predictions(outputs, kind="single_label_classification", attention_mask=mask)
    for name, logits in (("start_logits", starts), ("end_logits", ends)):
        expected = logits.masked_fill(mask == 0, -torch.inf).softmax(-1).mean(0)
        assert torch.allclose(mean[name].softmax(-1), expected, atol=1e-6)


def test_several_teachers_of_several_labels_teach_each_of_them_also_where_labels_alone_say_so():
    batch = {name: torch.tensor(make_dataset()[name]) for name in ("input_ids", "attention_mask")}
    teachers, labels = [make_stock("Bert"), make_stock("Bert", **LARGER)], torch.ones(8, 3)
    told = {"config": teachers[0].config, "labels": labels, "hidden_states": False, "device": torch.device("cpu")}
    found = ask(teachers, SubNetwork(), batch, **told).logits
    with torch.no_grad():
        expected = torch.stack([teacher(**batch).logits.sigmoid() for teacher in teachers]).mean(0)
    torch.testing.assert_close(found.sigmoid(), expected)


def test_a_step_from_several_teachers_is_that_of_their_mean(tmp_path):
    data, teachers = make_dataset(), [make_small(), make_stock("Bert", **LARGER)]
    trainer = make_trainer(tmp_path, teacher=teachers, teacher_width="full", train_dataset=data, hidden_weight=0.5)
    inputs = {name: batch_of(data)[name] for name in ("input_ids", "attention_mask")}
    outputs = trainer.teacher_outputs(trainer._teachers, trainer.plan[0].teacher, inputs)
    with torch.no_grad():
        alone = [teacher(**inputs, output_hidden_states=True) for teacher in teachers]
    expected = torch.stack([functional.softmax(each.logits, -1) for each in alone]).mean(0)
    assert torch.allclose(outputs.logits.softmax(-1), expected, atol=1e-6)
    assert all(map(torch.equal, outputs.hidden_states, alone[0].hidden_states))
    assert trainer._projections is None


@pytest.mark.parametrize(
    ("teacher", "settings", "message"),
    [
        (
            make_stock("Bert", vocab_size=98),
            {},
            r"vocab_size=98, the model 99. They must be equal, .*with the tokenizer",
        ),
        (make_stock("Bert", num_labels=2), {}, r"num_labels=2, the model 3.*fine-tuned on the same task"),
        (
            make_stock("Bert", "ForTokenClassification"),
            {},
            r"head ForTokenClassification, the model ForSequence.*give one",
        ),
        (
            make_stock("Bert", **LARGER),
            {"teacher_width": "same"},
            r"one size. Give the elastic result of stage 'width'",
        ),
        (
            make_stock("Bert", max_position_embeddings=6),
            {},
            r"rows of up to 7 tokens, .* has positions for 6\. Cut the rows",
        ),
        (
            make_stock("Roberta", max_position_embeddings=8),
            {},
            r"RobertaForSequenceClassification, has positions for 6",
        ),
        (
            make_small().extract("w0.5-d1"),
            {},
            r"A DynaBert\w+ that was cut by extraction was given to learn from\..* Give the model that it was",
        ),
        ("a folder", {}, r"A teacher is a str. Possible are fine-tuned models, StoredOutputs"),
    ],
)
def test_who_cannot_teach_is_refused(tmp_path, teacher, settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_trainer(tmp_path, teacher=teacher, **{"teacher_width": "full", **settings})


@pytest.mark.parametrize("asked", ["by an argument", "by the launcher"])
def test_projections_are_refused_where_weights_are_sharded(tmp_path, monkeypatch, asked):
    args = DynaBertTrainingArguments(tmp_path, stage="depth", teacher_width="full", use_cpu=True)
    if asked == "by an argument":
        args.fsdp = True
    else:
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match=r"fsdp was asked for with a teacher of 9 layers of 48.*Give hidden_weight=0"):
        projections_to([make_stock("Bert", **LARGER)], make_model(**SMALL), args)
    assert projections_to([make_stock("Bert")], make_model(**SMALL), args) is None


def test_teacher_and_model_predict_one_kind_of_thing(tmp_path):
    model = make_model(stock={"problem_type": "single_label_classification"})
    teacher = make_stock("Bert", problem_type="multi_label_classification")
    with pytest.raises(ValueError, match=r"has problem_type='multi_label_.*', the model 'single_label_cl.*Give a"):
        make_trainer(tmp_path, model=model, teacher=teacher, teacher_width="full")
    assert make_trainer(tmp_path, teacher=teacher, teacher_width="full")


def test_labels_have_one_order(tmp_path):
    names = {0: "no", 1: "maybe", 2: "yes"}
    teacher = make_stock("Bert", id2label={0: "yes", 1: "maybe", 2: "no"})
    model = make_model(stock={"id2label": names})
    message = r"labels \['yes', 'maybe', 'no'\], the model \['no', 'maybe', 'yes'\].*same in the same order"
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, model=model, teacher=teacher, teacher_width="full")
    assert make_trainer(tmp_path, model=model, teacher=make_stock("Bert"), teacher_width="full")


@pytest.fixture
def named(tmp_path):
    """The folder of a larger teacher with its tokenizer, which calls words by their numbers."""
    folder = tmp_path / "larger"
    make_stock("Bert", num_labels=2, **LARGER).save_pretrained(folder)
    tokenizer = make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(5, 99))])
    tokenizer.save_pretrained(folder)
    return folder, tokenizer


def test_the_recipe_takes_a_teacher_by_name(tmp_path, named):
    folder, tokenizer = named
    settings = {"processing_class": tokenizer, "hidden_weight": 0.2, **SMALL}
    result = run_recipe(tmp_path / "one", teacher=make_teacher(), **settings, taught_by=str(folder))
    larger = AutoModelForSequenceClassification.from_pretrained(folder)
    same = run_recipe(tmp_path / "two", teacher=make_teacher(), **settings, taught_by=larger)
    weights = result.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in same.model.state_dict().items())
    with pytest.raises(ValueError, match=r"holds a run with .*'teacher'"):
        run_recipe(tmp_path / "one", teacher=make_teacher(), **settings)


def test_a_tokenizer_beside_a_teacher_that_cannot_be_read_is_told_of(tmp_path, caplog):
    tokenizer = make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    make_teacher().save_pretrained(tmp_path)
    check_tokens_beside(tmp_path, tokenizer)  # there is none
    assert not caplog.messages
    (tmp_path / "tokenizer.json").write_text("{")
    check_tokens_beside(tmp_path, tokenizer)
    assert "tokens of the teacher were not compared with those of the model. The tokenizer of" in caplog.text


def test_a_teacher_with_another_tokenizer_is_refused_before_anything_is_written(tmp_path, named):
    folder, _ = named
    other = make_tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(98, 4, -1))])
    message = r"calls 'w10' number 10, that of the model 93.*Give a teacher with the tokenizer of the model"
    with pytest.raises(ValueError, match=message):
        run_recipe(tmp_path, processing_class=other, taught_by=folder)
    make_stock("Bert", "Model").save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match=r"has no ForSequenceClassification: .* would be random. Give a model"):
        run_recipe(tmp_path, taught_by=tmp_path / "bare", train_dataset=make_sentences())
    assert not (tmp_path / "run").exists()


def test_a_teacher_without_a_tokenizer_beside_it_is_taken(tmp_path, named):
    """transformers makes an empty tokenizer there, whose vocabulary is none to compare with."""
    folder, tokenizer = named
    for file in folder.glob("tokenizer*"):
        file.unlink()
    settings = {"processing_class": tokenizer, "hidden_weight": 0.2, **SMALL}
    result = run_recipe(tmp_path / "one", **settings, taught_by=str(folder))
    larger = AutoModelForSequenceClassification.from_pretrained(folder)
    weights = run_recipe(tmp_path / "two", **settings, taught_by=larger).model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in result.model.state_dict().items())


@pytest.mark.slow
def test_two_processes_learn_views_and_projections_as_one_does(tmp_path):
    teaching_worker.main(tmp_path, 1)
    launch(HELPERS / "teaching_worker.py", tmp_path, 2)
    one, two = (load_file(tmp_path / f"{count}.safetensors") for count in (1, 2))
    assert one.keys() == two.keys() > {"to teacher: layers.weight"}
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=0, atol=1e-5)
