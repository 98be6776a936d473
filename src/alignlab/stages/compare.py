"""Compare two responses to every prompt with a pair judge, and form pairs of the verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from alignlab.context import RunContext
from alignlab.protocols import PairJudge
from alignlab.run_stage import Stage
from alignlab.stages.judge import collect_feedback
from alignlab.types import (
    Count,
    Feedback,
    Preference,
    PreferenceGroup,
    Prompt,
    Response,
    Unscored,
)


def compare(
    context: RunContext,
    judge: PairJudge,
    items: Sequence[tuple[Prompt, Response, Response]],
    *,
    name: str = "compare",
) -> list[Feedback]:
    """Compare two responses to each prompt, in both orders; one feedback per item."""
    seed = context.seed_for("compare", judge.name)
    with context.run.stage(name, inputs={"by": judge.name}) as stage:
        feedback = compare_items(context, stage, judge, items, seed, f"{judge.name} compares")
        # The replies of a dry run hold no verdict.
        if context.recorder:
            feedback = [replace(f, verdict=Preference(0)) for f in feedback]
        elif not stage.done:
            lost = Counter(f.verdict.reason for f in feedback if isinstance(f.verdict, Unscored))
            read = len(feedback) - lost.total()
            stage.count([Count(stage.name, "verdicts", read, dict(lost))])
        return feedback


def compare_items(
    context: RunContext,
    stage: Stage,
    judge: PairJudge,
    items: Sequence[tuple[Prompt, Response, Response]],
    seed: int,
    title: str,
) -> list[Feedback]:
    """Compare responses and write the verdicts of a stage, `JUDGE_CHUNK` prompts at a time."""
    ask = partial(context.compare, judge, seed=seed)
    return collect_feedback(stage, judge, items, ask, context.title(title))


def pairs_of_verdicts(
    context: RunContext,
    items: Sequence[tuple[Prompt, Response, Response]],
    feedback: Sequence[Feedback],
    *,
    name: str = "pair",
) -> list[PreferenceGroup]:
    """Prefer the winner of each comparison; ties and unread verdicts are dropped and counted."""
    groups: list[PreferenceGroup] = []
    dropped: Counter[str] = Counter()
    with context.run.stage(name) as stage:
        for (prompt, *both), said in zip(items, feedback, strict=True):
            verdict = said.verdict
            if not isinstance(verdict, Preference):
                dropped["no readable verdict"] += 1
            elif verdict.winner is None:
                dropped["a tie"] += 1
            else:
                order = (both[verdict.winner], both[1 - verdict.winner])
                groups.append(PreferenceGroup(prompt, order, (1.0, 0.0), said.source))
        if not stage.done:
            stage.count([Count(stage.name, "groups", len(groups), dict(dropped))])
    return groups
