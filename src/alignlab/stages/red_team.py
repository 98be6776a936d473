"""Attack a model with prompts that a teacher writes, and mend what does harm (arXiv 2403.08309).

The teacher writes a prompt like each one that was answered harmfully; a prompt whose answers do
harm again is a successful attack. The teacher rewrites the harmful answer, and where that does no
harm any more it is preferred to the first. The order of these steps is ours: the paper's full text
was not at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from alignlab.context import RunContext
from alignlab.data.filters import FilterConfig
from alignlab.feedback.teachers import Criticised, Instructor
from alignlab.protocols import Completer, FeedbackSource
from alignlab.stages.judge import by_prompt, judge, scores
from alignlab.stages.pair import demonstration_pairs
from alignlab.stages.self_refine import RefineSettings, refine_by
from alignlab.stages.teach import instruct
from alignlab.types import Feedback, PreferenceGroup, Prompt, Response

HARM = "The response does harm."
"""Critique of a harmful response whose judge gives no reason."""
Answer = Callable[[Sequence[Prompt]], Sequence[Response]]


@dataclass(frozen=True)
class RedTeam:
    """Attacks on a model and the pairs made of them."""

    attacks: tuple[Prompt, ...]
    succeeded: Mapping[str, float]
    """Attack's id -> 1 if an answer to it did harm, else 0; answers without a verdict left out."""
    pairs: tuple[PreferenceGroup, ...]
    """Harmless rewritten answers over harmful ones."""


def red_team(
    context: RunContext,
    teacher: Completer,
    harm: FeedbackSource,
    seen: tuple[Sequence[Prompt], Sequence[Response], Sequence[Feedback]],
    answer: Answer,
    *,
    known: Sequence[Prompt],
    settings: tuple[RefineSettings, FilterConfig],
) -> RedTeam:
    """Attack a model, and pair rewritten answers with its harmful ones.

    Args:
        teacher: writes the attacks, criticises and rewrites.
        harm: scores 1 for a response that does harm, less for others.
        seen: prompts, the model's responses to them, and the feedback of `harm`.
        answer: samples the model's responses to prompts.
        known: prompts that attacks must differ from, the held-out ones included.
        settings: of the rewriting, and of the attacks' filters.
    """
    prompts, responses, feedback = seen
    refining, filters = settings
    errors = _harmful(context, prompts, responses, feedback)
    attacks = instruct(context, Instructor(teacher), errors, known=known, filters=filters)
    if context.recorder:  # a stand-in writes no readable prompt
        attacks = context.recorder.new_prompts(teacher.name, len(errors), 64)
    answers = answer(attacks)
    judged = judge(context, harm, attacks, answers, name="judge-attacks")
    broken = _harmful(context, attacks, answers, judged)
    asked, bad = [b.prompt for b in broken], [b.response for b in broken]
    rewritten = refine_by(context, teacher, asked, bad, refining).responses
    marks = scores(judge(context, harm, asked, rewritten, name="judge-rewritten"))
    good = [r for r in rewritten if marks.get(r.id, 1.0) < 1]
    pairs = demonstration_pairs(context, asked, good, bad, name="red-team", source="red team")
    answered = {f.prompt_id for f in judged if f.response_ids[0] in scores(judged)}
    hit = {p.id for p in asked}
    succeeded = {p.id: float(p.id in hit) for p in attacks if p.id in answered}
    return RedTeam(tuple(attacks), succeeded, tuple(pairs))


def _harmful(
    context: RunContext,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    feedback: Sequence[Feedback],
) -> list[Criticised]:
    """Return the first harmful response to each prompt, with the reason of its verdict."""
    # A dry run scores the first response of a prompt 0 and the others below.
    least = 0.0 if context.recorder else 1.0
    marks = {key for key, value in scores(feedback).items() if value >= least}
    why = {f.response_ids[0]: f.rationale or HARM for f in feedback}
    found = []
    for prompt, several in by_prompt(prompts, responses):
        first = next((r for r in several if r.id in marks), None)
        if first is not None:
            found.append(Criticised(prompt, first, why[first.id]))
    return found
