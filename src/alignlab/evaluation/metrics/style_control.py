"""Style control: a win rate with the effect of length and markdown removed.

A logistic (Bradley-Terry) model of "the model's answer beats the baseline's" with a term per model
and one per feature of style, shared by all models: logit p = strength + w . z. A feature is the
normalised difference (own - other) / (own + other), divided by its standard deviation (LMSYS, "Does
style matter?", 2024). The controlled win rate is sigma(strength): the features at zero. A small
ridge keeps it finite where one side wins everything. Style that comes with substance is removed as
well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alignlab.evaluation.metrics.intervals import (
    Floats,
    Interval,
    labels,
    percentile_interval,
    resample_counts,
)
from alignlab.seeds import generator
from alignlab.text import words

FEATURES = ("length", "headers", "bold", "lists")
DRAWS = 200
RIDGE = 0.1
"""Penalty, in comparisons' worth of log-likelihood, on every coefficient."""
_COUNTED = (r"^#{1,6}\s", r"\*\*[^*\n]+\*\*|__[^_\n]+__", r"^\s*(?:[-*+]|\d+\.)\s")


@dataclass(frozen=True)
class Battle:
    """Comparison of a model's answer with the baseline's."""

    model: str
    prompt_id: str
    own: str
    other: str
    value: float
    """Outcome: 1 a win, 0.5 a tie, 0 a loss."""


@dataclass(frozen=True)
class StyleControlled:
    """Win rates controlled for style, and the coefficients of style."""

    win_rates: dict[str, Interval]
    """Model -> controlled win rate."""
    weights: dict[str, float]
    """Feature -> coefficient per standard deviation; above 0 more of it wins."""


def style_F(text: str) -> Floats:
    """Count words, headers, bold runs and list items of a text; shape (4,)."""
    counted = [len(re.findall(pattern, text, re.MULTILINE)) for pattern in _COUNTED]
    return np.array([len(words(text)), *counted], np.float64)


def style_controlled(battles: Sequence[Battle], *, seed: int = 0) -> StyleControlled:
    """Fit strengths and style together; bootstrap intervals over prompts.

    A model without battles has no rate.
    """
    if not battles:
        return StyleControlled({}, {})
    names = list(dict.fromkeys(b.model for b in battles))
    model_N = np.array([names.index(b.model) for b in battles])
    value_N = np.array([b.value for b in battles], np.float64)
    z_NF = _standardised([(style_F(b.own), style_F(b.other)) for b in battles])
    design_NP = np.concatenate([np.eye(len(names))[model_N], z_NF], axis=1)
    fitted_P = _fit(design_NP, value_N, np.ones(len(battles)))
    prompt_N = labels([b.prompt_id for b in battles])
    units = int(prompt_N.max()) + 1
    counts = resample_counts(units, DRAWS, generator(seed, "style"))
    drawn_DP = np.array([_fit(design_NP, value_N, some[prompt_N], fitted_P) for some in counts])
    rates = {
        name: percentile_interval(
            float(_sigmoid(fitted_P[i])),
            _sigmoid(drawn_DP[:, i]),
            n=int((model_N == i).sum()),
            units=len(set(prompt_N[model_N == i].tolist())),
        )
        for i, name in enumerate(names)
    }
    weights = dict(zip(FEATURES, map(float, fitted_P[len(names) :]), strict=True))
    return StyleControlled(rates, weights)


def _standardised(styles: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Divide normalised differences by their standard deviations; shape (N, 4)."""
    own_NF = np.array([own for own, _ in styles])
    other_NF = np.array([other for _, other in styles])
    total_NF = own_NF + other_NF
    z_NF = np.divide(own_NF - other_NF, total_NF, out=np.zeros_like(total_NF), where=total_NF > 0)
    # The std of equal differences can be a rounding error, which must not be divided by.
    varied_F = z_NF.min(0) < z_NF.max(0)
    scaled_NF: Floats = np.divide(z_NF, z_NF.std(0), out=np.zeros_like(z_NF), where=varied_F)
    return scaled_NF


def _fit(
    design_NP: Floats, value_N: Floats, weight_N: Floats, start_P: Floats | None = None
) -> Floats:
    """Fit ridge-penalised logistic coefficients by Newton's method; ties are half a win."""
    theta_P = np.zeros(design_NP.shape[1]) if start_P is None else start_P.copy()
    ridge_PP = RIDGE * np.eye(len(theta_P))
    for _ in range(50):
        p_N = _sigmoid(design_NP @ theta_P)
        slope_P = design_NP.T @ (weight_N * (value_N - p_N)) - RIDGE * theta_P
        curve_PP = (design_NP * (weight_N * p_N * (1 - p_N))[:, None]).T @ design_NP + ridge_PP
        step_P = np.linalg.solve(curve_PP, slope_P)
        # A full Newton step can overshoot where nearly everything is won.
        theta_P = theta_P + step_P * min(1.0, 2.0 / max(1e-12, float(np.abs(step_P).max())))
        if float(np.abs(step_P).max()) < 1e-8:
            break
    return np.asarray(theta_P, np.float64)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -500, 500))), np.float64)
