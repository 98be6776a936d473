"""Policies against their divergence: averages by step, a panel for truth and one for reward."""

import pytest

from alignlab.report import overoptimization_plot
from alignlab.types import Drift


def steps(model, seed, *truths):
    return [
        Drift(model, i + 1, float(i), 10.0 * i, truth, 8, seed) for i, truth in enumerate(truths)
    ]


def test_seeds_and_neighbours_are_averaged():
    found = overoptimization_plot.averaged(
        steps("ppo", 0, 1.0, 2.0, 3.0, 4.0) + steps("ppo", 1, 3.0, 4.0, 5.0, 6.0),
        lambda d: d.truth,
    )
    assert [(p.x, p.y) for p in found] == [(1.0, 3.0), (3.0, 5.0)]
    assert found[0].title == "steps 1 to 3: KL 1.00, 3.00"


def test_an_unknown_truth_has_no_panel():
    panels = overoptimization_plot.panels(steps("rloo", 0, None, None) + steps("ppo", 0, 1.0, 2.0))
    assert [p.title for p in panels] == ["rloo: reward", "ppo: true score", "ppo: reward"]
    assert all(len(p.lines) == 1 for p in panels)


def test_seeds_are_said():
    panels = overoptimization_plot.panels(steps("ppo", 0, 1.0) + steps("ppo", 1, 2.0))
    assert panels[0].note == "mean of 2 seeds"
    assert overoptimization_plot.panels([]) == ()


def test_steps_without_a_reward_are_left_out():
    some = [Drift("ppo", 1, 0.0, None, 1.0, 0), Drift("ppo", 2, 1.0, 4.0, 1.0, 8)]
    (point,) = overoptimization_plot.averaged(some, lambda d: d.reward)
    assert (point.x, point.y) == pytest.approx((1.0, 4.0))
