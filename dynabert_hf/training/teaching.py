"""Who teaches, and what: one model or several, beside the student or asked before, of its own shape or of another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import torch
import transformers
from accelerate.utils import convert_to_fp32
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..data.fingerprints import fingerprint_of_weights
from ..data.masking import drawn_by
from ..data.reading import load_tokenizer
from ..data.sentence_encoder import SentenceEncoder
from ..data.views import FreshViews
from ..messages import get_logger
from ..model.elastic_model import ElasticModelMixin
from ..model.subnetwork import SubNetwork
from ..tasks import is_sentence_encoder, task_of
from .arguments import DynaBertTrainingArguments, uses_fsdp
from .distillation import kind_of_predictions, real_only
from .ordered_evaluation import unchanged
from .stored_outputs import StoredOutputs, is_folder_of_outputs
from .teacher_facts import TeacherFacts, at_size, parameters_of

logger = get_logger(__name__)

Teacher: TypeAlias = PreTrainedModel | StoredOutputs
PROJECTIONS = "teacher_projections.safetensors"
"""File of a checkpoint with the projections of its training."""

CARRIED = "teacher_projections"
"""What they are called while a model carries them."""


def teachers_of(teacher: Any) -> list[Teacher]:
    """The teachers that were given: none, one, or several.

    Raises:
        TypeError: If something else was given.
    """
    given = list(teacher) if isinstance(teacher, list | tuple) else [] if teacher is None else [teacher]
    for each in given:
        if not isinstance(each, PreTrainedModel | StoredOutputs):
            raise TypeError(
                f"A teacher is a {type(each).__name__}. Possible are fine-tuned models, StoredOutputs, and lists of "
                "these. Give one of them."
            )
    return given


def load_teachers(given: Any, model: PreTrainedModel, tokenizer: Any) -> list[Teacher]:
    """The teachers of a run, where names are folders of stored outputs, or folders or Hub ids of models.

    Args:
        given: None, one, or a list; for a sentence encoder also a `SentenceTransformer`, its folder or its Hub id.
        model: The fine-tuned model whose sizes are taught.
        tokenizer: Its tokenizer, to compare with that of a teacher that was named; None: nothing is compared.

    Raises:
        TypeError: If something else was given.
        ValueError: If a teacher reads other tokens, or its checkpoint lacks the head of the model.
    """
    several = given if isinstance(given, list | tuple) else [] if given is None else [given]
    return teachers_of([_loaded(each, model, tokenizer) for each in several])


def _loaded(given: Any, model: PreTrainedModel, tokenizer: Any) -> Any:
    makes_vectors = is_sentence_encoder(model)
    encoder = SentenceEncoder.of(given) if makes_vectors else None
    if encoder is not None:
        _check_tokens(given, encoder.tokenizer, tokenizer)
        return encoder.model
    teacher = _named(given, model, tokenizer) if isinstance(given, str | os.PathLike) else given
    if makes_vectors and isinstance(teacher, PreTrainedModel) and not is_sentence_encoder(teacher):
        raise TypeError(
            f"A {type(teacher).__name__} without a pooling was given to teach a sentence encoder. Give a "
            "SentenceTransformer, or its folder with modules.json."
        )
    return teacher


def _named(name: str | os.PathLike, model: PreTrainedModel, tokenizer: Any) -> Teacher:
    if is_folder_of_outputs(name):
        return StoredOutputs(name)
    head = task_of(model).head.removeprefix("Model")
    auto_class: Any = getattr(transformers, f"AutoModel{head}")
    teacher, about = auto_class.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    if about["missing_keys"]:
        raise ValueError(
            f"{str(name)!r} was given as a teacher, but has no {head or 'encoder'}: {sorted(about['missing_keys'])[0]} "
            "would be random. Give a model that was fine-tuned on the same task."
        )
    check_tokens_beside(name, tokenizer)
    return teacher


def check_tokens_beside(name: str | os.PathLike, tokenizer: Any) -> None:
    """Check the tokens of a teacher by the tokenizer that is saved beside it, if there is one; warn of a broken one.

    Where there is none, the sizes of the vocabularies are compared in any case.

    Raises:
        ValueError: If it calls a token otherwise than the tokenizer of the model.
    """
    try:
        theirs = load_tokenizer(name)
    except OSError:  # there is none
        return
    except ValueError as error:
        logger.warning(f"The tokens of the teacher were not compared with those of the model. {error}")
        return
    _check_tokens(name, theirs, tokenizer)


def _check_tokens(teacher: Any, theirs: Any, tokenizer: Any) -> None:
    """Check that a teacher calls tokens by the numbers that they have for the model.

    Args:
        teacher: The teacher, or its name, for the error.
        theirs: Its tokenizer; None: it is not known.
        tokenizer: That of the model; None: it is not known.

    Raises:
        ValueError: If it calls one otherwise.
    """
    if theirs is None or tokenizer is None:
        return
    ours, others = tokenizer.get_vocab(), theirs.get_vocab()
    if ours != others:
        token = min((token for token in ours.keys() | others.keys() if ours.get(token) != others.get(token)), key=str)
        name = str(teacher) if isinstance(teacher, str | os.PathLike) else type(teacher).__name__
        raise ValueError(
            f"The tokenizer of the teacher {name!r} calls {token!r} number {others.get(token)}, that of the model "
            f"{ours.get(token)}. Both read the same tokens while training, so their vocabularies must be equal. Give a "
            "teacher with the tokenizer of the model."
        )


def facts_of(teacher: Teacher) -> TeacherFacts:
    """The facts of a model, or of the one whose outputs were stored."""
    return teacher.facts if isinstance(teacher, StoredOutputs) else TeacherFacts.of(teacher)


def fingerprint_of_teacher(teacher: Teacher) -> str:
    """What tells the weights of a teacher from those of another, also where its outputs were stored."""
    return str(teacher.about["weights"]) if isinstance(teacher, StoredOutputs) else fingerprint_of_weights(teacher)


@contextmanager
def all_unchanged(teachers: Sequence[Teacher]) -> Iterator[None]:
    """Inside, models may be moved and set to evaluation; at the end they are as before."""
    with ExitStack() as stack:
        for teacher in teachers:
            if isinstance(teacher, PreTrainedModel):
                stack.enter_context(unchanged(teacher))
        yield


@torch.no_grad()
def ask(
    teachers: Sequence[Teacher],
    size: SubNetwork,
    inputs: Mapping[str, Any],
    *,
    config: Any,
    labels: torch.Tensor | None,
    hidden_states: bool,
    device: torch.device,
) -> ModelOutput:
    """What teachers say of a batch, in float32: of several the mean of their distributions, hidden states of the first.

    Args:
        teachers: The teachers.
        size: The size of a teacher that is elastic.
        inputs: The batch, without labels.
        config: Configuration of the student, which says what is predicted.
        labels: The labels, where there are any.
        hidden_states: Whether hidden states are wanted.
        device: Where the student is.
    """
    outputs: list[Any] = [
        convert_to_fp32(_ask_one(teacher, size, inputs, hidden_states and number == 0, device))
        for number, teacher in enumerate(teachers)
    ]
    if len(outputs) == 1:
        return outputs[0]
    kind = kind_of_predictions(outputs[0], labels, config)
    mean = mean_predictions(outputs, kind=kind, attention_mask=inputs.get("attention_mask"))
    return ModelOutput(**mean, **({"hidden_states": outputs[0].hidden_states} if hidden_states else {}))


def _ask_one(
    teacher: Any, size: SubNetwork, inputs: Mapping[str, Any], hidden_states: bool, device: torch.device
) -> ModelOutput:
    if isinstance(teacher, StoredOutputs):
        return teacher.outputs(inputs, hidden_states=hidden_states)
    if teacher.device != device:
        teacher.to(device)
    if teacher.training:
        teacher.eval()
    if "token_type_ids" in inputs and "token_type_ids" not in parameters_of(teacher):  # a family that has none
        inputs = {name: value for name, value in inputs.items() if name != "token_type_ids"}
    with at_size(teacher, size):
        outputs = teacher(**inputs, output_hidden_states=hidden_states, return_dict=True)
    return complete(outputs, "teacher", teacher, (*task_of(teacher).outputs, *(["hidden_states"] * hidden_states)))


def complete(outputs: Any, role: str, model: PreTrainedModel, wanted: Sequence[str]) -> ModelOutput:
    """The outputs of a model, which its class may give as a dictionary.

    Args:
        outputs: What its forward pass returned.
        role: What it is, `"teacher"` or `"model"`.
        model: The model.
        wanted: The outputs that are needed.

    Raises:
        TypeError: If one of them is not there, as of a class of one's own.
    """
    told = ModelOutput(**outputs) if isinstance(outputs, Mapping) else ModelOutput()
    missing = [name for name in wanted if told.get(name) is None]
    if missing:
        instead = ", or give hidden_weight=0 to learn predictions alone" if missing == ["hidden_states"] else ""
        raise TypeError(
            f"The {role}, a {type(model).__name__}, returned a {type(outputs).__name__} without "
            f"{' and '.join(missing)}, by which the model learns. Let its forward pass return a ModelOutput that has "
            f"them{instead}."
        )
    return told


def mean_predictions(
    outputs: Sequence[Any], *, kind: str, attention_mask: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """The mean of the distributions of several teachers as logits (Hinton et al., arXiv 1503.02531), of values theirs.

    Args:
        outputs: Outputs of one head of several models.
        kind: The problem type, as for `logit_loss`.
        attention_mask: `(batch, seq)`, 1 for real tokens, of which alone answers are made.
    """
    if "start_logits" not in outputs[0]:
        return {"logits": _mean_logits([output.logits for output in outputs], kind)}
    mean = {}
    for name in ("start_logits", "end_logits"):
        logits = [real_only(output[name], attention_mask) for output in outputs]
        mean[name] = _mean_logits(logits, "single_label_classification")
    return mean


def _mean_logits(logits: Sequence[torch.Tensor], kind: str) -> torch.Tensor:
    stacked = torch.stack(list(logits))
    if kind == "regression":
        return stacked.mean(0)
    if kind == "multi_label_classification":
        yes, no = (functional.logsigmoid(sign * stacked).logsumexp(0) for sign in (1, -1))
        return yes - no
    return stacked.log_softmax(-1).logsumexp(0)


class Projections(nn.Module):
    """Learned maps from the hidden states of a student to those of a teacher of another shape (TinyBERT's equation 8).

    One is of the embedding output, one of all layers. Where both are as long, they begin as the identity.

    Args:
        student: Length of the student's states.
        teacher: Length of the teacher's.
    """

    def __init__(self, student: int, teacher: int):
        super().__init__()
        self.embeddings = nn.Linear(student, teacher, bias=False)
        self.layers = nn.Linear(student, teacher, bias=False)
        for linear in (self.embeddings, self.layers):
            nn.init.eye_(linear.weight) if student == teacher else nn.init.orthogonal_(linear.weight)

    @property
    def shape(self) -> list[int]:
        """Length of the teacher's states and of the student's."""
        return list(self.layers.weight.shape)

    def forward(self, hidden_states: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The hidden states of a student, embedding output first, as the teacher's would be."""
        first, *others = hidden_states
        return (self.embeddings(first), *map(self.layers, others))


def needs_projections(teachers: Sequence[Teacher], model: ElasticModelMixin, args: DynaBertTrainingArguments) -> bool:
    """Whether hidden states of another shape than the model's are learned."""
    if not teachers or args.stage == "finetune" or args.hidden_weight == 0:
        return False
    return not TeacherFacts.of(model).has_shape_of(facts_of(teachers[0]))


def check_optimizers(
    optimizers: tuple[Any, Any], teachers: Sequence[Teacher], model: ElasticModelMixin, args: DynaBertTrainingArguments
) -> None:
    """Check that an optimiser that was made by hand holds weights of the model, and no projections are trained.

    Raises:
        ValueError: If it does not hold what is trained.
    """
    if optimizers[0] is None:
        return
    held = [id(weight) for group in optimizers[0].param_groups for weight in group["params"]]
    if not set(held) & {id(weight) for weight in model.parameters()}:
        raise ValueError(
            "optimizers was given with an optimiser that holds no weight of the model, so that nothing would be "
            "trained. An optimiser is made of the parameters of the very model that is trained: "
            "AdamW(model.parameters()). Make it so, or give optimizer_cls_and_kwargs."
        )
    if needs_projections(teachers, model, args):
        theirs = facts_of(teachers[0])
        raise ValueError(
            f"optimizers was given with a teacher of {theirs.num_hidden_layers} layers of {theirs.hidden_size}, whose "
            "states are learned through projections that this optimiser does not hold. Give "
            "optimizer_cls_and_kwargs, or hidden_weight=0 to learn predictions alone."
        )


def projections_to(
    teachers: Sequence[Teacher], model: ElasticModelMixin, args: DynaBertTrainingArguments
) -> Projections | None:
    """The projections that a training needs; None where no hidden states are learned, or those of the same shape.

    They are drawn by the seed of the training.

    Raises:
        ValueError: If the training shards its weights.
    """
    if not needs_projections(teachers, model, args):
        return None
    theirs = facts_of(teachers[0])
    if uses_fsdp(args):
        raise ValueError(
            f"fsdp was asked for with a teacher of {theirs.num_hidden_layers} layers of {theirs.hidden_size}, but "
            "projections to its states are not sharded. Give hidden_weight=0 to learn its predictions alone, or train "
            "with DDP."
        )
    with drawn_by(args.seed):
        return Projections(model.config.hidden_size, int(theirs.hidden_size or 0)).to(model.device)


@contextmanager
def carrying(model: ElasticModelMixin, projections: Projections | None) -> Iterator[None]:
    """Inside, a model has projections among its parts, but what is saved of it has not.

    So the optimiser, clipping and other processes treat them as the model's weights.
    """
    if projections is None:
        yield
        return
    left_out: Any = model._keys_to_ignore_on_save
    model.add_module(CARRIED, projections.to(model.device))
    model._keys_to_ignore_on_save = {*(left_out or ()), *(f"{CARRIED}.{name}" for name in projections.state_dict())}
    try:
        yield
    finally:
        delattr(model, CARRIED)
        model._keys_to_ignore_on_save = left_out


def fresh_views(
    args: DynaBertTrainingArguments, model: PreTrainedModel, trainer_kwargs: Mapping[str, Any]
) -> FreshViews | None:
    """The views that arguments ask for, of the training data of a trainer that has a teacher.

    Raises:
        ValueError: If one is not possible.
    """
    if args.views is None:
        return None
    if args.stage == "finetune":
        logger.warning_once(
            "Stage 'finetune' learns from labels, which belong to texts as they are; views have no effect."
        )
        return None
    return FreshViews(
        args.views,
        trainer_kwargs.get("processing_class"),
        model,
        probability=args.view_probability,
        seed=args.order_seed,
        dataset=trainer_kwargs.get("train_dataset"),
    )
