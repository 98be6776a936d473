from __future__ import annotations

import numpy as np
import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.calibration import calibration
from alignlab.evaluation.metrics.intervals import NOTHING, bootstrap_mean, resample_counts, tail
from alignlab.seeds import generator


def test_calibration_by_hand() -> None:
    found = calibration([0.9, 0.9, 0.1, 0.1], [1.0, 0.0, 0.0, 0.5], bins=2)
    assert found.brier.value == pytest.approx((0.01 + 0.81 + 0.01 + 0.16) / 4)
    # Bins: said 0.1 true 0.25 (2 of 4), said 0.9 true 0.5 (2 of 4).
    assert found.ece.value == pytest.approx(0.5 * 0.15 + 0.5 * 0.4)
    assert [(b.low, b.high, b.said, b.true.value) for b in found.bins] == [
        (0.0, 0.5, pytest.approx(0.1), 0.25),
        (0.5, 1.0, pytest.approx(0.9), 0.5),
    ]


def test_a_calibrated_judge_and_an_overconfident_one() -> None:
    rng = generator("calibration")
    said = rng.uniform(size=2000)
    truth = (rng.uniform(size=2000) < said).astype(float)
    assert (calibration(said, truth).ece.value or 1) < 0.04
    bold = np.clip(0.5 + 2 * (said - 0.5), 0, 1)
    assert (calibration(bold, truth).ece.value or 0) > 0.1


def test_scores_have_their_own_span() -> None:
    found = calibration([4.5, 2.0], [4.0, 3.0], span=(1, 5), bins=4)
    assert found.ece.value == pytest.approx(0.75)
    assert [(b.low, b.high) for b in found.bins] == [(2.0, 3.0), (4.0, 5.0)]
    assert [(b.low, b.high) for b in calibration([2.9], [3.0], span=(1, 5), bins=4).bins] == [
        (2, 3)
    ]
    # The end of the span belongs to the last bin.
    assert calibration([5.0], [5.0], span=(1, 5)).bins[0].high == 5


def test_prompts_stay_together_in_calibration() -> None:
    rng = generator("clusters")
    said, truth = rng.uniform(size=40), rng.uniform(size=40)
    once = calibration(said, truth)
    thrice = calibration(np.tile(said, 3), np.tile(truth, 3), prompts_N=list(range(40)) * 3)
    assert thrice.ece.low == pytest.approx(once.ece.low)
    assert thrice.brier.high == pytest.approx(once.brier.high)


def test_bad_calibration() -> None:
    with pytest.raises(BadInput, match=r"within 0 to 1, found 0\.5 to 1\.5"):
        calibration([0.5, 1.5], [0.0, 1.0])
    with pytest.raises(BadInput, match="lists of one length"):
        calibration([0.5], [0.0, 1.0])
    with pytest.raises(BadInput, match="bins >= 1"):
        calibration([0.5], [0.0], bins=0)
    with pytest.raises(BadInput, match="a span"):
        calibration([1.0], [1.0], span=(1.0, 1.0))
    assert calibration([], []).ece == NOTHING


def test_the_error_is_per_unit_whatever_a_prompt_brings() -> None:
    # Every unit is off by 0.2 in one bin, so that every draw of prompts is too.
    prompts = [f"p{i}" for i in range(30) for _ in range(1 + i % 4)]
    found = calibration(np.full(len(prompts), 0.7), np.full(len(prompts), 0.5), prompts_N=prompts)
    assert (found.ece.value, found.ece.low, found.ece.high) == pytest.approx((0.2, 0.2, 0.2))
    assert found.ece.n == found.brier.n == len(prompts)
    assert found.brier.value == pytest.approx(0.04)


def test_what_is_true_in_a_bin_has_an_interval_over_prompts() -> None:
    truth = [1.0, 1.0, 1.0, 0.0, 0.0, 0.0] * 2
    prompts = list("aaabbb") + list("cccddd")
    (one,) = calibration([0.5] * 12, truth, prompts_N=prompts).bins
    assert one.true == bootstrap_mean(truth, prompts_N=prompts)
    assert one.true != bootstrap_mean(truth)


def test_both_ends_of_the_span_have_a_bin() -> None:
    found = calibration([0.0, 1.0], [0.0, 1.0], bins=4)
    assert [(b.low, b.high) for b in found.bins] == [(0.0, 0.25), (0.75, 1.0)]


def test_the_errors_bounds_are_those_of_a_thousand_draws() -> None:
    said = generator("draws").uniform(0.3, 0.7, size=30)
    found = calibration(said, np.zeros(30), bins=1, seed=3).ece
    drawn = resample_counts(30, 1000, generator(3, "calibration")) @ said / 30
    assert found.low == pytest.approx(np.quantile(drawn, tail(30)))
    assert found.high == pytest.approx(np.quantile(drawn, 1 - tail(30)))
