"""Value of every sentence of a response, judged together (ARES, arXiv 2407.00087).

The teacher sees the question, the reference where there is one, and the response as numbered
sentences; it gives each a value from 0 (wrong) over 0.5 (neutral) to 1 (right), in steps of 0.1.
A reply with other numbers of lines or values leaves the response Unscored, as in the paper's code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from alignlab.answers.libraries import key_of
from alignlab.ask_model import Ask, ask_model
from alignlab.at_once import at_once
from alignlab.configs import PositiveInt, build
from alignlab.feedback.model_judge import OnceOptions, own_words
from alignlab.feedback.prompts import judge_prompt
from alignlab.protocols import Completer, MakeCompleter, flatten
from alignlab.registry import register
from alignlab.text import sentences
from alignlab.turns import strip_thoughts
from alignlab.types import Feedback, Prompt, Response, Score, Unscored, Verdict

NO_REFERENCE = "not known"
_LINE = re.compile(r"\s*(\d+)\s*[:.)]\s*([01](?:\.\d+)?)\s*")


@dataclass(frozen=True)
class GradedOptions(OnceOptions):
    """Options of `graded,`."""

    prompt: str = "graded_sentences"
    """Judge prompt with the places {sentence} and {reference}, by its file's name or by path."""
    max_tokens: PositiveInt = 256
    """Most tokens of a reply."""


class GradedSentences:
    """Judge that gives every sentence of a response a value from 0 to 1, in one call."""

    by_sentence: ClassVar[bool] = True

    def __init__(self, completer: Completer, options: GradedOptions | None = None) -> None:
        chosen = options or GradedOptions()
        self.prompt = judge_prompt(chosen.prompt)
        self.sampling = chosen.sampling()
        self.name = f"{completer.name} as judge (graded sentences)"
        self._completer, self.at_once = completer, at_once(completer)

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response: the mean of its sentences, which are its samples."""
        rated = [(p, r, sentences(strip_thoughts(r.text))) for p, r in flatten(items)]
        asked = [one for one in rated if one[2]]
        asks = [
            Ask(
                f"graded|{response.id}",
                self.prompt.render(
                    prompt,
                    response,
                    sentence="\n".join(f"{n}: {text}" for n, text in enumerate(found, 1)),
                    reference=key_of(prompt.reference or "") or NO_REFERENCE,
                ),
            )
            for prompt, response, found in asked
        ]
        replies = iter(
            ask_model(self._completer, asks, own_words, sampling=self.sampling, seed=seed)
        )
        return [
            self._feedback(prompt, response, len(found), next(replies)[0].text if found else "")
            for prompt, response, found in rated
        ]

    def _feedback(self, prompt: Prompt, response: Response, count: int, reply: str) -> Feedback:
        verdict: Verdict
        values = read_values(reply, count)
        if not count:
            verdict = Unscored("the response has no sentence")
        elif values is None:
            verdict = Unscored(f"no readable value for each of {count} sentences")
        else:
            verdict = Score(math.fsum(values) / count, values)
        return Feedback(prompt.id, (response.id,), self.name, verdict, raw=(reply,))


def read_values(reply: str, count: int) -> tuple[float, ...] | None:
    """Read "1: 0.5" lines; None unless they number 1 to `count`, each with a value in [0, 1]."""
    lines = [line for line in reply.splitlines() if line.strip()]
    found = [match for line in lines if (match := _LINE.fullmatch(line))]
    values = tuple(float(match[2]) for match in found)
    numbers = [int(match[1]) for match in found]
    whole = len(found) == len(lines) and numbers == list(range(1, count + 1))
    return values if whole and all(value <= 1 for value in values) else None


@register("feedback", "graded", options=GradedOptions)
def make_graded(
    rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]
) -> GradedSentences:
    """`graded:ENGINE`: every sentence from 0 (wrong) to 1 (right) in one call, and their mean."""
    return GradedSentences(make_completer(rest), build(GradedOptions, options))
