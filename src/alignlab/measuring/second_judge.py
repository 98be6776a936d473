"""Judge a finished study's answers by a second judge: do its win rates hold?

A judge of another kind has other biases. Where both judges agree that a model wins, the finding
depends less on either; where they disagree, it may be the judge's alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import chain
from typing import cast

from alignlab.context import RunContext
from alignlab.evaluation.metrics.intervals import share_interval
from alignlab.evaluation.metrics.win_rate import win_rate
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.tasks import value_of
from alignlab.evaluation.win_rate_rows import read_outcomes
from alignlab.feedback.conversion import JudgeByScore, KnownFeedback
from alignlab.measuring.study_duels import Pair, StudyDuels, Verdicts
from alignlab.protocols import FeedbackSource, PairJudge
from alignlab.runs import slug
from alignlab.stages.compare import compare
from alignlab.stages.judge import judge as rate
from alignlab.types import EvalResult, Feedback, Prompt, Response

NAME = "second_judge"
log = logging.getLogger(__name__)


def second_judge_rows(context: RunContext, study: StudyDuels, spec: str) -> list[EvalResult]:
    """Compute every model's win rate by the study's judge and by another, and their agreement.

    Args:
        context: context of the run that keeps the second judge's verdicts.
        study: comparisons of a finished study.
        spec: the second judge, a source of scores or a judge of pairs; the higher score wins.

    Returns:
        Per model: `win_rate`, by the second judge, and `win_rate_first`, by the study's own;
        `same_verdict`, the share of pairs on which both judges give one verdict (win, tie, loss),
        and `opposite_verdict`, the share on which they prefer different answers.

    Raises:
        BadInput: an unknown judge.
    """
    judge = context.pair_judge(spec)
    second: Verdicts = {}
    for scope, verdicts in study.by_seed.items():
        of_seed = context.scope(scope) if scope else context
        pairs = {models: [study.pair(one) for one in said] for models, said in verdicts.items()}
        every = list(chain(*pairs.values()))
        prompts = {prompt.id: prompt for prompt, *_ in every}
        with of_seed.run.stage("seed") as stage:
            stage.write("test_prompts", Prompt, prompts.values())
        known = _scored_once(of_seed, judge, every)
        for models, items in pairs.items():
            found = compare(of_seed, known, items, name=f"duel-{slug(models[0])}")
            second.setdefault(models, []).extend(found)
    judges = {one.source for said in second.values() for one in said}
    for name in sorted(study.judges & judges):
        log.warning("%s judged the study too: agreement with itself says nothing", name)
    return [row for models, said in second.items() for row in _rows(study, models, said)]


def _scored_once(context: RunContext, judge: PairJudge, pairs: Sequence[Pair]) -> PairJudge:
    """Score every answer once, where the judge scores, as studies do: the higher score wins."""
    scorer = judge.source if isinstance(judge, JudgeByScore) else judge
    if not hasattr(scorer, "rate"):
        return judge
    source = cast(FeedbackSource, scorer)
    prompts = {prompt.id: prompt for prompt, *_ in pairs}
    answers = {answer.id: answer for _, *both in pairs for answer in both}
    by_model: dict[str, list[Response]] = {}
    for answer in answers.values():
        by_model.setdefault(answer.sampler.model, []).append(answer)
    scores = [
        rate(context, source, list(prompts.values()), some, name=f"score-{slug(model)}")
        for model, some in by_model.items()
    ]
    return JudgeByScore(KnownFeedback(source.name, chain(*scores)))


def _rows(
    study: StudyDuels, models: tuple[str, str], second: Sequence[Feedback]
) -> list[EvalResult]:
    first = study.verdicts[models]
    seeds = tuple(int(scope.removeprefix("seed-") or 0) for scope in study.by_seed)
    about = Subject(models[0], NAME, models[1], seeds)
    both = [
        (one.prompt_id, a, b)
        for one, other in zip(first, second, strict=True)
        if (a := value_of(one)) is not None and (b := value_of(other)) is not None
    ]
    prompts = [prompt for prompt, _, _ in both]
    unscored = len(first) - len(both)
    rows = [
        about.row(name, found.rate, unscored=found.unscored)
        for name, found in (
            ("win_rate", win_rate(read_outcomes(second))),
            ("win_rate_first", win_rate(read_outcomes(first))),
        )
    ]
    agreements = {
        "same_verdict": [float(a == b) for _, a, b in both],
        "opposite_verdict": [float(abs(a - b) == 1) for _, a, b in both],
    }
    return rows + [
        about.row(name, share_interval(values, prompts), unscored=unscored)
        for name, values in agreements.items()
    ]
