"""Ideas beyond the paper, as a trainer with more knobs. What wins moves into the package."""

import random
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import TrainerCallback

from dynabert_hf import DynaBertTrainer, DynaBertTrainingArguments, count_flops
from dynabert_hf.training.distillation import hidden_state_loss, logit_loss
from dynabert_hf.training.shared_prefixes import share_prefixes


@dataclass
class BeyondArguments(DynaBertTrainingArguments):
    """The arguments of the package and those of the ideas; at these defaults none is used.

    Args:
        size_power: Loss weights of the sizes are their relative cost to the minus this power, with a mean of 1.
        sampling_power: Random sizes of a sandwich are drawn with their relative cost to the minus this power.
        hidden_form: `"sum"` of squared errors (the paper); `"variance"`, each divided by the teacher's variance in that
            layer; `"cosine"`, one minus the cosine.
        in_place: Learn from the model's own full size instead of the teacher, and the full size from labels.
        ema_decay: Train with a running average of the weights, which is kept at the end; 0: none.
        attention_weight: Weight of the divergence between the attention distributions of the student's heads and those
            of the same heads of the teacher, which must be rewired as the student is, both with eager attention.
    """

    size_power: float = 0.0
    sampling_power: float = 0.0
    hidden_form: str = "sum"
    in_place: bool = False
    ema_decay: float = 0.0
    attention_weight: float = 0.0


class BeyondTrainer(DynaBertTrainer):
    """`DynaBertTrainer` with the ideas of `BeyondArguments`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        full = max(count_flops(self.model, pair.student) for pair in self.plan)
        self.cost = {pair.student: count_flops(self.model, pair.student) / full for pair in self.plan}
        weights = {size: cost**-self.args.size_power for size, cost in self.cost.items()}
        mean = sum(weights.values()) / len(weights)
        self.weight = {size: weight / mean for size, weight in weights.items()}
        if self.args.ema_decay:
            self.add_callback(AveragedWeights(self.args.ema_decay))

    def pairs_of_step(self):
        if not self.args.sampling_power or self.args.strategy == "grid":
            return super().pairs_of_step()
        smallest, *between, largest = self.plan
        draw = random.Random(f"{self.args.seed}-{self.state.global_step}")
        keys = {pair: draw.random() ** self.cost[pair.student] ** self.args.sampling_power for pair in between}
        drawn = sorted(between, key=keys.__getitem__)[-self.args.num_random_subnetworks :]
        return (smallest, *(pair for pair in between if pair in drawn), largest)

    def _passes(self, model, sizes):
        """Shared as in the package, which cannot know that this loss, too, runs the model once a pass."""
        if self.args.in_place or self.args.attention_weight:  # attention is recorded in layers that really run
            return super()._passes(model, sizes)
        return share_prefixes(self.accelerator.unwrap_model(model), sizes)

    def pair_loss(self, model, inputs, pair, teacher):
        args = self.args
        if teacher is None:
            return self.weight[pair.student] * super().pair_loss(model, inputs, pair, teacher)
        is_own_teacher = args.in_place and pair is self.plan[-1]
        output = model(**inputs, **self._also_wanted())
        logit = logit_loss(output.logits, teacher.logits)
        loss = output.loss if is_own_teacher else args.logit_weight * logit + args.label_weight * output.loss
        if args.hidden_weight > 0 and not is_own_teacher:
            matched = [teacher.hidden_states[index] for index in pair.teacher_hidden_layers]
            hidden = HIDDEN_LOSSES[args.hidden_form](output.hidden_states, matched, inputs["attention_mask"])
            loss = loss + args.hidden_weight * hidden
            self._record(pair, hidden_loss=hidden)
        if args.attention_weight > 0 and not is_own_teacher:
            layers = self.model.config.resolve(pair.student)
            matched = [teacher.attentions[layer.index][:, : layer.heads] for layer in layers]
            attention = attention_loss(output.attentions, matched, inputs["attention_mask"])
            loss = loss + args.attention_weight * attention
            self._record(pair, attention_loss=attention)
        self._record(pair, logit_loss=logit)
        return self.weight[pair.student] * loss

    def _also_wanted(self):
        return {
            "output_hidden_states": self.args.hidden_weight > 0,
            "output_attentions": self.args.attention_weight > 0,
        }

    def _teacher_outputs(self, size, inputs):
        if size is None or not (self.args.in_place or self.args.attention_weight):
            return super()._teacher_outputs(size, inputs)
        inputs = {name: value for name, value in inputs.items() if name != "labels"}
        teacher = self.model if self.args.in_place else self.teacher
        teacher.eval()
        with torch.no_grad(), teacher.subnetwork(size):
            output = teacher(**inputs, **self._also_wanted())
        self.model.train()
        return output


def _relative_to_variance(student, teacher, mask):
    """Squared errors in units of the teacher's variance over real tokens, one per state, averaged over states."""
    real = mask.bool()
    parts = [
        hidden_state_loss([ours], [theirs], mask) / theirs[real].var(0).mean()
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return torch.stack(parts).mean()


def _cosine(student, teacher, mask):
    """One minus the cosine of the states of each real token, averaged over states."""
    parts = [
        (1 - functional.cosine_similarity(ours, theirs, dim=-1))[mask.bool()].mean()
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return torch.stack(parts).mean()


HIDDEN_LOSSES = {"sum": hidden_state_loss, "variance": _relative_to_variance, "cosine": _cosine}


def attention_loss(student, teacher, mask):
    """How far attention distributions are from the teacher's: their divergence, averaged over heads and layers.

    Args:
        student: For each layer the probabilities `(batch, heads, queries, keys)`.
        teacher: Those of the same heads and layers of the teacher.
        mask: `(batch, seq)`, 1 for real tokens; the mean is over the queries that are real.
    """
    least = torch.finfo(student[0].dtype).tiny
    parts = [
        (theirs * (theirs.clamp(min=least).log() - ours.clamp(min=least).log())).sum(-1).mean(1)[mask.bool()].mean()
        for ours, theirs in zip(student, teacher, strict=True)
    ]
    return torch.stack(parts).mean()


class AveragedWeights(TrainerCallback):
    """Keeps a running average of the weights and puts it into the model at the end of training."""

    def __init__(self, decay):
        self.decay = decay

    @torch.no_grad()
    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 1:
            self.average = [parameter.detach().clone() for parameter in model.parameters()]
        decay = min(self.decay, state.global_step / (10 + state.global_step))
        for average, parameter in zip(self.average, model.parameters(), strict=True):
            average.lerp_(parameter, 1 - decay)

    @torch.no_grad()
    def on_train_end(self, args, state, control, model=None, **kwargs):
        for average, parameter in zip(self.average, model.parameters(), strict=True):
            parameter.copy_(average)
