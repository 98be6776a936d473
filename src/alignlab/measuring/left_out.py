"""Tell which branches of a study had nothing to train on, and keep them out of pooled figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from alignlab.measuring.measure import StudyMeasurements


def in_every_seed(measured: Sequence[StudyMeasurements]) -> list[StudyMeasurements]:
    """Return the measurements of the models that every seed has.

    A mean over other seeds than its neighbours' would not be comparable.
    """
    everywhere = set.intersection(*({*m.answers} for m in measured))
    found = []
    for m in measured:
        lost = {*m.answers} - everywhere
        found.append(
            replace(
                m,
                answers={name: a for name, a in m.answers.items() if name not in lost},
                scored={name: f for name, f in m.scored.items() if name not in lost},
                comparisons={name: f for name, f in m.comparisons.items() if name not in lost},
                values=tuple(v for v in m.values if not {v.model, v.against} & lost),
            )
            if lost
            else m
        )
    return found


def note(measured: Sequence[StudyMeasurements]) -> str:
    """Return a sentence on the branches that were left out, with the reason; empty without any."""
    seeds = Counter(name for m in measured for name in m.left_out)
    reasons = {
        name: reason.removeprefix(f"{name}: ")
        for m in measured
        for name, reason in m.left_out.items()
    }
    if not seeds:
        return ""
    parts = [
        name + f" in {n} of {len(measured)} seeds" * (len(measured) > 1) + f" ({reasons[name]})"
        for name, n in seeds.items()
    ]
    some = any(n < len(measured) for n in seeds.values())
    pooled = "; what its other seeds gave is not counted" if some else ""
    return f"Left out, as there was nothing to train on: {'; '.join(parts)}{pooled}."
