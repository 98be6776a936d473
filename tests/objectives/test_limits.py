"""Every objective of fixed responses: limits, symmetries, and gradients by finite differences.

`CASES` holds the settings; a registered objective without a case fails the last test.
"""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlab import registry
from alignlab.objectives.base import (
    CommentedLogps,
    GroupLogps,
    GroupRewards,
    LabelledLogps,
    input_of,
)
from alignlab.objectives.cpo import CPO
from alignlab.objectives.dpo import DPO
from alignlab.objectives.dpo_pro import DPOPRO
from alignlab.objectives.hinge import Hinge
from alignlab.objectives.ipo import IPO
from alignlab.objectives.joint_feedback import JointFeedback
from alignlab.objectives.kto import KTO
from alignlab.objectives.orpo import ORPO
from alignlab.objectives.preferred_ft import PreferredFT
from alignlab.objectives.pro import PRO
from alignlab.objectives.reward_conditioned import RewardConditioned
from alignlab.objectives.reward_model import RewardModel
from alignlab.objectives.rrhf import RRHF
from alignlab.objectives.sft import SFT
from alignlab.objectives.simpo import SimPO
from alignlab.objectives.slic import SLiC
from tests.objectives.test_more_objectives import labelled, rewards
from tests.objectives.test_objectives import F64, logps, loss

PAIRS = [
    DPO(beta=0.3),
    DPO(beta=0.3, label_smoothing=0.2),
    DPO(beta=0.3, label_smoothing=0.2, robust=True),
    DPO(beta=0.3, nll_weight=0.5),
    IPO(beta=0.3),
    IPO(beta=0.3, summed=True),
    Hinge(beta=0.05),
    SLiC(margin=20.0),
    ORPO(beta=0.5),
    SimPO(),
    CPO(),
]
LISTS = [
    DPOPRO(beta=0.3),
    RRHF(),
    PRO(nll_weight=0.5),
    PRO(score_temperatures=True),
]
SINGLES = [SFT(), PreferredFT(), RewardConditioned()]
REWARDS = [
    RewardModel(margin=0.5, margin_per_score=0.2, centre=0.1),
    RewardModel(plackett_luce=True, centre=0.1),
]
CASES = [*PAIRS, *LISTS, *SINGLES, *REWARDS, KTO(beta=0.4), JointFeedback(0.5)]
IMPLICIT = [o for o in (*PAIRS, *LISTS) if o.needs_reference]


def drawn(B: int, K: int, seed: int = 0) -> GroupLogps:
    """Random groups whose last one is padded by one response where that leaves two."""
    generator = torch.Generator().manual_seed(seed)
    length_BK = torch.randint(2, 30, (B, K), generator=generator).double()
    policy_BK = -length_BK * torch.rand(B, K, generator=generator, dtype=F64).add(0.1)
    mask_BK = torch.ones(B, K, dtype=torch.bool)
    mask_BK[-1, K - 1] = K < 3
    score_BK = torch.arange(K, 0, -1, dtype=F64).expand(B, K) ** 1.5
    return GroupLogps(
        torch.where(mask_BK, policy_BK, 0.0).requires_grad_(),
        torch.where(mask_BK, policy_BK + torch.randn(B, K, generator=generator, dtype=F64), 0.0),
        torch.where(mask_BK, length_BK, 1.0),
        torch.where(mask_BK, score_BK, 0.0),
        mask_BK,
        length_BK.amax(1) + 7,
    )


