"""Arguments of the recipe: what is taken, what is refused by name, and what each stage makes of it."""

import copy
import logging
from dataclasses import fields

import pytest
import torch
from helpers.recipes import SETTINGS, make_sentences, make_teacher, run_recipe
from transformers import BertConfig, EarlyStoppingCallback, TrainerCallback, TrainingArguments

from dynabert_hf import DynaBertTrainer, DynaBertTrainingArguments
from dynabert_hf.training.arguments import DECIDE_THE_BEST, DECIDE_WEIGHTS
from dynabert_hf.training.stages import OF_THE_RUN, PUBLISHING, evaluation_arguments, given_arguments, make_stages

DECIDE_NO_WEIGHTS = """
    accelerator_config activation_checkpointing activation_checkpointing_kwargs average_tokens_across_devices
    batch_eval_metrics bf16 bf16_full_eval dataloader_multiprocessing_context dataloader_num_workers
    dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor ddp_backend ddp_broadcast_buffers
    ddp_bucket_cap_mb ddp_find_unused_parameters ddp_static_graph ddp_timeout debug deepspeed disable_tqdm do_eval
    do_predict do_train enable_jit_checkpoint eval_accumulation_steps eval_delay eval_do_concat_batches
    eval_on_start eval_use_gather_object fp16 fp16_full_eval fsdp fsdp_config full_determinism
    gradient_accumulation_steps gradient_checkpointing gradient_checkpointing_kwargs include_for_metrics
    include_num_input_tokens_seen liger_kernel_config local_rank log_level log_level_replica log_on_each_node
    logging_dir logging_first_step logging_nan_inf_filter logging_steps logging_strategy parallelism_config
    per_device_eval_batch_size per_device_train_batch_size place_model_on_device prediction_loss_only project
    ray_scope report_to restore_callback_states_from_checkpoint resume_from_checkpoint run_name save_on_each_node
    save_only_model save_safetensors save_steps save_total_limit skip_memory_metrics tf32 torch_compile
    torch_compile_backend torch_compile_mode torch_empty_cache_steps trackio_bucket_id trackio_space_id
    trackio_static_space_id use_cache use_cpu use_liger_kernel warmup_ratio
""".split()  # noqa: SIM905
"""The rest of the training arguments, of any release; a batch counts by examples of a step, precision as it is used."""


def test_of_every_training_argument_it_is_said_whether_it_decides_weights():
    said = {*DECIDE_WEIGHTS, *DECIDE_THE_BEST, *DECIDE_NO_WEIGHTS, *PUBLISHING, *OF_THE_RUN}
    assert {each.name for each in fields(DynaBertTrainingArguments)} - said == set()


