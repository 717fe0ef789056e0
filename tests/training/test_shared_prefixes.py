"""A step that shares work between its passes gives the gradients of separate passes, with less work."""

import copy
import gc
import itertools
import weakref
from contextlib import nullcontext

import pytest
import torch
from helpers import HEADS, trainers
from helpers.adapters import add_adapter
from helpers.backbones import make_backbone
from helpers.tiny import batch_for, make_batch, make_model
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.utils.output_capturing import OutputRecorder

from dynabert_hf import DynaBertForSequenceClassification, DynaBertModel, DynaBertTrainer, SubNetwork
from dynabert_hf.training.arguments import RECOMPUTE
from dynabert_hf.training.shared_prefixes import share_prefixes

STAGES = ("width", "depth", "finetune")
IRREGULAR = {"kept_layers": {"0.5": [1, 2, 5], "0.75": [1, 2, 3, 5]}}


def make_trainer(tmp_path, stage="depth", model=None, **kwargs):
    """Of a model with twelve sizes and six layers, which have prefixes to share."""
    return trainers.make_trainer(tmp_path, stage, model or make_model(), **kwargs)


def separate(model, sizes):
    return nullcontext(model.subnetwork)


def with_labels(batch):
    return {**batch, "labels": torch.tensor([0, 2])}


def gradients_of_step(trainer, batch, *, passes=None):
    """The gradients of one step, by name; `passes` takes the place of the trainer's choice of sharing."""
    if passes is not None:
        trainer._passes = passes
    trainer.model.zero_grad()
    trainer.training_step(trainer.model, batch)
    return {name: parameter.grad for name, parameter in trainer.model.named_parameters() if parameter.grad is not None}


