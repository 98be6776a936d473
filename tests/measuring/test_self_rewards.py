"""Gap of the scores of a self-rewarding round, and consistency of consecutive judges."""

from __future__ import annotations

import pytest

from alignlab.measuring.measure import Judgement
from alignlab.measuring.self_rewards import round_metrics
from alignlab.types import Feedback, Score, Unscored


def judgement(where, **scored):
    """Scores of responses by prompt; None is unscored."""
    feedback = tuple(
        Feedback(prompt, (f"{prompt}{i}",), "judge",
                 Unscored("unreadable") if value is None else Score(value))
        for prompt, values in scored.items()
        for i, value in enumerate(values)
    )  # fmt: skip
    return Judgement("judge", where, (), feedback)


def test_gaps_and_consistency_by_hand():
    first = (
        judgement("own", a=[1.0, 4.0, 2.5], b=[3.0, 3.0], c=[None, 2.0]),
        judgement("held-out", p=[3.0, 2.0, 1.0], q=[2.0, 1.0], r=[1.0, 1.0], s=[2.0, None, 1.0]),
    )
    second = (
        judgement("own", a=[0.5, 1.0]),
        # One of three pairs turned round: tau = 1/3. Turned round: -1. No order: unscored.
        judgement("held-out", p=[3.0, 1.0, 2.0], q=[1.0, 2.0], r=[1.0, 2.0], s=[5.0, 4.0, 3.0]),
    )
    one, two, agreed = round_metrics(["M1", "M2"], (*first, *second))
    assert (one.model, one.metric, one.unscored) == ("M1", "score_gap", 1)
    assert dict(zip(one.prompt_ids, one.values, strict=True)) == {"a": 3.0, "b": 0.0}
    assert (two.model, two.values) == ("M2", (0.5,))
    assert (agreed.model, agreed.against, agreed.unscored) == ("M2", "M1", 1)
    assert agreed.prompt_ids == ("p", "q", "s")
    assert agreed.values == pytest.approx((2 / 3, 0.0, 1.0))


def test_ties_count_by_tau_b():
    before = judgement("held-out", p=[1.0, 1.0, 2.0])
    now = judgement("held-out", p=[1.0, 2.0, 3.0])
    (_, _, agreed) = round_metrics(["M1", "M2"], (judgement("own"), before, judgement("own"), now))
    # Two of three pairs in the same order, one tied on one side: tau-b = 2 / sqrt(2 * 3).
    assert agreed.values == pytest.approx(((2 / 6**0.5 + 1) / 2,))


def test_one_round_has_no_judge_before():
    (gap,) = round_metrics(["M1"], (judgement("own", a=[1.0, 2.0]), judgement("held-out")))
    assert gap.values == (1.0,)
