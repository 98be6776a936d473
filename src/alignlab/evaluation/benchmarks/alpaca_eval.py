"""AlpacaEval 2.0 from annotation files: win rates as published, length-controlled ones included.

A judge's preference p in [1, 2] scores p - 1 for the model. Length-controlled figures need the
instructions' difficulty, and either published weights or the gamed baselines for a refit (see
`metrics.length_controlled`). Judgements made with prompts of other wording are not comparable with
the public leaderboard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from alignlab.errors import BadInput
from alignlab.evaluation.annotation_files import (
    Annotation,
    PreferencesFrom,
    read_annotations,
    read_difficulty,
    read_gamed,
    read_weights,
)
from alignlab.evaluation.metrics.intervals import NOTHING, Floats, Interval
from alignlab.evaluation.metrics.length_controlled import (
    GlmWeights,
    Preferences,
    fit,
    predictions,
    standardised,
)
from alignlab.evaluation.result_rows import Subject
from alignlab.types import EvalResult

NAME = "alpaca_eval"
INSTRUCTIONS = 805
"""Instructions of the benchmark; average lengths divide by all of them even where rows miss."""


@dataclass(frozen=True)
class AlpacaEvalResult:
    """Figures of one model under the names, and in the per cent, of the public leaderboard."""

    model: str
    win_rate: float | None
    """Win rate: 100 * mean score."""
    standard_error: float | None
    """Standard error: 100 * sample standard deviation of the scores / sqrt(n)."""
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int
    """Number of annotated instructions; missing preferences are left out."""
    n_missing: int
    discrete_win_rate: float | None
    """Wins in per cent, draws half."""
    avg_length: int
    """Mean length of the model's answers in characters over all 805 instructions, rounded down."""
    lc_win_rate: float | None = None
    """Length-controlled win rate; None without the files that it needs."""
    lc_standard_error: float | None = None

    def rows(self, baseline: str | None = None) -> list[EvalResult]:
        """Return result rows: win rates as shares of one, 95% normal intervals."""
        subject = Subject(self.model, NAME, against=baseline)
        figures = [
            ("win_rate", self.win_rate, self.standard_error),
            ("lc_win_rate", self.lc_win_rate, self.lc_standard_error),
            ("discrete_win_rate", self.discrete_win_rate, None),
        ]
        rows = [
            subject.row(
                name,
                NOTHING if value is None else _normal(value, error, self.n_total),
                unscored=self.n_missing,
            )
            for name, value, error in figures
            if value is not None or name == "win_rate"
        ]
        return [*rows, subject.count("avg_length", float(self.avg_length), self.n_total)]


@dataclass(frozen=True)
class AlpacaEval:
    """Figures of AlpacaEval 2.0 from annotation files."""

    difficulty: Path | None = None
    """CSV of instruction difficulties; without it no length-controlled figure."""
    weights: Path | None = None
    """CSV of published weights; models in it are not fitted again."""
    gamed: Path | None = None
    """CSV of the gamed baselines, for a refit of models without published weights."""
    difficulty_by: Literal["instruction", "row"] = "instruction"
    """Lookup of difficulty by instruction, or by the row's position: as on the public leaderboard
    for models with missing rows, whose published figures are thereby slightly off."""
    preferences: PreferencesFrom = "stored"
    """Preferences as stored, or recomputed from the judge's token log-probabilities, which only
    `annotations.json` holds."""

    def __post_init__(self) -> None:
        if self.difficulty is None and (self.weights is not None or self.gamed is not None):
            raise BadInput("alpaca_eval: weights= and gamed= have no effect without difficulty=")
        if self.difficulty is not None and self.weights is None and self.gamed is None:
            raise BadInput("alpaca_eval: difficulty= has no effect without weights= or gamed=")
        if self.difficulty is None and self.difficulty_by == "row":
            raise BadInput("alpaca_eval: difficulty_by=row has no effect without difficulty=")

    def evaluate(self, annotations: Path) -> list[AlpacaEvalResult]:
        """Measure every model of an annotation file.

        Raises:
            BadInput: a file is missing or bad, or lacks what a length-controlled figure needs.
        """
        return self.of(read_annotations(annotations, self.preferences), annotations)

    def of(
        self, by_model: Mapping[str, Sequence[Annotation]], where: Path
    ) -> list[AlpacaEvalResult]:
        """Measure annotations by model; error messages name their source, `where`.

        Raises:
            BadInput: they lack what a length-controlled figure needs.
        """
        difficulty = {} if self.difficulty is None else read_difficulty(self.difficulty)
        weights = {} if self.weights is None else read_weights(self.weights)
        gamed = None if self.gamed is None else read_gamed(self.gamed)
        found = []
        for model, some in by_model.items():
            predicted_N = None
            if difficulty and (model in weights or gamed is not None):
                difficulty_N = self._difficulties(where, some, difficulty)
                predicted_N = _predicted(some, difficulty_N, weights.get(model), gamed)
            found.append(_measure(model, some, predicted_N))
        return found

    def _difficulties(
        self, file: Path, annotations: Sequence[Annotation], difficulty: Mapping[int, float]
    ) -> Floats:
        """Look up each annotation's difficulty; rows of a whole file are instructions in order."""
        complete = len(annotations) == len(difficulty)
        values = []
        for a in annotations:
            by_row = self.difficulty_by == "row" or (a.instruction_id is None and complete)
            key = a.row if by_row else a.instruction_id
            if key is None:
                raise BadInput(
                    f"{file}: {a.model} has {len(annotations)} of {len(difficulty)} rows and no "
                    "instruction ids; expected all rows, ids, or difficulty_by=row"
                )
            if key not in difficulty:
                raise BadInput(f"{file}: expected a difficulty for instruction {key}, found none")
            values.append(difficulty[key])
        return np.array(values, dtype=np.float64)


