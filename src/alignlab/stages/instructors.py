"""Let an instructor write questions with worked answers (LLMs-as-Instructors, arXiv 2407.00497).

Departures: question and answer are two requests, so that a small instructor need not keep a format;
answers are checked, and wrong ones dropped and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from alignlab.configs import Bounded, Fraction, NonNegative, NonNegativeInt, PositiveInt
from alignlab.context import RunContext
from alignlab.data.filters import FilterConfig
from alignlab.data.overlap import OverlapIndex
from alignlab.feedback.teachers import Criticised, Instructor
from alignlab.protocols import Completer, FeedbackSource
from alignlab.stages.judge import by_prompt, judge, scores
from alignlab.stages.propose import names_reserved
from alignlab.stages.sample import SampleSettings, sample
from alignlab.stages.teach import instruct
from alignlab.types import Count, Demonstration, Prompt, Response, Sampling

RESERVED, CUT_OFF = "about what is held out", "the answer was cut off"
WRONG, UNSURE = "wrong answer", "further answers disagree"

How = Literal["error", "contrast", "mimic"]


@dataclass(frozen=True)
class InstructSettings(Bounded):
    """Settings of an instructor's questions and answers."""

    neighbours: NonNegativeInt = 3
    """Similar questions answered well that a contrast shows; 0 shows one, with its answer."""
    temperature: NonNegative = 0.8
    """Sampling temperature of questions and answers."""
    top_p: Fraction = 1.0
    """Nucleus mass of questions and answers."""
    question_tokens: PositiveInt = 256
    """Maximum number of tokens of a new question."""
    answer_tokens: PositiveInt = 512
    """Maximum number of tokens of a worked answer."""
    agreement: PositiveInt = 3
    """Further answers to each question with check=agreement, most of which must end as the worked
    one does."""
    filters: FilterConfig = field(
        default_factory=lambda: FilterConfig(max_similarity=2.0, keywords=())
    )
    """Filters that reject a new question; by default duplicates and lengths."""


class Material(NamedTuple):
    """Errors to write from, and prompts that new questions must differ from."""

    shown: Sequence[Criticised]
    """Errors, or questions to mimic, each with a response id of its own."""
    successes: Sequence[tuple[Prompt, Response]] = ()
    """Questions answered well, for contrast."""
    known: Sequence[Prompt] = ()
    held_out: Sequence[Prompt] = ()
    reserved: Sequence[str] = ()
    """Words of the held-out part that no new question may contain."""


def new_questions(
    context: RunContext,
    completer: Completer,
    given: Material,
    settings: InstructSettings,
    *,
    how: How,
) -> list[Prompt]:
    """Generate questions; drop duplicates and those that overlap held-out ones, and count them.

    Overlap is an equal text, 8-grams over half of a held-out question's words, or a near duplicate
    (see `data.overlap`).
    """
    sampling = Sampling(settings.temperature, settings.top_p, settings.question_tokens)
    teacher = Instructor(completer, sampling=sampling, neighbours=settings.neighbours)
    successes = given.successes if how == "contrast" else ()
    written = instruct(
        context, teacher, given.shown, how=how, successes=successes, known=given.known,
        filters=settings.filters,
    )  # fmt: skip
    if recorder := context.recorder:
        length = recorder.lengths.drawn("prompts", settings.question_tokens)
        return recorder.new_prompts(completer.name, len(given.shown), length)
    with context.run.stage("leaks", inputs={"held out": str(len(given.held_out))}) as stage:
        kept = stage.records("prompts", Prompt)
        if not stage.done:
            index = OverlapIndex(given.held_out)
            why = {
                p.id: RESERVED if names_reserved(p, given.reserved) else index.find(p)
                for p in written
            }
            clean = [p for p in written if why[p.id] is None]
            stage.write("prompts", Prompt, clean)
            lost = Counter(reason for reason in why.values() if reason)
            stage.count([Count(stage.name, "new questions", len(clean), dict(lost))])
        return kept.read()


def worked_answers(
    context: RunContext,
    completer: Completer,
    questions: Sequence[Prompt],
    settings: InstructSettings,
    *,
    further: int = 0,
) -> list[Response]:
    """Sample the instructor's answers: the worked one, then `further` ones to check it by."""
    drawn = SampleSettings(
        1 + further, settings.temperature, settings.top_p, settings.answer_tokens
    )
    return sample(context, completer, questions, drawn, name="answers", purpose="worked answers")


def checked_answers(
    context: RunContext,
    questions: Sequence[Prompt],
    answers: Sequence[Response],
    source: FeedbackSource | None,
    *,
    agreement: bool = False,
) -> list[Demonstration]:
    """Keep questions whose first answer is right, as demonstrations; count the others by reason.

    Args:
        source: 1 for a right answer, 0 for a wrong one; None keeps every answer that ended.
        agreement: the first answer is the reference by which the source scores the further ones;
            more than half of these must be right. An unscored one is not.
    """
    several = by_prompt(questions, answers)
    judged = [(prompt, [some[0]]) for prompt, some in several]
    if agreement:
        judged = [(replace(p, reference=some[0].text), some[1:]) for p, some in several]
    known: Mapping[str, float] = {}
    if source is not None:
        asked, responses = [p for p, _ in judged], [r for _, some in judged for r in some]
        known = scores(judge(context, source, asked, responses, name="check"))
    with context.run.stage("checked") as stage:
        kept = stage.records("demonstrations", Demonstration)
        if not stage.done:
            lost: Counter[str] = Counter()
            shown = []
            for (prompt, some), (_, tried) in zip(several, judged, strict=True):
                right = sum(known.get(r.id, 0.0) >= 1 for r in tried)
                if some[0].finish == "length":
                    lost[CUT_OFF] += 1
                elif source and not context.recorder and 2 * right <= len(tried):
                    lost[UNSURE if agreement else WRONG] += 1
                else:
                    shown.append(Demonstration(prompt, some[0]))
            lost["no answer"] = len(questions) - len(several)
            reasons = {why: n for why, n in lost.items() if n}
            stage.write("demonstrations", Demonstration, shown)
            stage.count([Count(stage.name, "worked answers", len(shown), reasons)])
        return kept.read()


def exchanged_answers(shown: Sequence[Demonstration]) -> list[Demonstration]:
    """Return demonstrations of each question with the answer of the next one, the control."""
    answers = [*shown[1:], *shown[:1]]
    return [
        Demonstration(
            one.prompt,
            replace(other.response, id=f"{one.response.id}/exchanged", prompt_id=one.prompt.id),
        )
        for one, other in zip(shown, answers, strict=True)
    ]