def test_the_sizes_whose_mean_chooses_the_best_checkpoint_are_those_of_the_run_before(tmp_path):
    """The mean loss of other sizes is no better or worse, so a checkpoint of before would stay the best or never be."""
    best = {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}
    asked = {"metric_for_best_model": "mean_loss", "eval_sizes": ["w0.5-d0.5"]}
    run_recipe(tmp_path, keep_stages=True, **{**best, **asked})
    with pytest.raises(ValueError, match=r"holds a run with \{'eval_sizes': \['w0.5-d0.5'\]\}, now .*None"):
        run_recipe(tmp_path, keep_stages=True, **{**best, **asked, "eval_sizes": None})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("learning_rat", r"learning_rat is no argument of train_dynabert\. Possible are .* Give learning_rate instead"),
        ("tokenizer", r"tokenizer is no argument of .*DynaBertTrainer .* Give processing_class instead"),
        ("compute_metric", "Give compute_metrics instead"),
        ("quux", r"quux is no argument of .* fields of DynaBertTrainingArguments\. Leave it out"),
        ("model_init", r"model_init is not possible\. .* call train_dynabert once a trial, or .* DynaBertTrainer\."),
        ("optimizers", r"optimizers is not possible\. .* Give optimizer_cls_and_kwargs, or"),
        ("arguments", r"fields of DynaBertTrainingArguments\. (?!Give arguments)"),  # the name of the fields together
        ("stage", r"stage is not possible\. .* Name them by stages and finetune"),
    ],
)
def test_an_unknown_argument_is_refused_with_the_nearest_one(tmp_path, name, message):
    with pytest.raises(TypeError, match=message):
        run_recipe(tmp_path, **{name: None})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("own", "error", "message"),
    [
        ({"deep": {}}, ValueError, r"={'deep': {}} is not possible\. Possible are .* \['width', 'depth', 'finetune'\]"),
        ({"depth": 3, "width": {}}, ValueError, r"={'depth': 3} is not .* Give them by name, such as {'depth': {'num_"),
        ({"depth": ["max_steps"]}, ValueError, r"={'depth': \['max_steps'\]} is not possible"),
        (["depth"], ValueError, r"stage_arguments=\['depth'\] is not possible"),
        ({"depth": {"max_step": 1}}, TypeError, "Give max_steps instead"),
        ({"depth": {"output_dir": "x"}}, ValueError, r"\['depth'\] has output_dir, which is one for all stages"),
        ({"depth": {"bf16": True}}, ValueError, "has bf16, which is one for all stages"),
        ({"depth": {"push_to_hub": True}}, ValueError, "has push_to_hub, which is one for all stages"),
    ],
)
def test_impossible_arguments_of_one_stage_are_refused(tmp_path, own, error, message):
    with pytest.raises(error, match=message):
        run_recipe(tmp_path, stage_arguments=own)
    assert not (tmp_path / "run").exists()


def test_a_teacher_of_the_same_width_needs_the_stage_that_makes_it(tmp_path):
    with pytest.raises(ValueError, match=r"teacher_width='same' needs the result of stage 'width' .* Give stages="):
        run_recipe(tmp_path, teacher_width="same")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", ["out/checkpoint-9", False])
def test_a_checkpoint_to_go_on_from_is_refused_since_a_run_finds_its_own(tmp_path, given):
    prepared = TrainingArguments(str(tmp_path / "run"), use_cpu=True, resume_from_checkpoint=given)
    for one in ({"args": prepared}, {"resume_from_checkpoint": given}):
        with pytest.raises(ValueError, match=rf"checkpoint={given!r} is not .*: a run goes on by itself .* Leave it"):
            run_recipe(tmp_path, **one)
    assert not (tmp_path / "run").exists()
    common = {"folder": tmp_path, "config": BertConfig(), "own": {}}
    assert make_stages(("depth",), given={"resume_from_checkpoint": True, "use_cpu": True}, **common)


def test_prepared_arguments_train_as_single_ones_and_stay_as_they_are(tmp_path):
    settings = {**SETTINGS, "learning_rate": 3e-3, "seed": 5, "report_to": "none"}
    args = DynaBertTrainingArguments(str(tmp_path / "two" / "run"), **settings)
    before = copy.deepcopy(args.to_dict())
    data = {"train_dataset": make_sentences(), "finetune": True, "stages": ("width", "depth")}
    one = run_recipe(tmp_path / "one", **data, **settings, strategy="grid", warmup_steps=0,
                     train_sampling_strategy="random", save_strategy="steps", save_total_limit=None)  # fmt: skip
    two = run_recipe(tmp_path / "two", args=args, **data)
    assert args.to_dict() == before
    assert one.stages == two.stages
    assert two.stages["width"]["hidden_weight"] == 0.1
    assert two.stages["depth"]["hidden_weight"] == 1.0
    assert_equal_weights(one.model, two.model)


def assert_equal_weights(one, two):
    assert all(torch.equal(weight, two.state_dict()[name]) for name, weight in one.state_dict().items())


