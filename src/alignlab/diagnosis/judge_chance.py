"""Measure whether a judge agrees with labels above chance, on a sample of pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from alignlab import seeds
from alignlab.evaluation.metrics.intervals import wilson
from alignlab.finding import Finding, judged
from alignlab.protocols import FeedbackSource
from alignlab.types import PreferenceGroup, Score

CHUNK = 10
FEWEST = 10


def judge_chance(
    name: str,
    judge: FeedbackSource,
    pairs: Sequence[PreferenceGroup],
    *,
    most: int = 50,
    seed: int = 0,
    seconds: float = 120.0,
    clock: Callable[[], float] = time.monotonic,
) -> Finding:
    """Diagnose a judge by its agreement with the labels of pairs.

    Args:
        name: name of the judge in the finding.
        judge: source of scores; an equal score is half an agreement, an unread one left out.
        pairs: pairs of different scores, best first.
        most: number of pairs, drawn by the seed.
        seconds: time after which no further pairs are judged.
        clock: monotonic time in seconds.
    """
    about = f"judge {name}"
    drawn = sorted(pairs, key=lambda p: seeds.derive(seed, "judge check", p.prompt.id))[:most]
    if len(drawn) < FEWEST:
        few = f"{len(drawn)} labelled pairs are too few for a figure (at least {FEWEST})"
        return Finding(about, "skipped", few)
    agreed, scored, unread, began = 0.0, 0, 0, clock()
    longer = 0
    for start in range(0, len(drawn), CHUNK):
        some = drawn[start : start + CHUNK]
        found = judge.rate([(p.prompt, p.responses) for p in some], seed)
        scores = {f.response_ids[0]: f.verdict for f in found}
        for pair in some:
            better, worse = (scores.get(r.id) for r in pair.responses)
            if not isinstance(better, Score) or not isinstance(worse, Score):
                unread += 1
                continue
            scored += 1
            agreed += (better.value > worse.value) + 0.5 * (better.value == worse.value)
            longer += len(pair.responses[0].text) > len(pair.responses[1].text)
        if clock() - began > seconds:
            break
    if not scored:
        return Finding(about, "warn", f"no verdict on any of {unread} pairs could be read", 0.0)
    share = wilson(agreed, scored)
    assert share.value is not None
    assert share.low is not None
    assert share.high is not None
    near = share.low <= 0.5
    text = (
        f"agrees with {100 * share.value:.0f}% [{100 * share.low:.0f}, {100 * share.high:.0f}] of "
        f"{scored} labelled pairs ({unread} unread; 'the longer wins' {100 * longer / scored:.0f}%)"
        + near
        * ": not told from chance"
    )
    return judged(about, text, share.value, bad=near or unread > scored)
