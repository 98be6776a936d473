"""Expected score: mean of the model's distribution over the score tokens, in one forward pass.

With p(s) the probability of score s after the judge's prompt and "Score: ", the score is
sum_s s p(s) / sum_s p(s). The mass sum_s p(s) is reported; below a floor the model is not about to
give a score, and the response is Unscored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignlab.at_once import at_once
from alignlab.configs import Bounded, Fraction, build
from alignlab.errors import BadInput
from alignlab.feedback.prompts import JudgePrompt, judge_prompt
from alignlab.protocols import ChoiceScorer, MakeCompleter, flatten
from alignlab.registry import register
from alignlab.types import (
    CompletionRequest,
    Feedback,
    Prompt,
    Response,
    Sampling,
    Score,
    Unscored,
    Verdict,
)
from alignlab.verdicts import LEAST_MASS


class ExpectedScoreJudge:
    """Judge that reads a score off the probabilities of the score tokens."""

    def __init__(
        self,
        scorer: ChoiceScorer,
        prompt: JudgePrompt | None = None,
        *,
        prefix: str | None = None,
        least_mass: float = LEAST_MASS,
    ):
        """Set up a judge.

        Args:
            scorer: the model that judges.
            prompt: the judge prompt; by default the additive five-point prompt.
            prefix: start of the judge's turn, before the score; by default the prompt's.
            least_mass: least probability of all scores together, from 0 to 1.
        """
        if not 0 <= least_mass <= 1:
            raise BadInput(f"least_mass: expected 0 to 1, found {least_mass}")
        self.prompt = prompt or judge_prompt("additive_five_point")
        self.prefix = self.prompt.prefix if prefix is None else prefix
        self.least_mass = least_mass
        self.name = f"{scorer.name} as judge ({self.prompt.name}, expected score)"
        self._scorer, self.at_once = scorer, at_once(scorer)

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response; nothing is sampled, so the seed has no effect."""
        pairs = flatten(items)
        requests = [
            CompletionRequest(
                id=f"judge|{response.id}",
                messages=self.prompt.render(prompt, response),
                sampling=Sampling(max_tokens=1),
                seed=seed,
                prefix=self.prefix,
            )
            for prompt, response in pairs
        ]
        found = self._scorer.choice_logprobs(requests, self.prompt.choices)
        return [
            self._feedback(prompt, response, logprobs)
            for (prompt, response), logprobs in zip(pairs, found, strict=True)
        ]

    def _feedback(self, prompt: Prompt, response: Response, logprobs: Sequence[float]) -> Feedback:
        scores = range(self.prompt.low, self.prompt.high + 1)
        verdict: Verdict
        rationale = ""
        if any(math.isnan(logprob) for logprob in logprobs):
            verdict = Unscored("the model gave no probabilities for the scores")
        else:
            probs = [math.exp(logprob) for logprob in logprobs]
            mass = sum(probs)
            if mass < self.least_mass or mass == 0:
                verdict = Unscored(f"the scores hold less than {self.least_mass:g} of probability")
            else:
                weighted = sum(s * p for s, p in zip(scores, probs, strict=True))
                verdict = Score(weighted / mass)
            shares = ", ".join(f"{s}: {p:.3f}" for s, p in zip(scores, probs, strict=True))
            rationale = f"probability of each score: {shares}; together {mass:.3f}"
        return Feedback(prompt.id, (response.id,), self.name, verdict, rationale)


@dataclass(frozen=True)
class ExpectedScoreOptions(Bounded):
    """Options of `expected,`."""

    prompt: str = "additive_five_point"
    """Judge prompt, by its file's name in feedback/prompts or by path."""
    prefix: str | None = None
    """Start of the judge's turn, before the score; by default the prompt's."""
    least_mass: Fraction = LEAST_MASS
    """Least probability of all scores together; below it a response is unscored."""


@register("feedback", "expected", options=ExpectedScoreOptions)
def make_expected_score_judge(
    rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]
) -> ExpectedScoreJudge:
    """`expected[,prompt=short_score]:ENGINE`: a score read off the log-probabilities of the scores.

    Raises:
        BadInput: the engine gives none.
    """
    chosen = build(ExpectedScoreOptions, options)
    scorer = make_completer(rest)
    if not isinstance(scorer, ChoiceScorer):
        raise BadInput(f"expected:{rest}: {scorer.name} gives no log-probabilities; use llm:{rest}")
    return ExpectedScoreJudge(
        scorer,
        judge_prompt(chosen.prompt),
        prefix=chosen.prefix,
        least_mass=chosen.least_mass,
    )
