"""Every door of transformers and its neighbours that a BERT is taken through, with an elastic one."""

import copy
import pickle
import warnings

import accelerate
import pytest
import torch
import transformers
from helpers.adapters import add_adapter
from helpers.backbones import make_backbone, make_stock, masked
from helpers.tiny import make_batch, make_model
from torch.nn.utils import parametrize
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertTokenizer,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.pipelines import PIPELINE_REGISTRY

from dynabert_hf import DynaBertForSequenceClassification, DynaBertModel, Importance, SubNetworkError, rewire

WORDS = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
TASKS = {
    "text-classification": ("ForSequenceClassification", "a b c"),
    "token-classification": ("ForTokenClassification", "a b c"),
    "question-answering": ("ForQuestionAnswering", {"question": "a", "context": "b c"}),
    "fill-mask": ("ForMaskedLM", "a [MASK] c"),
    "feature-extraction": ("Model", "a b c"),
}


def run(model, **inputs):
    with torch.no_grad():
        return model(**(inputs or make_batch()))[0]


@pytest.fixture
def tokenizer():
    return BertTokenizer(vocab={token: index for index, token in enumerate(WORDS)}, model_max_length=16)


@pytest.mark.parametrize("task", TASKS)
def test_pipeline_runs_from_a_folder_at_the_saved_size(tmp_path, tokenizer, task):
    if task not in PIPELINE_REGISTRY.get_supported_tasks():
        pytest.skip(f"this version of transformers has no pipeline for {task}, for stock models neither")
    head, example = TASKS[task]
    model = make_model(head=head, stock={"num_labels": 2}).set_active(width=0.5, depth=0.5)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    made = pipeline(task, model=str(tmp_path))
    assert str(made.model.active) == "w0.5-d0.5"
    small = made(example)
    made.model.set_active(width=1.0, depth=1.0)
    assert str(made(example)) != str(small)


def test_questions_are_answered_from_a_folder(tmp_path, tokenizer):
    make_model(head="ForQuestionAnswering", stock={"num_labels": 2}).save_pretrained(tmp_path)
    loaded = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path)
    assert run(loaded, **tokenizer("a", "b c", return_tensors="pt")).shape == (1, 6)


def test_tokenizer_is_found_in_our_folders(tmp_path, tokenizer, family):
    make_model(family).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    found = AutoTokenizer.from_pretrained(tmp_path)
    assert found("a b")["input_ids"] == tokenizer("a b")["input_ids"]


def rows(number=8):
    batch = make_batch(batch=number)
    labels = torch.arange(number) % 3
    return [
        {"input_ids": ids, "attention_mask": mask, "labels": label}
        for ids, mask, label in zip(batch["input_ids"], batch["attention_mask"], labels, strict=True)
    ]


def test_plain_trainer_trains_only_the_active_part(tmp_path):
    model = make_model().set_active(width=0.5, depth=0.5)
    before = copy.deepcopy(model.state_dict())
    args = TrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=4, report_to="none", use_cpu=True, disable_tqdm=True
    )
    trainer = Trainer(model, args, train_dataset=rows(), eval_dataset=rows())
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0
    after = model.state_dict()
    assert not torch.equal(before["classifier.weight"], after["classifier.weight"])
    assert torch.equal(
        before["bert.encoder.layer.1.output.dense.weight"], after["bert.encoder.layer.1.output.dense.weight"]
    )
    again = DynaBertForSequenceClassification.from_pretrained(tmp_path / "checkpoint-2")
    assert str(again.active) == "w0.5-d0.5"
    assert torch.equal(again.classifier.weight, after["classifier.weight"])


