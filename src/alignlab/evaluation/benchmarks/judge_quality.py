"""Judge quality: agreement of a judge of pairs with people who compared the same answers.

The data's own order is the human verdict, equal scores are a human tie. Agreement counts three
verdicts (better, worse, tie); accuracy leaves human ties out and counts the judge's ties half. The
guesses "longer wins" and a coin are measured on these pairs as well: data that the first of them
orders well shows little about a judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar, NamedTuple

from alignlab import seeds
from alignlab.evaluation.benchmarks.reward_accuracy import LONGER, known_groups
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_rows import (
    Measure,
    QuestionValue,
    not_comparable,
    part_rows,
    prompt_count,
)
from alignlab.evaluation.tasks import (
    BenchmarkInputs,
    Findings,
    Needs,
    Question,
    pair_judge,
    value_of,
)
from alignlab.registry import register
from alignlab.types import (
    Corpus,
    EvalResult,
    Feedback,
    Preference,
    PreferenceGroup,
    Prompt,
    Response,
    Verdict,
)

NAME = "judge_quality"
COIN = "coin"
AGREEMENT = Measure("agreement", is_share=True)
ACCURACY = Measure("accuracy", is_share=True)
CONSISTENT = Measure("consistent", is_share=True)
"""Share of pairs with the same verdict in both orders."""
BOTH_ORDERS = Measure("accuracy_both_orders", is_share=True)
"""Accuracy of JudgeBench: a tie and a right verdict are right, a right and a wrong one are not."""


class Pair(NamedTuple):
    """Two answers that people compared."""

    prompt: Prompt
    first: Response
    second: Response
    human: float
    """Human verdict: 1 the first is better, 0 the second, 0.5 a tie."""


@register("benchmark", NAME)
@dataclass(frozen=True)
class PairJudgeQuality:
    """Agreement of a judge of pairs with human verdicts, and that of two guesses."""

    needs: ClassVar[Needs] = Needs(
        data="pairs or groups that people compared, in one of the formats of `alignlab list data` "
        "(LLMBar, PandaLM, Auto-J, OASST, HH, ...)",
        corpus=True,
        judges=("pairs",),
        models="none",
    )

    def questions(self, data: Corpus) -> list[Question]:
        """Return no questions: the data's own responses are judged."""
        return []

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Judge every pair in both orders."""
        pairs = human_pairs(inputs)
        items = [(p.prompt, p.first, p.second) for p in pairs]
        judged = pair_judge(inputs).compare(items, inputs.seed)
        rows = _rows(pair_judge(inputs).name, pairs, [value_of(f) for f in judged], inputs.seed)
        rows += _consistency(pair_judge(inputs).name, judged, pairs, inputs.seed)
        rows += _rows(LONGER, pairs, [longer(p) for p in pairs], inputs.seed)
        rows += _rows(COIN, pairs, [_coin(p, inputs.seed) for p in pairs], inputs.seed)
        return Findings(not_comparable(rows), tuple(judged))


def human_pairs(inputs: BenchmarkInputs) -> list[Pair]:
    """List every pair of a group, in an order drawn by the seed so that the better varies in place.

    Raises:
        BadInput: the data holds no ranked responses.
    """
    return ordered_pairs(known_groups(inputs), inputs.seed)


def ordered_pairs(groups: Sequence[PreferenceGroup], seed: int) -> list[Pair]:
    """List every pair of the groups, in an order drawn by the seed."""
    found = []
    for group in groups:
        numbered = list(zip(group.responses, group.scores, strict=True))
        for (one, high), (other, low) in combinations(numbered, 2):
            human = 0.5 if high == low else 1.0
            pair = Pair(group.prompt, one, other, human)
            if seeds.derive(seed, NAME, one.id, other.id) % 2:
                pair = Pair(group.prompt, other, one, 1 - human)
            found.append(pair)
    return found


def _rows(
    name: str, pairs: Sequence[Pair], values: Sequence[float | None], seed: int
) -> list[EvalResult]:
    prompts = {p.prompt.id: p.prompt for p in pairs}
    both = list(zip(pairs, values, strict=True))
    agreed = [
        QuestionValue(p.prompt.id, None if v is None else float(v == p.human)) for p, v in both
    ]
    right = [
        QuestionValue(p.prompt.id, None if v is None else 1 - abs(p.human - v))
        for p, v in both
        if p.human != 0.5
    ]
    about = Subject(name, NAME, against="human verdicts")
    rows = part_rows(about, AGREEMENT, agreed, prompts, seed=seed)
    rows += part_rows(about, ACCURACY, right, prompts, seed=seed)
    return rows + prompt_count(about, agreed, prompts)


def _consistency(
    name: str, judged: Sequence[Feedback], pairs: Sequence[Pair], seed: int
) -> list[EvalResult]:
    """Return the share of pairs with one verdict in both orders; none where there are no orders."""
    orders = [
        QuestionValue(f.prompt_id, float(f.verdict.orders[0] == f.verdict.orders[1]))
        for f in judged
        if isinstance(f.verdict, Preference) and len(f.verdict.orders) == 2
    ]
    if not orders:
        return []
    prompts = {p.prompt.id: p.prompt for p in pairs}
    about = Subject(name, NAME, against="human verdicts")
    rows = part_rows(about, CONSISTENT, orders, prompts, seed=seed)[:1]
    rows = [replace(row, unscored=len(judged) - len(orders)) for row in rows]
    decided = [
        QuestionValue(f.prompt_id, _favours(f.verdict, pair.human))
        for f, pair in zip(judged, pairs, strict=True)
        if pair.human != 0.5
    ]
    return rows + part_rows(about, BOTH_ORDERS, decided, prompts, seed=seed)


def _favours(verdict: Verdict, human: float) -> float | None:
    """Return 1 where the verdicts of both orders together favour people's choice, else 0."""
    if not isinstance(verdict, Preference):
        return None
    better = 0 if human == 1 else 1
    return float(sum((o == better) - (o == 1 - better) for o in verdict.orders) > 0)


def longer(pair: Pair) -> float:
    """Return 1 if the first answer has more characters, 0 if the second has, 0.5 for equal."""
    first, second = len(pair.first.text), len(pair.second.text)
    return 0.5 if first == second else float(first > second)


def _coin(pair: Pair, seed: int) -> float:
    return float(seeds.derive(seed, COIN, pair.first.id, pair.second.id) % 2)
