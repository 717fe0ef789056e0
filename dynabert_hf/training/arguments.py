"""Every knob of training an elastic model, on top of those of transformers, checked once."""

from __future__ import annotations

import copy
import json
import math
import os
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, get_args, get_type_hints

from transformers import TrainingArguments
from transformers.training_args import ParallelMode

from ..data.views import VIEWS, check_names
from ..messages import check_counts, check_one_of
from ..sizes.metrics import is_lower_better
from .distillation import HIDDEN_MATCHINGS, STAGES, TEACHER_WIDTHS

COUNTS = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "eval_accumulation_steps": 1,
    "dataloader_num_workers": 0,
    "dataloader_prefetch_factor": 1,
    "num_random_subnetworks": 0,
    "max_steps": -1,
}
"""The arguments that count something, and the least that they may be."""
MAY_BE_NONE = ("eval_accumulation_steps", "dataloader_prefetch_factor")
"""Those of them that may be left out."""
MOST = {"neftune_noise_alpha": math.inf, "label_smoothing_factor": 1.0, "weight_decay": math.inf}
"""The arguments that are a number of at least 0, and the most that they may be."""
STRATEGIES = ("grid", "sandwich")
HIDDEN_WEIGHTS = {"width": 0.1, "depth": 1.0, "finetune": 0.0}
"""The paper's weight of the hidden-state loss in each stage (section 3.1)."""
VECTOR_LOSSES = ("cosine", "mse")
RECOMPUTE = "activation_checkpointing"
"""The argument that has activations computed again in the backward pass."""
if RECOMPUTE not in {each.name for each in fields(TrainingArguments)}:  # of older transformers
    RECOMPUTE = "gradient_checkpointing"

LEARNED = (
    *("stage", "teacher_width", "hidden_matching", "strategy", "num_random_subnetworks"),
    *("logit_weight", "hidden_weight", "label_weight", "vector_loss", "similarity_weight"),
)
"""The arguments of a stage that say which sizes a step trains, and by which losses."""

DECIDE_WEIGHTS = (
    # what a step learns
    *LEARNED,
    *("views", "view_probability", "label_smoothing_factor", "label_names", "neftune_noise_alpha"),
    # from which examples, in which order
    *("seed", "data_seed", "train_sampling_strategy", "length_column_name", "dataloader_drop_last"),
    *("dataloader_in_order", "remove_unused_columns", "ignore_data_skip", "auto_find_batch_size"),
    # how it changes the weights
    *("max_steps", "num_train_epochs", "optim", "optim_args", "optim_target_modules", "learning_rate"),
    *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "weight_decay"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm"),
    # which weights are taken at the end
    "load_best_model_at_end",
)
"""The training arguments that a run must have in common with the one that it goes on with.

All others may differ, such as those of logging, saving, data loading and evaluation. The batch size counts as the
examples of a step, over devices, processes and accumulation together, with `dataloader_drop_last` also as those of a
batch; bf16 and fp16 count as the precision that is used, of which `accelerate launch` may tell, too.
"""

DECIDE_THE_BEST = (
    *("metric_for_best_model", "greater_is_better"),
    *("eval_strategy", "eval_steps", "eval_sizes", "save_strategy"),
)
"""Those that must be the same, too, where evaluation has a say: in the best checkpoint, or in a plateau schedule."""


class _OfThePaper(float):
    """A weight that nobody gave: arguments that are made of these, as `dataclasses.replace` does, have their own."""


