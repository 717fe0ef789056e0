"""The arguments that all training scripts here share, read and checked before any work.

A script adds a class of its own, with its data, and gets all of them from a command line or a json file.
"""

import json
from argparse import ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import embedded
from transformers import HfArgumentParser

from dynabert_hf import DynaBertTrainingArguments
from dynabert_hf.cli.options import with_options
from dynabert_hf.training.distillation import STAGES
from dynabert_hf.training.stages import own_arguments, stage_defaults

SMOKE = {
    "max_steps": 3,
    "max_train_samples": 64,
    "max_eval_samples": 32,
    "max_predict_samples": 32,
    "max_importance_samples": 16,
}
"""What `--smoke` sets, of the arguments that were not given."""


@dataclass
class ModelArguments:
    """Which model is trained, who teaches it, and which sizes it will hold."""

    model_name_or_path: str = field(
        metadata={"help": "Folder or Hub id of the model to start from, or a model from a package: minilm, mpnet-base."}
    )
    teacher_name_or_path: str | None = field(
        default=None, metadata={"help": "With --stage width or depth: the teacher (default: the model itself)."}
    )
    finetune_teacher: bool = field(
        default=False, metadata={"help": "Fine-tune the model on the task first; needed if it has no trained head."}
    )
    stages: list[str] = field(
        default_factory=lambda: ["depth"],
        metadata={"help": "Stages of one command: depth, or width depth as in the paper."},
    )
    dropout: float | None = field(default=0.0, metadata={"help": "Dropout while sizes are trained."})
    finetune: bool = field(default=False, metadata={"help": "End with fine-tuning all sizes on the labels."})
    keep_stages: bool = field(
        default=False, metadata={"help": "Keep the checkpoints and models of the stages of a finished run."}
    )
    widths: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75, 1.0], metadata={"help": "Widths to train."})
    depths: list[float] = field(default_factory=lambda: [0.5, 0.75, 1.0], metadata={"help": "Depths to train."})
    stage_arguments: str | None = field(
        default=None,
        metadata={
            "help": "JSON of training arguments for single stages, including the teacher: "
            '{"teacher": {"learning_rate": 5e-5}, "depth": {"num_train_epochs": 2}}.'
        },
    )
    label_order: list[str] | None = field(
        default=None,
        metadata={
            "help": "Names of the model's classes in the order of its outputs, if it calls them LABEL_0 and so on."
        },
    )
    tokenizer_name: str | None = field(default=None, metadata={"help": "Tokenizer (default: that of the model)."})
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit of the model."})
    cache_dir: str | None = field(default=None, metadata={"help": "Where downloads and prepared data are kept."})
    token: str | None = field(default=None, metadata={"help": "Access token for models and data (default: stored)."})
    smoke: bool = field(
        default=False, metadata={"help": "A few steps on a few rows, to see that everything works; no numbers."}
    )

    def __post_init__(self):
        if self.stages not in (["depth"], ["width", "depth"]):
            raise ValueError(f"--stages {' '.join(self.stages)} is not possible. Give depth, or width depth.")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"--dropout {self.dropout} is not possible. Give a probability in [0, 1).")
        if isinstance(self.stage_arguments, str):
            try:
                self.stage_arguments = json.loads(self.stage_arguments)
            except json.JSONDecodeError as error:
                raise ValueError(f"--stage_arguments is not json: {error}.") from error
        self.stage_arguments = own_arguments(self.stage_arguments, trained=("teacher", *STAGES))

    @property
    def first_model(self):
        """The folder or Hub id of the model to begin with."""
        return embedded.model_folder(self.model_name_or_path)

    @property
    def tokenizer(self):
        """The folder or Hub id of the tokenizer."""
        return self.tokenizer_name or self.first_model

    @property
    def download(self):
        """How models and data are fetched."""
        return {"cache_dir": self.cache_dir, "token": self.token}


