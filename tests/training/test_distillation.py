"""Losses against values by hand, and the plan of every stage."""

import pytest
import torch
from helpers.tiny import make_config
from transformers.modeling_outputs import QuestionAnsweringModelOutput, TokenClassifierOutput

from dynabert_hf import (
    DistillationPair,
    SubNetwork,
    SubNetworkError,
    hidden_state_loss,
    logit_loss,
    plan_stage,
)
from dynabert_hf.training import distillation
from dynabert_hf.training.distillation import match_hidden_states, prediction_loss

TEACHER = torch.tensor([[2.0, -1.0], [0.0, 0.5]])
STUDENT = torch.tensor([[1.0, 0.0], [0.3, -0.2]])


def cross_entropy(student, teacher):
    """Soft cross-entropy of each row, by hand."""
    return -(torch.softmax(teacher, -1) * torch.log(torch.softmax(student, -1))).sum(-1)


def test_logit_loss_is_the_mean_soft_cross_entropy():
    torch.testing.assert_close(logit_loss(STUDENT, TEACHER), cross_entropy(STUDENT, TEACHER).mean())


def test_logit_loss_of_regression_is_the_squared_error_of_the_prediction():
    loss = logit_loss(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [0.0]]), problem_type="regression")
    assert loss.item() == (1 + 9) / 2


def test_logit_loss_of_many_labels_is_the_sum_of_a_binary_cross_entropy_for_each():
    p, q = torch.sigmoid(TEACHER), torch.sigmoid(STUDENT)
    by_hand = -(p * q.log() + (1 - p) * (1 - q).log()).sum(-1).mean()
    torch.testing.assert_close(logit_loss(STUDENT, TEACHER, problem_type="multi_label_classification"), by_hand)


def test_logit_loss_refuses_a_problem_that_it_does_not_know():
    with pytest.raises(ValueError, match="problem_type='multi_label' is unknown"):
        logit_loss(STUDENT, TEACHER, problem_type="multi_label")


def test_hidden_state_loss_averages_over_real_tokens_then_sentences_and_sums_over_states():
    ours, theirs = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    theirs[0, 0] = 3.0
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    # First sentence: squared errors 9 and 1 over two real tokens; second: 1 over one.
    assert hidden_state_loss([ours, ours], [theirs, ours], mask).item() == pytest.approx(((9 + 1) / 2 + 1) / 2)
    assert hidden_state_loss([ours], [theirs]).item() == pytest.approx((9 + 5) / 6)


def test_logit_loss_looks_at_no_token_that_does_not_count():
    ours, theirs = torch.randn(2, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    counts = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0]])
    ours = ours.masked_fill(counts[..., None] == 0, float("nan")).requires_grad_()
    loss = logit_loss(ours, theirs, token_mask=counts)
    loss.backward()
    wanted = [cross_entropy(ours[:1, token], theirs[:1, token]).item() for token in (0, 2)]
    assert loss.item() == pytest.approx(sum(wanted) / 2 / 2)  # two tokens of the first of two sentences
    assert torch.equal(ours.grad.any(-1), counts.bool())


def test_padding_never_counts():
    generator = torch.Generator().manual_seed(0)
    ours, theirs = torch.randn(2, 2, 5, 8, generator=generator)
    logits = torch.randn(2, 2, 5, generator=generator)
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    garbage = (1 - mask)[..., None] * 1e3
    assert torch.equal(hidden_state_loss([ours], [theirs], mask), hidden_state_loss([ours + garbage], [theirs], mask))
    assert torch.equal(
        logit_loss(ours, theirs, token_mask=mask), logit_loss(ours + garbage * torch.rand(8), theirs, token_mask=mask)
    )
    student, teacher = (QuestionAnsweringModelOutput(start_logits=x, end_logits=x) for x in logits)
    noisy = QuestionAnsweringModelOutput(start_logits=logits[0] + garbage[..., 0], end_logits=logits[0])
    assert torch.equal(
        prediction_loss(student, teacher, attention_mask=mask), prediction_loss(noisy, teacher, attention_mask=mask)
    )


def test_question_answering_learns_both_distributions_over_the_real_tokens():
    student = QuestionAnsweringModelOutput(start_logits=STUDENT, end_logits=TEACHER)
    teacher = QuestionAnsweringModelOutput(start_logits=TEACHER, end_logits=STUDENT)
    by_hand = (cross_entropy(STUDENT, TEACHER).mean() + cross_entropy(TEACHER, STUDENT).mean()) / 2
    torch.testing.assert_close(prediction_loss(student, teacher), by_hand)