@dataclass
class DynaBertTrainingArguments(TrainingArguments):
    """Arguments of `DynaBertTrainer`: those of transformers' `TrainingArguments`, and those of a stage.

    The defaults are the paper's: learning rate 2e-5, 3 epochs a stage, batch size 32. Resuming restores what callbacks
    such as early stopping have counted.

    `metric_for_best_model` may be any metric of `evaluate()`, such as `"eval_mean_accuracy"`, `"eval_worst_accuracy"`
    or `"eval_w0.5-d0.75_accuracy"`. A name of one model stands for its mean over the sizes: `"accuracy"` is the mean
    accuracy, `"matched_accuracy"` that of the evaluation set `matched`, and None, where one is needed, the mean loss.
    `greater_is_better` says in which direction that metric is better. None takes it from the name: of a loss, an error
    or a perplexity the lowest is the best, of others the highest.

    Args:
        stage: `"width"`, `"depth"` or `"finetune"`.
        logit_weight: Weight of the logit loss; of a sentence encoder that of the loss of its vectors.
        hidden_weight: Weight of the hidden-state loss; None: the paper's, 0.1 in stage `"width"` and 1.0 in `"depth"`.
        label_weight: Weight of the loss on labels beside the two of distillation; 0, the paper's: labels play no part
            before stage `"finetune"`. It is a mean over the batch, of token heads over its labelled tokens.
        vector_loss: What sentence encoders learn of the teacher's vectors: `"cosine"`, their direction, or `"mse"`,
            their mean squared error.
        similarity_weight: Weight of the loss of similarities between the texts of a batch, of sentence encoders alone.
        teacher_width: In stage `"depth"`, teacher at the student's width (`"same"`, the paper) or at full width
            (`"full"`, the published code).
        hidden_matching: Which of the teacher's hidden states a kept layer's output is compared with: the input of the
            next kept layer (`"published"`, as the published code) or the output of the same layer (`"own"`); the last
            is compared with the last in both. Under `"published"` a layer that runs alike at two depths has two targets
            for the same output, so part of the loss remains whatever the weights are; `"own"` gives it one.
        views: Fresh views of the text that student and teacher read, a list of some of `"mask"`, `"delete"`, `"swap"`
            and `"splice"` (`data.views`); None: the text as it is. They need the tokenizer as `processing_class`, and
            stage `"finetune"` has none.
        view_probability: How often a text is changed, in each epoch anew.
        strategy: `"grid"` trains every sub-network in every step (the paper); `"sandwich"` the largest, the smallest
            and `num_random_subnetworks` others, drawn anew each step.
        num_random_subnetworks: Sub-networks drawn at random in a `"sandwich"` step.
        eval_sizes: The sizes that `evaluate()` measures, also during training, such as `["w0.5-d0.75", "w1-d1"]`; None:
            all. Each costs a pass over the evaluation data.

    Raises:
        ValueError: If a value is not possible; if DeepSpeed, FSDP version 1, `torch_compile` or something else is asked
            for that several backward passes a step cannot have; or if a process has several devices, or was launched
            with others that it does not know of.
    """

    stage: str = field(default="width", metadata={"help": f"Stage of training: {', '.join(STAGES)}."})
    logit_weight: float = field(default=1.0, metadata={"help": "Weight of the logit loss."})
    hidden_weight: float | None = field(
        default=None, metadata={"help": "Weight of the hidden-state loss (default: the paper's for the stage)."}
    )
    label_weight: float = field(
        default=0.0, metadata={"help": "Weight of the loss on labels beside those of distillation."}
    )
    vector_loss: str = field(
        default="cosine", metadata={"help": f"Loss of the vectors of sentence encoders: {', '.join(VECTOR_LOSSES)}."}
    )
    similarity_weight: float = field(
        default=1.0, metadata={"help": "Weight of the loss of similarities within a batch, of sentence encoders."}
    )
    teacher_width: str = field(
        default="same", metadata={"help": f"Width of the teacher in stage depth: {', '.join(TEACHER_WIDTHS)}."}
    )
    hidden_matching: str = field(
        default="published",
        metadata={"help": f"How hidden states are matched with the teacher's: {', '.join(HIDDEN_MATCHINGS)}."},
    )
    views: list[str] | None = field(
        default=None, metadata={"help": f"Fresh views of the text, some of {', '.join(VIEWS)} (default: none)."}
    )
    view_probability: float = field(default=0.5, metadata={"help": "How often a text is changed by a view."})
    strategy: str = field(
        default="grid", metadata={"help": f"Which sub-networks a step trains: {', '.join(STRATEGIES)}."}
    )
    num_random_subnetworks: int = field(
        default=2, metadata={"help": "Sub-networks drawn at random in a sandwich step, besides largest and smallest."}
    )
    eval_sizes: list[str] | None = field(
        default=None, metadata={"help": "Sizes that evaluation measures, such as w0.5-d0.75 w1-d1 (default: all)."}
    )
    learning_rate: float = field(default=2e-5, metadata={"help": "The initial learning rate."})
    num_train_epochs: float = field(default=3.0, metadata={"help": "Epochs of this stage."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Batch size per device for training."})
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "Batch size per device for evaluation."})

    eval_accumulation_steps: int | None = field(
        default=16, metadata={"help": "Batches of predictions that the device holds before they are moved to the CPU."}
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "No effect in training, where a loss that is not finite is an error."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False,
        metadata={"help": "Whether DDP looks for parameters without gradient; by default there are none."},
    )
    restore_callback_states_from_checkpoint: bool = field(
        default=True, metadata={"help": "Whether resuming restores callbacks, such as the patience of early stopping."}
    )

    def __post_init__(self) -> None:
        if self.greater_is_better is None and self.metric_for_best_model is not None:
            self.greater_is_better = not is_lower_better(self.metric_for_best_model)
        _check_numbers(self)
        _check_texts(self)
        _check_engines(self)
        _check_optimizer(self)
        super().__post_init__()
        self._count_accumulation()
        check_processes(self)
        for name, possible in (
            ("stage", STAGES),
            ("teacher_width", TEACHER_WIDTHS),
            ("hidden_matching", HIDDEN_MATCHINGS),
            ("strategy", STRATEGIES),
            ("vector_loss", VECTOR_LOSSES),
        ):
            check_one_of(name, getattr(self, name), possible)
        for each in fields(self):  # transformers takes an unknown order of the data for a random one
            if "choices" in each.metadata and getattr(self, each.name) is not None:
                check_one_of(each.name, getattr(self, each.name), each.metadata["choices"])
        if not self.has_own_hidden_weight:
            self.hidden_weight = _OfThePaper(HIDDEN_WEIGHTS[self.stage])
        for name in ("logit_weight", "hidden_weight", "label_weight", "similarity_weight"):
            given = getattr(self, name)
            if not given >= 0 or math.isinf(given):
                raise ValueError(f"{name}={given!r} is not possible. Give a number of at least 0.")
        self._check_views()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an argument; where nobody gave them, a stage has its weight of hidden states, a metric its direction."""
        if name == "stage" and isinstance(vars(self).get("hidden_weight"), _OfThePaper):
            check_one_of("stage", value, STAGES)
            self.hidden_weight = _OfThePaper(HIDDEN_WEIGHTS[value])
        if name == "metric_for_best_model" and value is not None and vars(self).get("greater_is_better", 0) is None:
            self.greater_is_better = not is_lower_better(value)  # else transformers would take the lowest
        super().__setattr__(name, value)

    def _count_accumulation(self) -> None:
        """Take the batches of a step from where accelerate is told of them, as transformers' trainer would later."""
        config: Any = copy.deepcopy(self.accelerator_config)  # in which that trainer would write
        self.accelerator_config = config
        told = config.gradient_accumulation_kwargs or {}
        if self.gradient_accumulation_steps == 1 and "num_steps" in told:
            check_counts(num_steps=told["num_steps"])
            self.gradient_accumulation_steps = told.pop("num_steps")

    def _check_views(self) -> None:
        if not 0 < self.view_probability <= 1:
            raise ValueError(
                f"view_probability={self.view_probability!r} is not possible. Give a number above 0 and up to 1, or no "
                "views."
            )
        if self.views is None:
            return
        check_names(self.views)
        if "splice" in self.views and self.label_weight > 0:
            raise ValueError(
                f"views={self.views} were asked for with label_weight={self.label_weight}, but 'splice' puts parts of "
                "two texts together, and the result has no label. Possible with labels are 'mask', 'delete' and "
                "'swap'. Leave 'splice' out, or give label_weight=0."
            )

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """As transformers counts them, but an only step is no warm-up: at its rate, 0, nothing would be learned."""
        return 0 if num_training_steps == 1 else int(super().get_warmup_steps(num_training_steps))

    @property
    def has_own_hidden_weight(self) -> bool:
        """Whether somebody gave the weight of the hidden-state loss."""
        return not isinstance(self.hidden_weight, _OfThePaper | None)

    @property
    def order_seed(self) -> int:
        """What the order of the data and fresh views are drawn by."""
        return self.seed if self.data_seed is None else self.data_seed

    @property
    def learns_labels(self) -> bool:
        """Whether the stage learns from labels, alone or beside a teacher."""
        return self.stage == "finetune" or self.label_weight > 0

    @property
    def chooses_best(self) -> bool:
        """Whether the stage chooses its best checkpoint by a metric."""
        return self.eval_strategy != "no" and self.metric_for_best_model is not None

    @property
    def rows_in_a_batch(self) -> int:
        """Rows that all processes train on at once."""
        config: Any = self.accelerator_config
        return self.train_batch_size * (1 if config.split_batches else self.world_size)

    def __getstate__(self) -> dict[str, Any]:
        """Without the token: the trainer pickles its arguments beside the model, and pushes them with it."""
        return {**self.__dict__, "hub_token": None}


