"""KTO, ORPO, SimPO, CPO, reward models and feedback in words: by hand, limits, symmetries."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlab.errors import BadInput
from alignlab.objectives.base import CommentedLogps, GroupRewards, LabelledLogps
from alignlab.objectives.cpo import CPO
from alignlab.objectives.joint_feedback import JointFeedback
from alignlab.objectives.kto import KTO
from alignlab.objectives.orpo import ORPO
from alignlab.objectives.reward_conditioned import RewardConditioned
from alignlab.objectives.reward_model import RewardModel
from alignlab.objectives.sft import SFT
from alignlab.objectives.simpo import SimPO
from tests.objectives.test_objectives import F64, logps, loss


def labelled(policy, reference, desirable, mismatched=((0.0,), (0.0,))):
    return LabelledLogps(
        torch.tensor(policy, dtype=F64, requires_grad=True),
        torch.tensor(reference, dtype=F64),
        torch.tensor(desirable),
        *(torch.tensor(m, dtype=F64) for m in mismatched),
    )


def rewards(values, scores=None, mask=None):
    reward_BK = torch.tensor(values, dtype=F64, requires_grad=True)
    ranks = -torch.arange(reward_BK.shape[1], dtype=F64).expand(reward_BK.shape)
    return GroupRewards(
        reward_BK,
        ranks if scores is None else torch.tensor(scores, dtype=F64),
        torch.ones(reward_BK.shape, dtype=torch.bool) if mask is None else torch.tensor(mask),
    )


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_kto_by_hand():
    # Log-ratios 2 and -1; mismatched 3 and 0: z = 1.5. beta 0.5.
    objective = KTO(beta=0.5, desirable_weight=2.0, undesirable_weight=3.0)
    shown = labelled([-2.0, -5.0], [-4.0, -4.0], [True, False], ([-1.0, -2.0], [-4.0, -2.0]))
    made = objective(shown)
    expected = [2 * (1 - sigmoid(0.5 * (2 - 1.5))), 3 * (1 - sigmoid(0.5 * (1.5 + 1)))]
    assert made.loss_B.tolist() == pytest.approx(expected)
    assert {name: value.tolist() for name, value in made.metrics.items()} == {
        "rewards/chosen": [1.0],
        "rewards/rejected": [-0.5],
        "logps/chosen": [-2.0],
        "logps/rejected": [-5.0],
        "kl": [1.5, 1.5],
    }


def test_kto_takes_no_negative_kl_and_no_gradient_of_it():
    mismatched = torch.tensor([-9.0], dtype=F64, requires_grad=True)
    one = labelled([-2.0], [-4.0], [True])
    below = LabelledLogps(one.policy_B, one.reference_B, one.desirable_B, mismatched,
                          torch.zeros(1, dtype=F64))  # fmt: skip
    assert KTO()(below).loss_B.tolist() == KTO()(one).loss_B.tolist()
    above = LabelledLogps(one.policy_B, one.reference_B, one.desirable_B, -mismatched,
                          torch.zeros(1, dtype=F64))  # fmt: skip
    KTO()(above).loss_B.sum().backward()
    assert mismatched.grad is None


def test_kto_at_the_reference_is_a_half_and_labels_mirror():
    start = KTO()(labelled([-2.0, -5.0], [-2.0, -5.0], [True, False]))
    assert start.loss_B.tolist() == [0.5, 0.5]
    good = KTO()(labelled([-2.0], [-4.0], [True])).loss_B
    bad = KTO()(labelled([-2.0], [-4.0], [False])).loss_B
    assert (good + bad).item() == pytest.approx(1.0)


def test_kto_pushes_labels_apart_and_stays_finite():
    shown = labelled([-2.0, -2.0, -9000.0], [-2.0, -2.0, -10.0], [True, False, True])
    made = KTO(beta=5.0)(shown)
    made.loss_B.sum().backward()
    assert shown.policy_B.grad[0] < 0 < shown.policy_B.grad[1]
    assert torch.isfinite(shown.policy_B.grad).all()
    assert torch.isfinite(made.loss_B).all()


def test_orpo_by_hand():
    # Means log(1/2) and log(1/4): odds 1 and 1/3, log odds ratio log 3; NLL log 2.
    policy = [[2 * math.log(0.5), 3 * math.log(0.25)]]
    found = loss(ORPO(beta=0.5), policy, length=[[2.0, 3.0]])
    assert found == pytest.approx([math.log(2) + 0.5 * math.log(1 + 1 / 3)])


def test_orpo_keeps_its_digits_near_certainty():
    """Where 1 - exp(p) would keep five digits of p, the ratio of the odds keeps ten."""
    made = ORPO(beta=1.0)(logps([[-1.3e-11, -4.7e-11]]))
    assert made.metrics["log_odds_chosen"].tolist() == pytest.approx(
        [math.log(4.7 / 1.3)], rel=1e-9
    )


def test_simpo_by_hand():
    # Means -1 and -3, beta 2: rewards -2 and -6; margin 1.
    found = loss(SimPO(beta=2.0, gamma=1.0), [[-2.0, -9.0]], length=[[2.0, 3.0]])
    assert found == pytest.approx([math.log1p(math.exp(-3))])


def test_cpo_by_hand():
    found = loss(CPO(beta=0.5, nll_weight=2.0), [[-2.0, -5.0]], length=[[4.0, 1.0]])
    assert found == pytest.approx([math.log1p(math.exp(-1.5)) + 2 * 0.5])


PAIRWISE = [ORPO(), SimPO(), CPO()]


@pytest.mark.parametrize("objective", PAIRWISE, ids=repr)
def test_swapping_a_pair_changes_the_sign_of_its_margin(objective):
    made = objective(logps([[-2.0, -5.0]])).metrics
    swapped = objective(logps([[-5.0, -2.0]])).metrics
    assert made["rewards/margins"].item() == pytest.approx(-swapped["rewards/margins"].item())
    assert made["rewards/accuracies"].item() + swapped["rewards/accuracies"].item() == 1


@pytest.mark.parametrize("objective", PAIRWISE, ids=repr)
@pytest.mark.parametrize("pair", [(0.0, 0.0), (0.0, -3000.0), (-3000.0, 0.0), (-1e-9, -1e-9)])
def test_extremes_stay_finite(objective, pair):
    shown = logps([list(pair)])
    made = objective(shown)
    made.loss_B.sum().backward()
    assert torch.isfinite(made.loss_B).all()
    assert torch.isfinite(shown.policy_BK.grad).all()


def test_reward_model_by_hand():
    # Difference 2, margin 0.5 and 0.25 for each of the 2 points between the scores; sum 4.
    objective = RewardModel(margin=0.5, margin_per_score=0.25, centre=0.01)
    found = objective(rewards([[3.0, 1.0]], [[5.0, 3.0]])).loss_B
    assert found.tolist() == pytest.approx([math.log1p(math.exp(-1.0)) + 0.01 * 16])


def test_reward_model_averages_all_pairs():
    # Rewards 2, 1, 0; the last two score the same and are no pair.
    tied = RewardModel()(rewards([[2.0, 1.0, 0.0]], [[2.0, 1.0, 1.0]])).loss_B
    one, two = math.log1p(math.exp(-1)), math.log1p(math.exp(-2))
    assert tied.tolist() == pytest.approx([(one + two) / 2])
    ordered = RewardModel()(rewards([[2.0, 1.0, 0.0]])).loss_B
    assert ordered.tolist() == pytest.approx([(2 * one + two) / 3])
    equal = RewardModel()(rewards([[2.0, 1.0]], [[1.0, 1.0]])).loss_B
    assert equal.tolist() == [0.0]


@settings(max_examples=50, deadline=None)
@given(st.floats(-100, 100), st.floats(-100, 100))
def test_plackett_luce_of_two_is_bradley_terry(a, b):
    one = RewardModel()(rewards([[a, b]])).loss_B.item()
    other = RewardModel(plackett_luce=True)(rewards([[a, b]])).loss_B.item()
    assert one == pytest.approx(other, rel=1e-12, abs=1e-12)


def test_plackett_luce_by_hand():
    values = [[0.0, math.log(2), math.log(3)]]
    found = RewardModel(plackett_luce=True)(rewards(values)).loss_B
    assert found.tolist() == pytest.approx([math.log(6) + math.log(5 / 2)])


@pytest.mark.parametrize(
    "objective", [RewardModel(centre=0.1), RewardModel(margin=1.0), RewardModel(plackett_luce=True)]
)
def test_reward_padding_changes_nothing(objective):
    alone = rewards([[1.0, 2.0]])
    padded = rewards(
        [[1.0, 2.0, 0.0], [3.0, 1.0, 0.5]],
        [[0.0, -1.0, 0.0], [0.0, -1.0, -2.0]],
        [[True, True, False], [True] * 3],
    )
    one, two = objective(alone), objective(padded)
    assert two.loss_B[0].item() == pytest.approx(one.loss_B[0].item())
    for name, value in one.metrics.items():
        assert two.metrics[name][0].item() == pytest.approx(value[0].item()), name
    one.loss_B.sum().backward()
    two.loss_B.sum().backward()
    torch.testing.assert_close(padded.reward_BK.grad[:1, :2], alone.reward_BK.grad)
    assert padded.reward_BK.grad[0, 2] == 0


def test_reward_model_sees_differences_only_unless_centred():
    shifted = [[101.0, 102.0]]
    plain, moved = RewardModel()(rewards([[1.0, 2.0]])), RewardModel()(rewards(shifted))
    assert plain.loss_B.item() == pytest.approx(moved.loss_B.item())
    centred = RewardModel(centre=0.01)
    assert centred(rewards(shifted)).loss_B > centred(rewards([[1.0, 2.0]])).loss_B


def test_joint_feedback_by_hand():
    shown = CommentedLogps(
        torch.tensor([-6.0, -2.0], dtype=F64, requires_grad=True),
        torch.tensor([3.0, 4.0], dtype=F64),
        torch.tensor([False, True]),
    )
    made = JointFeedback(response_weight=0.25)(shown)
    assert made.loss_B.tolist() == [0.5, 0.5]
    # What a step minimises: (0.25 * 6 + 2) / 7 tokens.
    total = (made.loss_B * made.weight_B).sum() / made.weight_B.sum()
    assert total.item() == pytest.approx(3.5 / 7)
    assert made.metrics["logps/feedback"].tolist() == [-2.0]
    assert made.metrics["logps/response"].tolist() == [-6.0]


def test_reward_conditioned_is_sft():
    one, other = (o(logps([[-6.0], [-1.0]], length=[[3.0], [1.0]])) for o in
                  (RewardConditioned(), SFT()))  # fmt: skip
    assert one.loss_B.tolist() == other.loss_B.tolist()
    assert one.weight_B.tolist() == other.weight_B.tolist()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RewardModel(margin=1.0, plackett_luce=True), "no effect with plackett_luce"),
        (
            lambda: RewardModel(margin_per_score=1.0, plackett_luce=True),
            "no effect with plackett_luce",
        ),
        (lambda: RewardModel(centre=-1.0), "centre: expected 0 or more"),
        (lambda: KTO(beta=0.0), "beta: expected above 0"),
        (lambda: JointFeedback(response_weight=-1.0), "expected 0 or more"),
        (lambda: RewardConditioned(bins=1), "expected 2 or more"),
    ],
)
def test_bad_options_are_refused(make, said):
    with pytest.raises(BadInput, match=said):
        make()


def test_ktos_estimate_and_reward_models_means_by_hand():
    given = LabelledLogps(
        torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True),
        torch.tensor([-2.0, -2.0], dtype=torch.float64),
        torch.tensor([True, False]),
        torch.tensor([-1.0], dtype=torch.float64, requires_grad=True),
        torch.tensor([-3.0], dtype=torch.float64),
    )
    output = KTO(beta=0.5)(given)
    # z = 2: 1 - sigmoid(0.5 * (1 - 2)), 1 - sigmoid(0.5 * (2 - 0))
    expected = [1 - 1 / (1 + math.exp(0.5)), 1 - 1 / (1 + math.exp(-1.0))]
    assert output.loss_B.tolist() == pytest.approx(expected)
    output.loss_B.sum().backward()
    assert given.mismatched_policy_M.grad is None
    assert output.metrics["kl"].tolist() == [2.0, 2.0]
    rewards = GroupRewards(
        torch.tensor([[3.0, 1.0, 77.0]], dtype=torch.float64),
        torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64),
        torch.tensor([[True, True, False]]),
    )
    assert RewardModel()(rewards).metrics["mean_reward"].tolist() == [2.0]