@dataclass
class SourceArguments:
    """Where the data come from, a data set or files, and how much of them is used."""

    dataset_name: str | None = field(default=None, metadata={"help": "Hub id or folder of a data set."})
    dataset_config_name: str | None = field(default=None, metadata={"help": "Configuration of that data set."})
    train_file: str | None = field(default=None, metadata={"help": "File to train on, instead of a data set."})
    validation_file: str | None = field(default=None, metadata={"help": "File to evaluate on."})
    test_file: str | None = field(default=None, metadata={"help": "File to predict."})
    validation_split_percentage: int | None = field(
        default=None,
        metadata={"help": "Percentage of the training rows to evaluate on, if the data have no validation part."},
    )
    max_seq_length: int = field(default=128, metadata={"help": "Tokens that the model reads at once, at most."})
    max_train_samples: int | None = field(default=None, metadata={"help": "Training rows to draw."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Rows of each evaluation to draw."})
    max_predict_samples: int | None = field(default=None, metadata={"help": "Rows of each test split to draw."})
    max_importance_samples: int = field(
        default=1024, metadata={"help": "Training rows, drawn by the seed, on which rewiring measures importance."}
    )

    NAMED = ("dataset_name",)
    """The arguments that name data which are no files."""

    @property
    def about(self):
        """What a card says of the data that sizes are measured on."""
        part = "validation" if self.validation_split_percentage is None else "rows of training held back"
        if self.dataset_name is None:
            file = self.validation_file or self.train_file
            held = "" if self.validation_split_percentage is None else f", {part}"
            return {"dataset_name": f"{Path(file).name}{held}"}
        is_folder = Path(self.dataset_name).exists()
        name = Path(self.dataset_name).name if is_folder else self.dataset_name
        names = " ".join(filter(None, (name, self.dataset_config_name)))
        return {"dataset_id": None if is_folder else name, "dataset_name": f"{names}, {part}"}

    def __post_init__(self):
        given = [f"--{name}" for name, path in self.files.items() if path is not None]
        named = [f"--{name}" for name in self.NAMED if getattr(self, name) is not None]
        if given and named:
            raise ValueError(f"{' and '.join(named)} and {' and '.join(given)} were given. Give the one or the other.")
        if not given and not named:
            possible = ", ".join(f"--{name}" for name in self.NAMED)
            raise ValueError(f"There are no data. Give {possible}, or --train_file and its like.")
        if given and self.train_file is None:
            raise ValueError(f"{' and '.join(given)} was given without --train_file, which says what the labels are.")
        share = self.validation_split_percentage
        if share is not None and not 0 < share < 100:
            raise ValueError(f"--validation_split_percentage {share} is not possible. Give 1 to 99.")
        for name in (each.name for each in fields(self) if each.name.startswith("max_")):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"--{name} {getattr(self, name)} is not possible. Give at least 1.")

    @property
    def files(self):
        """For each file that may be given its path, or None."""
        return {name: getattr(self, name) for name in ("train_file", "validation_file", "test_file")}


def listed(names):
    """The names of an argument that takes several with commas; a file of arguments may have a list of them."""
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else names


def parse_arguments(argv, data_kind, *, script="SCRIPT", description=None):
    """The arguments of a command line, or of the json file that it names.

    Args:
        argv: The words of the command line.
        data_kind: The dataclass of the script's own arguments, a `SourceArguments`; `--help` begins with them.
        script: Its name, for the first line of `--help`.
        description: What the script does.

    Returns:
        The script's own arguments, `ModelArguments`, `DynaBertTrainingArguments`, and all that was given, by name.
    """
    kinds = (data_kind, ModelArguments, DynaBertTrainingArguments)
    source = data_kind.NAMED[0]
    usage = f"{script} --model_name_or_path MODEL --{source} {source.removesuffix('_name').upper()}"
    usage += "\n           --output_dir FOLDER ... | ARGUMENTS.json | --help"
    parser = HfArgumentParser(kinds, usage=usage, description=description, formatter_class=_HelpFormatter)
    try:
        if len(argv) == 1 and argv[0].endswith(".json"):
            given = json.loads(Path(argv[0]).read_text())
            check_types(given, kinds)
        else:
            parser.set_defaults(**stage_defaults())
            parser.parse_args(argv)  # with --help, it shows the defaults
            not_given = object()
            parser.set_defaults(**{each.name: not_given for kind in kinds for each in fields(kind)})
            given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not not_given}
        if not given.keys() & {"do_train", "do_eval", "do_predict"}:
            given |= {"do_train": True, "do_eval": True}
        if given.get("smoke"):
            given = {**SMOKE, **given}
        data, model, training = parser.parse_dict({**stage_defaults(), **given})
        for own in model.stage_arguments.values():
            check_types(own, kinds)
            parser.parse_dict({**stage_defaults(), **given, **own})  # refused here, and not when its turn comes
        _check_together(model, data, given)
    except (ValueError, TypeError, OSError) as error:
        parser.error(with_own_options(str(error), kinds))
    return data, model, training, given


