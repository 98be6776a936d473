"""Win rates of a finished study, corrected by a few human labels of its answers.

The labels are those of `alignlab annotations import ... --to feedback` on answers that
`alignlab annotations export RUN` drew: a pair that people rated on both sides is labelled, the
judge's verdict predicts the others (`prediction_powered`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import Interval
from alignlab.evaluation.metrics.prediction_powered import powered_mean
from alignlab.evaluation.metrics.win_rate import win_rate
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.tasks import value_of
from alignlab.evaluation.win_rate_rows import read_outcomes
from alignlab.feedback.conversion import JudgeByScore
from alignlab.feedback.human import HumanFeedback, make_human
from alignlab.measuring.study_duels import read_duels
from alignlab.types import EvalResult, Feedback, Message, Prompt, Response

NAME = "head_to_head"


def corrected_win_rates(run: Path, people: Path) -> list[EvalResult]:
    """Compute every model's win rate by the judge, by people alone, and by both.

    Raises:
        BadInput: no finished comparisons, or labels of none of their pairs.
    """
    study = read_duels(run)
    human = make_human(str(people))
    rows: list[EvalResult] = []
    for (model, baseline), judged in study.verdicts.items():
        rows += _rows(Subject(model, NAME, baseline), judged, _labels(judged, study.answers, human))
    if not any(row.n for row in rows if row.metric == "win_rate_by_people"):
        raise BadInput(f"{people}: expected ratings of both answers of a pair in {run}, found none")
    return rows


def _rows(
    about: Subject, judged: Sequence[Feedback], labels: Sequence[float | None]
) -> list[EvalResult]:
    prompts = [one.prompt_id for one in judged]
    by_model = _numbers([value_of(f) for f in judged])
    found = powered_mean(by_model, _numbers(labels), prompts_N=prompts)
    by_judge = win_rate(read_outcomes(judged))
    return [
        about.row("win_rate", by_judge.rate, unscored=by_judge.unscored),
        about.row("win_rate_by_people", found.people),
        about.row("win_rate_corrected", found.corrected),
        about.row("weight_of_judge", Interval(found.weight, None, None, found.unlabelled)),
    ]


def _labels(
    judged: Sequence[Feedback], answers: Mapping[str, Response], human: HumanFeedback
) -> list[float | None]:
    """Return people's verdict on every pair; None where they rated not both answers.

    A sheet shows a text once, so that ratings hold for equal texts of other models.
    """
    rated = {
        (answers[key].prompt_id, answers[key].text): key for key in human.opinions if key in answers
    }

    def shown(key: str) -> Response:
        answer = answers[key]
        return replace(answer, id=rated.get((answer.prompt_id, answer.text), key))

    items = []
    for one in judged:
        first, second = map(shown, one.response_ids)
        items.append((Prompt(one.prompt_id, (Message("user", ""),), "run"), first, second))
    return [value_of(f) for f in JudgeByScore(human).compare(items, 0)]


def _numbers(values: Sequence[float | None]) -> list[float]:
    return [math.nan if v is None else v for v in values]
