"""Judge: a feedback source rates every response; what cannot be read stays unscored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from alignlab import progress
from alignlab.protocols import FeedbackSource
from alignlab.stages import meter
from alignlab.stages.lab import Lab, chunks
from alignlab.types import Count, Feedback, Prompt, Response, Score, Unscored

JUDGE_CHUNK = 64
"""Prompts per unit of judging, rated and written together."""


def judge(
    lab: Lab,
    source: FeedbackSource,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    *,
    name: str = "judge",
) -> list[Feedback]:
    """Rate the responses, prompt by prompt; one feedback per response, in prompt order."""
    items = by_prompt(prompts, responses)
    with lab.run.stage(name, inputs={"by": source.name}) as stage:
        file = stage.records("feedback", Feedback)
        todo = [c for c in enumerate(chunks(items, JUDGE_CHUNK)) if str(c[0]) not in file.units]
        if todo:
            with progress.task(lab.title(f"{source.name} judges"), len(items)) as bar:
                bar.advance(len(items) - sum(len(chunk) for _, chunk in todo))
                for number, chunk in todo:
                    before = meter.mark()
                    feedback = source.rate(chunk, lab.seed_for("judge", source.name))
                    file.append(str(number), feedback, meter.since(before))
                    bar.advance(len(chunk))
        if not stage.done:
            stage.count([_count(stage.name, file.read())])
        return file.read()


def by_prompt(
    prompts: Sequence[Prompt], responses: Sequence[Response]
) -> list[tuple[Prompt, list[Response]]]:
    """Each prompt with its responses, prompts without any left out."""
    grouped: dict[str, list[Response]] = {}
    for response in responses:
        grouped.setdefault(response.prompt_id, []).append(response)
    return [(prompt, grouped[prompt.id]) for prompt in prompts if prompt.id in grouped]


def scores(feedback: Sequence[Feedback]) -> Mapping[str, float]:
    """Response id -> score, for what was scored."""
    return {f.response_ids[0]: f.verdict.value for f in feedback if isinstance(f.verdict, Score)}


def _count(stage: str, feedback: Sequence[Feedback]) -> Count:
    reasons = Counter(f.verdict.reason for f in feedback if isinstance(f.verdict, Unscored))
    return Count(stage, "verdicts", len(feedback) - reasons.total(), dict(reasons))
