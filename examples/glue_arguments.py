"""The arguments of run_glue.py beside those that all scripts share."""

from dataclasses import dataclass, field

from glue_data import GLUE, TEXT_COLUMNS
from recipe_arguments import SourceArguments, listed

from dynabert_hf.messages import check_one_of


@dataclass
class GlueArguments(SourceArguments):
    """Where the data come from: a GLUE task, a data set, or files."""

    task_name: str | None = field(
        default=None,
        metadata={"help": f"GLUE task: {', '.join(TEXT_COLUMNS)}; --dataset_name reads a copy of it instead."},
    )
    text_column_names: str | None = field(
        default=None,
        metadata={"help": "Columns with the text or, with a comma, the pair (default: usual names, else all text)."},
    )
    label_column_name: str = field(default="label", metadata={"help": "Column with the labels."})
    do_regression: bool | None = field(
        default=None, metadata={"help": "Whether labels are values (default: where they have a decimal point)."}
    )
    metric_name: str | None = field(
        default=None,
        metadata={"help": "A GLUE task whose metrics to use, or a metric of `evaluate` (default: as fits the task)."},
    )
    pad_to_max_length: bool = field(
        default=False, metadata={"help": "Pad to max_seq_length, not to the longest of a batch."}
    )
    overwrite_cache: bool = field(default=False, metadata={"help": "Tokenise again what was tokenised before."})

    NAMED = ("task_name", "dataset_name")

    @property
    def about(self):
        """What a card says of the data that sizes are measured on."""
        if self.task_name is None:
            return super().about
        name = f"GLUE's {self.task_name}, validation"
        return {"dataset_id": None if self.dataset_name else GLUE, "dataset_name": name}

    def __post_init__(self):
        if self.task_name is not None:
            self.task_name = self.task_name.lower().replace("-", "")
            check_one_of("task_name", self.task_name, TEXT_COLUMNS)
            told = ("validation_split_percentage", "text_column_names", "do_regression")
            given = [f"--{name}" for name in told if getattr(self, name) is not None]
            if given:
                raise ValueError(
                    f"{given[0]} was given with --task_name, whose data have a part to evaluate on, and columns and "
                    "labels that are known. Leave it out."
                )
        super().__post_init__()
        self.text_column_names = listed(self.text_column_names)
