"""pass@k and majority by hand."""

from __future__ import annotations

from itertools import combinations

import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.pass_at_k import majority, pass_at_k


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k(4, 1, 1) == 0.25
    assert pass_at_k(4, 1, 2) == 0.5  # 1 - C(3,2)/C(4,2) = 1 - 3/6
    assert pass_at_k(4, 2, 2) == pytest.approx(5 / 6)
    assert (pass_at_k(4, 0, 4), pass_at_k(4, 1, 4), pass_at_k(4, 3, 2)) == (0, 1, 1)


def test_pass_at_k_is_the_share_of_subsets_with_a_right_attempt() -> None:
    right = [1, 0, 0, 1, 0, 0]
    for k in range(1, 7):
        subsets = list(combinations(right, k))
        assert pass_at_k(6, 2, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 0), (4, 1, 5), (4, 5, 1), (4, -1, 1)])
def test_impossible_counts_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(BadInput, match="pass@k"):
        pass_at_k(n, c, k)


def test_majority() -> None:
    assert majority(["7", "8", "7"], [1, 0, 1]) == 1
    assert majority(["8", "8", "7", ""], [0, 0, 1, 0]) == 0
    assert majority(["7", "8"], [1, 0]) == 0.5  # a tied vote is shared
    assert majority(["", "", "7"], [0, 0, 1]) == 1  # no answer is no vote
    assert majority(["", ""], [0, 0]) is None
