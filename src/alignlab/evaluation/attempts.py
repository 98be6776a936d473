"""Questions that are asked several times, each attempt under an id of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from alignlab.errors import BadInput
from alignlab.evaluation.tasks import Question
from alignlab.types import Response

SAMPLED = 0.7
"""Temperature of several attempts, unless it is set."""


def attempts(question: Question, samples: int) -> list[Question]:
    """Repeat a question; several attempts are sampled, a single one keeps the question's id."""
    if samples == 1:
        return [replace(question, repeats=question.id)]
    return [
        replace(
            question,
            prompt=replace(question.prompt, id=attempt_id(question.id, number)),
            temperature=SAMPLED,
            repeats=question.id,
        )
        for number in range(1, samples + 1)
    ]


def attempt_id(question: str, number: int) -> str:
    """Return the id of a question's attempt, counted from 1."""
    return f"{question}#{number}"


def refuse_greedy(responses: Iterable[Response], samples: int) -> None:
    """Refuse several attempts that were all decoded greedily.

    Raises:
        BadInput: there are several attempts, and all were.
    """
    drawn = [response.sampler.sampling for response in responses]
    if samples > 1 and drawn and all(s is not None and s.temperature == 0 for s in drawn):
        raise _all_alike(samples)


def refuse_temperature(temperature: float | None, questions: Sequence[Question]) -> None:
    """Refuse a temperature of 0 for questions that are asked several times, before they are.

    Raises:
        BadInput: it is 0, and a question is asked several times.
    """
    times = Counter(question.repeats for question in questions if question.repeats)
    most = max(times.values(), default=1)
    if temperature == 0 and most > 1:
        raise _all_alike(most)


def _all_alike(samples: int) -> BadInput:
    return BadInput(
        f"setting samples: expected a temperature above 0 with {samples} attempts, "
        "which are all the same otherwise"
    )
