"""Models on the same weights: nothing is copied, each has its own size, and threads do not disturb each other."""

import copy
import pickle
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch
from helpers import HEADS
from helpers.tiny import batch_for, make_batch, make_model
from transformers import AutoModelForSequenceClassification

from dynabert_hf import LayerShape, SubNetwork, SubNetworkError

IRREGULAR = (LayerShape(0, 4, 48), LayerShape(2, 1, 7), LayerShape(5, 3, 20))
TWO_LABELS = {"stock": {"num_labels": 2}}


def outputs(model, inputs, **kwargs):
    with torch.no_grad():
        return [tensor for tensor in model(**inputs, **kwargs).to_tuple() if isinstance(tensor, torch.Tensor)]


def assert_equal(left, right):
    assert len(left) == len(right) > 0
    assert all(map(torch.equal, left, right))


def test_every_head_shares_one_copy_of_its_weights(family, head):
    model = make_model(family, head, **TWO_LABELS)
    shared = model.share(width=0.5, depth=0.5)
    assert type(shared) is type(model)
    ours, theirs = dict(model.named_parameters()), dict(shared.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(theirs[name] is parameter for name, parameter in ours.items())
    assert [b.data_ptr() for b in model.buffers()] == [b.data_ptr() for b in shared.buffers()]
    assert not set(map(id, model.modules())) & set(map(id, shared.modules()))
    for size in ("w0.25-d0.5", "w0.75-d0.75", "w1-d1", IRREGULAR):
        assert_equal(
            outputs(shared.set_active(size), batch_for(head)), outputs(model.set_active(size), batch_for(head))
        )


def test_each_has_a_size_a_configuration_and_a_mode_of_its_own(family):
    model = make_model(family).set_active(width=0.75, depth=0.5)
    assert model.share().active == SubNetwork(0.75, 0.5)
    shared = model.share(IRREGULAR).train()
    shared.set_attn_implementation("eager")
    shared.config.id2label = {0: "other"}
    assert (model.active, shared.active) == (SubNetwork(0.75, 0.5), IRREGULAR)
    assert model.base_model.active == SubNetwork(0.75, 0.5)
    assert not any(module.training for module in model.modules())
    assert all(module.training for module in shared.modules())
    assert model.config._attn_implementation == "sdpa"
    assert len(model.config.id2label) == 3
    assert shared.config is shared.base_model.config


def test_a_training_step_of_one_shows_in_the_other(family):
    model = make_model(family)
    shared = model.share(width=0.5, depth=0.5)
    before = outputs(model, make_batch())
    optimizer = torch.optim.SGD(shared.parameters(), lr=0.1)
    shared(**make_batch(), labels=torch.tensor([0, 2])).loss.backward()
    layer = model.base_model.encoder.layer[0]
    assert layer.output.dense.weight.grad[:, :24].any()
    assert not layer.output.dense.weight.grad[:, 24:].any()
    optimizer.step()
    after = outputs(model, make_batch())
    assert not torch.equal(after[0], before[0])
    assert_equal(outputs(shared.set_active("w1-d1"), make_batch()), after)


def test_moving_one_moves_the_other():
    model = make_model()
    shared = model.share(width=0.5)
    shared.to(torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert outputs(model, make_batch())[0].dtype == torch.bfloat16
    model.to("meta")  # the one device besides that every machine has; its parameters and buffers become new objects
    assert {tensor.device.type for tensor in (*shared.parameters(), *shared.buffers())} == {"meta"}
    assert all(map(lambda a, b: a is b, model.parameters(), shared.parameters()))


def test_weights_that_are_loaded_into_one_are_in_the_other():
    model, other = make_model(), make_model()
    torch.nn.init.normal_(other.base_model.embeddings.word_embeddings.weight)
    shared = model.share(width=0.5)
    shared.load_state_dict(other.state_dict(), assign=True)
    assert_equal(outputs(model, make_batch()), outputs(other, make_batch()))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForMaskedLM"])
def test_a_copy_of_a_shared_model_has_weights_of_its_own(head, copied):
    model = make_model(head=head)
    shared = model.share(width=0.5, depth=0.5)
    expected = outputs(shared, make_batch())
    duplicate = copied(shared)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert duplicate.active == SubNetwork(0.5, 0.5)
    assert_equal(outputs(duplicate, make_batch()), expected)
    full = duplicate.share("w1-d1")
    assert not torch.equal(outputs(full, make_batch())[0], expected[0])
    assert (
        full.base_model.encoder.layer[0].output.dense.weight
        is duplicate.base_model.encoder.layer[0].output.dense.weight
    )


def test_shared_models_share_extract_and_save_as_any_other(tmp_path):
    model = make_model()
    shared = model.share(width=0.75).share(depth=0.5)
    assert shared.active == SubNetwork(0.75, 0.5)
    expected = outputs(shared, make_batch())
    small = shared.extract()
    assert not {p.data_ptr() for p in small.parameters()} & {p.data_ptr() for p in model.parameters()}
    torch.testing.assert_close(outputs(small, make_batch())[0], expected[0], rtol=0, atol=1e-6)
    shared.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert_equal(outputs(loaded, make_batch()), expected)
    assert loaded.num_parameters() == model.num_parameters()


def test_a_replaced_module_narrows_only_the_model_that_has_it():
    model = make_model()
    shared = model.share()
    shared.base_model.encoder.layer[2].output.dense = torch.nn.Sequential(torch.nn.Linear(48, 32))
    with pytest.raises(SubNetworkError, match=r"stands in layer 2\.output\.dense"):
        shared.set_active(width=0.5)
    assert model.set_active(width=0.5).share(width=0.25).active == SubNetwork(0.25, 1.0)


def test_a_size_that_the_weights_do_not_hold_cannot_be_shared():
    small = make_model().extract(width=0.5, depth=0.5)
    assert small.share(width=0.25).active == SubNetwork(0.25, 0.5)
    with pytest.raises(SubNetworkError, match=r"w0\.75-d0\.5 needs .* does not hold.*Sizes that fit: w0\.25-d0\.5"):
        small.share(width=0.75)
    with pytest.raises(SubNetworkError, match=r"Both w1-d1 and width=0\.5.*Give one of them"):
        small.share("w1-d1", width=0.5)


@contextmanager
def frequent_thread_switches():
    """Threads take turns after microseconds instead of milliseconds, in the middle of a forward pass."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def count_equal_calls(shared, inputs, expected, *, calls, seed):
    """How many of some random calls, each of any of the models, give what the same call gave in one thread."""
    draw = random.Random(seed)
    equal = 0
    with torch.inference_mode():
        for _ in range(calls):
            size, number = draw.choice(list(shared)), draw.randrange(len(inputs))
            states = draw.random() < 0.1
            output = shared[size](**inputs[number], output_hidden_states=states)
            alone = expected[size, number]
            equal += torch.equal(output.logits, alone.logits) and (
                not states
                or (
                    len(output.hidden_states) == len(alone.hidden_states)
                    and all(map(torch.equal, output.hidden_states, alone.hidden_states))
                )
            )
    return equal


def test_eight_threads_on_eight_shared_sizes_compute_what_one_thread_computes():
    """640 random calls; some ask for hidden states, which transformers collects by hooks, for each thread apart."""
    model = make_model(depths=[0.5, 1.0], stock={"num_hidden_layers": 2})
    sizes = model.config.subnetworks
    assert len(sizes) == 8
    draw = random.Random(0)
    inputs = [make_batch(draw.randint(1, 3), draw.randint(3, 9), seed=seed) for seed in range(20)]
    expected = {}
    with torch.inference_mode():
        for size in sizes:
            with model.subnetwork(size):
                for number, batch in enumerate(inputs):
                    expected[size, number] = model(**batch, output_hidden_states=True)
    assert len({expected[size, 0].logits.sum().item() for size in sizes}) == 8
    shared = {size: model.share(size) for size in sizes}
    with frequent_thread_switches(), ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(count_equal_calls, shared, inputs, expected, calls=80, seed=seed) for seed in range(8)]
        assert [job.result() for job in jobs] == [80] * 8
    assert model.active == SubNetwork()


def test_switching_runs_no_operation_and_allocates_no_tensor():
    class Counting(torch.utils._python_dispatch.TorchDispatchMode):
        operations = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.operations += 1
            return function(*args, **(kwargs or {}))

    model = make_model()
    pointers = [p.data_ptr() for p in model.parameters()]
    with Counting() as counting:
        for size in (*model.config.subnetworks, IRREGULAR):
            model.set_active(size)
        model.set_active(width=0.5, depth=0.75)
        with model.subnetwork(width=0.25):
            pass
        assert counting.operations == 0
        torch.zeros(1)  # such a thing would have been seen
        assert counting.operations > 0
    assert [p.data_ptr() for p in model.parameters()] == pointers


@pytest.mark.parametrize("head", HEADS)
def test_one_model_object_serves_several_threads_at_one_size(head):
    model = make_model(head=head, **TWO_LABELS).set_active(width=0.5, depth=0.5)
    expected = outputs(model, batch_for(head))
    with frequent_thread_switches(), ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: outputs(model, batch_for(head)), range(40)):
            assert_equal(result, expected)


def test_what_is_asked_for_nothing_is_of_the_layers_in_force():
    model = make_model().set_active(IRREGULAR)
    assert model.extract().active == IRREGULAR
    assert model.share().active == IRREGULAR