JSON_TYPES = {bool: "true or false", int: "a whole number", float: "a number", list: "a list"}
"""What json has for a type, beside texts and mappings."""


def check_types(given, kinds):
    """Refuse what json gives in another type than an argument has: the text "false" would count as yes.

    Args:
        given: Values by the names of arguments.
        kinds: The dataclasses of the arguments.
    """
    hints = {name: hint for kind in kinds for name, hint in get_type_hints(kind).items()}
    for name, value in given.items():
        hint = hints.get(name)
        each = [hint] if get_origin(hint) is list else get_args(hint) or [hint]
        wanted = [get_origin(one) or one for one in each if one is not type(None)]
        possible = (int, float) if wanted == [float] else wanted
        if len(wanted) == 1 and wanted[0] in JSON_TYPES and type(value) not in (*possible, type(None)):
            raise ValueError(f"--{name} {value!r} is not possible. Give {JSON_TYPES[wanted[0]]}.")


def with_own_options(message, kinds):
    """What an error says, with the options of a script, the fields of these dataclasses, for arguments of Python."""
    own = {each.name: f"--{each.name}" for kind in kinds for each in fields(kind)}
    return with_options(message, {**own, "max_length": "--max_seq_length"})


DEFAULTS = {
    "learning_rate": "3e-4 to distil a model of hidden size 384 or less, else 1e-4",
    "teacher_width": "full; same after stage width",
    "stage": "all of --stages",
    "do_train": "True without --do_eval and --do_predict",
    "do_eval": "True without --do_train and --do_predict",
}
"""For arguments whose default depends on others what it is."""


class _HelpFormatter(RawDescriptionHelpFormatter, ArgumentDefaultsHelpFormatter):
    """The description as it is written, options in one spelling, and the defaults that there are."""

    def _format_action_invocation(self, action):
        one = copy(action)  # HfArgumentParser takes hyphens, too
        one.option_strings = [name for name in action.option_strings if "-" not in name.strip("-")]
        return super()._format_action_invocation(one)

    def _get_help_string(self, action):
        if action.dest in DEFAULTS:
            return f"{action.help} (default: {DEFAULTS[action.dest]})"
        return action.help if action.default is None else super()._get_help_string(action)


AS_THEY_ARE = {
    "batch_eval_metrics": ([False], "its metrics are those of all rows together"),
    "eval_do_concat_batches": ([True], "its metrics are those of all rows together"),
    "resume_from_checkpoint": ([None, True, "True"], "a run goes on by itself from what its --output_dir holds"),
}
"""Training arguments that a script cannot heed: the values that change nothing, and why there are no others."""


def _check_together(model, data, given):
    """Refuse what one command cannot do, or would not heed."""
    stage = given.get("stage")
    for name, (possible, reason) in AS_THEY_ARE.items():
        if name in given and given[name] not in possible:
            raise ValueError(f"--{name} {given[name]} is not possible in this script: {reason}. Leave it out.")
    if not given.get("do_train"):
        unheeded = [name for name in ("stage", "finetune", "finetune_teacher", "push_to_hub") if given.get(name)]
        if unheeded:
            raise ValueError(f"--{unheeded[0]} was given without --do_train. Give that, too, or leave it out.")
    if model.teacher_name_or_path and stage not in ("width", "depth"):
        raise ValueError("--teacher_name_or_path is heeded with --stage width or depth only. Leave it out.")
    if model.label_order and model.finetune_teacher:
        raise ValueError("--label_order was given with --finetune_teacher, whose new head has the order of the data.")
    if model.label_order and not hasattr(data, "label_column_name"):
        raise ValueError("--label_order was given, but these data have no classes. Leave it out.")
    if "stages" in given and stage:
        raise ValueError(f"--stages was given with --stage {stage}, which is the only one then. Leave one out.")
    if model.finetune and stage:
        raise ValueError(f"--finetune was given with --stage {stage}. Give --stage finetune on its result.")
    if model.finetune_teacher and stage == "finetune":
        raise ValueError("--finetune_teacher was given with --stage finetune, which has no teacher. Leave it out.")
    if given.get("do_predict") and data.train_file and not data.test_file:
        raise ValueError("--do_predict was given without --test_file. Give the file to predict.")
    if given.get("do_eval") and data.train_file and not data.validation_file and not data.validation_split_percentage:
        raise ValueError(
            "There is no --validation_file to evaluate on. Give one, or --validation_split_percentage 10 for a share "
            "of the training rows, or --do_train alone."
        )
