"""True value of each sentence of an answer: right, neutral or wrong, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from alignlab.protocols import flatten
from alignlab.sandbox.oracle import asked_for
from alignlab.sandbox.questions import SandboxQuestion, parse_question
from alignlab.sandbox.reading import ParsedLine, read_answer
from alignlab.sandbox.world import Fact, world
from alignlab.seeds import generator
from alignlab.text import sentence_ends
from alignlab.types import Feedback, Prompt, Response, Score, Unscored, Verdict

RIGHT, NEUTRAL, WRONG = 1.0, 0.5, 0.0


class Sentence(NamedTuple):
    """Sentence of an answer with its true value."""

    text: str
    value: float
    """1 where it states something true that was asked for; 0.5 for a greeting; else 0."""
    fault: str
    """Reason of a 0, such as "false" or "repeated"; empty otherwise."""
    lines: tuple[ParsedLine, ...]
    """Its parsed lines."""


def valued_sentences(asked: str, question: SandboxQuestion, answer: str) -> list[Sentence]:
    """Value each of `text.sentences(answer)`, read in their order.

    Args:
        asked: text of the question.
        question: parsed question.
        answer: text of the answer.
    """
    lines = _placed(read_answer(question, asked, answer), answer)
    stated: set[tuple[str, str]] = set()
    found: list[Sentence] = []
    start = 0
    for end in sentence_ends(answer):
        own = tuple(line for place, line in lines if start <= place < end)
        faults = [fault for line in own if (fault := _fault(question, line, stated))]
        claims = any(line.claims or line.kind in ("yes", "no") for line in own)
        value = WRONG if faults or not own else RIGHT if claims else NEUTRAL
        fault = faults[0] if faults else "" if own else "unclear"
        found.append(Sentence(answer[start:end].strip(), value, fault, own))
        start = end
    return found


def _placed(lines: Sequence[ParsedLine], answer: str) -> list[tuple[int, ParsedLine]]:
    """Find each line's place in the answer, in characters."""
    placed, at = [], 0
    for line in lines:
        at = answer.index(line.text, at)
        placed.append((at, line))
        at += len(line.text)
    return placed


def _fault(question: SandboxQuestion, line: ParsedLine, stated: set[tuple[str, str]]) -> str:
    """Return a line's fault; empty without one. Its claims are added to those stated."""
    if line.kind in ("echo", "unclear", "filler", "question"):
        return line.kind
    if line.kind == "greeting":
        welcome = question.family == "describe" and question.entities[0] in line.text
        return "" if welcome else "off-topic"
    if line.kind in ("yes", "no"):
        if question.family != "check":
            return "off-topic"
        fact = Fact(question.entities[0], question.aspects[0], question.claimed)
        if (line.kind == "yes") != world().holds(fact):
            return "false"
    keys = [(claim.entity, claim.attribute) for claim in line.claims]
    repeated = any(key in stated or keys.count(key) > 1 for key in keys)
    stated.update(keys)
    if not all(world().holds(claim) for claim in line.claims):
        return "false"
    if any(c.entity not in question.entities or not asked_for(question, c) for c in line.claims):
        return "off-topic"
    return "repeated" if repeated else "" if line.finished else "unfinished"


class SentenceOracle:
    """Feedback source of each sentence's true value, optionally with noise."""

    by_sentence: ClassVar[bool] = True

    def __init__(self, noise: float = 0.0) -> None:
        """Set the noise of values.

        Args:
            noise: standard deviation of a Gaussian error, seeded by response id; noisy values are
                rounded to steps of 0.1 and clipped to [0, 1], as a teacher's are in ARES.
        """
        self.noise = noise
        self.name = "sandbox:sentences" + (f"?noise={noise:g}" if noise else "")

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response: the mean of its sentences, which are its samples."""
        return [self._rate_one(prompt, response, seed) for prompt, response in flatten(items)]

    def _rate_one(self, prompt: Prompt, response: Response, seed: int) -> Feedback:
        question = parse_question(prompt.text)
        verdict: Verdict = Unscored("the question makes no sense in the sandbox")
        reasons = ""
        if question is not None:
            found = valued_sentences(prompt.text, question, response.text)
            rng = generator(seed, "sentences", response.id)
            values = noisy_values([one.value for one in found], self.noise, rng)
            verdict = Unscored("the response has no sentence")
            if values:
                verdict = Score(sum(values) / len(values), values)
            reasons = "; ".join(one.fault or "good" for one in found)
        return Feedback(prompt.id, (response.id,), self.name, verdict, reasons)


def noisy_values(
    values: Sequence[float], noise: float, rng: np.random.Generator
) -> tuple[float, ...]:
    """Add Gaussian errors to values; round to steps of 0.1 and clip to [0, 1], as ARES has them."""
    if not noise:
        return tuple(values)
    errors = rng.normal(0.0, noise, len(values)).tolist()
    moved = [round(10 * (v + error)) / 10 for v, error in zip(values, errors, strict=True)]
    return tuple(min(RIGHT, max(WRONG, value)) for value in moved)
