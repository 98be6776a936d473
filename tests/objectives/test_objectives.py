"""Objectives against values computed by hand, limits, and symmetries."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlab import registry
from alignlab.errors import BadInput
from alignlab.objectives.base import (
    GroupLogps,
    plackett_luce_nll_B,
    preference_metrics,
    reward_metrics,
)
from alignlab.objectives.cpo import CPO
from alignlab.objectives.dpo import DPO
from alignlab.objectives.dpo_pro import DPOPRO
from alignlab.objectives.hinge import Hinge
from alignlab.objectives.ipo import IPO
from alignlab.objectives.orpo import ORPO, _log1mexp
from alignlab.objectives.preferred_ft import PreferredFT
from alignlab.objectives.pro import PRO
from alignlab.objectives.rrhf import RRHF
from alignlab.objectives.sft import SFT
from alignlab.objectives.slic import SLiC

F64 = torch.float64


def logps(policy, reference=None, length=None, score=None, mask=None):
    policy_BK = torch.tensor(policy, dtype=F64, requires_grad=True)
    shape = policy_BK.shape

    def fill(given, default):
        return default if given is None else torch.tensor(given, dtype=F64)

    ranks = -torch.arange(shape[1], dtype=F64).expand(shape)
    return GroupLogps(
        policy_BK,
        None if reference is None else torch.tensor(reference, dtype=F64),
        fill(length, torch.ones(shape, dtype=F64)),
        fill(score, ranks),
        torch.ones(shape, dtype=torch.bool) if mask is None else torch.tensor(mask),
        torch.full(shape[:1], 40.0, dtype=F64),
    )


def loss(objective, *args, **kwargs):
    return objective(logps(*args, **kwargs)).loss_B.tolist()


# Policy -2 and -5, reference -3 and -4: log-ratios 1 and -1, delta = 2.
PAIR = ([[-2.0, -5.0]], [[-3.0, -4.0]])


def test_dpo_by_hand():
    # -log sigmoid(0.5 * 2) = log(1 + e^-1) = 0.313262
    assert loss(DPO(beta=0.5), *PAIR) == pytest.approx([0.31326168751822286])
    smoothed = 0.9 * 0.31326168751822286 + 0.1 * 1.3132616875182228
    assert loss(DPO(beta=0.5, label_smoothing=0.1), *PAIR) == pytest.approx([smoothed])
    robust = (0.9 * 0.31326168751822286 - 0.1 * 1.3132616875182228) / 0.8
    assert loss(DPO(beta=0.5, label_smoothing=0.1, robust=True), *PAIR) == pytest.approx([robust])


def test_dpo_metrics_have_trls_names():
    metrics = DPO(beta=0.5)(logps(*PAIR)).metrics
    assert {name: value.item() for name, value in metrics.items()} == {
        "rewards/chosen": 0.5,
        "rewards/rejected": -0.5,
        "rewards/margins": 1.0,
        "rewards/accuracies": 1.0,
        "logps/chosen": -2.0,
        "logps/rejected": -5.0,
    }
    assert not any(value.requires_grad for value in metrics.values())


def test_robust_dpo_is_unbiased_under_flips():
    """Mean over flipped and unflipped labels, at the assumed rate, is the loss without noise."""
    eps, swapped = 0.2, ([[-5.0, -2.0]], [[-4.0, -3.0]])
    robust = DPO(beta=0.5, label_smoothing=eps, robust=True)
    mean = (1 - eps) * loss(robust, *PAIR)[0] + eps * loss(robust, *swapped)[0]
    assert mean == pytest.approx(loss(DPO(beta=0.5), *PAIR)[0])


def test_ipo_by_hand():
    # Sums: (2 - 1 / (2 * 0.5))^2 = 1. Means with lengths 2 and 4: 0.5 + 0.25 = 0.75; (0.75 - 1)^2.
    assert loss(IPO(beta=0.5, summed=True), *PAIR) == pytest.approx([1.0])
    assert loss(IPO(beta=0.5), *PAIR, length=[[2.0, 4.0]]) == pytest.approx([0.0625])


def test_hinge_by_hand():
    assert loss(Hinge(beta=0.25), *PAIR) == pytest.approx([0.5])
    assert loss(Hinge(beta=0.5), *PAIR) == [0.0]
    # Beyond the margin there is nothing to gain.
    assert loss(Hinge(beta=2.0), *PAIR) == [0.0]
    assert loss(SLiC(nll_weight=0.0), [[-2.0, -5.0]]) == [0.0]


def test_slic_by_hand():
    # max(0, 1 + 2 - 5) + 0.1 * 2 = 0.2; swapped max(0, 1 + 5 - 2) + 0.1 * 5 = 4.5
    assert loss(SLiC(), [[-2.0, -5.0], [-5.0, -2.0]]) == pytest.approx([0.2, 4.5])


def test_rrhf_by_hand():
    # Means -1, -2, -0.5: worse ones that are likelier: (3 over 1) 0.5 and (3 over 2) 1.5; the
    # summed NLL of the best is 2.
    found = loss(RRHF(), [[-2.0, -6.0, -2.0]], length=[[2.0, 3.0, 4.0]])
    assert found == pytest.approx([4.0], abs=1e-12)
    # Equal scores of the last two are no order: only (3 over 1) is left.
    tied = loss(RRHF(), [[-2.0, -6.0, -2.0]], length=[[2.0, 3.0, 4.0]], score=[[2.0, 1.0, 1.0]])
    assert tied == pytest.approx([2.5], abs=1e-12)


def test_rrhf_as_its_authors_code_weighs_it():
    # 100 * (0.5 + 1.5) + 2 / 40, the group's longest sequence being of 40 tokens.
    found = loss(RRHF(weights="authors"), [[-2.0, -6.0, -2.0]], length=[[2.0, 3.0, 4.0]])
    assert found == pytest.approx([200.05], abs=1e-9)
    with pytest.raises(BadInput, match="nll_weight: has no effect with weights=authors"):
        RRHF(weights="authors", nll_weight=0.5)


def test_pro_as_its_authors_code_computes_it():
    # Scores 3, 1, 0 give 1/T = 3, 2, 3 and 1, 1 (see below); 0.05 * (3 - 1)^2 * summed NLL 4.
    r, length = [-1.0, -2.0, -3.0], [4.0, 3.0, 1.0]
    step1 = -math.log(math.exp(-3) / (math.exp(-3) + math.exp(2 * -2) + math.exp(3 * -3)))
    step2 = -math.log(math.exp(-2) / (math.exp(-2) + math.exp(-3)))
    policy = [a * n for a, n in zip(r, length, strict=True)]
    found = loss(PRO(weights="authors"), [policy], length=[length], score=[[3.0, 1.0, 0.0]])
    assert found == pytest.approx([step1 + step2 + 0.05 * 4 * 4.0], abs=1e-9)
    # Padding is no response: K is 2, so that the factor is 1.
    padded = loss(
        PRO(weights="authors"), [[-4.0, -4.0, 0.0]], length=[[4.0, 2.0, 1.0]],
        score=[[1.0, 0.0, 0.0]], mask=[[True, True, False]],
    )  # fmt: skip
    assert padded == pytest.approx([math.log(1 + math.exp(-1)) + 0.05 * 4.0], abs=1e-9)
    # A sharpness below 1, which padding must not raise.
    close = loss(
        PRO(weights="authors"), [[-4.0, -4.0, 0.0]], length=[[4.0, 2.0, 1.0]],
        score=[[0.5, 0.0, 0.0]], mask=[[True, True, False]],
    )  # fmt: skip
    assert close == pytest.approx([math.log(1 + math.exp(-0.5)) + 0.05 * 4.0], abs=1e-9)
    # 180 times 0.05 of a token mean, at K = 4 and 20 tokens.
    four = loss(PRO(weights="authors"), [[-20.0] * 4], length=[[20.0] * 4], score=[[0.0] * 4])
    mean = loss(PRO(), [[-20.0] * 4], length=[[20.0] * 4])[0] - math.log(4 * 3 * 2)
    assert four == pytest.approx([180 * mean], abs=1e-9)
    with pytest.raises(BadInput, match="score_temperatures: is part of weights=authors"):
        PRO(weights="authors", score_temperatures=True)


def test_pro_by_hand():
    # r = 0, log 2, log 3 (up to a shift): -log(1/6) - log(2/5) + 0.5 * NLL
    r = [[-2.0, -2.0 + math.log(2), -2.0 + math.log(3)]]
    expected = math.log(6) + math.log(5 / 2) + 0.5 * 2.0
    assert loss(PRO(nll_weight=0.5), r) == pytest.approx([expected])


def test_pro_with_temperatures_by_hand():
    # Scores 3, 1, 0. Step 1: 1/T = 3 (own), 2, 3; step 2: 1 (own), 1.
    r = [-1.0, -2.0, -3.0]
    step1 = -math.log(math.exp(-3) / (math.exp(-3) + math.exp(2 * -2) + math.exp(3 * -3)))
    step2 = -math.log(math.exp(-2) / (math.exp(-2) + math.exp(-3)))
    found = loss(PRO(nll_weight=0.0, score_temperatures=True), [r], score=[[3.0, 1.0, 0.0]])
    assert found == pytest.approx([step1 + step2])
    equal = loss(PRO(nll_weight=0.0, score_temperatures=True), [r], score=[[1.0, 1.0, 1.0]])
    assert equal == [0.0]


def test_sft_weighs_tokens():
    made = SFT()(logps([[-6.0], [-1.0]], length=[[3.0], [1.0]]))
    assert made.loss_B.tolist() == [2.0, 1.0]
    assert made.weight_B.tolist() == [3.0, 1.0]


def test_preferred_ft_is_sft_on_the_best():
    assert loss(PreferredFT(), [[-6.0, -1.0]], length=[[3.0, 1.0]]) == [2.0]


def test_plackett_luce_is_a_distribution_over_orders():
    utility = [0.3, -1.2, 2.0, 0.1]
    orders = torch.tensor(list(itertools.permutations(utility)), dtype=F64)
    nll = plackett_luce_nll_B(orders, torch.ones_like(orders, dtype=torch.bool))
    assert torch.exp(-nll).sum().item() == pytest.approx(1.0)


finite = st.floats(-200, 200)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(finite, finite, finite, finite), min_size=1, max_size=4))
def test_dpo_pro_with_two_responses_is_dpo(rows):
    policy = [[a, b] for a, b, _, _ in rows]
    reference = [[c, d] for _, _, c, d in rows]
    pair, listed = logps(policy, reference), logps(policy, reference)
    one, other = DPO(beta=0.3)(pair).loss_B, DPOPRO(beta=0.3)(listed).loss_B
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-10)
    one.sum().backward()
    other.sum().backward()
    torch.testing.assert_close(pair.policy_BK.grad, listed.policy_BK.grad)


PAIRWISE = [DPO(), DPO(label_smoothing=0.1), IPO(), IPO(summed=True), Hinge(), SLiC(),
            RRHF(), PRO(), DPOPRO()]  # fmt: skip


@pytest.mark.parametrize("objective", PAIRWISE, ids=repr)
def test_swapping_a_pair_changes_the_sign_of_its_margin(objective):
    made = objective(logps([[-2.0, -5.0]], [[-3.0, -4.0]])).metrics
    swapped = objective(logps([[-5.0, -2.0]], [[-4.0, -3.0]])).metrics
    assert made["rewards/margins"].item() == pytest.approx(-swapped["rewards/margins"].item())
    assert made["rewards/accuracies"].item() + swapped["rewards/accuracies"].item() == 1


@pytest.mark.parametrize("objective", PAIRWISE, ids=repr)
@pytest.mark.parametrize("gap", [0.0, 1e-9, 50.0, 2000.0, -2000.0])
def test_extremes_stay_finite(objective, gap):
    given_logps = logps([[-3000.0 + gap, -3000.0 - gap]], [[-3000.0, -3000.0]])
    made = objective(given_logps)
    made.loss_B.sum().backward()
    assert torch.isfinite(made.loss_B).all()
    assert torch.isfinite(given_logps.policy_BK.grad).all()


LISTWISE = [RRHF(), PRO(), PRO(score_temperatures=True), DPOPRO()]


@pytest.mark.parametrize("objective", LISTWISE, ids=repr)
def test_padding_changes_nothing(objective):
    alone = logps([[-2.0, -5.0]], [[-3.0, -4.0]], score=[[1.0, 0.0]])
    padded = logps(
        [[-2.0, -5.0, 0.0, 0.0], [-1.0, -2.0, -3.0, -4.0]],
        [[-3.0, -4.0, 0.0, 0.0], [-1.0, -1.0, -1.0, -1.0]],
        score=[[1.0, 0.0, 0.0, 0.0], [3.0, 2.0, 1.0, 0.0]],
        mask=[[True, True, False, False], [True] * 4],
    )
    one, two = objective(alone), objective(padded)
    assert two.loss_B[0].item() == pytest.approx(one.loss_B[0].item())
    for name, value in one.metrics.items():
        assert two.metrics[name][0].item() == pytest.approx(value[0].item()), name
    one.loss_B.sum().backward()
    two.loss_B.sum().backward()
    torch.testing.assert_close(padded.policy_BK.grad[:1, :2], alone.policy_BK.grad)
    assert padded.policy_BK.grad[0, 2:].tolist() == [0.0, 0.0]


def test_all_are_registered_and_say_what_they_need():
    names = registry.names("objective")
    expected = {"sft", "preferred_ft", "dpo", "ipo", "hinge", "slic", "rrhf", "pro", "dpo_pro"}
    assert expected <= set(names)
    for name in names:
        made = registry.get("objective", name)()
        assert made.min_responses >= 1
        assert isinstance(made.needs_reference, bool)


def test_options_without_effect_are_refused():
    with pytest.raises(BadInput, match="label_smoothing > 0"):
        DPO(robust=True)
    with pytest.raises(BadInput, match=r"label_smoothing: expected below 0\.5, found 0\.5"):
        DPO(label_smoothing=0.5)


def test_dpo_with_nll_adds_the_chosen_responses_mean_nll():
    logps = GroupLogps(
        policy_BK=torch.tensor([[-4.0, -3.0]], dtype=torch.float64),
        reference_BK=torch.tensor([[-5.0, -3.5]], dtype=torch.float64),
        length_BK=torch.tensor([[8, 2]]),
        score_BK=torch.tensor([[1.0, 0.0]]),
        mask_BK=torch.tensor([[True, True]]),
    )
    plain, with_nll = DPO(beta=0.5)(logps), DPO(beta=0.5, nll_weight=2.0)(logps)
    torch.testing.assert_close(with_nll.loss_B - plain.loss_B, torch.tensor([2 * 4.0 / 8]).double())
    with pytest.raises(BadInput, match="nll_weight"):
        DPO(nll_weight=-1.0)


def test_ipos_rewards_are_those_of_whole_responses():
    """Log-ratios 1 and -1 over 4 and 2 tokens: the loss divides them, the rewards do not."""
    output = IPO(beta=0.5)(logps(*PAIR, length=[[4.0, 2.0]]))
    assert output.loss_B.tolist() == pytest.approx([(1 / 4 + 1 / 2 - 1) ** 2])
    assert output.metrics["rewards/chosen"].tolist() == [0.5]
    assert output.metrics["rewards/rejected"].tolist() == [-0.5]
    assert output.metrics["rewards/margins"].tolist() == [1.0]
    assert output.metrics["logps/chosen"].tolist() == [-2.0]


def test_orpos_odds_keep_their_digits_at_both_ends():
    """log odds(p) = log p - log(1 - p); of p = exp(-1e-11), 1 - p = 1e-11 - 0.5e-22."""
    for x, log_odds in (
        (-1e-11, -1e-11 - math.log(1e-11)),
        (-0.5, -0.5 - math.log(1 - math.exp(-0.5))),
        (-0.7, -0.7 - math.log(1 - math.exp(-0.7))),
        (-40.0, -40.0),
    ):
        given = logps([[x, -0.5]])
        output = ORPO()(given)
        other = -0.5 - math.log(1 - math.exp(-0.5))
        found = output.metrics["log_odds_chosen"].item()
        assert found == pytest.approx(log_odds - other, abs=1e-10, rel=1e-12)
        # d log odds / dx = 1 / (1 - exp(x))
        output.loss_B.sum().backward()
        rest = 1 / (1 + math.exp(log_odds - other))
        slope = -1 - 0.1 * rest * -1 / math.expm1(x)
        assert given.policy_BK.grad[0, 0].item() == pytest.approx(slope, rel=1e-9)


def test_the_log_of_a_probability_left_over_keeps_its_digits_at_both_ends():
    """log(1 - exp(x)) is -exp(x) for x far below 0, and log(-x) near it."""
    x = torch.tensor([-50.0, -1e-11, -math.log(2)], dtype=F64)
    wanted = [-math.exp(-50.0), math.log(1e-11), -math.log(2)]
    assert _log1mexp(x).tolist() == pytest.approx(wanted, rel=1e-10, abs=0)


def test_metrics_of_a_group_by_hand():
    """The best is compared with the mean of the others; a tie is no win, padding is not read."""
    reward = torch.tensor([[1.0, 3.0, -1.0], [2.0, 2.0, 99.0]], dtype=F64)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found = {k: v.tolist() for k, v in reward_metrics(reward, mask).items()}
    assert found == {
        "rewards/chosen": [1.0, 2.0],
        "rewards/rejected": [1.0, 2.0],
        "rewards/margins": [0.0, 0.0],
        "rewards/accuracies": [0.5, 0.0],
    }
    given = logps([[-1.0, -2.0, -4.0]], mask=[[True, True, True]])
    named = preference_metrics(given, given.policy_BK)
    assert named["logps/chosen"].tolist() == [-1.0]
    assert named["logps/rejected"].tolist() == [-3.0]
    assert not named["logps/chosen"].requires_grad


def test_the_metric_of_a_term_is_the_term_alone():
    policy, length = [[-2.0, -6.0, -2.0]], [[2.0, 3.0, 4.0]]
    rank = RRHF()(logps(policy, length=length)).metrics["loss/rank"].tolist()
    assert rank == pytest.approx([2.0])
    rank = SLiC()(logps([[-5.0, -2.0]])).metrics["loss/rank"].tolist()
    assert rank == pytest.approx([4.0])
    nll = CPO()(logps([[-6.0, -2.0]], length=[[3.0, 1.0]])).metrics["nll_loss"].tolist()
    assert nll == pytest.approx([2.0])
    output = SFT()(logps([[-6.0]], length=[[3.0]]))
    assert output.weight_B.tolist() == [3.0]
    assert output.metrics["logps/chosen"].tolist() == [-6.0]


def test_one_response_is_enough_to_imitate():
    assert (SFT.min_responses, SFT.max_responses) == (1, 1)
    assert PreferredFT.best_only
