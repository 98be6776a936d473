"""Importance weights and differences of log-probabilities, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from alignlab.models.packed import TokenGroup
from alignlab.training.importance import difference, drawn_R, weighted
from alignlab.training.rollout_records import RolloutRecord, TokenScores


def logs(*values: float) -> tuple[float, ...]:
    return tuple(map(math.log, values))


GROUP = TokenGroup(
    "p", (1, 2), ((3, 4), (5,)), (1.0, 0.0), drawn_logps=(logs(0.25, 0.4), logs(0.1))
)
POLICY = TokenScores(torch.tensor(logs(0.5, 0.2, 0.9), dtype=torch.float64), None)
"""Ratios 2 and 0.5 of the first response, 9 of the second."""


def record() -> RolloutRecord:
    one_R = torch.ones(3, dtype=torch.float64)
    return RolloutRecord(one_R, one_R, torch.tensor([3.0, -1.0, 5.0], dtype=torch.float64))


def test_tokens_are_weighted_by_their_own_ratios_up_to_the_cap() -> None:
    found = weighted([GROUP], [POLICY], [record()], cap=1.5, by_response=False)
    assert found.records[0].advantage_R.tolist() == pytest.approx([4.5, -0.5, 7.5])
    assert found.weight.tolist() == pytest.approx([1.5, 0.5, 1.5])
    assert found.truncated.tolist() == [True, False, True]


def test_a_response_is_weighted_by_the_product_of_its_tokens() -> None:
    found = weighted([GROUP], [POLICY], [record()], cap=4.0, by_response=True)
    assert found.weight.tolist() == pytest.approx([1.0, 4.0])  # 2 * 0.5, and 9 cut to 4
    assert found.records[0].advantage_R.tolist() == pytest.approx([3.0, -1.0, 20.0])
    assert found.truncated.tolist() == [False, True]


def test_equal_probabilities_weigh_one() -> None:
    same = TokenScores(drawn_R(GROUP), None)
    for by_response in (False, True):
        found = weighted([GROUP], [same], [record()], cap=2.0, by_response=by_response)
        assert torch.equal(found.records[0].advantage_R, record().advantage_R)
        assert not found.truncated.any()


def test_the_difference_is_absolute_and_of_all_tokens() -> None:
    found = difference(
        [torch.tensor([-1.0, -2.0]), torch.tensor([-3.0])],
        [torch.tensor([-1.5, -1.0]), torch.tensor([-3.0])],
    )
    assert (found.mean, found.largest, found.tokens) == (pytest.approx(0.5), 1.0, 3)
