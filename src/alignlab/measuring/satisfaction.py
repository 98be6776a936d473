"""Measure answers by several yes-or-no sources next to a judge's preference (arXiv 2403.08309).

A training can be preferred more and satisfy less: its judge's win rate and the share of answers
that satisfy are measured on the same answers, each with its change from the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignlab.context import RunContext
from alignlab.measuring.changes import changes, values_by_prompt
from alignlab.measuring.measure import PerPromptMetric
from alignlab.runs import slug
from alignlab.stages.compare import compare_items
from alignlab.stages.judge import judge
from alignlab.types import Checkpoint, Feedback, Preference, Prompt, Response


@dataclass(frozen=True)
class Measured:
    """Feedback source of one figure, and the prompts it is measured on."""

    name: str
    source: str
    """Spec of a feedback source; its mean is the figure."""
    prompts: tuple[Prompt, ...]


Answers = Mapping[str, Sequence[Response]]
"""Model -> its answers to the held-out prompts."""


def measured_answers(
    context: RunContext,
    wanted: Sequence[Measured],
    answers: Answers,
    baseline: Checkpoint,
    *,
    preferred: tuple[str, Sequence[Prompt]],
) -> list[PerPromptMetric]:
    """Return every model's figures, their changes from the baseline, and its preference.

    Args:
        baseline: model that changes and preferences are against; `self` in specs.
        preferred: judge whose preference for each model over the baseline is measured, and the
            prompts.
    """
    found: list[PerPromptMetric] = []
    others = [(model, baseline.name) for model in answers if model != baseline.name]
    for one in wanted:
        source = context.judge(one.source, baseline)
        asked = {p.id for p in one.prompts}
        rated = {
            model: judge(
                context, source, one.prompts, [r for r in several if r.prompt_id in asked],
                name=f"{one.name}-{slug(model)}",
            )
            for model, several in answers.items()
        }  # fmt: skip
        values = values_by_prompt(rated)
        found += [
            PerPromptMetric(
                m, one.name, "share", tuple(v), tuple(v.values()), unscored=len(rated[m]) - len(v)
            )
            for m, v in values.items()
        ]
        found += changes(values, others, one.name, "share_change")
    spec, prompts = preferred
    for model, _ in others:
        verdicts = _compared(context, (spec, prompts), (model, answers[model]), answers, baseline)
        won = {f.prompt_id: _share(f.verdict.winner)
               for f in verdicts if isinstance(f.verdict, Preference)}  # fmt: skip
        lost = len(verdicts) - len(won)
        found.append(
            PerPromptMetric(
                model, "ai_preference", "preferred", tuple(won), tuple(won.values()),
                baseline.name, lost,
            )
        )  # fmt: skip
    return found


def _compared(
    context: RunContext,
    by: tuple[str, Sequence[Prompt]],
    own: tuple[str, Sequence[Response]],
    answers: Answers,
    baseline: Checkpoint,
) -> list[Feedback]:
    """Compare a model's answers with the baseline's by a judge of pairs."""
    spec, prompts = by
    source = context.pair_judge(spec, baseline)
    model, several = own
    mine = {r.prompt_id: r for r in several}
    base = {r.prompt_id: r for r in answers[baseline.name]}
    items = [(p, mine[p.id], base[p.id]) for p in prompts if p.id in mine and p.id in base]
    with context.run.stage(f"preferred-{slug(model)}", inputs={"by": source.name}) as stage:
        seed, title = context.seed_for("preferred"), f"{source.name} compares {model}"
        return compare_items(context, stage, source, items, seed, title)


def _share(winner: int | None) -> float:
    """Return 1 for a win of the first response, 0 for a loss, one half for a tie."""
    return 0.5 if winner is None else float(winner == 0)