def decisive(args: DynaBertTrainingArguments) -> dict[str, Any]:
    """The values of the arguments that decide the weights of a stage."""
    follows_evaluation = args.load_best_model_at_end or args.lr_scheduler_type in ("reduce_lr_on_plateau", "greedy")
    names = DECIDE_WEIGHTS + (DECIDE_THE_BEST if follows_evaluation else ())
    in_a_step = args.rows_in_a_batch * args.gradient_accumulation_steps
    counted = {"examples_in_a_step": in_a_step, "mixed_precision": args.mixed_precision}
    if args.dataloader_drop_last:  # at the end of an epoch the examples that fill no batch
        counted["examples_in_a_batch"] = args.rows_in_a_batch
    return {name: getattr(args, name) for name in names if hasattr(args, name)} | counted


def _check_numbers(args: TrainingArguments) -> None:
    """Refuse numbers that transformers takes, and stumbles over in the first step or evaluation."""
    for name, least in COUNTS.items():
        given = getattr(args, name)
        if given is not None or name not in MAY_BE_NONE:
            check_counts(least, **{name: given})
    for name in ("learning_rate", "num_train_epochs", "max_grad_norm"):
        given = getattr(args, name)
        if not isinstance(given, Real):
            also = ", 0 for none" if name == "max_grad_norm" else ""
            raise ValueError(f"{name}={given!r} is not possible. Give a number{also}.")
    for name, most in MOST.items():
        given = getattr(args, name)
        is_possible = isinstance(given, Real) and 0 <= float(given) <= most and float(given) < math.inf
        if given is not None and not is_possible:
            range_ = "of at least 0" if math.isinf(most) else f"from 0 to {most:g}"
            raise ValueError(f"{name}={given!r} is not possible. Give a number {range_}.")
    if not (isinstance(args.seed, Integral) and 0 <= int(args.seed) < 2**32):
        raise ValueError(f"seed={args.seed!r} is not possible. Give a whole number from 0 to {2**32 - 1}.")
    if args.dataloader_persistent_workers and not args.dataloader_num_workers:
        raise ValueError(
            "dataloader_persistent_workers=True keeps workers, and dataloader_num_workers=0 has none. Give it at least "
            "1, or leave dataloader_persistent_workers out."
        )