def _scores(annotations: Sequence[Annotation]) -> Floats:
    """Return each annotation's score in [0, 1]; NaN where the preference is missing."""
    return np.array(
        [np.nan if a.preference is None else a.preference - 1 for a in annotations], np.float64
    )


def _predicted(
    annotations: Sequence[Annotation],
    difficulty_N: Floats,
    weights: GlmWeights | None,
    gamed: Preferences | None,
) -> Floats:
    """Predict length-controlled preferences from given weights or a refit."""
    if weights is None:
        if gamed is None:
            raise ValueError("a refit needs the gamed baselines")
        scores_N = _scores(annotations)
        difference_N = np.array(
            [a.length_baseline - a.length_model for a in annotations], np.float64
        )
        if (difference_N == 0).all() and (scores_N == 0.5).all():
            return scores_N  # the baseline against itself
        known_N = np.isfinite(scores_N)
        length_N = standardised(difference_N)
        own = Preferences(scores_N[known_N], length_N[known_N], difficulty_N[known_N])
        weights = fit(own, gamed)
    return predictions(weights, difficulty_N)


def _measure(
    model: str, annotations: Sequence[Annotation], predicted_N: Floats | None
) -> AlpacaEvalResult:
    scores_N = _scores(annotations)
    known_N = scores_N[np.isfinite(scores_N)]
    wins, losses = int((known_N > 0.5).sum()), int((known_N < 0.5).sum())
    draws = len(known_N) - wins - losses
    return AlpacaEvalResult(
        model=model,
        win_rate=100 * float(known_N.mean()) if len(known_N) else None,
        standard_error=_standard_error(known_N),
        n_wins=wins,
        n_wins_base=losses,
        n_draws=draws,
        n_total=len(known_N),
        n_missing=len(scores_N) - len(known_N),
        discrete_win_rate=100 * (wins + draws / 2) / len(known_N) if len(known_N) else None,
        avg_length=sum(a.length_model for a in annotations) // max(INSTRUCTIONS, len(annotations)),
        lc_win_rate=None if predicted_N is None else 100 * float(predicted_N.mean()),
        lc_standard_error=None if predicted_N is None else _standard_error(predicted_N),
    )


def _standard_error(values_N: Floats) -> float | None:
    if len(values_N) < 2:
        return None
    return 100 * float(values_N.std(ddof=1)) / float(np.sqrt(len(values_N)))


def _normal(value: float, error: float | None, n: int) -> Interval:
    """Convert a figure in per cent to a share with its normal interval."""
    if error is None:
        return Interval(value / 100, None, None, n)
    low, high = value - 1.96 * error, value + 1.96 * error
    return Interval(value / 100, max(0.0, low / 100), min(1.0, high / 100), n)
