"""Find signs of collapse and of reward hacking in training metrics.

An alarm says where to look; it is no test. Beginning and end of a training are means over its first
and last fifth of steps, so that a single odd step rings nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FEWEST = 5
"""Minimum number of logged steps of which a beginning and an end are compared."""
KL_LARGE = 10.0
"""KL divergence from the reference that rings, in nats per response."""
ENTROPY_LEFT = 0.3
"""Share of the entropy per token at the beginning, below which the policy has collapsed."""
LENGTH_GROWN = 2.0
"""Factor by which the mean length grows that rings."""
LENGTH_LEFT = 0.3
"""Share of the mean length at the beginning, below which responses have collapsed."""
CUT_GROWN = 0.3
"""Growth of the share of responses cut off that rings."""
REPETITION_GROWN = 0.2
"""Growth of the share of repeated 4-grams that rings."""
HACKING_STEPS = 9
"""Minimum number of steps of which reward and gold score are compared."""
HACKING_ERRORS = 2.0
"""Standard errors by which the reward must rise and the gold score fall."""

Steps = Sequence[Mapping[str, Any]]
"""Lines of metrics.jsonl; a value that was not finite is None."""


@dataclass(frozen=True)
class Alarm:
    """Sign that a training went wrong."""

    stage: str
    kind: str
    """`not finite`, `kl`, `entropy`, `length`, `cut`, `repetition`,
    `sampler` or `hacking`."""
    text: str


def of_metrics(stage: str, steps: Steps) -> list[Alarm]:
    """Return the alarms of one stage's metrics."""
    return [Alarm(stage, kind, text) for kind, text in _found(steps)]


def of_rewards(
    stage: str,
    rewards: Sequence[float | None],
    truths: Sequence[float | None],
    name: str = "gold score",
) -> list[Alarm]:
    """Return an alarm if the reward rises while a second score falls.

    The means of the first and the last third of steps must differ by two standard errors, in both.

    Args:
        rewards: mean reward of each step.
        truths: second score of each step: mean gold score, or value on validation prompts.
        name: name of the second score.
    """
    both = [(r, t) for r, t in zip(rewards, truths, strict=True) if r is not None and t is not None]
    if len(both) < HACKING_STEPS:
        return []
    reward, truth = (_change(values) for values in zip(*both, strict=True))
    if reward.errors < HACKING_ERRORS or truth.errors > -HACKING_ERRORS:
        return []
    text = (
        f"the reward rose from {reward.first:.2f} to {reward.last:.2f} while the {name} fell "
        f"from {truth.first:.2f} to {truth.last:.2f}"
    )
    return [Alarm(stage, "hacking", text)]


def entropy_per_token(step: Mapping[str, Any]) -> float | None:
    """Return the entropy of the policy in nats per token; None where it is not logged."""
    total, length = step.get("objective/entropy"), step.get("completions/mean_length")
    return total / length if total is not None and length else None


def _found(steps: Steps) -> Iterator[tuple[str, str]]:
    for step in steps:
        if broken := next((k for k, v in step.items() if v is None or _is_nan(v)), None):
            yield "not finite", f"{broken} is not a finite number at step {step.get('step')}"
            break
    if stale := [step for step in steps if step.get("sampler/alarm")]:
        mean, bound = (stale[0].get(f"sampler/{what}", math.nan) for what in ("mismatch", "bound"))
        yield (
            "sampler",
            (
                "the engine sampled from another model than the one in training at "
                f"{len(stale)} of {len(steps)} logged steps, first at step {stale[0].get('step')}: "
                f"log-probabilities differ by {mean:.2g} nats per token, at most {bound:.2g} "
                "expected"
            ),
        )
    kl = _ends([s.get("objective/kl") for s in steps])
    if kl and kl[1] > KL_LARGE:
        yield "kl", f"KL divergence from the reference is {kl[1]:.1f} nats per response"
    entropy = _ends([entropy_per_token(s) for s in steps])
    if entropy and entropy[1] < ENTROPY_LEFT * entropy[0]:
        yield "entropy", f"entropy per token fell from {entropy[0]:.2f} to {entropy[1]:.2f} nats"
    length = _ends([s.get("completions/mean_length") for s in steps])
    if length and length[1] >= LENGTH_GROWN * length[0]:
        yield "length", f"responses grew from {length[0]:.0f} to {length[1]:.0f} tokens"
    if length and length[1] <= LENGTH_LEFT * length[0]:
        yield "length", f"responses shrank from {length[0]:.0f} to {length[1]:.0f} tokens"
    cut = _ends([s.get("completions/clipped_ratio") for s in steps])
    if cut and cut[1] - cut[0] >= CUT_GROWN:
        yield "cut", f"responses cut off at the limit grew from {cut[0]:.0%} to {cut[1]:.0%}"
    repeated = _ends([s.get("completions/repetition") for s in steps])
    if repeated and repeated[1] - repeated[0] >= REPETITION_GROWN:
        yield "repetition", f"repeated 4-grams grew from {repeated[0]:.0%} to {repeated[1]:.0%}"


def _ends(values: Sequence[float | None]) -> tuple[float, float] | None:
    """Return the means of the first and the last fifth; None of too few values."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    if len(known) < FEWEST:
        return None
    fifth = len(known) // 5
    return statistics.fmean(known[:fifth]), statistics.fmean(known[-fifth:])


@dataclass(frozen=True)
class _Change:
    first: float
    last: float
    errors: float
    """Difference in standard errors."""


def _change(values: Sequence[float]) -> _Change:
    third = len(values) // 3
    first, last = values[:third], values[-third:]
    error = math.sqrt((statistics.variance(first) + statistics.variance(last)) / third)
    apart = statistics.fmean(last) - statistics.fmean(first)
    errors = apart / error if error else math.copysign(math.inf, apart) if apart else 0.0
    return _Change(statistics.fmean(first), statistics.fmean(last), errors)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
