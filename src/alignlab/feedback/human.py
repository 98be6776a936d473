"""Human feedback: a source of scores read from a file, and training records built from it.

`alignlab annotations import ... --to feedback` writes the file: a record per annotator and response
(numbers, labels, words) or per annotator and ranked prompt. A response's score is the mean over its
annotators: of their ratings; of 1 for a desirable label and 0 for another; or, ranked, of the share
of the prompt's other responses ranked below it, a tie counting half (Borda count, scaled).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from alignlab.errors import BadInput, bad_record
from alignlab.feedback.conversion import feedback_on
from alignlab.protocols import flatten
from alignlab.records import from_line
from alignlab.registry import register
from alignlab.types import (
    Critique,
    CritiquedResponse,
    Feedback,
    PreferenceGroup,
    Prompt,
    Ranking,
    Response,
    Score,
    UnpairedPreference,
    Unscored,
    Verdict,
)

NOBODY = Unscored("no annotator answered")


class Opinion(NamedTuple):
    """Opinion of one annotator on one response."""

    annotator: str
    value: Fraction | str
    """Number (higher is better) or words; numbers are exact, so that equal means are equal."""


class Learnt(NamedTuple):
    """Training records, and counts of what gave none, by reason."""

    records: list[PreferenceGroup] | list[UnpairedPreference] | list[CritiquedResponse]
    dropped: Mapping[str, int]


class HumanFeedback:
    """Feedback source that returns people's scores; other responses are Unscored."""

    name = "human"

    def __init__(self, feedback: Iterable[Feedback]) -> None:
        self.opinions: dict[str, list[Opinion]] = {}
        """Response id -> opinions of annotators on it, in the order of the records."""
        for one in feedback:
            for response_id, value in _values(one):
                self.opinions.setdefault(response_id, []).append(Opinion(one.source, value))

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response, its samples the annotators' values; no randomness."""
        verdicts = (self._verdict(response.id) for _, response in flatten(items))
        return feedback_on(items, self.name, verdicts)

    def _verdict(self, response_id: str) -> Verdict:
        opinions = self.opinions.get(response_id, [])
        words = [each.value for each in opinions if isinstance(each.value, str)]
        if words:
            return Critique("\n\n".join(words))
        numbers = [each.value for each in opinions if isinstance(each.value, Fraction)]
        if not numbers:
            return NOBODY
        return Score(float(sum(numbers) / len(numbers)), tuple(map(float, numbers)))


@register("feedback", "human")
def make_human(rest: str) -> HumanFeedback:
    """`human:FILE`: annotators' feedback, from `alignlab annotations import ... --to feedback`."""
    path = Path(rest)
    if not rest or not path.is_file():
        raise BadInput(f"feedback 'human': expected human:FILE of feedback records, found {rest!r}")
    found = []
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            try:
                found.append(from_line(Feedback, line))
            except (ValidationError, ValueError, KeyError, TypeError) as error:
                first = str(error).splitlines()[0]
                raise bad_record(path, number, None, "a feedback record", first) from None
    if not found:
        raise bad_record(path, None, None, "at least one record", "an empty file")
    kinds = {type(each.verdict).__name__ for each in found}
    if len(kinds) > 1:
        raise BadInput(f"{path}: expected feedback of one format, found {', '.join(sorted(kinds))}")
    return HumanFeedback(found)


def preference_groups(
    prompts: Sequence[Prompt], responses: Sequence[Response], human: HumanFeedback
) -> Learnt:
    """Rank each prompt's responses by mean score, best first; equal scores are ties."""
    groups: list[PreferenceGroup] = []
    dropped: Counter[str] = Counter()
    for prompt, several in _by_prompt(prompts, responses):
        rated = human.rate([(prompt, several)], seed=0)
        scored = [
            (response, one.verdict.value)
            for response, one in zip(several, rated, strict=True)
            if isinstance(one.verdict, Score)
        ]
        scored.sort(key=lambda pair: -pair[1])
        dropped["response without an answer"] += len(several) - len(scored)
        if len(scored) < 2:
            dropped["prompt with fewer than two answered responses"] += 1
            continue
        best_first, values = zip(*scored, strict=True)
        groups.append(PreferenceGroup(prompt, best_first, values, human.name))
    return Learnt(groups, _counted(dropped))


def labelled_responses(
    prompts: Sequence[Prompt], responses: Sequence[Response], human: HumanFeedback
) -> Learnt:
    """Label responses by the majority of annotators; an even split gives no record."""
    found: list[UnpairedPreference] = []
    dropped: Counter[str] = Counter()
    for prompt, several in _by_prompt(prompts, responses):
        for response, one in zip(several, human.rate([(prompt, several)], 0), strict=True):
            if not isinstance(one.verdict, Score):
                dropped["response without an answer"] += 1
            elif one.verdict.value == 0.5:
                dropped["annotators evenly split"] += 1
            else:
                found.append(UnpairedPreference(prompt, response, one.verdict.value > 0.5))
    return Learnt(found, _counted(dropped))


def commented_responses(
    prompts: Sequence[Prompt], responses: Sequence[Response], human: HumanFeedback
) -> Learnt:
    """Return one record per annotator's comment on a response."""
    found: list[CritiquedResponse] = []
    dropped: Counter[str] = Counter()
    for prompt, several in _by_prompt(prompts, responses):
        for response in several:
            opinions = human.opinions.get(response.id, [])
            dropped["response without an answer"] += not opinions
            found += [CritiquedResponse(prompt, response, str(each.value)) for each in opinions]
    return Learnt(found, _counted(dropped))


def _values(one: Feedback) -> list[tuple[str, Fraction | str]]:
    """Return the value that a record gives each of its responses."""
    verdict = one.verdict
    if isinstance(verdict, Score):
        if not math.isfinite(verdict.value):
            raise BadInput(f"feedback of people: expected finite scores, found {verdict.value}")
        # By its digits: 0.1 and 0.2 are on average 0.15.
        return [(one.response_ids[0], Fraction(str(verdict.value)))]
    if isinstance(verdict, Critique):
        return [(one.response_ids[0], verdict.text)]
    if isinstance(verdict, Ranking):
        return list(zip(one.response_ids, _shares_beaten(verdict.ranks), strict=True))
    if isinstance(verdict, Unscored):
        return []
    raise BadInput(f"feedback of people: expected scores, ranks or words, found {verdict!r}")


def _shares_beaten(ranks: Sequence[int]) -> list[Fraction]:
    """Return the share of the other responses that each is ranked before, ties counting half."""
    others = max(len(ranks) - 1, 1)
    return [
        Fraction(2 * sum(mine < other for other in ranks) + ranks.count(mine) - 1, 2 * others)
        for mine in ranks
    ]


def _by_prompt(
    prompts: Sequence[Prompt], responses: Sequence[Response]
) -> list[tuple[Prompt, list[Response]]]:
    several: dict[str, list[Response]] = {prompt.id: [] for prompt in prompts}
    for response in responses:
        several[response.prompt_id].append(response)
    return [(prompt, several[prompt.id]) for prompt in prompts]


def _counted(dropped: Counter[str]) -> dict[str, int]:
    return {why: number for why, number in dropped.items() if number}