def test_stock_arguments_leave_what_they_do_not_know_to_the_recipe(tmp_path):
    args = TrainingArguments(str(tmp_path), learning_rate=7e-4, use_cpu=True)
    given = given_arguments(args, {})[0]
    [stage] = make_stages(("depth",), folder=tmp_path, config=BertConfig(), given=given, own={"depth": {"seed": 3}})
    assert (stage.arguments.learning_rate, stage.arguments.seed) == (7e-4, 3)
    assert (stage.arguments.strategy, stage.arguments.teacher_width) == ("sandwich", "full")
    assert stage.arguments.per_device_train_batch_size == args.per_device_train_batch_size == 8
    assert stage.arguments.restore_callback_states_from_checkpoint  # else early stopping would begin to count anew
    assert stage.folder == tmp_path / "3-depth"
    assert not stage.folder.exists()


def test_a_weight_of_hidden_states_that_was_given_holds_though_it_is_the_papers_of_another_stage(tmp_path):
    for args, weight in (({"hidden_weight": 0.1}, 0.1), ({}, 1.0), ({"stage": "depth", "hidden_weight": 1.0}, 1.0)):
        given = given_arguments(DynaBertTrainingArguments(str(tmp_path), use_cpu=True, **args), {})[0]
        [stage] = make_stages(("depth",), folder=tmp_path, config=BertConfig(), given=given, own={})
        assert stage.arguments.hidden_weight == weight


def test_epochs_of_a_stage_go_before_the_steps_of_all(tmp_path):
    own, told = {"depth": {"num_train_epochs": 2}}, {"folder": tmp_path, "config": BertConfig()}
    width, depth = make_stages(("width", "depth"), given={"max_steps": 7, "use_cpu": True}, own=own, **told)
    assert (width.arguments.max_steps, depth.arguments.max_steps, depth.arguments.num_train_epochs) == (7, -1, 2)
    args = TrainingArguments(str(tmp_path), max_steps=7, use_cpu=True)
    assert given_arguments(args, {})[0]["max_steps"] == 7
    given = given_arguments(args, {"num_train_epochs": 2})[0]
    [stage] = make_stages(("depth",), given=given, own={}, **told)
    assert (stage.arguments.max_steps, stage.arguments.num_train_epochs) == (-1, 2)
    both = given_arguments(args, {"num_train_epochs": 2, "max_steps": 5})[0]
    assert both["max_steps"] == 5


@pytest.mark.parametrize(("told", "greater_is_better"), [({}, True), ({"greater_is_better": False}, False)])
def test_another_metric_than_that_of_prepared_arguments_has_its_own_direction(tmp_path, told, greater_is_better):
    best = {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}
    args = TrainingArguments(str(tmp_path), use_cpu=True, **best)
    assert (args.metric_for_best_model, args.greater_is_better) == ("loss", False)
    other = {"metric_for_best_model": "accuracy", **told}
    for single, own in ((other, {}), ({}, {"depth": other})):
        given = given_arguments(args, single)[0]
        [stage] = make_stages(("depth",), folder=tmp_path, config=BertConfig(), given=given, own=own)
        assert stage.arguments.greater_is_better is greater_is_better


@pytest.mark.parametrize(
    ("metric", "stock", "single", "is_said"),
    [
        ("eval_mean_mse", {}, {}, True),
        ("mse", {"greater_is_better": False}, {}, False),
        ("mse", {}, {"greater_is_better": True}, False),
        ("mse", {}, {"metric_for_best_model": "loss"}, False),
        ("accuracy", {}, {}, False),
        ("mean_loss", {}, {}, False),
    ],
)
def test_the_highest_error_as_the_best_is_said_of_stock_arguments(tmp_path, caplog, metric, stock, single, is_said):
    """transformers notes it for every name that does not end in `loss`, where nobody says otherwise."""
    args = TrainingArguments(str(tmp_path), use_cpu=True, metric_for_best_model=metric, **stock)
    given = given_arguments(args, single)[0]
    said = f"have metric_for_best_model={metric!r} and greater_is_better=True, which transformers takes for every"
    assert (said in caplog.text) == ("greater_is_better" in caplog.text) == is_said
    caplog.clear()
    DynaBertTrainingArguments(**{**given, "output_dir": str(tmp_path)})
    given_arguments(DynaBertTrainingArguments(str(tmp_path), use_cpu=True, metric_for_best_model=metric, **stock), {})
    assert "greater_is_better" not in caplog.text