def assert_sharing_changes_no_gradient(trainer, batch):
    """In double precision, where another order of sums rounds at 1e-16."""
    trainer.model.double()
    if trainer.teacher is not None:
        trainer.teacher.double()
        with torch.no_grad():
            trainer.teacher.get_input_embeddings().weight.mul_(1.5)  # else full-size losses teach nothing
    shared = gradients_of_step(trainer, batch)
    expected = gradients_of_step(trainer, batch, passes=separate)
    assert shared.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(shared[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("layers", [{}, IRREGULAR], ids=["rule", "kept_layers"])
def test_gradients_equal_those_of_separate_passes(tmp_path, family, stage, layers):
    trainer = make_trainer(tmp_path, stage, model=make_model(family, **layers))
    assert_sharing_changes_no_gradient(trainer, with_labels(make_batch()))


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_gradients_of_activations_computed_again_equal_those_of_separate_passes(tmp_path, stage, use_reentrant):
    trainer = make_trainer(tmp_path, stage)
    getattr(trainer.model, f"{RECOMPUTE}_enable")({"use_reentrant": use_reentrant})
    assert_sharing_changes_no_gradient(trainer, with_labels(make_batch()))


@pytest.mark.parametrize("head", [head for head in HEADS if head != "Model"])
def test_gradients_of_every_head_equal_those_of_separate_passes(tmp_path, head):
    model = make_model(head=head, stock={"num_labels": 2 if head == "ForQuestionAnswering" else 3})
    trainer = make_trainer(tmp_path, model=model, train_dataset=None, eval_dataset=None)
    assert_sharing_changes_no_gradient(trainer, batch_for(head))


def test_gradients_of_a_sandwich_step_equal_those_of_separate_passes(tmp_path):
    trainer = make_trainer(tmp_path, strategy="sandwich")
    assert_sharing_changes_no_gradient(trainer, with_labels(make_batch()))


@pytest.mark.parametrize("frozen", ["embeddings", "layer.0", "query"])
def test_gradients_beside_frozen_weights_equal_those_of_separate_passes(tmp_path, frozen):
    trainer = make_trainer(tmp_path)
    for name, parameter in trainer.model.named_parameters():
        parameter.requires_grad_(frozen not in name)
    assert_sharing_changes_no_gradient(trainer, with_labels(make_batch()))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # said to peft
def test_gradients_of_adapters_equal_those_of_separate_passes(tmp_path):
    model = make_model(widths=[1.0])
    add_adapter(model, target_modules=["query", "value"], init_lora_weights=False)
    trainer = make_trainer(tmp_path, model=model)
    assert_sharing_changes_no_gradient(trainer, with_labels(make_batch()))


def test_gradients_in_bfloat16_are_those_of_separate_passes(tmp_path):
    trainer = make_trainer(tmp_path, bf16=True)
    batch = with_labels(make_batch())
    shared = gradients_of_step(trainer, batch)
    for name, gradient in gradients_of_step(trainer, batch, passes=separate).items():
        # Sums of numbers of eight bits, in another order.
        error = (shared[name] - gradient).norm() / gradient.norm().clamp(min=1e-3)
        assert error < 0.02, name


def test_dropout_is_drawn_alike_when_activations_are_computed_again(tmp_path):
    gradients = []
    for checkpointing in (False, True):
        trainer = make_trainer(tmp_path, model=make_model(stock={"hidden_dropout_prob": 0.2}))
        if checkpointing:
            getattr(trainer.model, f"{RECOMPUTE}_enable")()
        torch.manual_seed(1)
        gradients.append(gradients_of_step(trainer, with_labels(make_batch())))
    for name, gradient in gradients[0].items():
        assert torch.equal(gradients[1][name], gradient), name


def count_runs(trainer, batch):
    """How often in a step the embeddings went backward, and the layers were computed."""
    base, runs = trainer.model.base_model, {"embeddings": 0, "layers": 0}

    def counting(key):
        return lambda *_: runs.update({key: runs[key] + 1})

    hooks = [base.embeddings.word_embeddings.weight.register_post_accumulate_grad_hook(counting("embeddings"))]
    hooks += [layer.intermediate.register_forward_hook(counting("layers")) for layer in base.elastic_layers.stored]
    trainer.training_step(trainer.model, batch)
    for hook in hooks:
        hook.remove()
    return runs


@pytest.mark.parametrize(
    ("stage", "layers", "expected"),
    [("width", {}, 4 * 6), ("depth", {}, 4 * 9), ("finetune", {}, 4 * 9), ("depth", IRREGULAR, 4 * 11)],
)
def test_what_sizes_have_in_common_runs_once_a_step(tmp_path, stage, layers, expected):
    """Else a width would run 13 layers; by the rule it runs 0, 2, 4, then 1, 2, 4, then 3, 4, 5."""
    trainer = make_trainer(tmp_path, stage, model=make_model(**layers))
    assert count_runs(trainer, with_labels(make_batch())) == {"embeddings": 1, "layers": expected}


class WithOwnLoss(DynaBertTrainer):
    def compute_loss(self, *args, **kwargs):
        return 2 * super().compute_loss(*args, **kwargs)


class WithOwnPairLoss(DynaBertTrainer):
    def pair_loss(self, *args, **kwargs):
        return 2 * super().pair_loss(*args, **kwargs)


@pytest.mark.parametrize("kind", [WithOwnLoss, WithOwnPairLoss])
def test_a_loss_of_ones_own_gets_separate_passes(tmp_path, kind):
    trainer = make_trainer(tmp_path, "finetune")
    trainer.__class__ = kind
    assert count_runs(trainer, with_labels(make_batch())) == {"embeddings": 12, "layers": 4 * 13}


class GivesADictionary(DynaBertTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        return (outputs.loss, dict(outputs)) if return_outputs else outputs.loss


def test_a_student_may_answer_by_a_plain_dictionary(tmp_path):
    trainer, batch = make_trainer(tmp_path, "depth", label_weight=0.5), with_labels(make_batch())
    expected = trainer.training_step(trainer.model, batch)
    trainer.__class__ = GivesADictionary
    torch.testing.assert_close(trainer.training_step(trainer.model, batch), expected, rtol=0, atol=1e-6)


class ComparesTwoTexts(DynaBertForSequenceClassification):
    """Runs its encoder twice a pass, and answers by a dictionary."""

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        texts = input_ids, input_ids.flip(-1)
        ours, theirs = (self.bert(text, attention_mask=attention_mask, **kwargs) for text in texts)
        logits = self.classifier(ours.pooler_output - theirs.pooler_output)
        loss = {} if labels is None else {"loss": functional.cross_entropy(logits, labels)}
        return {**loss, "logits": logits, "hidden_states": ours.hidden_states}


@pytest.mark.parametrize("stage", STAGES)
def test_a_model_that_runs_its_encoder_otherwise_gets_separate_passes(tmp_path, stage):
    model = ComparesTwoTexts(make_model().config)
    model.load_state_dict(make_model().state_dict())
    trainer = make_trainer(tmp_path, stage, model)
    batch = make_batch() if trainer.teacher is not None else with_labels(make_batch())
    assert_sharing_changes_no_gradient(trainer, batch)


class ReadsBothWays(DynaBertModel):
    def forward(self, input_ids, attention_mask=None, **kwargs):
        ours = super().forward(input_ids, attention_mask)
        theirs = super().forward(input_ids.flip(-1), attention_mask)
        ours.pooler_output = ours.pooler_output - theirs.pooler_output
        return ours


def test_an_encoder_with_a_forward_pass_of_its_own_gets_separate_passes(tmp_path):
    model = make_model()
    model.bert.__class__ = ReadsBothWays
    assert_sharing_changes_no_gradient(make_trainer(tmp_path, "finetune", model), with_labels(make_batch()))


@pytest.mark.parametrize("label_weight", [0.0, 0.5])
def test_a_model_that_returns_no_hidden_states_is_refused_where_they_are_learned(tmp_path, label_weight):
    class GivesLittle(DynaBertForSequenceClassification):
        def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
            outputs = super().forward(input_ids, attention_mask, labels=labels)
            return {name: outputs[name] for name in ("loss", "logits") if name in outputs}

    settings = {"teacher": make_model(), "teacher_width": "full", "label_weight": label_weight}
    trainer = make_trainer(tmp_path, "depth", GivesLittle(make_model().config), **settings)
    with pytest.raises(TypeError, match=r"The model, a GivesLittle, returned a dict without hidden_states, .* hidden"):
        trainer.training_step(trainer.model, with_labels(make_batch()))


def test_a_compiled_model_gets_separate_passes(tmp_path):
    trainer = make_trainer(tmp_path, "finetune")
    sizes = trainer.model.config.subnetworks
    assert not isinstance(trainer._passes(trainer.model, sizes), nullcontext)
    assert isinstance(trainer._passes(torch.compile(trainer.model, backend="eager"), sizes), nullcontext)
    trainer.model.base_model.encoder.layer[0].compile(backend="eager")
    assert isinstance(trainer._passes(trainer.model, sizes), nullcontext)


def test_outputs_and_hidden_states_are_those_of_separate_passes(family):
    model = make_model(family)
    sizes = model.config.subnetworks

    def run(at_size, size):
        with at_size(size), torch.no_grad():
            output = model(**make_batch(), output_hidden_states=True)
        return (output.logits, *output.hidden_states)

    with share_prefixes(model, sizes) as at_size:
        shared = [run(at_size, size) for size in sizes]
    for size, states in zip(sizes, shared, strict=True):
        for ours, theirs in zip(states, run(model.subnetwork, size), strict=True):
            assert torch.equal(ours, theirs)


def watch_states(model):
    """Weak references to the outputs of all layers, as they come, by hooks that pass for those of transformers."""
    seen = []

    def record(module, args, output):
        seen.append(weakref.ref(output))

    record.__module__ = OutputRecorder.__module__
    for layer in model.elastic_layers.stored:
        layer.register_forward_hook(record)
    return seen


def modules_with_own_forward(model):
    return [name for name, module in model.named_modules() if "forward" in vars(module)]


def test_nothing_is_kept_after_a_step(tmp_path):
    trainer = make_trainer(tmp_path)
    seen = watch_states(trainer.model)
    gc.collect()
    gc.disable()  # what only the collector would free is kept too long
    try:
        trainer.training_step(trainer.model, with_labels(make_batch()))
        assert len(seen) == 4 * 13
        assert not [state for state in seen if state() is not None]
    finally:
        gc.enable()
    assert trainer.model.base_model.active_sizes.sharing is None
    assert not modules_with_own_forward(trainer.model)


def test_states_are_let_go_when_no_later_size_needs_them():
    model = make_model()
    seen, sizes = watch_states(model), model.config.subnetworks
    with share_prefixes(model, sizes) as at_size:
        for size in sizes:
            with at_size(size):
                model(**make_batch()).logits.sum().backward()
            if size.depth == 1:
                assert not [state for state in seen if state() is not None]


@pytest.mark.parametrize("failing", [0, 1, 3])
def test_a_step_that_fails_leaves_the_model_as_it_was(tmp_path, failing):
    trainer = make_trainer(tmp_path)
    batch = with_labels(make_batch())
    expected = copy.deepcopy(gradients_of_step(trainer, batch))
    pair_loss, losses = trainer.pair_loss, itertools.count()

    def no_loss(*args):
        if next(losses) == failing:
            raise ZeroDivisionError
        return pair_loss(*args)

    trainer.pair_loss = no_loss
    with pytest.raises(ZeroDivisionError):
        trainer.training_step(trainer.model, batch)
    assert trainer.model.base_model.active_sizes.sharing is None
    assert not modules_with_own_forward(trainer.model)
    assert str(trainer.model.active) == "w1-d1"
    trainer.pair_loss = pair_loss
    for name, gradient in gradients_of_step(trainer, batch).items():
        assert torch.equal(gradient, expected[name]), name


def test_a_replaced_forward_pass_is_back_after_a_step(tmp_path):
    trainer = make_trainer(tmp_path)
    layer = trainer.model.base_model.encoder.layer[1]
    layer.forward = own = layer.forward
    trainer.training_step(trainer.model, with_labels(make_batch()))
    assert vars(layer)["forward"] is own


class _FullSizeGradients(TorchDispatchMode):
    """Counts the gradients of slices that are made as large as what was cut."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten.slice_backward.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("gathers", [False, True])
def test_narrow_passes_make_no_gradients_of_the_full_size(gathers):
    model = make_model(head="ForTokenClassification")
    size = SubNetwork(0.5, 1.0)
    passes = share_prefixes(model, [size]) if gathers else nullcontext(model.subnetwork)
    with passes as at_size, at_size(size), _FullSizeGradients() as made:
        model(**make_batch()).logits.sum().backward()
    assert made.count == (0 if gathers else 6 * (6 + 3 * 2))


def test_a_hook_on_a_weight_sees_the_gradients_of_every_size(tmp_path):
    trainer = make_trainer(tmp_path, "width")
    seen = []
    weight = trainer.model.base_model.encoder.layer[0].output.dense.weight
    weight.register_hook(lambda gradient: seen.append(gradient.shape))
    trainer.training_step(trainer.model, with_labels(make_batch()))
    assert seen == [weight.shape] * 4


def test_hooks_before_a_layer_or_in_its_backward_pass_see_every_pass():
    model, seen = make_model(), []
    sizes = model.config.subnetworks
    layer = model.elastic_layers.stored[0]
    layer.register_forward_pre_hook(lambda module, args: seen.append("forward"))
    layer.register_full_backward_hook(lambda module, before, after: seen.append("backward"))
    with share_prefixes(model, sizes) as at_size:
        for size in sizes:
            with at_size(size):
                model(**make_batch()).logits.sum().backward()
    assert seen == ["forward", "backward"] * 12


@pytest.mark.parametrize("family", ["Bert", "ModernBert", "DistilBert"])
def test_what_a_hook_makes_of_a_layers_output_is_trained_on(family):
    model, gradients = make_backbone(family), []
    model.elastic_layers.stored[0].register_forward_hook(lambda layer, args, output: output * 1.5)
    sizes = model.config.subnetworks
    for passes in (nullcontext(model.subnetwork), share_prefixes(model, sizes)):
        with passes as at_size:
            for size in sizes:
                with at_size(size):
                    model(**make_batch()).logits.sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        model.zero_grad()
    for shared, separate in zip(*gradients, strict=True):
        # Gradients of many sizes are added in another order: float32 rounding.
        torch.testing.assert_close(shared, separate, rtol=1e-4, atol=1e-4)


def test_the_draws_of_dropout_are_those_of_embeddings_that_run_once():
    model = make_model(stock={"hidden_dropout_prob": 0.2}, widths=[1.0]).train()
    sizes = model.config.subnetworks
    torch.manual_seed(1)
    torch.nn.functional.dropout(torch.zeros(2, 7, 32), 0.2)
    for _ in range(9 * 2):  # of the nine layers of three depths, after attention and after the neurons
        torch.nn.functional.dropout(torch.zeros(2, 7, 32), 0.2)
    torch.nn.functional.dropout(torch.zeros(3, 2, 32), 0.2)  # before the classifier
    expected = torch.rand(1)
    torch.manual_seed(1)
    with share_prefixes(model, sizes) as at_size:
        for size in sizes:
            with at_size(size):
                model(**make_batch())
    assert torch.equal(torch.rand(1), expected)
