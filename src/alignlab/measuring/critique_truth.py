"""Measure critiques by the faults that a response truly has (MultiCritique, arXiv 2410.15287).

A unit is right if the truth names the same place and kind. Precision is the share of named units
that are right, recall the share of true units that are named, F1 their harmonic mean, all pooled
over responses; F1 by response is 1 where neither names a fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignlab.context import RunContext
from alignlab.feedback.critique_units import Unit
from alignlab.measuring.measure import PerPromptMetric
from alignlab.runs import slug
from alignlab.types import Feedback, Response, Score

BENCHMARK = "critique"
BY_RESPONSE = "f1_by_response"


def f1(named: Sequence[Unit], true: Sequence[Unit]) -> float:
    """Return the F1 of the named faults of one response; 1 where there is none on either side."""
    own, wanted = {unit.key for unit in named}, {unit.key for unit in true}
    return 2 * len(own & wanted) / (len(own) + len(wanted)) if own or wanted else 1.0


def unit_figures(
    model: str,
    responses: Sequence[Response],
    named: Mapping[str, Sequence[Unit]],
    true: Mapping[str, Sequence[Unit]],
) -> tuple[PerPromptMetric, ...]:
    """Compute a critic's precision, recall, F1, and its accuracy in telling faulty responses.

    Values are by unit, so that their means are pooled figures: a right named unit and a true unit
    that was named are both hits, F1 is the share of hits among all named and all true units.

    Args:
        model: the critic.
        responses: the criticised responses, one per prompt.
        named: response id -> the faults that it names; absent where no critique could be read.
        true: response id -> the faults that there are; responses without are left out.
    """
    known = [r for r in responses if r.id in true]
    read = [r for r in known if r.id in named]
    precise: list[tuple[str, float]] = []
    recalled: list[tuple[str, float]] = []
    told: list[tuple[str, float]] = []
    for r in read:
        own, wanted = ({u.key for u in side[r.id]} for side in (named, true))
        precise += [(r.prompt_id, float(key in wanted)) for key in sorted(own)]
        recalled += [(r.prompt_id, float(key in own)) for key in sorted(wanted)]
        told.append((r.prompt_id, float(bool(own) == bool(wanted))))
    figures = {
        "precision": precise,
        "recall": recalled,
        "f1": precise + recalled,
        "faulty_or_not": told,
    }
    return tuple(
        PerPromptMetric(
            model, BENCHMARK, metric, tuple(p for p, _ in found), tuple(v for _, v in found),
            unscored=len(known) - len(read),
        )
        for metric, found in figures.items()
    )  # fmt: skip


def f1_feedback(
    context: RunContext,
    model: str,
    responses: Sequence[Response],
    named: Mapping[str, Sequence[Unit]],
    true: Mapping[str, Sequence[Unit]],
) -> list[Feedback]:
    """Write each response's F1 as a score, in the stage "faults-MODEL", and return the scores."""
    with context.run.stage(f"faults-{slug(model)}", inputs={"model": model}) as stage:
        found = [
            Feedback(r.prompt_id, (r.id,), "critique truth", Score(value, (value,)))
            for r in responses
            if r.id in named and r.id in true
            for value in (f1(named[r.id], true[r.id]),)
        ]
        return stage.write("feedback", Feedback, found)
