"""Rewards inside responses in training: placed on tokens, penalties, resuming, refusals."""

from __future__ import annotations

import pytest
import torch

from alignlab.errors import RunFailed
from alignlab.objectives.grpo import GRPO
from alignlab.objectives.ppo import PPO
from alignlab.objectives.reinforce import Reinforce
from alignlab.objectives.rloo import RLOO
from alignlab.training.environment import Sample, SampledGroup, TokenReward
from alignlab.training.step_rewards import place_steps, rewarded_group, total
from tests.training.test_rollouts import (
    PROMPTS,
    QUICK,
    Killed,
    go,
    lines_of,
    parity,
    weights_of,
)


def decode(tokens):
    """Tokens as texts of two characters; 0 ends the turn, 9 is half a character."""
    return "".join("" if t == 0 else "?" if t == 9 else f"{t}." for t in tokens)


def group(*samples):
    return SampledGroup(PROMPTS[0], (1, 2), samples)


def test_parts_are_placed_on_the_tokens_that_end_them():
    """ "1.2.3." of tokens 1, 2, 3 and the end: the last part is rewarded at the end token."""
    found = place_steps(decode, (1, 2, 3, 0), "1.2.3.", [(2, 0.5), (4, -0.5), (6, 1.0)])
    assert found == (TokenReward(0, 0.5), TokenReward(1, -0.5), TokenReward(3, 1.0))


def test_a_part_that_ends_within_a_token_is_placed_on_it():
    found = place_steps(decode, (1, 2, 0), "1.2.", [(1, 0.25), (2, 0.5), (4, 1.0)])
    assert found == (TokenReward(0, 0.75), TokenReward(2, 1.0))


def test_reasoning_before_the_answer_moves_the_parts():
    found = place_steps(decode, (7, 8, 1, 2, 0), "1.2.", [(2, 0.5), (4, 1.0)])
    assert found == (TokenReward(2, 0.5), TokenReward(4, 1.0))
    assert place_steps(decode, (7, 8, 0), "1.2.", [(2, 0.5)]) is None


def test_a_response_that_was_cut_off_pays_at_its_last_token():
    samples = (Sample("1.2.", (1, 2), False), Sample("1.", (1, 0), True))
    rewards = [(TokenReward(0, 0.5), TokenReward(1, 1.0)), (TokenReward(0, 0.25),)]
    found = rewarded_group(group(*samples), rewards, 2.0)
    assert found is not None
    assert found.rewards == (((0, 0.5), (1, -1.0)), ((0, 0.25),))
    assert found.scores == (-0.5, 0.25)
    free = rewarded_group(group(*samples), rewards, 0.0)
    assert free is not None
    assert free.rewards == (((0, 0.5), (1, 1.0)), ((0, 0.25),))
    early = rewarded_group(group(samples[0]), [(TokenReward(0, 0.5),)], 2.0)
    assert early is not None
    assert early.rewards == (((0, 0.5), (1, -2.0)),)


def test_scores_and_rewards_of_one_prompt_go_together():
    samples = (Sample("1.2.", (1, 2), True), Sample("1.", (1, 0), True), Sample("3.", (3, 0), True))
    found = rewarded_group(group(*samples), [4.0, (TokenReward(0, 1.0),), None], 0.0)
    assert found is not None
    assert found.rewards == (((1, 4.0),), ((0, 1.0),))
    assert found.responses == ((1, 2), (1, 0))
    assert rewarded_group(group(*samples), [None] * 3, 0.0) is None
    plain = rewarded_group(group(samples[0]), [4.0], 0.0)
    assert plain is not None
    assert plain.rewards == ()


@pytest.mark.parametrize(
    "rewards",
    [(), (TokenReward(2, 1.0),), (TokenReward(-1, 1.0),),
     (TokenReward(1, 1.0), TokenReward(0, 1.0)), (TokenReward(1, 1.0), TokenReward(1, 1.0)),
     (TokenReward(0, float("nan")),)],
)  # fmt: skip
def test_rewards_of_no_token_are_refused(rewards):
    with pytest.raises(RunFailed, match="prompt p0: expected"):
        rewarded_group(group(Sample("1.2.", (1, 2), True)), [rewards], 0.0)


def at_last(groups, seed):
    """The reward of the other tests, at the last token of each response."""
    scores = parity(groups, seed)
    return [
        tuple(
            (TokenReward(len(s.tokens) - 1, score),)
            for s, score in zip(one.samples, found, strict=True)
        )
        for one, found in zip(groups, scores, strict=True)
    ]


def by_token(groups, seed):
    """A reward of every token; the last one's is 0."""
    return [
        tuple(
            tuple(
                TokenReward(k, float(t % 5) if k + 1 < len(s.tokens) else 0.0)
                for k, t in enumerate(s.tokens)
            )
            for s in one.samples
        )
        for one in groups
    ]


OBJECTIVES = [PPO(), RLOO(), GRPO(), Reinforce()]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_a_reward_of_the_last_token_alone_trains_as_a_score(objective, tmp_path):
    plain = go(objective, QUICK, tmp_path / "plain")
    inside = go(objective, QUICK, tmp_path / "inside", reward=at_last)
    one, two = weights_of(plain), weights_of(inside)
    assert all(torch.equal(one[key], two[key]) for key in one)
    lines = [
        {k: v for k, v in line.items() if k != "completions/steps"}
        for line in lines_of(tmp_path / "inside")
    ]
    assert lines == lines_of(tmp_path / "plain")


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_rewards_inside_train_otherwise_and_resume(objective, tmp_path):
    def killed(means, step, total):
        if step == 3:
            raise Killed

    whole = go(objective, QUICK, tmp_path / "whole", reward=by_token)
    summed = go(
        objective, QUICK, tmp_path / "summed",
        reward=lambda groups, seed: [tuple(map(total, r)) for r in by_token(groups, seed)],
    )  # fmt: skip
    one, other = weights_of(whole), weights_of(summed)
    assert any(not torch.equal(one[key], other[key]) for key in one)
    first, alike = (lines_of(tmp_path / name)[0] for name in ("whole", "summed"))
    assert first["objective/scores"] == alike["objective/scores"]
    assert first["completions/steps"] == pytest.approx(first["completions/mean_length"])
    with pytest.raises(Killed):
        go(objective, QUICK, tmp_path / "again", reward=by_token, on_step=killed)
    resumed = go(objective, QUICK, tmp_path / "again", reward=by_token)
    two = weights_of(resumed)
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert lines_of(tmp_path / "again") == lines_of(tmp_path / "whole")
