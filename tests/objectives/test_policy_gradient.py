"""Credit and losses of the policy-gradient objectives, by hand and by their limits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlab.errors import BadInput
from alignlab.objectives.credit import (
    at_last_token_NT,
    clipped_surrogate,
    controlled_coef,
    gae_NT,
    kl_of,
    rollout_sums,
    seen_so_far,
    whitened,
)
from alignlab.objectives.dpo import DPO
from alignlab.objectives.grpo import GRPO
from alignlab.objectives.ppo import PPO
from alignlab.objectives.reinforce import Reinforce
from alignlab.objectives.rloo import RLOO
from alignlab.objectives.rollout_batch import (
    CreditState,
    RolloutLogps,
    Rollouts,
    ValuedLogps,
    is_policy_gradient,
)


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def rollouts(policy, reference, score, *, group=None, value=None):
    """A batch from lists per rollout, padded with what must never be read."""
    T = max(map(len, policy))

    def padded(rows):
        return f64([[*row, *[77.0] * (T - len(row))] for row in rows])

    mask = torch.tensor([[t < len(row) for t in range(T)] for row in policy])
    return Rollouts(
        padded(policy),
        padded(reference),
        None if value is None else padded(value),
        mask,
        f64(score),
        torch.tensor(group or [0] * len(policy)),
    )


def tokens(policy, old, advantage, *, reference=None, sequence=None, group=None):
    policy = f64(policy).requires_grad_()
    return RolloutLogps(
        policy,
        f64(old),
        f64(reference or old),
        f64(advantage),
        torch.tensor(sequence or [0] * len(old)),
        torch.tensor(group or [0]),
    )


def step_loss(output):
    """The number that a step minimises."""
    weight = torch.ones_like(output.loss_B) if output.weight_B is None else output.weight_B
    return (output.loss_B * weight).sum() / weight.sum()


# --- shared pieces


def test_gae_by_hand():
    """gamma 0.5, lambda 0.5; rewards 1, 2; values 3, 4.

    delta_2 = 2 - 4 = -2; delta_1 = 1 + 0.5 * 4 - 3 = 0; A_1 = 0 + 0.25 * -2 = -0.5.
    """
    mask = torch.tensor([[True, True], [True, False]])
    found = gae_NT(f64([[1, 2], [5, 9]]), f64([[3, 4], [1, 9]]), mask, gamma=0.5, lam=0.5)
    assert found.tolist() == [[-0.5, -2.0], [4.0, 0.0]]


@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 2), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_gae_with_lambda_1_is_return_less_value_and_with_0_the_one_step_error(rows):
    reward, value = f64([[r for r, _ in rows]]), f64([[v for _, v in rows]])
    mask = torch.ones_like(reward, dtype=torch.bool)
    to_go = reward.flip(1).cumsum(1).flip(1)
    torch.testing.assert_close(gae_NT(reward, value, mask, gamma=1, lam=1), to_go - value)
    following = torch.cat([value[:, 1:], f64([[0]])], 1)
    torch.testing.assert_close(
        gae_NT(reward, value, mask, gamma=0.9, lam=0), reward + 0.9 * following - value
    )


def test_whitening_reads_real_tokens_alone():
    """1, 2, 3: mean 2, unbiased deviation 1."""
    mask = torch.tensor([[True, True], [True, False]])
    found = whitened(f64([[1, 2], [3, 1000]]), mask)
    torch.testing.assert_close(found, f64([[-1, 0], [1, 0]]))
    assert whitened(f64([[5, 5]]), torch.tensor([[True, True]])).tolist() == [[0, 0]]
    assert whitened(f64([[5]]), torch.tensor([[True]])).tolist() == [[0]]


def test_controller_by_hand():
    """KL 9 at target 6: error 0.5, cut to 0.2; 100 rollouts of 1,000: * 1.02."""
    assert controlled_coef(0.2, 9, target=6, rollouts=100, horizon=1000) == pytest.approx(0.204)
    assert controlled_coef(0.2, 6.6, target=6, rollouts=100, horizon=1000) == pytest.approx(0.202)
    assert controlled_coef(0.2, 0, target=6, rollouts=100, horizon=1000) == pytest.approx(0.196)
    assert controlled_coef(0.2, 6, target=6, rollouts=100, horizon=1000) == 0.2


def test_both_kl_estimators_have_the_kl_as_their_mean():
    p, q = f64([0.5, 0.3, 0.2]), f64([0.2, 0.2, 0.6])
    kl = (p * (p / q).log()).sum()
    for estimator in ("k1", "k3"):
        torch.testing.assert_close((p * kl_of(p.log(), q.log(), estimator)).sum(), kl)
    assert kl_of(f64([-1.0]), f64([-2.0]), "k1").tolist() == [1.0]
    assert kl_of(f64([-1.0]), f64([-2.0]), "k3").item() == pytest.approx(math.exp(-1) - 1 + 1)
    assert (kl_of(p.log(), q.log(), "k3") >= 0).all()


def test_moments_of_batches_are_those_of_all_values():
    batches = [f64([1, 2, 4]), f64([8]), f64([-3, 5])]
    state = CreditState()
    for batch in batches:
        state = seen_so_far(state, batch)
    everything = torch.cat(batches)
    assert state.count == 6
    assert state.mean == pytest.approx(everything.mean().item())
    assert state.squares / 5 == pytest.approx(everything.var().item())


def test_a_score_stands_at_the_last_token():
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert at_last_token_NT(f64([5, 7]), mask).tolist() == [[0, 0, 5], [7, 0, 0]]


def test_clipping_by_hand():
    """Ratio 2: gains nothing beyond 1.2 where the advantage is above 0, but costs in full."""
    log_ratio, advantage = f64([2, 2, 0.5, 0.5]).log(), f64([1, -1, 1, -1])
    found = clipped_surrogate(log_ratio, advantage, low=0.2, high=0.2)
    torch.testing.assert_close(found.loss, f64([-1.2, 2, -0.5, 0.8]))
    assert found.bounded.tolist() == [True, False, False, True]


# --- credit


def test_ppo_credit_by_hand():
    """One response of two tokens, score 3, KL 0.5 and 1 at coefficient 0.1, values 1 and 2.

    Rewards -0.05, 3 - 0.1 = 2.9. lambda 1, gamma 1: advantages 2.85 - 1 and 2.9 - 2.
    """
    given_ = rollouts([[-1.0, -1.0]], [[-1.5, -2.0]], [3.0], value=[[1.0, 2.0]])
    objective = PPO(kl_coef=0.1, lam=1.0, whiten=False)
    credit = objective.credit(given_, objective.start())
    torch.testing.assert_close(credit.advantage_NT, f64([[1.85, 0.9]]))
    torch.testing.assert_close(credit.return_NT, f64([[2.85, 2.9]]))
    assert credit.metrics["objective/kl"].tolist() == [1.5]
    assert credit.metrics["objective/rlhf_reward"].item() == pytest.approx(2.85)
    assert credit.metrics["objective/entropy"].tolist() == [2.0]
    assert credit.state == objective.start()
    white = PPO(kl_coef=0.1, lam=1.0).credit(given_, objective.start())
    torch.testing.assert_close(white.return_NT, credit.return_NT)
    torch.testing.assert_close(
        white.advantage_NT, f64([[0.5**0.5, -(0.5**0.5)]]), rtol=1e-6, atol=1e-6
    )


def test_ppo_does_not_read_padding():
    two = rollouts(
        [[-1.0, -2.0, -1.0], [-3.0]],
        [[-1.0, -1.0, -1.0], [-2.0]],
        [1.0, 2.0],
        value=[[0.5, 0.1, 0.2], [0.3]],
    )
    one = rollouts([[-3.0]], [[-2.0]], [2.0], value=[[0.3]])
    objective = PPO(whiten=False, kl_estimator="k3")
    found = objective.credit(two, objective.start())
    alone = objective.credit(one, objective.start())
    torch.testing.assert_close(found.advantage_NT[1, :1], alone.advantage_NT[0])
    assert found.advantage_NT[1, 1:].tolist() == [0, 0]
    assert found.return_NT[1, 1:].tolist() == [0, 0]


def test_ppos_adaptive_coefficient_goes_on_from_batch_to_batch():
    objective = PPO(kl_coef=0.2, kl_target=1.0, kl_horizon=100)
    far = rollouts([[-1.0], [-1.0]], [[-5.0], [-5.0]], [0.0, 0.0], value=[[0.0], [0.0]])
    first = objective.credit(far, objective.start())
    assert first.state.kl_coef == pytest.approx(0.2 * (1 + 0.2 * 2 / 100))
    assert first.metrics["objective/kl_coef"].item() == 0.2
    second = objective.credit(far, first.state)
    assert second.metrics["objective/kl_coef"].item() == pytest.approx(first.state.kl_coef)


def test_ppos_scores_are_scaled_by_all_scores_so_far_and_clipped():
    """Scores 1, 3 then 5, 7: deviation sqrt(2), then that of 1, 3, 5, 7, sqrt(20 / 3)."""

    def batch(*scores):
        zeros = [[0.0]] * len(scores)
        return rollouts(zeros, zeros, scores, value=zeros)

    objective = PPO(scores="scaled", whiten=False)
    first = objective.credit(batch(1.0, 3.0), objective.start())
    torch.testing.assert_close(first.advantage_NT[:, 0], f64([1, 3]) / 2**0.5)
    second = objective.credit(batch(5.0, 7.0), first.state)
    torch.testing.assert_close(second.advantage_NT[:, 0], f64([5, 7]) / (20 / 3) ** 0.5)
    objective = PPO(scores="normalised", whiten=False, score_clip=0.5)
    found = objective.credit(batch(1.0, 2.0, 3.0), objective.start())
    torch.testing.assert_close(found.advantage_NT[:, 0], f64([-0.5, 0, 0.5]))


def test_rloo_of_two_gives_plus_and_minus_the_difference():
    """R is score - 0.5 * KL: 3 - 0.5 = 2.5 and 1 - 0 = 1."""
    batch = rollouts([[-1.0, -1.0], [-2.0]], [[-1.5, -1.5], [-2.0]], [3.0, 1.0])
    objective = RLOO(kl_coef=0.5)
    credit = objective.credit(batch, objective.start())
    torch.testing.assert_close(credit.advantage_NT, f64([[1.5, 1.5], [-1.5, 0]]))


def test_rloo_compares_within_prompts_whatever_their_number_of_responses():
    zeros = [[0.0]] * 5
    batch = rollouts(zeros, zeros, [1, 2, 6, 0, 10], group=[0, 0, 0, 1, 1])
    objective = RLOO()
    credit = objective.credit(batch, objective.start())
    torch.testing.assert_close(credit.advantage_NT[:, 0], f64([1 - 4, 2 - 3.5, 6 - 1.5, -10, 10]))
    normal = RLOO(normalise=True).credit(batch, objective.start()).advantage_NT[:, 0]
    assert normal.mean().item() == pytest.approx(0, abs=1e-12)
    assert normal.std().item() == pytest.approx(1, rel=1e-3)


def test_reinforce_baselines():
    zeros = [[0.0]] * 3
    batch = rollouts(zeros, zeros, [1, 2, 6], group=[0, 1, 2])

    def advantages(baseline, state=None):
        objective = Reinforce(baseline=baseline)
        return objective.credit(batch, state or objective.start())

    assert advantages("none").advantage_NT[:, 0].tolist() == [1, 2, 6]
    torch.testing.assert_close(advantages("batch").advantage_NT[:, 0], f64([-3, -1.5, 4.5]))
    first = advantages("moving")
    torch.testing.assert_close(first.advantage_NT, advantages("batch").advantage_NT)
    second = advantages("moving", first.state)
    assert second.advantage_NT[:, 0].tolist() == [-2, -1, 3]
    assert second.state.count == 6


def test_reinforce_by_batch_is_rloo_of_one_prompt():
    zeros = [[0.0, -1.0]] * 4
    batch = rollouts(zeros, [[-0.5, -1.0]] * 4, [1, 2, 6, 3])
    found = [o.credit(batch, o.start()).advantage_NT for o in (Reinforce(), RLOO())]
    torch.testing.assert_close(*found)


def test_grpo_by_hand():
    """Scores 0, 2: mean 1, unbiased deviation sqrt(2). Equal scores: advantage 0."""
    zeros = [[0.0]] * 4
    batch = rollouts(zeros, zeros, [0, 2, 5, 5], group=[0, 0, 1, 1])
    objective = GRPO()
    credit = objective.credit(batch, objective.start())
    unit = 2**0.5 + 1e-4
    torch.testing.assert_close(credit.advantage_NT[:, 0], f64([-1 / unit, 1 / unit, 0, 0]))
    assert credit.metrics["frac_reward_zero_std"].tolist() == [0, 1]
    # Scores 1, 2, 6: deviations -2, -1, 3, variance 14 / 2.
    three = objective.credit(
        rollouts([[0.0]] * 3, [[0.0]] * 3, [1, 2, 6]), objective.start()
    ).advantage_NT[:, 0]
    torch.testing.assert_close(three, f64([-2.0, -1.0, 3.0]) / (7**0.5 + 1e-4))
    raw = GRPO(scale="none").credit(batch, objective.start())
    assert raw.advantage_NT[:, 0].tolist() == [-1, 1, 0, 0]
    whole = GRPO(scale="batch").credit(batch, objective.start())
    torch.testing.assert_close(
        whole.advantage_NT[:, 0], raw.advantage_NT[:, 0] / (f64([0, 2, 5, 5]).std() + 1e-4)
    )


# --- losses


def test_ppo_loss_by_hand():
    """Ratio 1.5 with A 2, clipped at 1.2: -2.4. V 1, R 3, V_old 0, clip 0.5: max(4, 6.25) / 2."""
    objective = PPO(clip=0.2, value_clip=0.5, vf_coef=0.1)
    given_ = ValuedLogps(
        tokens([math.log(1.5)], [0.0], [2.0]),
        f64([1.0]).requires_grad_(),
        f64([0.0]),
        f64([3.0]),
    )
    output = objective(given_)
    assert output.loss_B.tolist() == pytest.approx([-2.4 + 0.1 * 6.25 / 2])
    assert output.metrics["policy/clipfrac"].tolist() == [1]
    assert output.metrics["val/clipfrac"].tolist() == [1]
    assert output.metrics["loss/value"].tolist() == [3.125]
    assert output.metrics["val/error"].tolist() == [4]
    free = PPO(clip=0.2, value_clip=0.0, vf_coef=0.1)(given_)
    assert free.loss_B.tolist() == pytest.approx([-2.4 + 0.1 * 2])


@pytest.mark.parametrize("objective", [Reinforce(), RLOO(), GRPO(), GRPO(mean_over="responses")])
def test_at_the_old_policy_every_gradient_is_that_of_the_score_function(objective):
    """d loss / d log pi(token) = -A / n, n tokens or responses, whatever the clipping."""
    old = [-1.0, -2.0, -0.5]
    given_ = tokens(old, old, [2.0, 2.0, -1.0], sequence=[0, 0, 1], group=[0, 0])
    step_loss(objective(given_)).backward()
    if isinstance(objective, GRPO) and objective.mean_over == "tokens":
        expected = f64([-2, -2, 1]) / 3
    elif isinstance(objective, GRPO):
        expected = f64([-2 / 2, -2 / 2, 1]) / 2
    else:
        expected = f64([-2, -2, 1]) / 2
    torch.testing.assert_close(given_.policy_R.grad, expected)


def test_ppos_gradient_at_the_old_policy_and_values():
    old = [-1.0, -2.0]
    value = f64([1.0, 3.0]).requires_grad_()
    given_ = ValuedLogps(tokens(old, old, [2.0, -1.0]), value, value.detach(), f64([2.0, 2.0]))
    step_loss(PPO(vf_coef=0.5)(given_)).backward()
    torch.testing.assert_close(given_.tokens.policy_R.grad, f64([-2, 1]) / 2)
    torch.testing.assert_close(value.grad, 0.5 * f64([-1, 1]) / 2)


def test_rloos_ratio_is_that_of_the_whole_response():
    """log-ratios 0.1 + 0.2: ratio exp(0.3) = 1.35, clipped at 1.2."""
    given_ = tokens([0.1, 0.2, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 3.0], sequence=[0, 0, 1],
                    group=[0, 1])  # fmt: skip
    output = RLOO()(given_)
    assert output.loss_B.tolist() == pytest.approx([-1.2, -3.0])
    assert output.metrics["policy/clipfrac"].tolist() == [1, 0]


def test_grpos_kl_and_higher_clip():
    """k3 of log pi - log ref = 1 is exp(-1); its weight 0.5."""
    given_ = tokens([math.log(1.25)], [0.0], [1.0], reference=[math.log(1.25) - 1])
    kl = 0.5 * math.exp(-1)
    assert GRPO(kl_coef=0.5)(given_).loss_B.tolist() == pytest.approx([-1.2 + kl])
    assert GRPO(clip_high=0.28, kl_coef=0.5)(given_).loss_B.tolist() == pytest.approx([-1.25 + kl])


def test_grpo_over_a_constant():
    """Responses of 1 and 3 tokens, advantages 1 and -1, ratio 1: sums -1 and 3, over 4, mean 1/4.

    Means over responses would be -1 and 1, and over tokens 1/2.
    """
    logps = [-1.0, -2.0, -0.4, -3.0]
    given_ = tokens(logps, logps, [1.0, -1.0, -1.0, -1.0], sequence=[0, 1, 1, 1], group=[0, 0])
    found = GRPO(mean_over="constant", divisor=4)(given_)
    assert step_loss(found).item() == pytest.approx(0.25)
    assert step_loss(GRPO(mean_over="responses")(given_)).item() == pytest.approx(0.0)
    assert step_loss(GRPO()(given_)).item() == pytest.approx(0.5)


CONSTANT = GRPO(mean_over="constant", divisor=7)


@pytest.mark.parametrize(
    "objective", [GRPO(), GRPO(mean_over="responses"), CONSTANT, RLOO(), Reinforce()]
)
def test_the_split_into_micro_batches_changes_nothing(objective):
    policy, old = [-1.0, -2.0, -0.4, -3.0], [-1.1, -1.8, -0.5, -3.1]
    advantage = [1.0, 1.0, -2.0, 0.5]
    whole = objective(tokens(policy, old, advantage, sequence=[0, 0, 1, 2], group=[0, 0, 1]))
    first = objective(tokens(policy[:3], old[:3], advantage[:3], sequence=[0, 0, 1], group=[0, 0]))
    last = objective(tokens(policy[3:], old[3:], advantage[3:]))
    total = sum((o.loss_B * o.weight_B).sum() for o in (first, last))
    weight = sum(o.weight_B.sum() for o in (first, last))
    assert step_loss(whole).item() == pytest.approx((total / weight).item())


@pytest.mark.parametrize("objective", [PPO(), Reinforce(), RLOO(), GRPO(kl_coef=0.1), CONSTANT])
def test_gradients_by_finite_differences(objective):
    torch.manual_seed(0)
    old = torch.randn(6, dtype=torch.float64) * 0.1 - 1
    rest = [old, old - 0.2, torch.randn(6, dtype=torch.float64),
            torch.tensor([0, 0, 1, 1, 1, 2]), torch.tensor([0, 0, 1])]  # fmt: skip

    def loss(policy, value):
        given_ = RolloutLogps(policy, *rest)
        if isinstance(objective, PPO):
            given_ = ValuedLogps(given_, value, value.detach() - 0.05, torch.ones_like(value))
        return step_loss(objective(given_))

    policy = (old + 0.03 * torch.randn(6, dtype=torch.float64)).requires_grad_()
    value = torch.randn(6, dtype=torch.float64).requires_grad_(isinstance(objective, PPO))
    assert torch.autograd.gradcheck(loss, (policy, value))


# --- settings


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: PPO(kl_horizon=50), "kl_horizon has no effect without kl_target"),
        (lambda: PPO(kl_coef=0, kl_target=6.0), "no effect with kl_coef=0"),
        (lambda: RLOO(kl_coef=0, kl_estimator="k3"), "no effect with kl_coef=0"),
        (lambda: PPO(kl_coef=-1), "kl_coef: expected 0 or more"),
        (lambda: PPO(kl_target=0.0), "kl_target: expected above 0"),
        (lambda: PPO(lam=1.5), "lam: expected at most 1"),
        (lambda: PPO(clip=0), "clip: expected above 0"),
        (lambda: PPO(value_clip=-1), "value_clip: expected 0 or more"),
        (lambda: PPO(scores="big"), "scores: expected raw"),
        (lambda: Reinforce(baseline="best"), "baseline: expected batch"),
        (lambda: RLOO(clip=0), "clip: expected above 0"),
        (lambda: GRPO(scale="all"), "scale: expected group"),
        (lambda: GRPO(mean_over="words"), "mean_over: expected tokens"),
        (lambda: GRPO(clip_high=-0.1), "clip_high: expected above 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, line):
    with pytest.raises(BadInput, match=line):
        make()


@pytest.mark.parametrize("make", [PPO, RLOO, Reinforce], ids=lambda c: c.__name__)
def test_the_target_is_of_a_responses_kl_not_a_tokens(make):
    """KLs of 3 and 5 nats over 3 and 1 tokens: 4 a response, 2 a token; target 2.

    The coefficient grows by clip(4 / 2 - 1) = 0.2 times 2 rollouts of a horizon of 10.
    """
    objective = make(kl_coef=0.5, kl_target=2.0, kl_horizon=10)
    batch = rollouts(
        [[-1.0, -1.0, -1.0], [-1.0]], [[-2.0, -2.0, -2.0], [-6.0]], [1.0, 2.0],
        value=[[0.0] * 3, [0.0]],
    )  # fmt: skip
    after = objective.credit(batch, objective.start()).state
    assert after.kl_coef == pytest.approx(0.5 * (1 + 0.2 * 2 / 10))
    # 0.9 above a target of 4 * (1 / 1.1): the error is 0.1, within the bound.
    near = make(kl_coef=0.5, kl_target=4 / 1.1, kl_horizon=10)
    assert near.credit(batch, near.start()).state.kl_coef == pytest.approx(0.5 * (1 + 0.1 * 0.2))


def test_metrics_of_a_batch_are_a_response_each():
    batch = rollouts([[-1.0, -3.0], [-2.0]], [[-2.0, -3.5], [-4.0]], [1.0, 2.0])
    metrics = RLOO(kl_coef=0.1).credit(batch, CreditState(kl_coef=0.1)).metrics
    assert metrics["objective/kl"].tolist() == [1.5, 2.0]
    assert metrics["objective/entropy"].tolist() == [4.0, 2.0]
    assert metrics["objective/rlhf_reward"].tolist() == pytest.approx([0.85, 1.8])
    assert metrics["objective/kl_coef"].tolist() == [0.1]


def test_metrics_of_an_update_by_hand():
    """Ratios 1.5 with advantage 1, 0.5 with -1: both beyond the bound, both decided by it.

    Ratio 1.5 with advantage -1 is beyond it, and not decided by it.
    """
    moves = [math.log(1.5), math.log(0.5), math.log(1.5)]
    given = tokens(moves, [0.0] * 3, [1.0, -1.0, -1.0])
    output = GRPO(clip=0.2, clip_high=0.3)(given)
    metrics = {name: value.tolist() for name, value in output.metrics.items()}
    assert metrics["policy/clipfrac"] == [1.0, 1.0, 0.0]
    assert metrics["policy/approxkl"] == pytest.approx([m**2 / 2 for m in moves])
    assert metrics["val/ratio"] == pytest.approx([1.5, 0.5, 1.5])
    assert metrics["loss/policy"] == pytest.approx([-1.3, 0.8, 1.5])
    assert step_loss(output).item() == pytest.approx((-1.3 + 0.8 + 1.5) / 3)


def test_values_are_measured_where_there_are_tokens():
    batch = rollouts([[-1.0, -1.0], [-1.0]], [[-1.0, -1.0], [-3.0]], [5.0, 1.0],
                     value=[[2.0, 4.0], [9.0]])  # fmt: skip
    metrics = PPO(kl_coef=0.5).credit(batch, CreditState(kl_coef=0.5)).metrics
    assert metrics["val/mean"].tolist() == [2.0, 4.0, 9.0]
    assert metrics["objective/rlhf_reward"].tolist() == [5.0, 1.0 - 0.5 * 2.0]


def test_scores_are_clipped_on_both_sides():
    batch = rollouts([[-1.0]] * 3, [[-1.0]] * 3, [9.0, -9.0, 1.5], value=[[0.0]] * 3)
    made = PPO(kl_coef=0, score_clip=2.0, whiten=False).credit(batch, CreditState())
    assert made.advantage_NT[:, 0].tolist() == [2.0, -2.0, 1.5]


def test_equal_scores_are_counted_by_group():
    batch = rollouts([[-1.0]] * 4, [[-1.0]] * 4, [1.0, 1.0, 0.0, 2.0], group=[0, 0, 1, 1])
    made = GRPO().credit(batch, GRPO().start())
    assert made.metrics["frac_reward_zero_std"].tolist() == [1.0, 0.0]
    # (2 - 1) / (sqrt(2) + 1e-4)
    assert made.advantage_NT[:, 0].tolist() == pytest.approx(
        [0, 0, -1 / (math.sqrt(2) + 1e-4), 1 / (math.sqrt(2) + 1e-4)], abs=1e-9
    )
    batched = GRPO(scale="batch").credit(batch, GRPO().start()).advantage_NT[:, 0]
    deviation = math.sqrt(2 / 3)  # of 1, 1, 0, 2 around 1, by n - 1
    assert batched.tolist() == pytest.approx(
        [0, 0, -1 / (deviation + 1e-4), 1 / (deviation + 1e-4)]
    )
    normed = RLOO(kl_coef=0, normalise=True).credit(batch, CreditState()).advantage_NT[:, 0]
    spread = math.sqrt(8 / 3)  # of 0, 0, -2, 2
    assert normed.tolist() == pytest.approx([0, 0, -2 / (spread + 1e-4), 2 / (spread + 1e-4)])


def test_a_moving_baseline_is_of_the_batches_before():
    batch = rollouts([[-1.0], [-1.0]], [[-1.0], [-1.0]], [3.0, 5.0])
    made = Reinforce(baseline="moving", kl_coef=0).credit(batch, CreditState(count=2, mean=1))
    assert made.advantage_NT[:, 0].tolist() == [2.0, 4.0]
    assert (made.state.count, made.state.mean) == (4, 2.5)


def test_ppo_refuses_rollouts_without_values():
    objective = PPO()
    with pytest.raises(ValueError, match="ppo needs values"):
        objective.credit(rollouts([[-1.0]], [[-1.0]], [1.0]), objective.start())


@pytest.mark.parametrize("make", [RLOO, Reinforce])
def test_the_penalty_is_taken_off_the_score(make):
    """KL sums 1 and 0 at a coefficient of 0.5: 3 - 0.5 and 1."""
    batch = rollouts([[-1.0, -1.0], [-2.0]], [[-1.5, -1.5], [-2.0]], [3.0, 1.0])
    objective = make(kl_coef=0.5)
    found = objective.credit(batch, objective.start())
    assert found.metrics["objective/rlhf_reward"].tolist() == [2.5, 1.0]
    torch.testing.assert_close(found.advantage_NT, f64([[1.5, 1.5], [-1.5, 0]]))


def test_sums_stay_where_the_values_are():
    given_ = tokens([-1.0, -2.0], [-1.0, -2.0], [0.0, 0.0])
    there = replace(given_, sequence_R=given_.sequence_R.to("meta"))
    assert rollout_sums(torch.zeros(2, device="meta"), there).device.type == "meta"


def test_equal_scores_keep_their_sign_when_scaled():
    zeros = [[0.0]] * 2
    batch = rollouts(zeros, zeros, [2.0, 2.0], value=zeros)
    objective = PPO(scores="scaled", whiten=False, score_clip=1.0)
    assert objective.credit(batch, objective.start()).advantage_NT[:, 0].tolist() == [1, 1]


def test_what_learns_from_rollouts():
    found = [is_policy_gradient(o) for o in (PPO(), GRPO, RLOO, Reinforce(), DPO(), DPO, None)]
    assert found == [True, True, True, True, False, False, False]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_equal_scores_that_are_no_binary_fractions_count_as_equal(scale):
    """0.1 + 0.1 + 0.1 over 3 is above 0.1: no spread, no advantage."""
    scores = [0.1, 0.1, 0.1, 0.7, 0.7, 0.8]
    batch = rollouts([[-1.0]] * 6, [[-1.0]] * 6, scores, group=[0, 0, 0, 1, 1, 1])
    made = GRPO(scale=scale).credit(batch, GRPO().start())
    assert made.metrics["frac_reward_zero_std"].tolist() == [1.0, 0.0]
    assert made.advantage_NT[:3, 0].tolist() == [0.0, 0.0, 0.0]
    assert made.advantage_NT[5, 0] > 0
