"""Rule-based judges that ignore meaning: the controls of every study."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from alignlab import seeds
from alignlab.errors import BadInput
from alignlab.feedback.conversion import JudgeByScore, feedback_on
from alignlab.protocols import flatten
from alignlab.registry import register
from alignlab.turns import strip_thoughts
from alignlab.types import Feedback, Prompt, Response, Score


class RuleJudge(ABC):
    """Judge that scores each response by a rule; of two, the one with the higher score wins."""

    name: str

    @abstractmethod
    def score(self, response: Response, seed: int) -> float:
        """Return the score of a response."""

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response."""
        scores = [self.score(response, seed) for _, response in flatten(items)]
        return feedback_on(items, self.name, [Score(score, (score,)) for score in scores])

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Return one verdict per item."""
        return JudgeByScore(self, name=self.name).compare(items, seed)


class RandomJudge(RuleJudge):
    """Judge that draws scores evenly from 0 to 5 by the seed and the response's id."""

    name = "random"

    def score(self, response: Response, seed: int) -> float:
        """Draw a score from 0 to 5."""
        return float(seeds.generator(seed, "random", response.id).uniform(0, 5))


class LengthJudge(RuleJudge):
    """Judge that prefers the longer response; its score is its number of words."""

    name = "longer"

    def score(self, response: Response, seed: int) -> float:
        """Count the words outside thoughts."""
        return float(len(strip_thoughts(response.text).split()))


@register("feedback", "random")
def make_random_judge(rest: str) -> RuleJudge:
    """`random`: random scores, a control."""
    return _without_options(RandomJudge(), rest)


@register("feedback", "longer")
def make_length_judge(rest: str) -> RuleJudge:
    """`longer`: the number of words, a control."""
    return _without_options(LengthJudge(), rest)


def _without_options(judge: RuleJudge, rest: str) -> RuleJudge:
    if rest:
        raise BadInput(f"feedback {judge.name!r}: expected nothing after it, found {rest!r}")
    return judge
