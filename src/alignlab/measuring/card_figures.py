"""Figures of a judge card on some pairs: agreement, guesses on the same pairs, calibration."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from scipy.special import expit

from alignlab.evaluation.benchmarks.judge_quality import Pair, longer
from alignlab.evaluation.judge_checks import position_rows
from alignlab.evaluation.metrics.agreement import cohen_kappa
from alignlab.evaluation.metrics.calibration import calibration
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.task_rows import Measure, QuestionValue, one_row
from alignlab.measuring.judge_audit import Judged, length_rows, prompts_of
from alignlab.types import EvalResult, Preference

NAME = "judge_card"
LONGER, COIN, IDENTITY = "longer wins", "coin", "model identity"
BASE = "most common verdict"
GUESSES = {
    LONGER: "accuracy_over_longer",
    COIN: "accuracy_over_coin",
    IDENTITY: "accuracy_over_identity",
}
"""Guess that a fit judge must beat -> metric of the judge's lead over it."""

Valued = Sequence[tuple[Pair, float | None]]
"""Pairs with a verdict on each: 1, 0.5 or 0; None is unscored."""


def agreement_rows(
    name: str, valued: Valued, seed: int, group: str | None = None
) -> list[EvalResult]:
    """Compute agreement and Cohen's kappa over three verdicts, and accuracy without human ties."""
    about = Subject(name, NAME, against="human verdicts")
    prompts = prompts_of([pair for pair, _ in valued])
    agreed = [
        QuestionValue(pair.prompt.id, None if v is None else float(v == pair.human))
        for pair, v in valued
    ]
    kappa = cohen_kappa(
        [math.nan if v is None else v for _, v in valued],
        [pair.human for pair, _ in valued],
        prompts_N=[pair.prompt.cluster for pair, _ in valued],
        seed=seed,
    )
    unscored = sum(v is None for _, v in valued)
    return [
        _row(about, "accuracy", _right(valued), valued, seed, group),
        about.row("kappa", kappa, unscored=unscored, group=group),
        one_row(
            about, Measure("agreement", is_share=True), agreed, prompts, seed=seed, group=group
        ),
    ]


def guess_rows(
    judge: str,
    valued: Valued,
    identity: Sequence[float | None],
    seed: int,
    group: str | None = None,
) -> list[EvalResult]:
    """Compute the same figures for guesses that read no answer, and the judge's lead over each.

    A coin counts as its expectation, one half. The lead is paired: the judge's accuracy
    less the guess's on each pair that people decided, an unread verdict counting one half.

    Args:
        judge: name of the judge.
        valued: pairs with the judge's verdict.
        identity: verdict by the writers' records (`card_sets.by_identity`).
    """
    pairs = [pair for pair, _ in valued]
    guesses: dict[str, Valued] = {
        LONGER: [(pair, longer(pair)) for pair in pairs],
        COIN: [(pair, 0.5) for pair in pairs],
    }
    if any(value is not None for value in identity):
        guesses[IDENTITY] = list(zip(pairs, identity, strict=True))
    common = Counter(pair.human for pair in pairs).most_common(1)[0][0]
    rows = []
    for name, guessed in guesses.items():
        found = agreement_rows(name, guessed, seed, group)
        # Of a coin only the expected accuracy is known, and that exactly.
        rows += [replace(found[0], low=None, high=None)] if name == COIN else found
    base = agreement_rows(BASE, [(pair, common) for pair in pairs], seed, group)
    rows.append(base[2])
    about = Subject(judge, NAME, against="human verdicts")
    leads = [
        _row(about, GUESSES[name], _lead(valued, guessed), valued, seed, group, is_share=False)
        for name, guessed in guesses.items()
    ]
    return rows + leads


def _lead(valued: Valued, guessed: Valued) -> list[QuestionValue]:
    """Return the difference of accuracies on each decided pair; unread verdicts count one half."""
    judge = _right([(pair, 0.5 if v is None else v) for pair, v in valued])
    guess = _right([(pair, 0.5 if v is None else v) for pair, v in guessed])
    return [
        QuestionValue(a.prompt_id, (a.value or 0.0) - (b.value or 0.0))
        for a, b in zip(judge, guess, strict=True)
    ]


