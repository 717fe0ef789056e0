"""The private and undocumented names that the package leans on: a new release that moves one fails here, by its name.

Each row of `FUNCTIONS` names a function, the parameters that we pass or receive, and, if we override it, who has to
call it: an override that nobody calls does nothing, without an error. A table in CONTRIBUTING.md says why each stays.
"""

import importlib
import inspect
import pkgutil
import re
import sys
import warnings
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from helpers.tiny import make_model
from torch import nn

import dynabert_hf

PACKAGE = Path(dynabert_hf.__file__).parent
CONTRIBUTING = PACKAGE.parent / "CONTRIBUTING.md"
MODELS, TRAINER, CALLBACKS = "transformers.modeling_utils", "transformers.trainer", "transformers.trainer_callback"

FUNCTIONS = {
    f"{MODELS}:PreTrainedModel._load_pretrained_model": (
        ("model", "state_dict", "checkpoint_files", "load_config"),
        f"{MODELS}:PreTrainedModel.from_pretrained",
    ),
    "torch.nn:Module._apply": (("self", "fn", "recurse"), "torch.nn:Module.to"),
    f"{TRAINER}:Trainer._init_training_state": (
        ("self", "max_steps", "num_update_steps_per_epoch"),
        f"{TRAINER}:Trainer._inner_training_loop",
    ),
    f"{TRAINER}:Trainer._run_epoch": (("self",), f"{TRAINER}:Trainer._inner_training_loop"),
    f"{TRAINER}:Trainer._finalize_training": (("self",), f"{TRAINER}:Trainer._inner_training_loop"),
    f"{TRAINER}:Trainer._get_grad_norm": (("self",), f"{TRAINER}:Trainer._run_epoch"),
    f"{TRAINER}:Trainer._evaluate": (
        ("self", "trial", "ignore_keys_for_eval", "skip_scheduler"),
        f"{TRAINER}:Trainer._inner_training_loop",
    ),
    f"{TRAINER}:Trainer._get_output_dir": (("self", "trial"), f"{TRAINER}:Trainer._save_checkpoint"),
    f"{TRAINER}:Trainer._save_checkpoint": (("self", "model", "trial"), f"{TRAINER}:Trainer._maybe_log_save_evaluate"),
    f"{TRAINER}:Trainer._push_from_checkpoint": (("self", "checkpoint_folder"), f"{TRAINER}:Trainer._save_checkpoint"),
    f"{TRAINER}:Trainer._get_train_sampler": (("self", "train_dataset"), f"{TRAINER}:Trainer.get_train_dataloader"),
    f"{TRAINER}:Trainer._prepare_inputs": (("self", "inputs"), None),
    "transformers.trainer_utils:rotate_checkpoints": (("output_dir",), None),
    "accelerate.utils:has_compiled_regions": (("module",), None),
    "accelerate.utils:convert_to_fp32": (("tensor",), None),
    "accelerate.utils:find_batch_size": (("data",), None),
    "accelerate.utils:recursively_apply": (("func", "data"), None),
    "transformers.trainer_utils:RemoveColumnsCollator": (("data_collator", "signature_columns"), None),
}

ATTRIBUTES = {
    "_parameters": lambda: nn.Linear(2, 2)._parameters["weight"],
    "_buffers": lambda: nn.BatchNorm1d(2)._buffers["running_mean"],
    "_modules": lambda: nn.Sequential(nn.Linear(2, 2))._modules["0"],
    "_backward_hooks": lambda: _hooked()._backward_hooks,
    "_post_accumulate_grad_hooks": lambda: _hooked()._post_accumulate_grad_hooks,
    "_foreach_add_": lambda: _added(torch.ones(3), torch.ones(2)),
    "_compiled_call_impl": lambda: _compiled()._compiled_call_impl,
    "_is_replica": lambda: vars(nn.Linear(2, 2)._replicate_for_data_parallel())["_is_replica"],
    "_hf_hook": lambda: add_hook_to_module(nn.Linear(2, 2), ModelHook()).__dict__["_hf_hook"],
    "_dynamo.config.patch": lambda: torch._dynamo.config.patch(
        recompile_limit=1, accumulated_recompile_limit=1, fail_on_recompile_limit_hit=True
    ),
    "profiler.kineto_results": lambda: _recorded().profiler.kineto_results.events()[0].start_ns() + 1,
    "_attn_implementation_internal": lambda: make_model().config._attn_implementation_internal,
    "_can_record_outputs": lambda: make_model().base_model._can_record_outputs["hidden_states"],
    "_keys_to_ignore_on_save": lambda: (
        "_keys_to_ignore_on_save" in inspect.getsource(_of(f"{MODELS}:PreTrainedModel.save_pretrained"))
    ),
    "TRANSFORMERS_DYNAMIC_MODULE_NAME": lambda: _of("transformers.utils:TRANSFORMERS_DYNAMIC_MODULE_NAME"),
    "_tr_loss": lambda: "self._tr_loss.item()" in inspect.getsource(_of(f"{TRAINER}:Trainer._finalize_training")),
    "training_bar": lambda: "training_bar" in vars(_of(f"{CALLBACKS}:ProgressCallback")()),
    "prediction_bar": lambda: "prediction_bar" in vars(_of(f"{CALLBACKS}:ProgressCallback")()),
    "tb_writer": lambda: "tb_writer" in inspect.getsource(_of("transformers.integrations:TensorBoardCallback.on_log")),
    "LengthGroupedSampler": lambda: (
        {"batch_size", "lengths", "generator"}
        <= set(inspect.signature(_of("transformers.trainer_pt_utils:LengthGroupedSampler")).parameters)
    ),
    "OutputRecorder": lambda: (
        {"target_class", "index"}
        <= set(inspect.signature(_of("transformers.utils.output_capturing:OutputRecorder")).parameters)
    ),
}