def test_token_predictions_count_where_there_is_a_label():
    student, teacher = (TokenClassifierOutput(logits=torch.stack([x, x.flip(0)])) for x in (STUDENT, TEACHER))
    labels = torch.tensor([[1, -100], [0, 1]])
    rows = cross_entropy(student.logits, teacher.logits)
    by_hand = (rows[0, 0] + rows[1].mean()) / 2
    torch.testing.assert_close(prediction_loss(student, teacher, labels=labels), by_hand)
    torch.testing.assert_close(prediction_loss(student, teacher), rows.mean())


def test_stage_width_trains_all_widths_at_full_depth_from_the_full_teacher():
    plan = plan_stage(make_config(), "width")
    assert [str(pair.student) for pair in plan] == ["w0.25-d1", "w0.5-d1", "w0.75-d1", "w1-d1"]
    assert {pair.teacher for pair in plan} == {SubNetwork()}
    assert {pair.teacher_hidden_layers for pair in plan} == {(0, 1, 2, 3, 4, 5, 6)}


@pytest.mark.parametrize(("teacher_width", "expected"), [("same", 0.25), ("full", 1.0)])
def test_stage_depth_trains_all_sizes_from_the_teacher_at_full_depth(teacher_width, expected):
    plan = plan_stage(make_config(), "depth", teacher_width=teacher_width)
    assert len(plan) == 12
    assert plan[0] == DistillationPair(SubNetwork(0.25, 0.5), SubNetwork(expected, 1.0), (0, 2, 4, 6))
    assert plan[-1] == DistillationPair(SubNetwork(), SubNetwork(), (0, 1, 2, 3, 4, 5, 6))


def test_stage_finetune_has_no_teacher():
    plan = plan_stage(make_config(), "finetune")
    assert [pair.student for pair in plan] == list(make_config().subnetworks)
    assert all(pair.teacher is None for pair in plan)


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ((0, 2, 4), (0, 2, 4, 6)),  # the published rule
        ((1, 3, 5), (0, 2, 4, 6)),  # the last layer kept: each layer with its own output
        ((1, 4), (0, 2, 6)),
        ((0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5, 6)),
    ],
)
def test_hidden_states_are_matched_from_embedding_to_last(kept, expected):
    assert match_hidden_states(kept, num_layers=6) == expected


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ((0, 2, 4), (0, 1, 3, 6)),
        ((0, 1, 2, 4), (0, 1, 2, 3, 6)),
        ((1, 3, 5), (0, 2, 4, 6)),
        ((0, 1, 2, 3, 4, 5), (0, 1, 2, 3, 4, 5, 6)),
    ],
)
def test_own_matching_compares_each_kept_layer_with_the_same_layer_and_the_last_with_the_last(kept, expected):
    assert match_hidden_states(kept, num_layers=6, matching="own") == expected


def test_only_under_own_matching_a_tensor_shared_between_depths_has_one_target():
    """Layer 0 at width 1 has the same input and weights at every depth, so its output is one tensor."""
    first_targets = {
        matching: {
            pair.teacher_hidden_layers[1]
            for pair in plan_stage(make_config(), "depth", teacher_width="full", hidden_matching=matching)
            if pair.student.width == 1.0
        }
        for matching in distillation.HIDDEN_MATCHINGS
    }
    assert first_targets == {"published": {1, 2}, "own": {1}}


@pytest.mark.parametrize(
    "given",
    [{"stage": "both"}, {"stage": "depth", "teacher_width": "half"}, {"stage": "depth", "hidden_matching": "next"}],
)
def test_an_unknown_choice_is_refused(given):
    with pytest.raises(ValueError, match=r"is unknown\. Possible is one of"):
        plan_stage(make_config(), **given)


def test_a_grid_without_the_full_network_is_refused():
    with pytest.raises(SubNetworkError, match=r"widths=\[0.5\].*Add 1.0 to both"):
        plan_stage(make_config(widths=[0.5]), "width")


def test_a_cut_model_is_refused():
    layer = {"index": 0, "heads": 4, "neurons": 48}
    with pytest.raises(SubNetworkError, match="cut by extraction"):
        plan_stage(make_config(stored_shape=[layer], active_layers=[layer]), "depth")


def test_a_stage_in_width_trains_the_widths_of_listed_sizes_too():
    config = make_config(widths=[1.0], depths=[1.0], sizes=["w0.6-d0.5", "l0h1n10-l3h2n20"])
    assert [pair.student for pair in plan_stage(config, "width")] == [SubNetwork(0.6), SubNetwork()]
    assert [(str(pair.student), pair.teacher) for pair in plan_stage(config, "depth")[1:]] == [
        ("w0.6-d0.5", SubNetwork(0.6)),
        ("w1-d1", SubNetwork()),
    ]