@pytest.mark.parametrize(("hidden_size", "rate"), [(384, 3e-4), (396, 1e-4)])
def test_the_rate_of_distillation_follows_the_hidden_size_where_none_is_given(tmp_path, hidden_size, rate):
    names, common = ("width", "depth", "finetune"), {"folder": tmp_path, "config": BertConfig(hidden_size=hidden_size)}
    stages = make_stages(names, given={}, own={"depth": {"learning_rate": 5e-5}}, **common)
    assert [stage.arguments.learning_rate for stage in stages] == [rate, 5e-5, 1e-4]
    stages = make_stages(names, given={"learning_rate": 7e-4}, own={}, **common)
    assert [stage.arguments.learning_rate for stage in stages] == [7e-4] * 3


def test_evaluation_takes_nothing_of_training(tmp_path):
    given = {
        "use_cpu": True,
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "eval_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": "worst_loss",
        "per_device_eval_batch_size": 3,
    }
    args = evaluation_arguments(tmp_path / "run", given)
    assert (args.per_device_eval_batch_size, args.eval_strategy, args.load_best_model_at_end) == (3, "no", False)
    assert not (tmp_path / "run").exists()


def test_what_the_push_at_the_end_does_not_heed_is_said(tmp_path, caplog):
    logging.getLogger("dynabert_hf").propagate = True
    with caplog.at_level("WARNING"):
        run_recipe(tmp_path, hub_strategy="checkpoint", max_steps=1)
    assert "hub_strategy has no effect: with push_to_hub=True train_dynabert pushes the result once" in caplog.text


class Steps(TrainerCallback):
    """Counts steps."""

    def __init__(self):
        self.count = 0

    def on_step_end(self, args, state, control, **kwargs):
        self.count += 1


def test_callbacks_loss_and_optimiser_are_those_of_every_stage(tmp_path, monkeypatch):
    """Early stopping counts anew in each stage; with a learning rate of 0 nothing gets better after the first epoch."""
    steps, stopping, losses = Steps(), EarlyStoppingCallback(2), []

    def label_loss(outputs, labels, num_items_in_batch=None):
        losses.append(outputs.logits.shape[0])
        return torch.nn.functional.cross_entropy(outputs.logits, labels)

    seen = []
    create = DynaBertTrainer.create_optimizer
    monkeypatch.setattr(
        DynaBertTrainer, "create_optimizer", lambda self, *args: seen.append(create(self, *args)) or seen[-1]
    )
    run_recipe(
        tmp_path, stages=("width", "depth"), max_steps=-1, num_train_epochs=9, eval_strategy="epoch",
        load_best_model_at_end=True, metric_for_best_model="mean_loss", callbacks=[steps, stopping], label_weight=0.5,
        compute_loss_func=label_loss, optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.0}),
    )  # fmt: skip
    assert steps.count == 2 * 3 * 3
    assert stopping.early_stopping_patience_counter == 0
    assert [type(each) for each in seen] == [torch.optim.SGD] * 2
    assert losses


def test_the_teacher_is_left_in_the_mode_that_it_was_given_in(tmp_path):
    teacher = make_teacher().train()
    teacher.bert.encoder.layer[0].eval()
    modes = [module.training for module in teacher.modules()]
    config = teacher.config.to_dict()
    run_recipe(tmp_path, teacher)
    assert [module.training for module in teacher.modules()] == modes
    assert teacher.config.to_dict() == config


def test_arguments_for_a_stage_that_does_not_run_are_said_to_have_no_effect(tmp_path, caplog):
    given = {"config": BertConfig(), "given": {"use_cpu": True}, "folder": tmp_path}
    make_stages(
        ["depth"], **given, own={"width": {"learning_rate": 1.0}, "depth": {"learning_rate": 0.5}, "finetune": {}}
    )
    [said] = [record.getMessage() for record in caplog.records if "stage_arguments" in record.getMessage()]
    assert said.startswith("stage_arguments has arguments for 'width', but the stages of this run are 'depth', so")