def bias_rows(
    about: Subject, judged: Sequence[Judged], seed: int, group: str | None = None
) -> list[EvalResult]:
    """Compute unread verdicts, position and length figures."""
    prompts = prompts_of([one.pair for one in judged])
    unread = [QuestionValue(j.pair.prompt.id, float(j.value is None)) for j in judged]
    rows = [one_row(about, Measure("unreadable", is_share=True), unread, prompts, seed=seed)]
    rows += position_rows(about, [j.feedback for j in judged], prompts, seed)
    rows += length_rows(about, judged, seed)
    return [replace(row, group=group) for row in rows]


def single_order(judged: Sequence[Judged]) -> Valued:
    """Return the verdicts of the first order alone; none where there are no orders."""
    found: list[tuple[Pair, float | None]] = []
    for one in judged:
        verdict = one.feedback.verdict
        orders = verdict.orders if isinstance(verdict, Preference) else ()
        if orders:
            found.append((one.pair, 0.5 if orders[0] is None else float(orders[0] == 0)))
        elif one.value is None:
            found.append((one.pair, None))
    has_orders = any(
        isinstance(one.feedback.verdict, Preference) and one.feedback.verdict.orders
        for one in judged
    )
    return found if has_orders else []


def calibration_rows(
    about: Subject,
    judged: Sequence[Judged],
    scores: Mapping[str, float] | None,
    seed: int,
    *,
    odds: bool,
) -> list[EvalResult]:
    """Compare a judge's sureness with its accuracy, on pairs that people decided.

    Scores: accuracy in the half with the larger differences and in the other half; of log-odds
    (reward models), the Brier score and calibration error of sigmoid(difference). A judge of pairs:
    accuracy where both orders agree.

    Args:
        scores: response id -> score; None for a judge of pairs.
        odds: True if differences of scores are log-odds.
    """
    decided = [j for j in judged if j.pair.human != 0.5 and j.value is not None]
    if scores is None:
        sure = [j for j in decided if _consistent(j)]
        return [_of(about, "accuracy_if_consistent", sure, seed)] if sure else []
    margins = [
        (j, scores[j.pair.first.id] - scores[j.pair.second.id])
        for j in decided
        if j.pair.first.id in scores and j.pair.second.id in scores
    ]
    margins.sort(key=lambda pair: abs(pair[1]))
    ranked = [j for j, _ in margins]
    half = len(ranked) // 2
    if not half:
        return []
    rows = [
        _of(about, "accuracy_surer_half", ranked[-half:], seed),
        _of(about, "accuracy_unsure_half", ranked[:-half], seed),
    ]
    if odds:
        found = calibration(
            [float(expit(margin)) for _, margin in margins],
            [j.pair.human for j in ranked],
            prompts_N=[j.pair.prompt.cluster for j in ranked],
            seed=seed,
        )
        rows += [about.row("brier", found.brier), about.row("calibration_error", found.ece)]
    return rows


def _consistent(one: Judged) -> bool:
    verdict = one.feedback.verdict
    return isinstance(verdict, Preference) and len(set(verdict.orders)) == 1


def _of(about: Subject, name: str, judged: Sequence[Judged], seed: int) -> EvalResult:
    valued = [(j.pair, j.value) for j in judged]
    return _row(about, name, _right(valued), valued, seed, None)


def _right(valued: Valued) -> list[QuestionValue]:
    """Return the accuracy on each pair that people decided, ties one half."""
    return [
        QuestionValue(pair.prompt.id, None if v is None else 1 - abs(pair.human - v))
        for pair, v in valued
        if pair.human != 0.5
    ]


def _row(
    about: Subject,
    name: str,
    values: Sequence[QuestionValue],
    valued: Valued,
    seed: int,
    group: str | None,
    *,
    is_share: bool = True,
) -> EvalResult:
    prompts = prompts_of([pair for pair, _ in valued])
    return one_row(about, Measure(name, is_share), values, prompts, seed=seed, group=group)
