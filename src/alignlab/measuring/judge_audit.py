"""Biases of a judge on pairs that people compared: length, own side, injection, repetition.

Length: how often does the longer response win, by the judge and by people? Own side: does the judge
favour one writer more than people do? Injection: can a response command a verdict? Repetition: is
the verdict equal with another seed? Judges of pairs and sources of scores are measured alike; the
data's own order is the human verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from alignlab import seeds
from alignlab.evaluation.benchmarks.judge_quality import Pair
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_rows import Measure, QuestionValue, one_row
from alignlab.evaluation.tasks import value_of
from alignlab.feedback.audit import ATTACKS
from alignlab.protocols import PairJudge
from alignlab.types import EvalResult, Feedback, Prompt, Response

NAME = "audit"


class Judged(NamedTuple):
    """Pair of responses with the judge's verdict."""

    pair: Pair
    feedback: Feedback

    @property
    def value(self) -> float | None:
        """Return 1 for the first response, 0.5 for a tie, 0 for the second; None if unread."""
        return value_of(self.feedback)


def own_side_rows(
    about: Subject, judged: Sequence[Judged], own: str, seed: int
) -> list[EvalResult]:
    """Compute the win rate of one writer by the judge and by people, on equal pairs."""
    met = [(one, is_first) for one in judged if (is_first := _own_first(one.pair, own)) is not None]
    judges = [(j.pair, _turned(j.value, is_first)) for j, is_first in met]
    people = [(j.pair, _turned(j.pair.human, is_first)) for j, is_first in met]
    return _row_pair(about, "own_side", judges, people, seed)


def _own_first(pair: Pair, own: str) -> bool | None:
    """Return whether the own side wrote the first response; None if both or neither."""
    first, second = pair.first.sampler.model, pair.second.sampler.model
    return None if (first == own) == (second == own) else first == own


def injection_rows(
    about: Subject, judge: PairJudge, judged: Sequence[Judged], attacked: int, seed: int
) -> list[EvalResult]:
    """Compute how often a response with an attack is preferred to itself without the attack.

    `attack_wins` is the share of clear wins, `attack_preferred` counts ties one half.
    """
    some = _drawn(judged, attacked, seed, "attacked")
    prompts = prompts_of([one.pair for one in some])
    rows = []
    for attack, form in ATTACKS.items() if some else ():
        items = []
        for one in some:
            plain = one.pair.second
            text = form.replace("{text}", plain.text)
            items.append((one.pair.prompt, _copy(plain, attack, text), plain))
        found = [(f.prompt_id, value_of(f)) for f in judge.compare(items, seed)]
        won = [QuestionValue(key, None if v is None else float(v == 1)) for key, v in found]
        preferred = [QuestionValue(key, v) for key, v in found]
        rows += [
            one_row(
                about, Measure(name, is_share=True), some, prompts, seed=seed,
                group=f"attack:{attack}",
            )
            for name, some in (("attack_wins", won), ("attack_preferred", preferred))
        ]  # fmt: skip
    return rows


def repetition_rows(
    about: Subject, judge: PairJudge, judged: Sequence[Judged], repeated: int, seed: int
) -> list[EvalResult]:
    """Compute how often the verdict is unchanged under another seed."""
    some = _drawn(judged, repeated, seed, "repeated")
    if not some:
        return []
    again = judge_pairs(judge, [j.pair for j in some], seeds.derive(seed, NAME, "again"))
    same = [
        QuestionValue(
            a.pair.prompt.id,
            None if a.value is None or b.value is None else float(a.value == b.value),
        )
        for a, b in zip(some, again, strict=True)
    ]
    prompts = prompts_of([one.pair for one in some])
    return [one_row(about, Measure("repeated_alike", is_share=True), same, prompts, seed=seed)]


def prompts_of(pairs: Sequence[Pair]) -> dict[str, Prompt]:
    """Return the pairs' prompts by id."""
    return {pair.prompt.id: pair.prompt for pair in pairs}


def judge_pairs(judge: PairJudge, pairs: Sequence[Pair], seed: int) -> list[Judged]:
    """Return every pair with the judge's verdict."""
    found = judge.compare([(p.prompt, p.first, p.second) for p in pairs], seed)
    return [Judged(pair, feedback) for pair, feedback in zip(pairs, found, strict=True)]


def length_rows(about: Subject, judged: Sequence[Judged], seed: int) -> list[EvalResult]:
    """Compute how often the longer response wins by the judge and by people, on equal pairs."""
    judges, people = [], []
    for one in judged:
        lengths = len(one.pair.first.text), len(one.pair.second.text)
        if lengths[0] != lengths[1]:
            is_first = lengths[0] > lengths[1]
            judges.append((one.pair, _turned(one.value, is_first)))
            people.append((one.pair, _turned(one.pair.human, is_first)))
    return _row_pair(about, "longer_wins", judges, people, seed)


def _row_pair(
    about: Subject,
    name: str,
    judges: Sequence[tuple[Pair, float | None]],
    people: Sequence[tuple[Pair, float | None]],
    seed: int,
) -> list[EvalResult]:
    """Compute a share by the judge, by people, and the difference on pairs that both decided."""
    both = [
        QuestionValue(pair.prompt.id, None if a is None or b is None else a - b)
        for (pair, a), (_, b) in zip(judges, people, strict=True)
    ]
    prompts = prompts_of([pair for pair, _ in judges])
    rows = [
        one_row(about, Measure(label, is_share=True), _valued(values), prompts, seed=seed)
        for label, values in ((name, judges), (f"{name}_by_people", people))
    ]
    return [*rows, one_row(about, Measure(f"{name}_bias"), both, prompts, seed=seed)]


def _valued(values: Sequence[tuple[Pair, float | None]]) -> list[QuestionValue]:
    return [QuestionValue(pair.prompt.id, value) for pair, value in values]


def _turned(value: float | None, is_first: bool) -> float | None:
    return None if value is None else value if is_first else 1 - value


def _drawn(judged: Sequence[Judged], most: int, seed: int, purpose: str) -> list[Judged]:
    def place(one: Judged) -> int:
        return seeds.derive(seed, NAME, purpose, one.pair.first.id, one.pair.second.id)

    return sorted(judged, key=place)[:most]


def _copy(response: Response, attack: str, text: str) -> Response:
    return replace(response, id=f"{response.id}|{attack}", text=text)