def test_accelerate_loads_and_dispatches(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    with accelerate.init_empty_weights(include_buffers=False):
        empty = DynaBertForSequenceClassification(model.config)
    loaded = accelerate.load_checkpoint_and_dispatch(empty, str(tmp_path), device_map={"": "cpu"}).eval()
    for size in ("w1-d1", "w0.5-d0.5"):
        # The rounding of float32 where weights are aligned otherwise in memory.
        torch.testing.assert_close(run(loaded.set_active(size)), run(model.set_active(size)), rtol=0, atol=1e-5)


def test_layers_on_disk_are_fetched_at_every_size(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path)
    with accelerate.init_empty_weights(include_buffers=False):
        empty = DynaBertForSequenceClassification(model.config)
    places = {"bert.embeddings": "cpu", "bert.pooler": "cpu", "classifier": "cpu", "dropout": "cpu"}
    places |= {f"bert.encoder.layer.{number}": "disk" if number % 2 else "cpu" for number in range(6)}
    loaded = accelerate.load_checkpoint_and_dispatch(
        empty, str(tmp_path), device_map=places, offload_folder=str(tmp_path / "disk")
    ).eval()
    for size in ("w1-d1", "w0.5-d0.75"):
        torch.testing.assert_close(run(loaded.set_active(size)), run(model.set_active(size)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_only_the_active_part_is_put_on_disk(tmp_path, width):
    model = make_model(active_width=width, active_depth=0.5)
    model.save_pretrained(tmp_path / "model")
    places = {"bert.embeddings": "cpu", "bert.pooler": "cpu", "classifier": "cpu", "dropout": "cpu"}
    places |= {f"bert.encoder.layer.{number}": "disk" if number else "cpu" for number in range(3)}
    loaded = DynaBertForSequenceClassification.from_pretrained(
        tmp_path / "model", only_active=True, device_map=places, offload_folder=str(tmp_path / "disk")
    )
    torch.testing.assert_close(run(loaded), run(model), rtol=0, atol=1e-5)


@pytest.fixture
def with_lora():
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)  # said to peft
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False, task_type="SEQ_CLS")
    return peft.get_peft_model(make_model(), config).eval()


def test_lora_trains_the_full_size_and_switches_depth(with_lora):
    elastic = with_lora.get_base_model()
    full = run(with_lora)
    elastic.set_active(depth=0.5)
    assert not torch.equal(run(with_lora), full)
    elastic.set_active(depth=1.0)
    assert torch.equal(run(with_lora), full)
    with_lora.train()
    with_lora(**make_batch(), labels=torch.tensor([0, 1])).loss.backward()
    trained = {name for name, parameter in with_lora.named_parameters() if parameter.grad is not None}
    assert trained
    assert all("lora_" in name or "modules_to_save" in name for name in trained)


def test_lora_refuses_another_width(with_lora):
    elastic = with_lora.get_base_model()
    with pytest.raises(SubNetworkError, match=r"smaller width .* 0\.attention\.self\.query, .* \(merge_and_unload\)"):
        elastic.set_active(width=0.5)
    assert str(elastic.active) == "w1-d1"
    run(with_lora)


def test_lora_on_a_narrow_model_is_refused_by_name():
    narrow = make_model().set_active(width=0.5)
    add_adapter(narrow, target_modules=["query", "value"])
    with pytest.raises(SubNetworkError, match=r"smaller width .* 0\.attention\.self\.query, .* \(merge_and_unload\)"):
        run(narrow)
    run(narrow.set_active(width=1.0))


def test_lora_is_merged_before_weights_are_copied_or_reordered(with_lora):
    elastic = with_lora.get_base_model()
    for copied in (lambda: elastic.extract(depth=0.5), elastic.to_backbone):
        with pytest.raises(ValueError, match=r"no tensor bert\.encoder.* Merge adapters first \(merge_and_unload\)"):
            copied()
    importance = Importance(torch.rand(6, 4), torch.rand(6, 48))
    with pytest.raises(ValueError, match=r"layer 0 a .* for attention\.self\.query\. .* merge adapters first"):
        rewire(elastic, importance)
    with pytest.raises(TypeError, match="neither an elastic model nor a stock one"):
        rewire(with_lora, importance)


def test_an_adapter_of_all_layers_is_refused_where_layers_have_other_numbers(with_lora, tmp_path):
    """It gave the second layer that was left the weights for the second of all, without a word."""
    peft = pytest.importorskip("peft")
    elastic = with_lora.get_base_model()
    make_model().save_pretrained(tmp_path / "model")
    with_lora.peft_config["default"].base_model_name_or_path = str(tmp_path / "model")
    with_lora.save_pretrained(tmp_path / "adapter")
    elastic.set_active(depth=0.5)
    half, load = run(with_lora), AutoModelForSequenceClassification.from_pretrained
    assert torch.equal(run(load(tmp_path / "adapter", active_depth=0.5)), half)
    with pytest.raises(SubNetworkError, match=r"layers that were cut, .* merge_and_unload\(\) it there, and extract"):
        load(tmp_path / "adapter", active_depth=0.5, only_active=True)
    for load_adapter in (
        lambda small: small.load_adapter(str(tmp_path / "adapter")),
        lambda small: peft.PeftModel.from_pretrained(small, tmp_path / "adapter"),
        lambda small: copy.deepcopy(small.share()).load_state_dict(make_model().state_dict(), strict=False),
    ):
        with pytest.raises(SubNetworkError, match="layers that were cut"):
            load_adapter(load(tmp_path / "model", active_depth=0.5, only_active=True))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # said to peft
@pytest.mark.parametrize("is_read_in_part", [False, True])
def test_an_adapter_of_a_part_of_a_model_does_not_name_the_whole_as_its_model(is_read_in_part, tmp_path):
    """It was loaded into the first layers of the whole, without a word."""
    peft = pytest.importorskip("peft")
    make_model().save_pretrained(tmp_path / "whole")
    load, settings = AutoModelForSequenceClassification.from_pretrained, {"active_depth": 0.5, "only_active": True}
    part = load(tmp_path / "whole", **settings) if is_read_in_part else load(tmp_path / "whole").extract(depth=0.5)
    part.save_pretrained(tmp_path / "part")
    names = [load(tmp_path / "whole"), part, part.extract("w1-d0.5"), load(tmp_path / "part")]
    names = [each.name_or_path.removeprefix(f"{tmp_path}/") for each in names]
    assert names == ["whole", "", "", "part"]
    adapted = peft.get_peft_model(part, peft.LoraConfig(target_modules=["query"], init_lora_weights=False)).eval()
    assert adapted.peft_config["default"].base_model_name_or_path is None
    adapted.save_pretrained(tmp_path / "adapter")
    again = peft.PeftModel.from_pretrained(load(tmp_path / "part"), tmp_path / "adapter")
    assert torch.equal(run(again), run(adapted))


@pytest.mark.parametrize("kept", [[0, 1, 2], [0, 2, 4]])
def test_an_adapter_of_the_layers_that_are_left_is_loaded(kept, tmp_path):
    small = make_model(kept_layers={"0.5": kept}).extract(depth=0.5)
    small.save_pretrained(tmp_path / "model")
    add_adapter(small, target_modules=["query", "value"], init_lora_weights=False)
    small.save_pretrained(tmp_path / "adapter")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    again.load_adapter(str(tmp_path / "adapter"))
    assert torch.equal(run(again), run(small))
    copy.deepcopy(again).load_state_dict(small.state_dict())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # said to peft
@pytest.mark.parametrize(
    ("make", "part", "message"),
    [
        (make_stock, "output", r"layer 0 a peft\..*Wrapper stands for output\.dense\. .* merge adapters first"),
        (make_stock, "relative_attention_bias", r"model a peft\..*Wrapper stands for encoder\.relative_attention_bias"),
        (make_backbone, "attention", r"another order was asked for.* in layer 0\.attention\.attn\.q"),
        (make_backbone, "encoder", r"cannot skip layers"),
    ],
)
def test_parts_with_copies_that_may_run_in_their_stead_are_not_reordered(make, part, message):
    """One of the two would be, and so would what the other one reads: outputs were wrong without a word."""
    peft = pytest.importorskip("peft")
    model = make("MPNet")
    config = peft.LoraConfig(r=2, target_modules=["word_embeddings"], modules_to_save=[part], task_type="SEQ_CLS")
    adapted = peft.get_peft_model(model, config).eval()
    full = run(adapted)
    with pytest.raises(ValueError, match=message):
        rewire(model, Importance(torch.rand(6, 4), torch.rand(6, 48)))
    assert torch.equal(run(adapted), full)


def test_a_table_of_all_layers_with_an_adapter_is_not_reordered():
    model = make_stock("MPNet")
    add_adapter(model, target_modules=["relative_attention_bias"], init_lora_weights=False)
    full = run(model)
    with pytest.raises(ValueError, match=r"Embedding stands for encoder\.relative_attention_bias\. .* merge adapters"):
        rewire(model, Importance(torch.rand(6, 4), torch.rand(6, 48)))
    assert torch.equal(run(model), full)


def test_merged_lora_switches_again(with_lora):
    full = run(with_lora)
    merged = with_lora.merge_and_unload()
    # Merging adds the product of the small matrices into the weights: float32 rounding.
    torch.testing.assert_close(run(merged), full, rtol=0, atol=1e-5)
    assert run(merged.set_active(width=0.5, depth=0.5)).isfinite().all()


def load_adapter(model, folder):
    model.load_adapter(str(folder))
    return model


@pytest.mark.parametrize(
    "load",
    [
        load_adapter,
        lambda model, folder: pytest.importorskip("peft").PeftModel.from_pretrained(model, folder).merge_and_unload(),
        lambda model, _: model.load_state_dict({name: 2 * each for name, each in model.state_dict().items()}) and model,
    ],
    ids=["adapter", "merged", "weights"],
)
def test_a_model_forgets_what_was_measured_when_other_weights_are_loaded_into_it(load, with_lora, tmp_path):
    with_lora.save_pretrained(tmp_path / "adapter")
    model = make_model(metrics={"w1-d1": {"accuracy": 0.9}}, temperatures={"w1-d1": 1.5})
    before = run(model)
    changed = load(model, tmp_path / "adapter")
    assert not torch.equal(run(changed), before)
    assert changed.config.metrics is changed.config.temperatures is None


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # said to peft
@pytest.mark.parametrize("is_extracted", [False, True])
@pytest.mark.parametrize(("family", "part"), [("Bert", "output"), ("DistilBert", "ffn"), ("ModernBert", "mlp")])
def test_a_copy_of_a_part_that_runs_in_its_stead_is_refused_below_full_width(family, part, is_extracted):
    """As peft's `modules_to_save` trains one, beside the part itself."""
    peft = pytest.importorskip("peft")
    model = make_backbone(family)
    model = model.extract("w1-d1") if is_extracted else model
    embeddings = "tok_embeddings" if family == "ModernBert" else "word_embeddings"
    config = peft.LoraConfig(r=2, target_modules=[embeddings], modules_to_save=[part], task_type="SEQ_CLS")
    adapted = peft.get_peft_model(model, config).eval()
    with pytest.raises(SubNetworkError, match=r"part of your own stands in layer 0\."):
        model.set_active(width=0.5)
    adapted.train()(**make_batch(), labels=torch.tensor([0, 1])).loss.backward()
    full = run(adapted.eval())
    merged = adapted.merge_and_unload()  # that leaves the copy in the part's place
    with pytest.raises(SubNetworkError, match="load weights into a part instead"):
        merged.set_active(width=0.5)
    plain = make_backbone(family)
    plain.load_state_dict(merged.state_dict())
    assert torch.equal(run(plain), full)
    assert run(plain.set_active(width=0.5)).isfinite().all()


def test_a_copy_of_a_part_takes_no_other_part_along():
    """A layer whose parts are replaced by such copies would hold the model many times."""
    model = make_model()
    assert len(pickle.dumps(model.elastic_layers[0].output.dense)) < len(pickle.dumps(model)) / 10


def test_sentence_transformers_wraps_the_encoder(tmp_path, tokenizer):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = make_model(head="Model")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    try:
        from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    except ImportError:
        from sentence_transformers.models import Pooling, Transformer
    words = Transformer(str(tmp_path))
    encoder = sentence_transformers.SentenceTransformer(modules=[words, Pooling(32)], device="cpu")
    full = encoder.encode(["a b c", "d"])
    assert full.shape == (2, 32)
    inner = next(module for module in encoder.modules() if isinstance(module, DynaBertModel))
    inner.set_active(width=0.5, depth=0.5)
    assert abs(encoder.encode(["a b c", "d"]) - full).max() > 0.01


@pytest.mark.slow
def test_compiled_model_switches_sizes():
    """One graph a size; the limit of recompilations is eight by default, so twelve sizes need it raised."""
    model = make_model()
    expected = {size: run(model.set_active(size)) for size in model.config.subnetworks}
    torch._dynamo.reset()
    with torch._dynamo.config.patch(recompile_limit=16, fail_on_recompile_limit_hit=True):
        compiled = torch.compile(model, backend="eager")
        for _ in range(2):
            for size, logits in expected.items():
                model.set_active(size)
                torch.testing.assert_close(run(compiled), logits, rtol=0, atol=1e-5)
    torch._dynamo.reset()


def test_where_layers_were_replaced_a_depth_is_refused_and_widths_switch():
    """Accelerate compiles layer by layer so, and people cut models: such a list runs all of its layers at any depth."""
    model = make_model()
    expected = run(model.set_active("w0.5-d1"))
    compiled = accelerate.utils.compile_regions(model.set_active("w1-d1"), backend="eager")
    with pytest.raises(SubNetworkError, match=r"6 layers is a ModuleList of 6 now.* sizes of all layers"):
        compiled.set_active(depth=0.5)
    layers = compiled.bert.encoder.layer
    compiled.set_active("w0.5-d1").bert.encoder.layer = torch.nn.ModuleList(each._orig_mod for each in layers)
    assert torch.equal(run(compiled), expected)

    model.bert.encoder.layer = torch.nn.ModuleList(list(model.bert.encoder.layer)[:3])
    with pytest.raises(SubNetworkError, match="6 layers is a ModuleList of 3 now, which cannot skip layers"):
        model.set_active("w0.5-d1")


def test_a_layer_in_place_of_another_is_refused_below_full_width_and_a_wrapper_is_not():
    """Such a layer has no widths: below the full one it would run all of its heads and neurons at every size."""
    model = make_model()
    stock = model.to_backbone()
    narrow = run(model.set_active("w0.5-d1"))
    layers, first = model.bert.encoder.layer, model.bert.encoder.layer[0]
    layers[0] = stock.bert.encoder.layer[0] = copy.deepcopy(stock.bert.encoder.layer[1])
    for gradients in (False, True):  # while a narrow size is active, and when one is asked for
        with torch.set_grad_enabled(gradients), pytest.raises(SubNetworkError, match=r"part of your own .* layer 0\."):
            model.train(gradients)(**make_batch())
    with pytest.raises(SubNetworkError, match=r"load weights into a part instead"):
        model.eval().set_active("w0.5-d0.5")
    assert torch.equal(run(model.set_active("w1-d1")), run(stock))

    layers[0] = torch.compile(first, backend="eager")
    assert torch.equal(run(model.set_active("w0.5-d1")), narrow)
    torch._dynamo.reset()
    layers[0] = first
    layers[1], layers[2] = layers[2], layers[1]
    with pytest.raises(SubNetworkError, match=r"stands in layer 1\."):
        model.set_active("w0.5-d1")
    layers[1], layers[2] = layers[2], layers[1]
    assert torch.equal(run(model.set_active("w0.5-d1")), narrow)

    layers.append(copy.deepcopy(first))
    with pytest.raises(SubNetworkError, match="6 layers is a ElasticLayers of 7 now"):
        model.set_active("w1-d1")
    model.bert.encoder.layer = torch.nn.ModuleList(stock.bert.encoder.layer)
    with pytest.raises(SubNetworkError, match="6 layers is a ModuleList of 6 now"):
        model.set_active("w0.25-d1")


PARTS = [
    ("Bert", "attention", "output.dense"),
    ("DistilBert", "ffn", "attention.q_lin"),
    ("ModernBert", "mlp", "attn.Wqkv"),
    ("DebertaV2", "attention.self", "attention.self.pos_key_proj"),
    ("MPNet", "attention.attn", "intermediate.dense"),
]


@pytest.mark.parametrize(("family", "part", "linear"), PARTS)
def test_a_part_in_place_of_another_is_refused_below_full_width_and_a_plain_linear_is_cut(family, part, linear):
    model, other = make_backbone(family), make_stock(family)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    layer, its = model.elastic_layers[0], model.config.anatomy.stored_layers(other.base_model)[0]

    def put(path, module):
        parent, _, name = path.rpartition(".")
        before = layer.get_submodule(path)
        setattr(layer.get_submodule(parent), name, module)
        return before

    put(linear, its.get_submodule(linear))
    expected = masked(model, "w0.5-d1")
    # A narrow size computes the same products in another order than a masked one does: float32 rounding.
    torch.testing.assert_close(run(model.set_active("w0.5-d1")), run(expected), rtol=0, atol=1e-5)

    own = put(part, its.get_submodule(part))
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients), pytest.raises(SubNetworkError, match=r"part of your own .* layer 0\."):
            model.train(gradients)(**make_batch())
    with pytest.raises(SubNetworkError, match="load weights into a part instead"):
        model.eval().set_active("w0.25-d0.5")
    assert torch.equal(run(model.set_active("w1-d1")), run(model.to_backbone()))

    put(part, torch.nn.Sequential(own) if family == "ModernBert" else own)  # the first wraps it
    torch.testing.assert_close(run(model.set_active("w0.5-d1")), run(expected), rtol=0, atol=1e-5)
    put(linear, copy.deepcopy(layer.get_submodule(linear)))
    with pytest.raises(SubNetworkError, match="part of your own stands in layer 0"):  # it follows no size of this model
        run(model)