def gradcheck(function, leaf):
    assert torch.autograd.gradcheck(function, (leaf,), eps=1e-6, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("objective", [*PAIRS, *LISTS, *SINGLES], ids=repr)
def test_gradients_of_log_probabilities(objective, seed):
    K = min(objective.max_responses or 4, 4)
    given = drawn(3, K, seed)
    gradcheck(lambda p: objective(replace(given, policy_BK=p)).loss_B, given.policy_BK)


@pytest.mark.parametrize("objective", REWARDS, ids=repr)
def test_gradients_of_rewards(objective):
    shape = drawn(3, 4)
    leaf = torch.randn(3, 4, dtype=F64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    gradcheck(lambda r: objective(GroupRewards(r, shape.score_BK, shape.mask_BK)).loss_B, leaf)


@pytest.mark.parametrize("objective", [KTO(beta=0.4), KTO(0.4, 1.5, 0.7)], ids=repr)
def test_gradients_of_labelled_responses(objective):
    given = labelled([-2.0, -5.0, -3.0], [-4.0, -4.0, -3.0], [True, False, True], ((1.0,), (0.0,)))
    gradcheck(lambda p: objective(replace(given, policy_B=p)).loss_B, given.policy_B)


def test_gradients_of_feedback():
    policy_B = torch.tensor([-6.0, -2.0], dtype=F64, requires_grad=True)
    given = CommentedLogps(policy_B, torch.tensor([3.0, 4.0]), torch.tensor([False, True]))
    gradcheck(lambda p: JointFeedback(0.5)(replace(given, policy_B=p)).loss_B, policy_B)


AT_REFERENCE = {
    "DPO": math.log(2),
    "DPOPRO": math.log(math.factorial(4)),
    "Hinge": 1.0,
    "IPO": (1 / 0.6) ** 2,
}


@pytest.mark.parametrize("objective", [o for o in IMPLICIT if not getattr(o, "nll_weight", 0)],
                         ids=repr)  # fmt: skip
def test_a_policy_that_is_its_reference(objective):
    """The loss is a known constant, every reward is zero, and the gradient already ranks."""
    K = min(objective.max_responses or 4, 4)
    start = drawn(2, K)
    start = replace(start, mask_BK=torch.ones(2, K, dtype=torch.bool))
    start = replace(start, reference_BK=start.policy_BK.detach().clone())
    made = objective(start)
    assert made.loss_B.tolist() == pytest.approx([AT_REFERENCE[type(objective).__name__]] * 2)
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins"):
        assert made.metrics[name].tolist() == [0.0, 0.0]
    made.loss_B.sum().backward()
    assert (start.policy_BK.grad[:, 0] < 0).all()
    assert (start.policy_BK.grad[:, -1] > 0).all()


@pytest.mark.parametrize("K", [2, 3, 5])
def test_as_beta_goes_to_zero_dpo_forgets_the_data(K):
    given = drawn(2, K)
    known = torch.tensor([K, K - (K > 2)])  # the padded group holds one response fewer
    made = DPOPRO(beta=1e-9)(given)
    expected = torch.lgamma(known + 1.0).double()
    torch.testing.assert_close(made.loss_B, expected, rtol=0, atol=1e-6)
    if K == 2:
        for objective in (DPO(beta=1e-9), DPO(beta=1e-9, label_smoothing=0.3)):
            assert objective(given).loss_B.tolist() == pytest.approx([math.log(2)] * 2, abs=1e-7)
        assert Hinge(beta=1e-9)(given).loss_B.tolist() == pytest.approx([1.0] * 2, abs=1e-7)
        # At the start of the curve the slope is that of delta: -beta / 2 and -beta.
        for objective, slope in ((DPO(beta=1e-6), 0.5), (Hinge(beta=1e-6), 1.0)):
            leaf = drawn(2, K).policy_BK.detach().requires_grad_()
            objective(replace(given, policy_BK=leaf)).loss_B.sum().backward()
            expected = torch.tensor([[-slope, slope]] * 2, dtype=F64) * 1e-6
            torch.testing.assert_close(leaf.grad, expected, rtol=1e-4, atol=0)


def test_as_beta_grows_dpo_is_a_hinge_without_margin():
    """L / beta -> max(0, -delta)."""
    beta = 1e4
    policy, reference = [[-2.0, -5.0], [-5.0, -2.0]], [[-3.0, -4.0], [-3.0, -4.0]]
    found = loss(DPO(beta=beta), policy, reference)
    assert [value / beta for value in found] == pytest.approx([0.0, 4.0])


def test_simpo_without_scale_and_cpo_without_imitation():
    """SimPO is then log(1 + e^gamma); CPO is DPO with a reference that is the same everywhere."""
    assert loss(SimPO(beta=1e-9, gamma=0.7), [[-2.0, -5.0]]) == pytest.approx(
        [math.log1p(math.exp(0.7))]
    )
    uniform = loss(DPO(beta=0.3), [[-2.0, -5.0]], [[-7.0, -7.0]])
    assert loss(CPO(beta=0.3, nll_weight=0.0), [[-2.0, -5.0]]) == pytest.approx(uniform)


def test_ipo_is_least_at_its_target():
    delta = 1 / (2 * 0.25)
    at = logps([[-2.0, -2.0 - delta]], [[-1.0, -1.0]])
    made = IPO(beta=0.25, summed=True)(at)
    made.loss_B.sum().backward()
    assert made.loss_B.tolist() == [0.0]
    assert at.policy_BK.grad.abs().max() == 0


@pytest.mark.parametrize("K", [3, 4])
def test_dpo_pro_by_hand(K):
    """beta * h = 0, log 2, log 3 and so on: a first choice of 1 in 6 or 10, and so on."""
    policy = [[-9.0 + math.log(k) for k in range(1, K + 1)]]
    reference = [[-9.0] * K]
    expected = sum(math.log(sum(range(k, K + 1)) / k) for k in range(1, K + 1))
    assert loss(DPOPRO(beta=1.0), policy, reference) == pytest.approx([expected])


finite = st.floats(-60, -0.01)
lengths = st.integers(1, 60).map(float)
pair_rows = st.lists(st.tuples(finite, finite, lengths, lengths), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(pair_rows)
def test_lists_of_two_are_pairs(rows):
    """PRO is SimPO without margin plus imitation; RRHF is SLiC without margin on token means, but
    for its imitation, which is of sums."""
    policy, length = [[a, b] for a, b, _, _ in rows], [[m, n] for _, _, m, n in rows]
    mean = [[a / m, b / n] for a, b, m, n in rows]
    nll = torch.tensor([-a for a, _ in mean], dtype=F64)
    pro = PRO(nll_weight=0.3)(logps(policy, length=length)).loss_B
    simpo = SimPO(beta=1.0, gamma=0.0)(logps(policy, length=length)).loss_B
    torch.testing.assert_close(pro, simpo + 0.3 * nll)
    rrhf = RRHF(nll_weight=0.3)(logps(policy, length=length)).loss_B
    slic = SLiC(margin=0.0, nll_weight=0.0)(logps(mean)).loss_B
    summed = torch.tensor([-a for a, *_ in policy], dtype=F64)
    torch.testing.assert_close(rrhf, slic + 0.3 * summed)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.floats(-60, 60)] * 4), st.floats(0.01, 2.0))
