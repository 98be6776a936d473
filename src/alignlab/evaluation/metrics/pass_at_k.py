"""Success in k attempts: unbiased pass@k, and the vote of a majority."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from alignlab.errors import BadInput


def pass_at_k(attempts: int, right: int, k: int) -> float:
    """Estimate the probability that one of k attempts is right, from n >= k of them.

    1 - C(n - c, k) / C(n, k) for c right ones of n (arXiv 2107.03374, equation 1): unbiased, where
    1 - (1 - c/n)^k is not.

    Raises:
        BadInput: k is not between 1 and n, or more are right than were made.
    """
    if not 1 <= k <= attempts or not 0 <= right <= attempts:
        raise BadInput(
            f"pass@k: expected 1 <= k <= n and right <= n, found k={k}, n={attempts}, right={right}"
        )
    return 1.0 - math.comb(attempts - right, k) / math.comb(attempts, k)


def majority(keys: Sequence[str], values: Sequence[float]) -> float | None:
    """Return the value of the most frequent answer (arXiv 2203.11171); None without answers.

    Answers that are equally frequent share the vote: the mean of their values.

    Args:
        keys: a text per attempt that equal answers share; empty where there is no answer.
        values: 1 for a right attempt, 0 for a wrong one.
    """
    votes = Counter(key for key in keys if key)
    if not votes:
        return None
    most = max(votes.values())
    value = {key: v for key, v in zip(keys, values, strict=True) if key}
    first = [value[key] for key, count in votes.items() if count == most]
    return math.fsum(first) / len(first)
