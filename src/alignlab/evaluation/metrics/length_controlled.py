"""Length-controlled win rate of AlpacaEval 2.0 (arXiv 2404.04475).

The preference for the model on instruction i is modelled as
`sigmoid(bias + length * tanh(d_i) + difficulty * x_i)`, d_i being the baseline's length minus the
model's over its standard deviation, x_i the instruction's difficulty. The win rate is the mean
prediction (in per cent) with the length term set to zero. The fit minimises
`|theta|_1 + C * weighted log loss` over the model's own preferences (weight 1) and those of two
gamed versions of the baseline, concise and verbose (no bias; weight 0.1 each), which keep the
length term from explaining quality away; 5-fold cross-validation chooses C.

Departure: theta is found to convergence by Newton steps, where the authors' solver stops earlier,
and folds are dealt out in turn, so that a refit is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

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
_TOLERANCE = 1e-13
_SMALLEST = 1e-12


@dataclass(frozen=True)
class GlmWeights:
    """Theta of one model."""

    bias: float
    length: float
    """Of the tanh of the standardised length difference."""
    difficulty: float


@dataclass(frozen=True)
class Preferences:
    """Preferences with what the model explains them by; arrays of shape (N,)."""

    preference_N: Floats
    """In [0, 1]: 1 is a sure win of the model."""
    length_N: Floats
    """Baseline's length minus the model's, over its standard deviation."""
    difficulty_N: Floats


@dataclass(frozen=True)
class _Rows:
    """Design matrix, targets and weights of a fit."""

    features_N3: Floats
    target_N: Floats
    weight_N: Floats

    def part(self, chosen_N: np.ndarray) -> _Rows:
        return _Rows(self.features_N3[chosen_N], self.target_N[chosen_N], self.weight_N[chosen_N])

    def loss(self, theta_3: Floats) -> float:
        """Weighted log loss, summed."""
        logit_N = self.features_N3 @ theta_3
        return float(self.weight_N @ (np.logaddexp(0, logit_N) - self.target_N * logit_N))

    def derivatives(self, theta_3: Floats) -> tuple[Floats, Floats]:
        """Gradient (3,) and Hessian (3, 3) of the loss."""
        predicted_N = expit(self.features_N3 @ theta_3)
        slope_3: Floats = self.features_N3.T @ (self.weight_N * (predicted_N - self.target_N))
        bend_N = self.weight_N * predicted_N * (1 - predicted_N)
        bend_33: Floats = (self.features_N3.T * bend_N) @ self.features_N3
        return slope_3, bend_33


def standardised(length_difference_N: Floats) -> Floats:
    """Length differences over their standard deviation; zero where all are equal."""
    spread = float(np.std(length_difference_N, ddof=1)) if len(length_difference_N) > 1 else 0.0
    return length_difference_N / spread if spread > 0 else np.zeros_like(length_difference_N)


def predictions(weights: GlmWeights, difficulty_N: Floats) -> Floats:
    """Preferences predicted had both answers been equally long; shape (N,)."""
    predicted: Floats = expit(weights.bias + weights.difficulty * difficulty_N)
    return predicted


def fit(own: Preferences, gamed: Preferences) -> GlmWeights:
    """Fit the model to a model's preferences, held in check by those of the gamed baselines.

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
        theta = np.zeros(3)
        for i, strength in enumerate(STRENGTHS):
            theta = _minimise(train, strength, theta)
            loss_C[i] += held_out.loss(theta) / len(held_out.target_N)
    theta = _minimise(rows, STRENGTHS[int(loss_C.argmin())], np.zeros(3))
    return GlmWeights(bias=float(theta[0]), length=float(theta[1]), difficulty=float(theta[2]))


def _stacked(own: Preferences, gamed: Preferences) -> _Rows:
    """The gamed baselines' rows (no bias, small weight), then the model's own."""
    n_gamed, n_own = len(gamed.preference_N), len(own.preference_N)
    is_own_N = np.repeat([0.0, 1.0], [n_gamed, n_own])
    length_N = np.concatenate([gamed.length_N, own.length_N])
    difficulty_N = np.concatenate([gamed.difficulty_N, own.difficulty_N])
    return _Rows(
        features_N3=np.stack([is_own_N, np.tanh(length_N), difficulty_N], axis=1),
        target_N=np.concatenate([gamed.preference_N, own.preference_N]),
        weight_N=np.where(is_own_N > 0, 1.0, GAMED_WEIGHT),
    )


def _minimise(rows: _Rows, strength: float, start_3: Floats) -> Floats:
    """Minimise |theta|_1 + strength * loss by Newton steps with a line search."""

    def objective(theta_3: Floats) -> float:
        return float(np.abs(theta_3).sum()) + strength * rows.loss(theta_3)

    theta, value = start_3, objective(start_3)
    for _ in range(_MOST_STEPS):
        slope_3, bend_33 = rows.derivatives(theta)
        target = _quadratic_minimum(theta, strength * slope_3, strength * bend_33)
        size = 1.0
        while size > _SMALLEST and objective(theta + size * (target - theta)) > value:
            size /= 2
        moved = theta + size * (target - theta)
        gain = value - objective(moved)
        if gain <= _TOLERANCE * max(1.0, abs(value)):
            break
        theta, value = moved, value - gain
    return theta


def _quadratic_minimum(theta_3: Floats, slope_3: Floats, bend_33: Floats) -> Floats:
    """Minimise |x|_1 + slope (x - theta) + (x - theta) bend (x - theta) / 2, one x at a time."""
    x_3 = theta_3.copy()
    for _ in range(_MOST_STEPS):
        before = x_3.copy()
        for j in range(len(x_3)):
            bend = max(bend_33[j, j], _SMALLEST)
            push = bend * x_3[j] - slope_3[j] - bend_33[j] @ (x_3 - theta_3)
            x_3[j] = np.sign(push) * max(abs(push) - 1, 0.0) / bend
        if np.abs(x_3 - before).max() < _SMALLEST:
            break
    return x_3
