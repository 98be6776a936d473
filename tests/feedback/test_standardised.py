"""Rewards on a common scale, by hand."""

from __future__ import annotations

import pytest

from alignlab.errors import BadInput
from alignlab.feedback.rules import LengthJudge
from alignlab.feedback.standardised import Standardised
from alignlab.types import Feedback, Score, Unscored
from tests.stages.making import prompt, responses


def test_scores_are_z_scores_of_the_known_ones():
    source = Standardised.on(LengthJudge(), [2.0, 4.0, 6.0, 8.0])  # mean 5, variance 5
    asked = prompt(0)
    found = source.rate([(asked, responses(asked, "a b c d e", "a"))], seed=0)
    values = [f.verdict.value for f in found if isinstance(f.verdict, Score)]
    assert values == pytest.approx([0.0, -4 / 5**0.5])
    assert source.name == "longer, standardised"


def test_what_is_unscored_stays_so():
    class Nothing:
        name = "nothing"

        def rate(self, items, seed):
            return [Feedback("p0", ("a",), self.name, Unscored("too long"))]

    (found,) = Standardised(Nothing(), 1.0, 2.0).rate([], 0)
    assert found.verdict == Unscored("too long")


@pytest.mark.parametrize("known", [[], [3.0], [1.0, 1.0], [0.1] * 3, [0.7] * 6])
def test_equal_scores_have_no_scale(known: list[float]):
    with pytest.raises(BadInput, match="reward longer: expected scores that differ"):
        Standardised.on(LengthJudge(), known)
