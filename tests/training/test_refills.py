"""Dynamic sampling: prompts of equal scores are replaced, counted, and the run resumes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from alignlab.errors import BadInput
from alignlab.objectives.grpo import GRPO
from alignlab.objectives.ppo import PPO
from alignlab.objectives.reinforce import Reinforce
from tests.training.test_rollouts import PROMPTS, QUICK, Killed, go, lines_of, parity, weights_of

SOLVED = {"p0", "p1", "p2"}
"""Prompts all of whose responses are right."""
ONCE = replace(QUICK, steps=2, batch_size=2, save_every=1)


def verified(groups, seed):
    """Scores that differ on half of the prompts only."""
    return [
        (1.0,) * len(g.samples) if g.prompt.id in SOLVED else (1.0, *(0.0,) * (len(g.samples) - 1))
        for g in groups
    ]


def seen(config, out, reward=verified):
    """The prompts that were drawn, call after call."""
    calls = []

    def noted(groups, seed):
        calls.append([g.prompt.id for g in groups])
        return reward(groups, seed)

    return go(GRPO(), config, out, reward=noted), calls, lines_of(out)


def test_prompts_of_equal_scores_are_replaced(tmp_path):
    result, calls, lines = seen(replace(ONCE, refills=5, steps=0, epochs=1), tmp_path)
    # Each step's own prompts first, then others in place of the equal ones alone.
    assert sum(len(call) == 2 for call in calls) >= 3
    drawn = [prompt for call in calls for prompt in call]
    assert result.rollouts == 3 * len(drawn)
    solved = sum(prompt in SOLVED for prompt in drawn)
    # Every step ends with two prompts that teach: 6 of what was drawn is left.
    assert len(drawn) - solved == 6
    assert result.replaced == 3 * solved
    assert sum(line["objective/replaced"] for line in lines) == solved
    assert all(line["frac_reward_zero_std"] == 0 for line in lines)


def test_without_refills_the_batch_stays_as_drawn(tmp_path):
    result, calls, lines = seen(replace(ONCE, steps=0, epochs=1), tmp_path)
    assert [len(call) for call in calls] == [2, 2, 2]
    assert result.replaced == 0
    assert "objective/replaced" not in lines[0]
    assert sum(line["frac_reward_zero_std"] for line in lines) == pytest.approx(1.5)


def test_a_step_of_equal_scores_alone_changes_nothing(tmp_path):
    def right(groups, seed):
        return [(1.0,) * len(g.samples) for g in groups]

    result, calls, lines = seen(replace(ONCE, refills=2, steps=1), tmp_path, right)
    assert [len(call) for call in calls] == [2, 2, 2]
    assert len({prompt for call in calls for prompt in call}) == 6
    assert (result.replaced, lines[0]["objective/replaced"]) == (0, 0)
    assert lines[0]["grad_norm"] == 0
    # Prompts end before refills do.
    _, calls, _ = seen(replace(ONCE, refills=9, steps=1), tmp_path / "more", right)
    assert sum(map(len, calls)) == len(PROMPTS)


def test_scores_that_differ_need_no_refill(tmp_path):
    config = replace(QUICK, steps=2)
    go(GRPO(), config, tmp_path / "plain")

    def distinct(groups, seed):
        return [tuple(float(i) for i in range(len(g.samples))) for g in groups]

    one = go(GRPO(), config, tmp_path / "one", reward=distinct)
    other = go(GRPO(), replace(config, refills=3), tmp_path / "other", reward=distinct)
    assert all(torch.equal(a, weights_of(other)[name]) for name, a in weights_of(one).items())


def test_a_killed_run_ends_as_one_that_was_not(tmp_path):
    config = replace(QUICK, refills=2, steps=4, batch_size=2, responses=2, save_every=1)
    whole = go(GRPO(), config, tmp_path / "whole", reward=parity)

    def kill(metrics, step, of):
        if step == 2:
            raise Killed

    with pytest.raises(Killed):
        go(GRPO(), config, tmp_path / "killed", reward=parity, on_step=kill)
    resumed = go(GRPO(), config, tmp_path / "killed", reward=parity)
    assert (resumed.rollouts, resumed.replaced) == (whole.rollouts, whole.replaced)
    assert all(torch.equal(a, weights_of(resumed)[name]) for name, a in weights_of(whole).items())


@pytest.mark.parametrize("objective", [PPO(), Reinforce()], ids=lambda o: type(o).__name__)
def test_objectives_that_learn_from_equal_scores_refuse_refills(objective, tmp_path):
    with pytest.raises(BadInput, match=r"refills: .* learns from equal scores too"):
        go(objective, replace(QUICK, refills=1), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_divisor_goes_with_its_reduction():
    assert GRPO(mean_over="constant", divisor=256).divisor == 256
    for wrong in ({"mean_over": "constant"}, {"divisor": 256}):
        with pytest.raises(BadInput, match="grpo: divisor: expected with mean_over=constant"):
            GRPO(**wrong)