def test_swapping_a_pair_moves_dpos_loss_by_its_reward_margin(values, beta):
    """L(delta) - L(-delta) = -beta * delta, whatever the smoothing."""
    a, b, c, d = values
    for eps in (0.0, 0.2):
        objective = DPO(beta=beta, label_smoothing=eps)
        (right,) = loss(objective, [[a, b]], [[c, d]])
        (swapped,) = loss(objective, [[b, a]], [[d, c]])
        delta = (a - c) - (b - d)
        assert right - swapped == pytest.approx(-(1 - 2 * eps) * beta * delta, abs=1e-9)


@pytest.mark.parametrize("objective", LISTS, ids=repr)
def test_what_is_worse_is_pushed_down_and_the_best_up(objective):
    """At equal likelihoods per token, and seen from the reference."""
    given = logps([[-2.0] * 4], [[-2.0] * 4])
    objective(given).loss_B.sum().backward()
    gradient = given.policy_BK.grad[0]
    assert gradient[0] < 0
    if not isinstance(objective, RRHF):  # equal likelihoods are no fault there
        assert gradient[-1] > 0
    shifted = logps([[-2.0, -1.9, -1.8, -1.7]], [[-2.0] * 4])
    objective(shifted).loss_B.sum().backward()
    assert shifted.policy_BK.grad[0, 0] < 0 < shifted.policy_BK.grad[0, -1]


@pytest.mark.parametrize("objective", IMPLICIT, ids=repr)
def test_only_differences_to_the_reference_count(objective):
    """A shift of one response under both models changes nothing (but imitation of the chosen)."""
    K = min(objective.max_responses or 4, 4)
    given = drawn(2, K)
    shift = torch.linspace(-3, 3, K, dtype=F64)
    shift[0] = 0
    moved = replace(
        given, policy_BK=given.policy_BK + shift, reference_BK=given.reference_BK + shift
    )
    torch.testing.assert_close(objective(moved).loss_B, objective(given).loss_B)


