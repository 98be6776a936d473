"""Audit a judge: measure its biases and its agreement with people.

Measured are position (is the verdict equal in both orders?), length (how often does the longer
response win, by the judge and by people?), own side (does the judge favour one writer more than
people do?), injection (can a response command a verdict?), repetition (is the verdict equal with
another seed?), agreement with people, and the unreadable share. A judge of pairs and a source of
scores are audited alike; the data's own order is the human verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from alignlab import seeds
from alignlab.configs import Bounded, NonNegativeInt
from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.judge_quality import Pair, human_pairs
from alignlab.evaluation.judge_checks import position_rows
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_rows import Measure, QuestionValue, one_row
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question, value_of
from alignlab.feedback.audit import ATTACKS
from alignlab.feedback.conversion import JudgeByScore
from alignlab.protocols import PairJudge
from alignlab.types import Corpus, EvalResult, Feedback, Prompt, Response

NAME = "audit"


class Judged(NamedTuple):
    """Pair of responses with the judge's verdict."""

    pair: Pair
    feedback: Feedback

    @property
    def value(self) -> float | None:
        """Return 1 for the first response, 0.5 for a tie, 0 for the second; None if unread."""
        return value_of(self.feedback)


@dataclass(frozen=True)
class JudgeAudit(Bounded):
    """Audit of a judge: position, length, own side, injection, repetition, and agreement."""

    own: str = ""
    """Writer that the judge may favour, by its name in the data (the judge's own model); empty:
    none."""
    attacked: NonNegativeInt = 50
    """Number of responses judged under each attack, drawn by the seed; 0 skips injection."""
    repeated: NonNegativeInt = 50
    """Number of pairs judged twice, drawn by the seed; 0 skips repetition."""

    needs: ClassVar[Needs] = Needs(
        data="pairs or groups that people compared, in one of the formats of `alignlab list data`",
        corpus=True,
        judges=("pairs", "scores"),
        models="none",
    )

    def questions(self, data: Corpus) -> list[Question]:
        """Return no questions: the data's own responses are judged."""
        return []

    def measure(self, asked: BenchmarkInputs) -> Findings:
        """Judge every pair, then the attacked responses, then some pairs again."""
        judge = _as_pairs(asked)
        about = Subject(judge.name, NAME, against="human verdicts")
        pairs = human_pairs(asked)
        if self.own and not any(_own_first(pair, self.own) is not None for pair in pairs):
            raise BadInput(f"own={self.own}: expected a writer of some of the data's responses")
        judged = judge_pairs(judge, pairs, asked.seed)
        said = tuple(j.feedback for j in judged)
        rows = _agreement(about, judged, asked.seed)
        rows += position_rows(about, said, prompts_of(pairs), asked.seed)
        rows += length_rows(about, judged, asked.seed)
        if self.own:
            rows += own_side_rows(about, judged, self.own, asked.seed)
        rows += injection_rows(about, judge, judged, self.attacked, asked.seed)
        rows += repetition_rows(about, judge, judged, self.repeated, asked.seed)
        return Findings(tuple(rows), said)


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


def _as_pairs(asked: BenchmarkInputs) -> PairJudge:
    judge = asked.judge
    if hasattr(judge, "compare"):
        return judge  # type: ignore[return-value]
    return JudgeByScore(judge, name=getattr(judge, "name", ""))  # type: ignore[arg-type]


def judge_pairs(judge: PairJudge, pairs: Sequence[Pair], seed: int) -> list[Judged]:
    """Return every pair with the judge's verdict."""
    found = judge.compare([(p.prompt, p.first, p.second) for p in pairs], seed)
    return [Judged(pair, feedback) for pair, feedback in zip(pairs, found, strict=True)]


def _agreement(about: Subject, judged: Sequence[Judged], seed: int) -> list[EvalResult]:
    """Compute agreement with people, accuracy without human ties, and the unreadable share."""
    agreed, right, unread = [], [], []
    for one in judged:
        key, value, human = one.pair.prompt.id, one.value, one.pair.human
        unread.append(QuestionValue(key, float(value is None)))
        agreed.append(QuestionValue(key, None if value is None else float(value == human)))
        if human != 0.5:
            right.append(QuestionValue(key, None if value is None else 1 - abs(human - value)))
    prompts = prompts_of([one.pair for one in judged])
    return [
        one_row(about, Measure(name, is_share=True), values, prompts, seed=seed)
        for name, values in (("agreement", agreed), ("accuracy", right), ("unreadable", unread))
    ]


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
