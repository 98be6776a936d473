"""Length-controlled win rate of AlpacaEval 2.0 (arXiv 2404.04475).

The preference for the model on instruction i is modelled as `sigmoid(bias + length * tanh(d_i) +
difficulty * x_i)`, d_i being the baseline's length minus the model's over its standard deviation,
x_i the instruction's difficulty. The win rate is the mean prediction (in per cent) with the length
term set to zero. The fit minimises `|theta|_1 + C * weighted log loss` over the model's own
preferences (weight 1) and those of two gamed versions of the baseline, concise and verbose (no
bias; weight 0.1 each), which stop the length term from explaining quality away; 5-fold
cross-validation chooses C.

Departure: theta is found to convergence by Newton steps, where the authors' solver stops earlier,
and folds are assigned in turn, so that a refit is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import Floats

STRENGTHS = tuple(float(c) for c in np.logspace(-4, 4, 10))
"""Values of C that cross-validation chooses from."""
FOLDS = 5
GAMED_WEIGHT = 0.1
"""Weight of a gamed baseline's preference: lambda = 0.2, shared by two of them."""
_MOST_STEPS = 200
_TOLERANCE = 1e-11
"""Relative gain in the objective below which a Newton step is the last."""
_STILL = 1e-8
"""Largest move of the coordinates that ends the search within a Newton step."""
_SMALLEST = 1e-12

Theta = tuple[float, float, float]
"""Coefficients: bias, length, difficulty."""
_ZERO: Theta = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class GlmWeights:
    """Coefficients of one model."""

    bias: float
    length: float
    """Coefficient of the tanh of the standardised length difference."""
    difficulty: float


@dataclass(frozen=True)
class Preferences:
    """Preferences with their explanatory variables; arrays of shape (N,)."""

    preference_N: Floats
    """Preference in [0, 1]: 1 is a sure win of the model."""
    length_N: Floats
    """Difference of the baseline's and the model's length, over its standard deviation."""
    difficulty_N: Floats


@dataclass(frozen=True)
class _Rows:
    """Design matrix, targets and weights of a fit."""

    features_3N: Floats
    target_N: Floats
    weight_N: Floats

    def part(self, chosen_N: np.ndarray) -> _Rows:
        return _Rows(
            np.ascontiguousarray(self.features_3N[:, chosen_N]),
            self.target_N[chosen_N],
            self.weight_N[chosen_N],
        )

    def at(self, theta: Theta) -> _Point:
        """Compute predictions and weighted log loss at theta."""
        logit_N = np.array(theta) @ self.features_3N
        small_N = np.exp(-np.abs(logit_N))
        loss_N = np.maximum(logit_N, 0) + np.log1p(small_N) - self.target_N * logit_N
        predicted_N = np.where(logit_N >= 0, 1.0, small_N) / (1 + small_N)
        return _Point(theta, float(self.weight_N @ loss_N), predicted_N)

    def derivatives(self, point: _Point) -> tuple[list[float], list[list[float]]]:
        """Compute gradient (3) and Hessian (3 x 3) of the loss."""
        slope_3 = self.features_3N @ (self.weight_N * (point.predicted_N - self.target_N))
        bend_N = self.weight_N * point.predicted_N * (1 - point.predicted_N)
        return slope_3.tolist(), ((self.features_3N * bend_N) @ self.features_3N.T).tolist()


class _Point(NamedTuple):
    """Predictions and loss at one theta."""

    theta: Theta
    loss: float
    predicted_N: Floats


def standardised(length_difference_N: Floats) -> Floats:
    """Divide length differences by their standard deviation; zero where all are equal."""
    spread = float(np.std(length_difference_N, ddof=1)) if len(length_difference_N) > 1 else 0.0
    return length_difference_N / spread if spread > 0 else np.zeros_like(length_difference_N)


def predictions(weights: GlmWeights, difficulty_N: Floats) -> Floats:
    """Predict preferences for answers of equal length; shape (N,)."""
    predicted: Floats = expit(weights.bias + weights.difficulty * difficulty_N)
    return predicted


