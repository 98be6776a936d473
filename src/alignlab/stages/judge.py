"""Rate every response with a feedback source; an unreadable verdict stays unscored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from alignlab.at_once import JUDGE_CHUNK as JUDGE_CHUNK
from alignlab.at_once import at_once
from alignlab.context import RunContext
from alignlab.protocols import FeedbackSource, PairJudge
from alignlab.run_stage import Stage
from alignlab.types import Count, Feedback, Prompt, Response, Score, Unscored

T = TypeVar("T")


def judge(
    context: RunContext,
    source: FeedbackSource,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    *,
    name: str = "judge",
) -> list[Feedback]:
    """Rate the responses, prompt by prompt; one feedback per response, in prompt order."""
    items = by_prompt(prompts, responses)
    seed = context.seed_for("judge", source.name)
    with context.run.stage(name, inputs={"by": source.name}) as stage:
        feedback = rate_items(context, stage, source, items, seed, f"{source.name} judges")
        if not stage.done:
            stage.count([_count(stage.name, feedback)])
        return feedback


def rate_items(
    context: RunContext,
    stage: Stage,
    source: FeedbackSource,
    items: Sequence[tuple[Prompt, Sequence[Response]]],
    seed: int,
    title: str,
) -> list[Feedback]:
    """Rate responses and write the feedback of a stage, `JUDGE_CHUNK` prompts at a time."""
    ask = partial(context.rate, source, seed=seed)
    return collect_feedback(stage, source, items, ask, context.title(title))


def collect_feedback(
    stage: Stage,
    judge: FeedbackSource | PairJudge,
    items: Sequence[T],
    ask: Callable[[Sequence[T]], list[Feedback]],
    title: str,
) -> list[Feedback]:
    """Ask about items and write the feedback of a stage, `JUDGE_CHUNK` items at a time.

    Args:
        stage: stage that the feedback belongs to.
        judge: judge that is asked, for the number of chunks that it takes at once.
        items: prompts with the responses to rate or to compare.
        ask: function that asks the judge about some items.
        title: title of the progress bar.
    """
    return stage.map(
        "feedback",
        Feedback,
        items,
        ask,
        chunk=JUDGE_CHUNK,
        title=title,
        at_once=lambda: at_once(judge),
    )


def by_prompt(
    prompts: Sequence[Prompt], responses: Sequence[Response]
) -> list[tuple[Prompt, list[Response]]]:
    """Pair each prompt with its responses, leaving out prompts without any."""
    grouped: dict[str, list[Response]] = {}
    for response in responses:
        grouped.setdefault(response.prompt_id, []).append(response)
    return [(prompt, grouped[prompt.id]) for prompt in prompts if prompt.id in grouped]


def scores(feedback: Sequence[Feedback]) -> Mapping[str, float]:
    """Return response id -> score, for scored responses only."""
    return {f.response_ids[0]: f.verdict.value for f in feedback if isinstance(f.verdict, Score)}


def _count(stage: str, feedback: Sequence[Feedback]) -> Count:
    reasons = Counter(f.verdict.reason for f in feedback if isinstance(f.verdict, Unscored))
    return Count(stage, "verdicts", len(feedback) - reasons.total(), dict(reasons))
