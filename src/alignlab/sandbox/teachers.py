"""Teachers: completers that answer and judge in the sandbox at a level of noise.

A teacher knows every fact. The request decides the reply:

    judge prompt           a score, or the better of two responses
    list of questions      one more question
    question               an answer
    critique prompt        the points lost by the oracle, each missed with probability judge_noise/5
                           and the others named with probability invents
    refinement prompt      the response if it or its critique is faultless, else a new answer; with
                           obeys, the response with what the critique names mended or spoilt
    correction prompt      the response, each fault of a sentence mended or overlooked as above
    numbered faults        major or minor if the response has it, else invalid, each wrong with
                           probability judge_noise/5
    review prompt          weaknesses as in a critique, a score, suggestions, and a refinement
    new-question prompt    a question of the family of the judged one
    type prompt            open or closed
    sentence prompt        yes if the sentence claims anything that was asked for
    graded sentences       the value of each, with errors of standard deviation judge_noise/5
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignlab.errors import BadInput, unknown_name
from alignlab.registry import register
from alignlab.sandbox.answers import LEVELS, write_answer
from alignlab.sandbox.correcting import corrected
from alignlab.sandbox.draws import pick
from alignlab.sandbox.judging import JudgeRequest, judgement, read_judge_request
from alignlab.sandbox.obeying import obeyed
from alignlab.sandbox.oracle import LABELS, SEVERE, TOP, Assessment, assess, is_about, noisy
from alignlab.sandbox.questions import (
    FAMILIES,
    SandboxQuestion,
    draw_question,
    parse_question,
    phrase,
)
from alignlab.sandbox.sentences import noisy_values, valued_sentences
from alignlab.sandbox.world import world
from alignlab.seeds import generator
from alignlab.specs import read_options
from alignlab.types import Completion, CompletionRequest

JUDGE_NOISE = {"strong": 0.5, "weak": 1.0, "human": 0.8}
"""Default standard deviation of each teacher's scores, in points."""
CONFUSED = "I do not understand the question."
FAULTLESS = ("Problems: none.", "Nothing needs to change.")
"""Critique of a faultless response, short and in full."""
_NEXT_QUESTION = re.compile(r"Question \d+:\s*$")
_NUMBER = re.compile(r"^\s*\d+: ")
_TOKEN = re.compile(r"\s*(?:\w+|[^\w\s])")


@dataclass(frozen=True)
class TeacherOptions:
    """Options of a teacher."""

    judge_noise: float | None = None
    """Standard deviation of scores, in points; by default that of the teacher's level."""
    invents: float = 0.0
    """Probability that a critique names a fault that the response does not have, for each fault."""
    obeys: bool = False
    """Refine by the letter of a critique: mend the named faults that the response has, and spoil
    what a named fault that it lacks finds wrong; else a critique only says that there are faults,
    and the teacher writes a new answer."""


