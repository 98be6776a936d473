"""Credit of rewards inside responses, by hand; a reward of the last token alone changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from alignlab.objectives.credit import at_last_token_NT, to_go_NT
from alignlab.objectives.grpo import GRPO
from alignlab.objectives.ppo import PPO
from alignlab.objectives.reinforce import Reinforce
from alignlab.objectives.rloo import RLOO
from alignlab.objectives.rollout_batch import RolloutLogps, Rollouts, StepRewards


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def batch(rewards, *, group=None, value=None, kl=0.0):
    """Rollouts with a reward or None at each token; KL of `kl` nats per token."""
    T = max(map(len, rewards))
    rows = [[*row, *[None] * (T - len(row))] for row in rewards]
    mask = torch.tensor([[t < len(row) for t in range(T)] for row in rewards])
    reward = f64([[r or 0.0 for r in row] for row in rows])
    step = torch.tensor([[r is not None for r in row] for row in rows])
    policy = torch.where(mask, -1.0, 77.0).double()
    return Rollouts(
        policy,
        torch.where(mask, policy - kl, 55.0),
        None if value is None else torch.where(mask, f64(value), 33.0),
        mask,
        reward.sum(1),
        torch.tensor(group or [0] * len(rewards)),
        StepRewards(reward, step),
    )


def test_to_go_is_the_sum_from_each_token_on():
    assert to_go_NT(f64([[1, 0, 2], [3, 0, 0]])).tolist() == [[3, 2, 2], [3, 0, 0]]


def test_ppo_by_hand():
    """Rewards 1, 0, 2 less 0.1 a token of KL; lambda 1: to go 2.7, 1.8, 1.9, less values 1, 1, 1.

    With lambda 0: r + V' - V: 0.9 + 1 - 1, -0.1 + 1 - 1, 1.9 - 1.
    """
    given = batch([[1.0, None, 2.0]], value=[[1.0, 1.0, 1.0]], kl=1.0)
    far = PPO(kl_coef=0.1, lam=1.0, whiten=False)
    credit = far.credit(given, far.start())
    torch.testing.assert_close(credit.advantage_NT, f64([[1.7, 0.8, 0.9]]))
    torch.testing.assert_close(credit.return_NT, f64([[2.7, 1.8, 1.9]]))
    assert credit.metrics["objective/rlhf_reward"].item() == pytest.approx(2.7)
    near = PPO(kl_coef=0.1, lam=0.0, whiten=False)
    found = near.credit(given, near.start()).advantage_NT
    torch.testing.assert_close(found, f64([[0.9, -0.1, 0.9]]))


def test_ppo_scales_rewards_by_the_scores_and_centres_once_a_response():
    """Scores 3 and 1: mean 2, std sqrt(2). The mean is taken at the last token; to go 1 and -1."""
    given = batch([[1.0, 2.0], [1.0]], value=[[0.0, 0.0], [0.0, 0.0]])
    objective = PPO(kl_coef=0.0, lam=1.0, whiten=False, scores="normalised")
    found = objective.credit(given, objective.start()).advantage_NT
    torch.testing.assert_close(found, f64([[1, 0], [-1, 0]]) / 2**0.5)
    clipped = PPO(kl_coef=0.0, lam=1.0, whiten=False, score_clip=0.5)
    found = clipped.credit(given, clipped.start()).advantage_NT
    torch.testing.assert_close(found, f64([[1.0, 0.5], [0.5, 0.0]]))


def test_rloo_and_reinforce_by_hand():
    """Totals 3 and 1, KL 0.5 a token at coefficient 1: R 3 - 1.5 and 1 - 0.5; others 0.5 and 1.5.

    To go 3, 2, 2, less 1.5 of KL and 0.5: 1, 0, 0; and 1 - 0.5 - 1.5 = -1.
    """
    given = batch([[1.0, None, 2.0], [1.0]], kl=0.5)
    for objective in (RLOO(kl_coef=1.0), Reinforce(kl_coef=1.0)):
        credit = objective.credit(given, objective.start())
        torch.testing.assert_close(credit.advantage_NT, f64([[1, 0, 0], [-1, 0, 0]]))
        torch.testing.assert_close(credit.metrics["objective/rlhf_reward"], f64([1.5, 0.5]))
    none = Reinforce(kl_coef=0.0, baseline="none")
    found = none.credit(given, none.start()).advantage_NT
    assert found.tolist() == [[3, 2, 2], [1, 0, 0]]


def test_grpo_normalises_over_the_steps_of_the_group():
    """Rewards 0, 1 and 2: mean 1, unbiased std 1. Centred -1, 0 and 1; to go -1, 0, 0 and 1."""
    given = batch([[0.0, None, 1.0], [2.0]])
    objective = GRPO()
    found = objective.credit(given, objective.start()).advantage_NT
    torch.testing.assert_close(found, f64([[-1, 0, 0], [1, 0, 0]]) / (1 + 1e-4))
    raw = GRPO(scale="none").credit(given, objective.start()).advantage_NT
    assert raw.tolist() == [[-1, 0, 0], [1, 0, 0]]
    whole = GRPO(scale="batch").credit(given, objective.start()).advantage_NT
    torch.testing.assert_close(whole, raw / (1 + 1e-4))


def test_grpo_tells_a_step_without_reward_from_no_step():
    """Rewards 0, 0 and 3 are three steps, of mean 1; without the first, two of mean 1.5."""
    objective = GRPO(scale="none")
    three = objective.credit(batch([[0.0, 0.0], [3.0]]), objective.start()).advantage_NT
    assert three.tolist() == [[-2, -1], [2, 0]]
    two = objective.credit(batch([[None, 0.0], [3.0]]), objective.start()).advantage_NT
    assert two.tolist() == [[-1.5, -1.5], [1.5, 0]]


OBJECTIVES = [
    PPO(kl_coef=0.05), PPO(scores="normalised", score_clip=1.0), PPO(scores="scaled", whiten=False),
    Reinforce(), Reinforce(baseline="none"), Reinforce(baseline="moving"), RLOO(),
    RLOO(normalise=True), GRPO(), GRPO(scale="batch"), GRPO(scale="none"),
]  # fmt: skip


def earlier(objective, rollouts, state):
    """The rules for scores of whole responses, as they were before rewards inside them."""
    score, mask, group = rollouts.score_N, rollouts.mask_NT, rollouts.group_N
    groups = [group == g for g in range(int(group[-1]) + 1)]
    if isinstance(objective, GRPO):
        sums = torch.stack([score.new_zeros(1).index_add(0, group[m] * 0, score[m])[0]
                            for m in groups])  # fmt: skip
        count = torch.stack([m.sum().double() for m in groups])
        advantage = score - (sums / count)[group]
        variance = score.new_zeros(len(groups)).index_add(0, group, advantage**2) / (count - 1)
        unit = {
            "none": torch.ones_like(score),
            "batch": (score.std() + 1e-4).expand_as(score),
            "group": (variance.sqrt() + 1e-4)[group],
        }[objective.scale]
        return torch.where(mask, (advantage / unit)[:, None], 0.0)
    reward = score - objective.penalty_NT(rollouts, state).sum(1)
    if isinstance(objective, RLOO):
        totals = reward.new_zeros(len(groups)).index_add(0, group, reward)
        siblings = torch.stack([m.sum() for m in groups])[group].double() - 1
        advantage = reward - (totals[group] - reward) / siblings
        if objective.normalise:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-4)
    elif objective.baseline == "none":
        advantage = reward
    else:
        advantage = reward - (reward.sum() - reward) / max(1, len(reward) - 1)
    return torch.where(mask, advantage[:, None], 0.0)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_a_reward_of_the_last_token_alone_is_the_score_bit_for_bit(objective):
    torch.manual_seed(1)
    lengths = [5, 1, 7, 3, 4, 2]
    mask = torch.arange(7) < torch.tensor(lengths)[:, None]
    policy, other, value = (torch.where(mask, torch.randn(6, 7).double(), 9.0) for _ in range(3))
    score = torch.randn(6, dtype=torch.float64) * 3
    plain = Rollouts(policy, other, value, mask, score, torch.tensor([0, 0, 0, 1, 1, 1]))
    last = at_last_token_NT(torch.ones_like(score), mask).bool()
    inside = replace(plain, steps=StepRewards(at_last_token_NT(score, mask), last))
    state = objective.start()
    for _ in range(2):  # the second from a state with a mean
        one, two = objective.credit(plain, state), objective.credit(inside, state)
        assert torch.equal(one.advantage_NT, two.advantage_NT)
        assert one.return_NT is None or torch.equal(one.return_NT, two.return_NT)
        assert one.state == two.state
        assert one.metrics.keys() == two.metrics.keys()
        assert all(torch.equal(one.metrics[key], two.metrics[key]) for key in one.metrics)
        if not isinstance(objective, PPO) and state == objective.start():
            assert torch.equal(one.advantage_NT, earlier(objective, plain, state))
        state = one.state


def rloo_loss(policy, old, advantage, sequence, groups):
    given = RolloutLogps(
        f64(policy).requires_grad_(), f64(old), f64(old), f64(advantage), torch.tensor(sequence),
        torch.tensor(groups),
    )  # fmt: skip
    return given, RLOO()(given)


def test_rloo_clips_by_token_where_the_advantage_changes():
    """Ratios 1.5 (clipped 1.2) with A 1, and 1 with A -1: -1.2 + 1; the other response by both
    ratios together, 1.1 * 1.2 = 1.32, clipped 1.2, A 2: -2.4."""
    policy = [math.log(1.5), 0.0, math.log(1.1), math.log(1.2)]
    _, output = rloo_loss(policy, [0.0] * 4, [1.0, -1.0, 2.0, 2.0], [0, 0, 1, 1], [0, 1])
    assert output.loss_B.tolist() == pytest.approx([-0.2, -2.4])
    assert output.metrics["policy/clipfrac"].tolist() == [0.5, 1.0]


def test_rloos_gradient_at_the_old_policy_is_each_tokens_advantage():
    old = [-1.0, -2.0, -3.0]
    given, output = rloo_loss(old, old, [3.0, 1.0, -2.0], [0, 0, 1], [0, 0])
    (output.loss_B * output.weight_B).sum().div(output.weight_B.sum()).backward()
    torch.testing.assert_close(given.policy_R.grad, f64([-3, -1, 2]) / 2)