def _of(place):
    module, _, path = place.partition(":")
    thing = importlib.import_module(module)
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


def _hooked():
    parameter = nn.Parameter(torch.ones(2))
    parameter.register_hook(lambda gradient: gradient)
    parameter.register_post_accumulate_grad_hook(lambda parameter: None)
    return parameter


def _added(whole, part):
    """Numbers are added into a part of others."""
    torch._foreach_add_([whole[:2]], [part])
    return whole.tolist() == [2, 2, 1]


def _compiled():
    module = nn.Linear(2, 2)
    module.compile(backend="eager")
    return module


def _recorded():
    with warnings.catch_warnings(), torch.profiler.profile(profile_memory=True) as recorded:
        torch.ones(2)
    return recorded


def _name(place):
    return place.rpartition(":")[2].rpartition(".")[2]


@pytest.mark.parametrize("place", FUNCTIONS)
def test_a_function_takes_what_we_give_it_and_is_called(place):
    parameters, caller = FUNCTIONS[place]
    there = tuple(inspect.signature(_of(place)).parameters)
    assert there[: len(parameters)] == parameters, f"{place} now takes {there}"
    if caller is not None:
        assert f".{_name(place)}" in inspect.getsource(_of(caller)), f"{caller} no longer calls {_name(place)}"


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_is_there(name):
    found = ATTRIBUTES[name]()
    assert found is not None
    assert found is not False


def _classes():
    for module in pkgutil.walk_packages(dynabert_hf.__path__, "dynabert_hf."):
        importlib.import_module(module.name)
    for name, module in list(sys.modules.items()):
        if name.startswith("dynabert_hf"):
            yield from (each for each in vars(module).values() if isinstance(each, type) and each.__module__ == name)


def _overridden(cls):
    """The private names that a class of ours defines over one of another package."""
    ours = [each for each in cls.__mro__ if each.__module__.startswith("dynabert_hf")]
    others = [each for each in cls.__mro__ if not each.__module__.startswith("dynabert_hf") and each is not object]
    for name in {name for each in ours for name in vars(each) if name.startswith("_") and not name.endswith("_")}:
        is_kept_by_them = name.startswith(("_abc", "_is_protocol", "_auto_class")) or name.endswith("_cached_value")
        if any(name in vars(each) for each in others) and not is_kept_by_them:
            yield name


def test_every_private_name_that_we_override_is_listed():
    overridden = {name for cls in _classes() for name in _overridden(cls)}
    assert overridden <= {_name(place) for place in FUNCTIONS} | set(ATTRIBUTES)


@pytest.mark.parametrize("name", [*map(_name, FUNCTIONS), *ATTRIBUTES])
def test_every_seam_is_used_and_explained(name):
    used = any(name in path.read_text() for path in PACKAGE.rglob("*.py"))
    assert used, f"{name} is used no more: take it out of this file and of the table in CONTRIBUTING.md"
    assert f"`{name}`" in CONTRIBUTING.read_text(), f"{name} is missing in the table of CONTRIBUTING.md"


def test_the_table_names_the_files_where_each_seam_is():
    rows = re.findall(r"^\| (`.+?) \| (.+?) \|", CONTRIBUTING.read_text(), re.M)
    assert len(rows) > 20
    for names, where in rows:
        form = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in re.findall("`(.+?)`", names)))
        used = {path.name for path in PACKAGE.rglob("*.py") if form.search(path.read_text())}
        told = re.findall(r"`(\S+\.py)`", where)
        missing = sorted(name for name in used if not any(fnmatch(name, each) for each in told))
        stale = [each for each in told if not any(fnmatch(name, each) for name in used)]
        assert (missing, stale) == ([], []), f"the table of CONTRIBUTING.md is wrong about the files of {names}"
