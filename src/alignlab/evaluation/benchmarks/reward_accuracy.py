"""Reward accuracy: how often a source of scores ranks the better response first (arXiv 2403.13787).

Every pair of responses to a prompt whose order is known; by section, where a record's source names
one (`rewardbench/chat`), and as the mean over sections, which is RewardBench's figure. Ties are
wrong, as there; a second figure counts ties half, and the guess that the longer response is better
is measured on the same pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

from scipy.special import expit

from alignlab import seeds
from alignlab.errors import BadInput
from alignlab.evaluation.candidates import mean_of_parts
from alignlab.evaluation.judge_rows import scores_by_response
from alignlab.evaluation.metrics.calibration import calibration
from alignlab.evaluation.result_rows import Subject, by_group
from alignlab.evaluation.task_rows import (
    Measure,
    QuestionValue,
    not_comparable,
    part_rows,
    prompt_count,
)
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question, score_judge
from alignlab.registry import register
from alignlab.types import Corpus, EvalResult, PreferenceGroup, Response

NAME = "reward_accuracy"
LONGER = "longer wins"
ACCURACY = Measure("accuracy", is_share=True)
TIES_HALF = Measure("accuracy_ties_half", is_share=True)


@register("benchmark", NAME)
@dataclass(frozen=True)
class RewardAccuracy:
    """Share of pairs that a reward model, or any source of scores, orders as the data does."""

    log_odds: bool = False
    """Differences of scores are log-odds, as in training of reward models: also report the distance
    of the implied probabilities from the data (Brier score, calibration error)."""

    needs: ClassVar[Needs] = Needs(
        data="preference data in one of the formats of `alignlab list data` (prompt, chosen, "
        "rejected for example; RewardBench: huggingface.co/datasets/allenai/reward-bench)",
        corpus=True,
        judges=("scores",),
        models="none",
    )

    def questions(self, data: Corpus) -> list[Question]:
        """Return no questions: the data's own responses are judged."""
        return []

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Score every response and count the pairs in order."""
        groups = known_groups(inputs)
        items = [(g.prompt, g.responses) for g in groups]
        judged = score_judge(inputs).rate(items, inputs.seed)
        scores = scores_by_response(judged)
        rows = accuracy_rows(score_judge(inputs).name, groups, lambda r: scores[r.id], inputs.seed)
        if self.log_odds:
            rows += _calibration_rows(score_judge(inputs).name, groups, scores, inputs.seed)
        rows += accuracy_rows(LONGER, groups, lambda r: float(len(r.text)), inputs.seed)
        return Findings(not_comparable(rows), tuple(judged))


def known_groups(inputs: BenchmarkInputs) -> list[PreferenceGroup]:
    """Return the data's ranked groups, the held-out ones included.

    Raises:
        BadInput: the data holds none.
    """
    corpus = inputs.corpus
    groups = [] if corpus is None else [*corpus.groups, *corpus.test_groups]
    if not groups:
        raise BadInput("--data: expected ranked responses (groups or pairs), found none")
    return groups


def accuracy_rows(
    name: str,
    groups: Sequence[PreferenceGroup],
    score_of: Callable[[Response], float | None],
    seed: int,
) -> list[EvalResult]:
    """Compute accuracy over ordered pairs, overall and by section, and its mean over sections."""
    wrong: list[QuestionValue] = []
    half: list[QuestionValue] = []
    for group in groups:
        numbered = list(zip(group.responses, group.scores, strict=True))
        for (better, high), (worse, low) in combinations(numbered, 2):
            if high > low:
                a, b = score_of(better), score_of(worse)
                scored = a is not None and b is not None
                tie = 0.5 if scored and a == b else 0.0
                right = float(a > b) if a is not None and b is not None else 0.0
                wrong.append(QuestionValue(group.prompt.id, right if scored else None))
                half.append(QuestionValue(group.prompt.id, right + tie if scored else None))
    prompts = {g.prompt.id: g.prompt for g in groups}
    about = Subject(name, NAME)
    rows = part_rows(about, ACCURACY, wrong, prompts, seed=seed)
    sections = {
        part: some
        for part, some in by_group(wrong, lambda v: prompts[v.prompt_id])
        if part and part.startswith("family:") and any(v.value is not None for v in some)
    }
    if len(sections) > 1:
        rows.append(mean_of_parts(about, "section_mean", sections, prompts, seed=seed))
    rows += part_rows(about, TIES_HALF, half, prompts, seed=seed)[:1]
    return rows + prompt_count(about, wrong, prompts)


def _calibration_rows(
    name: str, groups: Sequence[PreferenceGroup], scores: Mapping[str, float | None], seed: int
) -> list[EvalResult]:
    """Compute Brier score and calibration error of sigmoid(score - score), in a drawn order."""
    chances, truths, prompts, unscored = [], [], [], 0
    for group in groups:
        numbered = list(zip(group.responses, group.scores, strict=True))
        for (better, high), (worse, low) in combinations(numbered, 2):
            a, b = scores[better.id], scores[worse.id]
            if high == low:
                continue
            if a is None or b is None:
                unscored += 1
                continue
            is_first = seeds.derive(seed, NAME, better.id, worse.id) % 2
            chances.append(float(expit(a - b if is_first else b - a)))
            truths.append(float(is_first))
            prompts.append(group.prompt.cluster)
    found = calibration(chances, truths, prompts_N=prompts, seed=seed)
    about = Subject(name, NAME)
    return [
        about.row("brier", found.brier, unscored=unscored),
        about.row("calibration_error", found.ece, unscored=unscored),
    ]
