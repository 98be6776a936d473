"""Oracle: the true quality of an answer, 0 to 5, from its text.

One point each, after the additive five-point rubric of arXiv 2401.10020 (appendix, LLM-as-a-judge
prompt):

    about the asked town | a substantial part answered | nothing false
    | clear, well formed, not repeated | complete, with nothing off-topic

An answer that states nothing about the asked town scores 0. A question outside the sandbox is
`Unscored`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from alignlab.sandbox.questions import SandboxQuestion, parse_question
from alignlab.sandbox.reading import ParsedLine, numbered, read_answer
from alignlab.sandbox.world import Fact, world
from alignlab.seeds import generator
from alignlab.types import Feedback, Preference, Prompt, Response, Score, Unscored, Verdict

TOP = 5
LABELS = ("wrong subject", "too little", "something false", "unclear", "incomplete")
"""Label of each lost point, in the order of the points."""
SEVERE = LABELS[:3]
"""Lost points without which a question is not answered, or is answered wrongly."""
VISITOR = ("region", "food", "festival")
"""Attributes that a description for a visitor must contain."""


@dataclass(frozen=True)
class Assessment:
    """Score of one answer with the reasons of lost points."""

    lost: tuple[str, ...]
    """Reason of each of the five points lost; empty for a point scored."""

    @property
    def score(self) -> int:
        """Number of points scored, 0 to 5."""
        return sum(not reason for reason in self.lost)

    @property
    def problems(self) -> str:
        """Labels of the lost points on one line."""
        return ", ".join(self.labels) or "none"

    @property
    def labels(self) -> list[str]:
        """Labels of the lost points."""
        return [label for label, why in zip(LABELS, self.lost, strict=True) if why]

    @property
    def faults(self) -> list[str]:
        """Labels and reasons of the lost points."""
        return [f"{label} ({why})" for label, why in zip(LABELS, self.lost, strict=True) if why]

    @property
    def reasons(self) -> str:
        """Labels and reasons of the lost points on one line."""
        return "; ".join(self.faults) or "everything asked, all true, nothing else"


def assess(asked: str, question: SandboxQuestion, answer: str) -> Assessment:
    """Score an answer.

    Args:
        asked: text of the question.
        question: parsed question.
        answer: text of the answer.
    """
    lines = read_answer(question, asked, answer)
    claims = [claim for line in lines for claim in line.claims]
    own = [claim for claim in claims if claim.entity in question.entities]
    yes_no = [line.kind for line in lines if line.kind in ("yes", "no")]
    if not own and not (question.family == "check" and yes_no):
        return Assessment(("says nothing about what was asked",) * len(LABELS))
    if len(own) < len(claims) - len(own):
        return Assessment(("mostly about other towns",) * len(LABELS))
    useful = {claim for claim in own if asked_for(question, claim) and world().holds(claim)}
    missing = _missing(question, useful, bool(yes_no))
    return Assessment(
        (
            "",
            "" if _substantial(question, useful) else f"{len(useful)} true of what was asked",
            _falsehood(question, claims, yes_no),
            _flaw(lines, claims),
            missing or _excess(question, lines, claims, numbered(answer)),
        )
    )


def is_about(asked: str, question: SandboxQuestion, sentence: str) -> bool:
    """Return true if a sentence claims anything that was asked for, true or false.

    A pronoun stands for the asked town.
    """
    lines = read_answer(question, asked, sentence)
    claims = [claim for line in lines for claim in line.claims]
    yes_no = question.family == "check" and any(line.kind in ("yes", "no") for line in lines)
    return yes_no or any(c.entity in question.entities and asked_for(question, c) for c in claims)


def asked_for(question: SandboxQuestion, claim: Fact) -> bool:
    """Return true if a claim's attribute was asked for, of whichever town."""
    return not question.aspects or claim.attribute in question.aspects


def _both(question: SandboxQuestion, useful: set[Fact]) -> set[str]:
    """Return the attributes stated for every asked town."""
    stated = [{c.attribute for c in useful if c.entity == e} for e in question.entities]
    return set.intersection(*stated)


def _substantial(question: SandboxQuestion, useful: set[Fact]) -> bool:
    if question.family == "compare":
        return bool(_both(question, useful))
    return len(useful) >= (2 if question.family in ("tell", "describe", "three") else 1)


def _falsehood(question: SandboxQuestion, claims: Sequence[Fact], yes_no: Sequence[str]) -> str:
    """Describe the first false claim; empty without one."""
    if yes_no and question.family == "check":
        asked = Fact(question.entities[0], question.aspects[0], question.claimed)
        right = "yes" if world().holds(asked) else "no"
        if any(word != right for word in yes_no):
            return f"the answer is {right}"
    for claim in claims:
        truth = world().truth.get((claim.entity, claim.attribute))
        if truth is None:
            return f"there is no {claim.entity}"
        if truth != claim.value:
            return f"the {claim.attribute} of {claim.entity} is {truth}, not {claim.value}"
    return ""