def _check_texts(args: TrainingArguments) -> None:
    """Refuse texts for what is no text: "false" would count as yes, and "0.9" for a number fails where that is used."""
    for name, hint in get_type_hints(DynaBertTrainingArguments).items():  # those of a subclass may not resolve
        given, kinds = getattr(args, name, None), {*(get_args(hint) or [hint])} - {type(None)}
        if isinstance(given, str) and kinds <= {bool, int, float}:
            possible = "True or False" if kinds == {bool} else "a number"
            raise ValueError(f"{name}={given!r} is a text. Possible is {possible}; give it without quotes.")


def _check_engines(args: TrainingArguments) -> None:
    """Refuse what would train wrongly or has not been seen to train rightly."""
    several = "a step here has a backward pass for each sub-network"
    reasons = {
        "deepspeed": f"its engine takes a step after every backward pass, and {several}",
        "fsdp": "of FSDP only version 2 keeps the shapes of the weights, which sub-networks cut",
        "torch_compile": "with a graph for each width of each layer a step took 1.23 times the eager one on an H100",
        "parallelism_config": "it splits a text or a layer over devices, and losses here are means over whole ones",
        "ddp_static_graph": f"it takes every backward pass for the same, and {several}, each through other weights",
        "use_liger_kernel": "Liger has no kernels for encoders",
        "enable_jit_checkpoint": "a run that it stops looks finished, and a killed run goes on from its checkpoints",
    }
    is_asked = {
        "deepspeed": bool(args.deepspeed) or _is_set("ACCELERATE_USE_DEEPSPEED"),
        "fsdp": _fsdp_version(args) == 1,
        "torch_compile": args.torch_compile or any((args.torch_compile_backend, args.torch_compile_mode, _dynamo())),
        "parallelism_config": getattr(args, "parallelism_config", None) or _is_set("ACCELERATE_USE_PARALLELISM_CONFIG"),
        "ddp_static_graph": getattr(args, "ddp_static_graph", None),
        "use_liger_kernel": args.use_liger_kernel,
        "enable_jit_checkpoint": getattr(args, "enable_jit_checkpoint", False),
    }
    for name in (name for name in reasons if is_asked[name]):
        raise ValueError(
            f"{name} was asked for, by an argument or by `accelerate launch`, but is not possible in training: "
            f"{reasons[name]}. Possible are one process, DDP (distributed_type: MULTI_GPU) and FSDP version 2; "
            f"bf16=True, {RECOMPUTE}=True and gradient_accumulation_steps save memory, too. Leave {name} out."
        )