def test_weights_that_come_at_each_pass_are_not_kept_from_an_earlier_one():
    model = make_model().set_active("w0.5-d0.5")
    linear = model.elastic_layers[0].output.dense
    plain, bias = run(model), linear.bias.detach().clone()
    parametrize.register_parametrization(linear, "bias", torch.nn.Identity())
    for factor in (2, 3, 1):
        with torch.no_grad():
            linear.parametrizations.bias.original.copy_(factor * bias)
        assert torch.equal(run(model), plain) == (factor == 1)


@pytest.mark.parametrize("family", ["Bert", "ModernBert"])
def test_layers_that_are_loaded_as_one_from_an_offloaded_model_compute_at_every_size(family):
    model = make_backbone(family)
    sizes = ["w0.5-d0.5", "w1-d1", "w0.5-d1"]
    expected = [run(model.set_active(size)) for size in sizes]
    accelerate.cpu_offload(model, preload_module_classes=[type(model.elastic_layers[0]).__name__])
    for size, values in zip(sizes, expected, strict=True):
        torch.testing.assert_close(run(model.set_active(size)), values, rtol=0, atol=1e-6)


def test_replicas_of_data_parallel_run_on_weights_of_their_own():
    """As `DataParallel` makes one for each device and pass; one device shows it by weights that differ."""
    model = make_model().set_active("w0.5-d0.5")
    expected = run(model)
    with torch.no_grad():
        copies = {module: module._replicate_for_data_parallel() for module in model.modules()}
        for module, replica in copies.items():
            for name, child in module.named_children():
                replica._modules[name] = copies[child]
            for name, parameter in module.named_parameters(recurse=False):
                setattr(replica, name, parameter.clone())
            replica._former_parameters = {}
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(run(copies[model]), expected)
    assert not run(model).any()