def fit(own: Preferences, gamed: Preferences) -> GlmWeights:
    """Fit a model's preferences, regularised by those of the gamed baselines.

    Raises:
        BadInput: fewer preferences than folds.
    """
    if len(own.preference_N) < FOLDS:
        raise BadInput(
            f"length-controlled refit: expected at least {FOLDS} preferences, "
            f"found {len(own.preference_N)}"
        )
    rows = _stacked(own, gamed)
    fold_N = np.arange(len(rows.target_N)) % FOLDS
    loss_C = np.zeros(len(STRENGTHS))
    for fold in range(FOLDS):
        train, held_out = rows.part(fold_N != fold), rows.part(fold_N == fold)
        here = train.at(_ZERO)
        for i, strength in enumerate(STRENGTHS):
            here = _minimise(train, strength, here)
            loss_C[i] += held_out.at(here.theta).loss / len(held_out.target_N)
    strength = STRENGTHS[int(loss_C.argmin())]
    return GlmWeights(*_minimise(rows, strength, rows.at(_ZERO)).theta)


def _stacked(own: Preferences, gamed: Preferences) -> _Rows:
    """Stack the gamed baselines' rows (no bias, small weight) over the model's own."""
    n_gamed, n_own = len(gamed.preference_N), len(own.preference_N)
    is_own_N = np.repeat([0.0, 1.0], [n_gamed, n_own])
    length_N = np.concatenate([gamed.length_N, own.length_N])
    difficulty_N = np.concatenate([gamed.difficulty_N, own.difficulty_N])
    return _Rows(
        features_3N=np.stack([is_own_N, np.tanh(length_N), difficulty_N]),
        target_N=np.concatenate([gamed.preference_N, own.preference_N]),
        weight_N=np.where(is_own_N > 0, 1.0, GAMED_WEIGHT),
    )


def _minimise(rows: _Rows, strength: float, here: _Point) -> _Point:
    """Minimise |theta|_1 + strength * loss by Newton steps with a line search."""

    def value(point: _Point) -> float:
        return sum(map(abs, point.theta)) + strength * point.loss

    for _ in range(_MOST_STEPS):
        target = _quadratic_minimum(here.theta, strength, *rows.derivatives(here))
        if max(abs(a - b) for a, b in zip(target, here.theta, strict=True)) < _STILL:
            break
        size, there = 1.0, rows.at(target)
        while size > _SMALLEST and value(there) > value(here):
            size /= 2
            there = rows.at(_between(here.theta, target, size))
        if value(here) - value(there) <= _TOLERANCE * max(1.0, abs(value(here))):
            break
        here = there
    return here


def _between(start: Theta, end: Theta, share: float) -> Theta:
    a, b, c = (x + share * (y - x) for x, y in zip(start, end, strict=True))
    return a, b, c


def _quadratic_minimum(
    theta: Theta, strength: float, slope_3: list[float], bend_33: list[list[float]]
) -> Theta:
    """Minimise |x|_1 + strength * (slope (x - theta) + (x - theta) bend (x - theta) / 2).

    Works one coordinate at a time, in plain numbers: three are too few for arrays to pay. The
    Hessian is symmetric, so that a row of it is the column that a coordinate's step adds.
    """
    # H (x - theta) + slope is kept as `pull` and changed with each coordinate that moves.
    x, pull = list(theta), list(slope_3)
    for _ in range(_MOST_STEPS):
        moved = 0.0
        for j, (first, second, third) in enumerate(bend_33):
            bend = max(strength * bend_33[j][j], _SMALLEST)
            push = bend * x[j] - strength * pull[j]
            step = (push - min(max(push, -1.0), 1.0)) / bend - x[j]
            if step:
                x[j] += step
                pull[0] += first * step
                pull[1] += second * step
                pull[2] += third * step
                moved = max(moved, abs(step))
        if moved < _STILL:
            break
    return x[0], x[1], x[2]