def _flaw(lines: Sequence[ParsedLine], claims: Sequence[Fact]) -> str:
    """Describe the first fault of form; empty without one."""
    for line in lines:
        if line.kind == "echo":
            return "repeats the question"
        if line.kind == "unclear":
            return f"makes no sense: {line.text[:40]}"
        if line.kind in ("yes", "no") and not line.claims:
            return "no full sentence"
        if not line.finished:
            return f"not a finished sentence: {line.text[:40]}"
    keys = [(claim.entity, claim.attribute) for claim in claims]
    repeated = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
    return f"repeats the {repeated[1]} of {repeated[0]}" if repeated else ""


def _missing(question: SandboxQuestion, useful: set[Fact], has_yes_no: bool) -> str:
    """Describe the part that a complete answer would add; empty for a complete answer."""
    stated = {claim.attribute for claim in useful}
    family = question.family
    if family == "check" and not has_yes_no:
        return "no yes or no"
    needed = VISITOR if family == "describe" else question.aspects
    lacking = [name for name in needed if name not in stated]
    if lacking:
        return f"nothing true on {' and '.join(lacking)}"
    if family == "compare":
        return "" if len(_both(question, useful)) >= 2 else "compares fewer than 2 attributes"
    least = {"tell": 4, "three": 3}.get(family, 0)
    return "" if len(stated) >= least else f"{len(stated)} true facts, {least} needed"


def _excess(
    question: SandboxQuestion, lines: Sequence[ParsedLine], claims: Sequence[Fact], marks: int
) -> str:
    """Describe the first part that was not asked for; empty without one."""
    for line in lines:
        welcome = question.family == "describe" and question.entities[0] in line.text
        if line.kind in ("filler", "question") or (line.kind == "greeting" and not welcome):
            return f"beside the point: {line.text[:40]}"
        if line.kind in ("yes", "no") and question.family != "check":
            return f"beside the point: {line.text[:40]}"
    for claim in claims:
        if claim.entity not in question.entities or not asked_for(question, claim):
            return f"not asked: the {claim.attribute} of {claim.entity}"
    if question.family == "three" and (len(claims) != 3 or marks != 3):
        return "not a list of three"
    if question.family == "compare":
        unpaired = {c.attribute for c in claims} - _both(question, set(claims))
        if unpaired:
            return f"only one side on {min(unpaired)}"
    return ""


SHARES: dict[str, tuple[str, Callable[[Assessment], bool]]] = {
    "satisfied": (
        "the question answered in substance with nothing false (arXiv 2403.08309)",
        lambda a: not any(a.lost[: len(SEVERE)]),
    ),
    "false": ("something false about the asked town", lambda a: not a.lost[0] and a.lost[2] != ""),
}
"""Name of a yes-or-no truth -> its meaning, and its value for an assessed answer."""


class Oracle:
    """Feedback source and pair judge of true scores, optionally with noise."""

    def __init__(self, noise: float = 0.0, share: str = "") -> None:
        """Set the noise of scores.

        Args:
            noise: standard deviation in points of a Gaussian error, seeded by response id; noisy
                scores are rounded and clipped to 0..5.
            share: name of a yes-or-no truth of `SHARES`, scored 1 or 0; empty scores 0 to 5.
        """
        self.noise, self._share = noise, share
        self.name = f"sandbox:{share or 'oracle'}" + (f"?noise={noise:g}" if noise else "")

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Score every response; responses to unknown questions are unscored."""
        return [self._rate_one(p, r, seed) for p, responses in items for r in responses]

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Prefer the response with the higher score; equal scores are a tie."""
        return [self._compare_one(p, (a, b), seed) for p, a, b in items]

    def _rate_one(self, prompt: Prompt, response: Response, seed: int) -> Feedback:
        question = parse_question(prompt.text)
        verdict: Verdict = Unscored("the question makes no sense in the sandbox")
        reasons = ""
        if question is not None:
            assessment = assess(prompt.text, question, response.text)
            score = noisy(assessment.score, self.noise, generator(seed, "oracle", response.id))
            if self._share:
                score = int(SHARES[self._share][1](assessment))
            verdict, reasons = Score(float(score), (float(score),)), assessment.reasons
        return Feedback(prompt.id, (response.id,), self.name, verdict, reasons)

    def _compare_one(self, prompt: Prompt, pair: tuple[Response, Response], seed: int) -> Feedback:
        first, second = (self._rate_one(prompt, response, seed) for response in pair)
        verdict: Verdict = Unscored("the question makes no sense in the sandbox")
        if isinstance(first.verdict, Score) and isinstance(second.verdict, Score):
            a, b = first.verdict.value, second.verdict.value
            winner = None if a == b else 0 if a > b else 1
            verdict = Preference(winner, (winner, winner))  # type: ignore[arg-type]
        ids = (pair[0].id, pair[1].id)
        rationale = f"A: {first.rationale} | B: {second.rationale}"
        return Feedback(prompt.id, ids, self.name, verdict, rationale)


def noisy(score: float, noise: float, rng: np.random.Generator) -> int:
    """Add a Gaussian error of standard deviation `noise` to a score; round and clip to 0..5."""
    error = rng.normal(0.0, noise)
    return int(min(TOP, max(0, round(score + error))))