def check_processes(args: TrainingArguments) -> None:
    """Check that processes know of each other, that a model to shard has several, and that each has one device.

    Raises:
        ValueError: If it is not so. Of several devices transformers would copy the model to each at every pass.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if args.world_size == 1 < launched:
        raise ValueError(
            f"This process was launched as one of {launched} (WORLD_SIZE), but is alone: each would train on all of "
            "the data and write over the others. Start several by accelerate launch or torchrun, on a CPU with "
            "use_cpu=True; or start one process."
        )
    if args.fsdp and args.parallel_mode != ParallelMode.DISTRIBUTED:
        raise ValueError(
            f"fsdp={args.fsdp!r} was given in a process that was not launched with others, over which a model could be "
            "sharded. Start the script by accelerate launch --multi_gpu or torchrun, or leave fsdp out."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"This process has {args.n_gpu} devices, and would copy the model to each of them at every pass "
            "(DataParallel), where means over unequal parts of a batch are wrong. Possible is one device a process: "
            f"start {args.n_gpu} processes by accelerate launch --multi_gpu, or show one by CUDA_VISIBLE_DEVICES=0."
        )


def _check_optimizer(args: TrainingArguments) -> None:
    """Refuse optimisers that do not wait for the last backward pass of a step."""
    optim = str(getattr(args.optim, "value", args.optim))
    if optim.endswith(("lomo", "_layerwise")):
        raise ValueError(
            f"optim={optim!r} changes weights within a backward pass, but a step here has one for each sub-network, "
            "and all need the weights from before the step. Possible are optimisers that step after the last one. Give "
            "'adamw_torch', 'adafactor' or 'galore_adamw'."
        )


def _dynamo() -> bool:
    return os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower() not in ("", "no")


def uses_fsdp(args: TrainingArguments) -> bool:
    """Whether weights are sharded over processes, as arguments or `accelerate launch` ask."""
    return bool(args.fsdp) or _is_set("ACCELERATE_USE_FSDP")


def _fsdp_version(args: TrainingArguments) -> int | None:
    if args.fsdp:
        given = args.fsdp_config or {}  # or a JSON file that holds it
        settings: dict[str, Any] = json.loads(Path(given).read_text("utf-8")) if isinstance(given, str) else given
        return int(settings.get("version", settings.get("fsdp_version", 2)))
    return int(os.environ.get("FSDP_VERSION", "1")) if uses_fsdp(args) else None


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() == "true"