class Teacher:
    """Completer that writes and judges at one level of noise."""

    def __init__(self, level: str, options: TeacherOptions | None = None) -> None:
        """Set the level of noise.

        Args:
            level: strong, weak or human.
            options: noise of scores.

        Raises:
            BadInput: the level is unknown, the noise is below 0, or a probability out of range.
        """
        if level not in JUDGE_NOISE:
            raise unknown_name("sandbox teacher", level, JUDGE_NOISE)
        noise = None if options is None else options.judge_noise
        if noise is not None and noise < 0:
            raise BadInput(f"sandbox:{level} judge_noise: expected 0 or more, found {noise}")
        self.invents = 0.0 if options is None else options.invents
        if not 0 <= self.invents <= 1:
            raise BadInput(f"sandbox:{level} invents: expected 0 to 1, found {self.invents}")
        self.obeys = options is not None and options.obeys
        self.level = LEVELS[level]
        self.judge_noise = JUDGE_NOISE[level] if noise is None else noise
        changed = [] if noise is None else [f"judge_noise={noise:g}"]
        changed += [f"invents={self.invents:g}"] if self.invents else []
        changed += ["obeys=true"] if self.obeys else []
        self.name = f"sandbox:{level}" + (f"?{'&'.join(changed)}" if changed else "")

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request; at temperature 0 all samples of a request are equal."""
        return [
            tuple(self._sample(request, index) for index in range(request.sampling.n))
            for request in requests
        ]

    def _sample(self, request: CompletionRequest, index: int) -> Completion:
        draw = index if request.sampling.temperature > 0 else 0
        rng = generator(request.seed, request.id, draw)
        text = _continue(request.prefix, self._write(rng, _asked(request)))
        stops = [text.index(stop) for stop in request.sampling.stop if stop in text]
        tokens = _TOKEN.findall(text[: min(stops, default=len(text))])
        new = tokens[: request.sampling.max_tokens]
        return Completion(
            text="".join(new),
            finish="stop" if len(new) == len(tokens) else "length",
            tokens=min(len(new) + 1, request.sampling.max_tokens),
            prompt_tokens=sum(len(_TOKEN.findall(m.content)) for m in request.messages),
        )

    def _write(self, rng: np.random.Generator, asked: str) -> str:
        judged = read_judge_request(asked)
        if judged is not None:
            return self._judge(rng, judged)
        if _NEXT_QUESTION.search(asked):
            return phrase(rng, draw_question(rng, pick(rng, FAMILIES), world().alignment))
        question = parse_question(asked)
        return CONFUSED if question is None else write_answer(rng, asked, question, self.level)

    def _judge(self, rng: np.random.Generator, judged: JudgeRequest) -> str:
        question = parse_question(judged.question)
        if question is None:
            return CONFUSED
        if judged.task == "type":
            return f"Type: {question.query_type}"
        if judged.task == "sentence":
            relevant = is_about(judged.question, question, judged.responses[0])
            return f"Relevant: {'yes' if relevant else 'no'}"
        if judged.task == "sentences":
            return self._grade(rng, judged, question)
        assessed = [assess(judged.question, question, response) for response in judged.responses]
        if judged.task == "instruct":
            another = draw_question(rng, question.family, world().alignment)
            return f"Question: {phrase(rng, another)}"
        if judged.task in ("critique", "problems"):
            return self._criticise(rng, assessed[0], in_full=judged.task == "critique")
        if judged.task == "correct":
            missed = self.judge_noise / TOP
            return corrected(rng, judged.question, question, judged.responses[0], missed)
        if judged.task == "faults":
            return self._judge_faults(rng, judged.fields, assessed[0])
        if judged.task == "refine" and self.obeys:
            named = [label for label in LABELS if label in judged.critique]
            seen = self._seen(rng, named)
            return obeyed(rng, judged.question, judged.responses[0], seen, self.level)
        if judged.task == "refine":
            if assessed[0].score == TOP or judged.critique in FAULTLESS:
                return judged.responses[0]
            return write_answer(rng, judged.question, question, self.level)
        if judged.task == "review":
            weak = self._seen(rng, assessed[0].labels)
            better = judged.responses[0]
            if weak:
                better = write_answer(rng, judged.question, question, self.level)
            score = round(noisy(assessed[0].score, self.judge_noise, rng))
            return review(judged.fields, weak, score, better)
        scores = [noisy(one.score, self.judge_noise, rng) for one in assessed]
        if len(scores) == 1:
            step = (judged.high - judged.low) / TOP
            return judgement(assessed[0].problems, round(judged.low + step * scores[0]))
        better = "tie" if scores[0] == scores[1] else "A" if scores[0] > scores[1] else "B"
        return f"A: {assessed[0].problems}. B: {assessed[1].problems}. Better: {better}"

    def _grade(
        self, rng: np.random.Generator, judged: JudgeRequest, question: SandboxQuestion
    ) -> str:
        answer = "\n".join(_NUMBER.sub("", line) for line in judged.responses)
        true = [one.value for one in valued_sentences(judged.question, question, answer)]
        values = noisy_values(true, self.judge_noise / TOP, rng)
        return "\n".join(f"{n}: {value:.1f}" for n, value in enumerate(values, 1))

    def _criticise(self, rng: np.random.Generator, assessed: Assessment, *, in_full: bool) -> str:
        faults = assessed.faults if in_full else assessed.labels
        seen = self._seen(rng, faults)
        if self.invents:
            absent = [label for label in LABELS if label not in assessed.labels]
            seen += [label for label in absent if rng.random() < self.invents]
        if not seen:
            return FAULTLESS[in_full]
        return f"Faults: {'; '.join(seen)}." if in_full else f"Problems: {', '.join(seen)}."

    def _judge_faults(
        self, rng: np.random.Generator, lines: Sequence[str], assessed: Assessment
    ) -> str:
        """Judge numbered faults, each wrongly with probability judge_noise/5."""
        classes = []
        for line in lines:
            label = next((label for label in LABELS if label in line), "")
            severity = "major" if label in SEVERE else "minor"
            right = rng.random() >= self.judge_noise / TOP
            classes.append(severity if (label in assessed.labels) == right else "invalid")
        return "\n".join(f"{n}: {found}" for n, found in enumerate(classes, 1))

    def _seen(self, rng: np.random.Generator, faults: Sequence[str]) -> list[str]:
        """Return the faults that are not overlooked."""
        return [why for why in faults if rng.random() >= self.judge_noise / TOP]


def review(fields: Sequence[str], weak: Sequence[str], score: int, better: str) -> str:
    """Format a review: the requested fields, then the improved response."""
    texts = {
        "Weaknesses": f"{', '.join(weak) or 'none'}.",
        "Score": f"{score}.",
        "Suggestions": f"mend {', '.join(weak)}." if weak else "none.",
    }
    parts = [f"{field}: {texts[field]}" for field in fields]
    return " ".join([*parts, f"Improved response: {better}"])


def _asked(request: CompletionRequest) -> str:
    """Return the last turn of a request; without turns the text to continue."""
    return request.messages[-1].content if request.messages else request.prefix


def _continue(prefix: str, text: str) -> str:
    """Return the continuation of a prefix that the answer starts with."""
    if text.startswith(prefix):
        return text[len(prefix) :]
    last = prefix[prefix.rfind("Score:") :].rstrip()
    return text.rsplit(last, 1)[-1].lstrip() if last == "Score:" and last in text else text


@register("engine", "sandbox")
def make_teacher(rest: str) -> Teacher:
    """Build a teacher from its spec: "strong", "weak", "human" or "strong?judge_noise=0.5"."""
    named = read_options(rest, TeacherOptions)
    return Teacher(named.name, named.options)
