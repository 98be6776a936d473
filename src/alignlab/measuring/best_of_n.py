"""Estimate the quality of the best of n responses, and its KL divergence from one response.

The quality of the best of n responses is estimated from N >= n of them without drawing: the rank of
a response gives the probability that it is the best of a random subset of n (arXiv 2112.09332,
appendix I). The best of n is at most log n - (n - 1) / n nats of KL divergence away from the
distribution that it is drawn from (arXiv 2009.01325, appendix G.3; a bound where rewards tie: arXiv
2401.01879).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

from alignlab.errors import BadInput
from alignlab.measuring.measure import PerPromptMetric
from alignlab.stages.judge import scores
from alignlab.types import Feedback

BENCHMARK = "best_of_n"


def expected_best(rewards: Sequence[float], values: Sequence[float], n: int) -> float:
    """Return the expected value of the response with the highest reward among n of N.

    Args:
        rewards: one per response; the best one is chosen by it.
        values: one per response, averaged over the chosen ones; equal rewards share their mean
            value.
        n: size of the subsets, at most N.

    Raises:
        BadInput: n is not between 1 and the number of responses.
    """
    if not 1 <= n <= len(rewards):
        raise BadInput(f"best of n: expected n from 1 to {len(rewards)}, found {n}")
    ordered = sorted(zip(rewards, values, strict=True), key=lambda pair: pair[0])
    every, total, upto = math.comb(len(ordered), n), 0.0, 0
    for _, tied in groupby(ordered, key=lambda pair: pair[0]):
        level = [value for _, value in tied]
        below, upto = upto, upto + len(level)
        subsets = math.comb(upto, n) - math.comb(below, n)
        total += subsets / every * math.fsum(level) / len(level)
    return total


def best_of_kl(n: int) -> float:
    """Return an upper bound, in nats, on the KL divergence of the best of n responses from one."""
    return math.log(n) - (n - 1) / n


def best_of_values(
    feedback: Sequence[Feedback], gold: Sequence[Feedback]
) -> tuple[PerPromptMetric, ...]:
    """Compute the gold score of the best of n by a feedback source, n from 1 to all per prompt.

    Prompts with fewer scored responses than the largest number that half of them have are left
    out and counted as unscored.
    """
    rewards, true = scores(feedback), scores(gold)
    known: dict[str, list[str]] = defaultdict(list)
    for said in feedback:
        response = said.response_ids[0]
        if response in rewards and response in true:
            known[said.prompt_id].append(response)
    if not known:
        return ()
    most = sorted(map(len, known.values()))[len(known) // 2]
    full = {prompt: several for prompt, several in known.items() if len(several) >= most}
    prompts = len({said.prompt_id for said in feedback})
    found: list[PerPromptMetric] = []
    for n in range(1, most + 1):
        values = tuple(
            expected_best([rewards[r] for r in several], [true[r] for r in several], n)
            for several in full.values()
        )
        name, ids, lost = f"best of {n}", tuple(full), prompts - len(full)
        found += [
            PerPromptMetric(name, BENCHMARK, "true score", ids, values, unscored=lost),
            PerPromptMetric(
                name, BENCHMARK, "kl_bound", ids, (best_of_kl(n),) * len(full), unscored=lost
            ),
        ]
    return tuple(found)
