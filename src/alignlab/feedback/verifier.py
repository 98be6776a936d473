"""Verifier: a score for the final answer of a response against the prompt's reference.

The reward of reinforcement learning with verifiable rewards (RLVR, arXiv 2411.15124), and the
outcome of pairs by outcome (arXiv 2404.19733). No model is asked. Numbers, options, formulas and
texts are read by `alignlab.answers`; formulas are compared by math-verify, instructions checked by
if-verifiable, and tasks of reasoning-gym scored by their own checkers (extra `verify`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignlab.answers import AnswerOptions, CheckResult, check
from alignlab.configs import build
from alignlab.errors import BadInput
from alignlab.feedback.conversion import JudgeByScore
from alignlab.protocols import flatten
from alignlab.registry import register
from alignlab.types import Feedback, Prompt, Response, SampledBy, Score, Unscored


class Verifier:
    """Feedback source that scores 1 for a right answer and 0 for a wrong one.

    A prompt without a reference, or with a whole text as its reference, is unscored. A response
    without a readable answer scores 0 and says so in its rationale; with `strict` it is unscored.
    """

    def __init__(self, options: AnswerOptions | None = None, pattern: str = "") -> None:
        """Set up the verifier.

        Args:
            pattern: regular expression of `extract="regex"`.

        Raises:
            BadInput: a pattern without `extract="regex"`, or none with it.
        """
        self.options, self.pattern = options or AnswerOptions(), pattern
        if bool(pattern) != (self.options.extract == "regex"):
            raise BadInput(
                "feedback 'verifier': expected verifier,extract=regex:PATTERN, or no pattern; "
                f"found extract={self.options.extract} and {pattern or 'no pattern'!r}"
            )
        given = {k: v for k, v in vars(self.options).items() if v != getattr(AnswerOptions, k)}
        shown = ", ".join(f"{key}={value}" for key, value in given.items())
        self.name = (
            "verifier" + (f" ({shown})" if shown else "") + (f": {pattern}" if pattern else "")
        )
        if pattern:  # a bad pattern is refused before any response is drawn
            self.check(Prompt("", (), reference="-"), Response("", "", "", SampledBy("")))

    def check(self, prompt: Prompt, response: Response) -> CheckResult:
        """Check one response."""
        asked = prompt.text if prompt.messages else ""
        return check(
            response.text, prompt.reference, asked, self.options,
            pattern=self.pattern, finish=response.finish,
        )  # fmt: skip

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response; the rationale holds the answer that was read."""
        return [self._feedback(prompt, response) for prompt, response in flatten(items)]

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Prefer the right answer of two; two right or two wrong ones tie."""
        return JudgeByScore(self, name=self.name).compare(items, seed)

    def _feedback(self, prompt: Prompt, response: Response) -> Feedback:
        found = self.check(prompt, response)
        ids = (response.id,)
        if found.score is None:
            return Feedback(prompt.id, ids, self.name, Unscored(found.reason))
        verdict = Score(found.score, (found.score,))
        rationale = found.reason or f"answer: {found.answer}"
        return Feedback(prompt.id, ids, self.name, verdict, rationale)


@register("feedback", "verifier", options=AnswerOptions)
def make_verifier(rest: str, *, options: dict[str, Any]) -> Verifier:
    """`verifier[,extract=number,strict=true]`, `verifier,extract=regex:PATTERN`: right answers."""
    return Verifier(build(AnswerOptions, options), rest)