@pytest.mark.parametrize("objective", [*PAIRS, *LISTS], ids=repr)
def test_groups_do_not_see_each_other(objective):
    K = min(objective.max_responses or 4, 4)
    given = drawn(3, K)
    together = objective(given)
    for b in range(3):
        parts = {
            name: getattr(given, name)[b : b + 1]
            for name in (
                "policy_BK",
                "reference_BK",
                "length_BK",
                "score_BK",
                "mask_BK",
                "longest_B",
            )
        }
        alone = objective(GroupLogps(**parts))
        torch.testing.assert_close(alone.loss_B, together.loss_B[b : b + 1])


@pytest.mark.parametrize("objective", REWARDS, ids=repr)
def test_rewards_of_two_swapped(objective):
    a, b = rewards([[2.0, -1.0]]), rewards([[-1.0, 2.0]])
    right, wrong = objective(a), objective(b)
    assert right.loss_B.item() < wrong.loss_B.item()
    assert right.metrics["rewards/margins"].item() == -wrong.metrics["rewards/margins"].item()
    if not (getattr(objective, "margin", 0) or objective.margin_per_score):
        assert right.loss_B.item() - wrong.loss_B.item() == pytest.approx(-3.0)


def test_kto_is_symmetric_in_its_labels():
    """Swapping the label and the sign of (h - z) leaves the loss as it is."""
    zero = ((0.0,), (0.0,))
    good = KTO(beta=0.4)(labelled([-2.0], [-5.0], [True], zero)).loss_B.item()
    bad = KTO(beta=0.4)(labelled([-5.0], [-2.0], [False], zero)).loss_B.item()
    assert good == pytest.approx(bad)
    flat = KTO(beta=1e-9)(labelled([-2.0, -2.0], [-5.0, -5.0], [True, False], zero)).loss_B
    assert flat.tolist() == pytest.approx([0.5, 0.5])


def test_every_objective_of_fixed_responses_has_a_case():
    known = {GroupLogps, GroupRewards, LabelledLogps, CommentedLogps}
    made = {registry.get("objective", name) for name in registry.names("objective")}
    fixed = {kind for kind in made if input_of(kind) in known}
    assert fixed == {type(case) for case in CASES}


PENALTY = {"kl_coef": 0.05, "kl_estimator": "k1", "kl_target": None, "kl_horizon": 10_000}
DEFAULTS = {
    "cpo": {"beta": 0.1, "nll_weight": 1.0},
    "distill": {"teacher": "", "beta": 0.5, "temperature": 1.0},
    "dpo": {"beta": 0.1, "label_smoothing": 0.0, "robust": False, "nll_weight": 0.0},
    "dpo_pro": {"beta": 0.1},
    "grpo": {
        "kl_coef": 0.0, "clip": 0.2, "clip_high": None, "scale": "group", "mean_over": "tokens",
        "divisor": None,
    },
    "hinge": {"beta": 0.1},
    "ipo": {"beta": 0.1, "summed": False},
    "joint_feedback": {"response_weight": 1.0},
    "kto": {"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0},
    "ld_dpo": {
        "beta": 0.1, "label_smoothing": 0.0, "robust": False, "nll_weight": 0.0, "alpha": 0.5,
    },
    "orpo": {"beta": 0.1},
    "ppo": {
        **PENALTY, "gamma": 1.0, "lam": 0.95, "whiten": True, "clip": 0.2, "value_clip": 0.2,
        "vf_coef": 0.1, "scores": "raw", "score_clip": 0.0,
    },
    "preferred_ft": {},
    "pro": {"nll_weight": 0.05, "score_temperatures": False, "weights": "paper"},
    "reinforce": {**PENALTY, "baseline": "batch"},
    "reward_conditioned": {"bins": 5},
    "reward_model": {
        "margin": 0.0, "margin_per_score": 0.0, "centre": 0.0, "plackett_luce": False,
    },
    "rloo": {**PENALTY, "clip": 0.2, "normalise": False},
    "rrhf": {"nll_weight": 1.0, "weights": "paper"},
    "sft": {},
    "simpo": {"beta": 2.0, "gamma": 1.0},
    "slic": {"margin": 1.0, "nll_weight": 0.1},
    "wpo": {"beta": 0.1, "label_smoothing": 0.0, "robust": False, "nll_weight": 0.0},
}  # fmt: skip
"""Settings of every objective where none is given: a change of one changes people's trainings."""


def test_defaults_stay_what_they_are():
    assert {name: asdict(registry.get("objective", name)()) for name in DEFAULTS} == DEFAULTS
    assert set(DEFAULTS) == set(registry.names("objective"))