@pytest.mark.slow
@pytest.mark.parametrize("size", ["w1-d1", "w0.5-d0.75"])
def test_every_size_can_be_exported(size):
    model = make_model().set_active(size)
    inputs = make_batch()
    program = torch.export.export(model, (), kwargs=inputs)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(**inputs).logits, run(model), rtol=0, atol=1e-5)


def with_dynamic_axes(model):
    """An extracted model as torch.export takes it, its batch and sequence axes left open."""
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    inputs = make_batch(batch=2, length=7)
    return torch.export.export(model, (), kwargs=inputs, dynamic_shapes=dict.fromkeys(inputs, axes))


@pytest.mark.slow
def test_an_extracted_size_is_exported_with_open_axes_and_loads_again(tmp_path):
    small = make_model().extract("w0.5-d0.5")
    torch.export.save(with_dynamic_axes(small), tmp_path / "small.pt2")
    program = torch.export.load(tmp_path / "small.pt2").module()
    for batch, length in ((3, 11), (1, 20)):
        inputs = make_batch(batch=batch, length=length)
        with torch.no_grad():
            torch.testing.assert_close(program(**inputs).logits, small(**inputs).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("copies", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_whole_and_independent(copies):
    model = make_model().set_active(width=0.5, depth=0.5)
    other = copies(model)
    assert torch.equal(run(other), run(model))
    other.set_active(width=1.0, depth=1.0)
    assert str(model.active) == "w0.5-d0.5"
    assert torch.equal(run(other), run(model.set_active(width=1.0, depth=1.0)))
    assert not torch.equal(run(other), run(model.set_active(width=0.25)))
    with torch.no_grad():
        other.classifier.bias += 1
    assert not torch.equal(other.classifier.bias, model.classifier.bias)


def test_optimiser_states_are_saved_and_continue(tmp_path):
    torch.manual_seed(0)
    model = make_model()
    twin = copy.deepcopy(model)

    def step(model, optimizer, size):
        with model.subnetwork(size):
            model(**make_batch(), labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    step(model, optimizer, "w0.5-d0.5")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    step(model, optimizer, "w1-d1")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    twin.load_state_dict(state["model"])
    again = torch.optim.AdamW(twin.parameters(), lr=1e-2)
    again.load_state_dict(state["optimizer"])
    step(twin, again, "w1-d1")
    for ours, theirs in zip(twin.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_quantised_loading_runs_at_every_size_or_is_refused(tmp_path):
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig

    model = make_model()
    model.save_pretrained(tmp_path)
    quantised = DynaBertForSequenceClassification.from_pretrained(
        tmp_path, quantization_config=transformers.TorchAoConfig(Int8WeightOnlyConfig()), device_map="cpu"
    )
    for size in ("w1-d1", "w1-d0.5", "w0.5-d0.5"):
        # Eight bits a weight: the logits are near, not equal.
        torch.testing.assert_close(run(quantised.set_active(size)), run(model.set_active(size)), rtol=0.1, atol=0.3)
        assert torch.equal(run(quantised.extract()), run(quantised))


def test_part_is_quantised_while_it_is_loaded_but_not_cut_from_quantised_weights(tmp_path):
    pytest.importorskip("torchao")
    from torchao.quantization import Int8WeightOnlyConfig

    model, size = make_model(), {"active_width": 0.5, "active_depth": 0.5, "only_active": True}
    model.save_pretrained(tmp_path / "whole")
    quantised = DynaBertForSequenceClassification.from_pretrained(
        tmp_path / "whole",
        **size,
        quantization_config=transformers.TorchAoConfig(Int8WeightOnlyConfig()),
        device_map="cpu",
    )
    assert len(quantised.bert.encoder.layer) == 3
    torch.testing.assert_close(run(quantised), run(model.set_active("w0.5-d0.5")), rtol=0.1, atol=0.3)
    whole = DynaBertForSequenceClassification.from_pretrained(
        tmp_path / "whole",
        quantization_config=transformers.TorchAoConfig(Int8WeightOnlyConfig()),
        device_map="cpu",
    )
    whole.save_pretrained(tmp_path / "quantised")
    again = DynaBertForSequenceClassification.from_pretrained(tmp_path / "quantised", device_map="cpu")
    assert torch.equal(run(again), run(whole))
    with pytest.raises(SubNetworkError, match="cannot cut weights that were saved quantised"):
        DynaBertForSequenceClassification.from_pretrained(tmp_path / "quantised", **size, device_map="cpu")
