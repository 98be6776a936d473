"""All metrics: their defaults, and the seed that decides every interval."""

from collections.abc import Callable, Sequence
from importlib import import_module

import numpy as np
import pytest

from alignlab import bleu
from alignlab.errors import BadInput
from alignlab.evaluation.metrics import correlation, intervals, significance
from alignlab.evaluation.metrics.agreement import (
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    raw_agreement,
)
from alignlab.evaluation.metrics.calibration import calibration
from alignlab.evaluation.metrics.correlation import kendall_interval, spearman_interval
from alignlab.evaluation.metrics.intervals import (
    Interval,
    bootstrap_mean,
    bootstrap_ratio,
    percentile_interval,
    resample_counts,
)
from alignlab.evaluation.metrics.judge_quality import ScoredPrompt, judge_quality
from alignlab.evaluation.metrics.log_fit import log_fit
from alignlab.evaluation.metrics.overlap import bleu as corpus_bleu
from alignlab.evaluation.metrics.overlap import chrf
from alignlab.evaluation.metrics.power import win_spread
from alignlab.evaluation.metrics.significance import difference, sign_flip_p
from alignlab.evaluation.metrics.style_control import Battle, style_controlled
from alignlab.evaluation.metrics.win_rate import Outcome, win_rate
from alignlab.seeds import generator
from tests.defaults import defaults_of

DEFAULTS = {
    "evaluation.metrics.agreement": {
        'DRAWS': 1000,
        'raw_agreement(seed)': 0,
        'cohen_kappa(weights)': 'none',
        'cohen_kappa(seed)': 0,
        'fleiss_kappa(seed)': 0,
        'krippendorff_alpha(level)': 'nominal',
        'krippendorff_alpha(seed)': 0,
    },
    "evaluation.metrics.calibration": {
        'DRAWS': 1000,
        'calibration(span)': (0.0, 1.0),
        'calibration(bins)': 10,
        'calibration(seed)': 0,
    },
    "evaluation.metrics.correlation": {
        'DRAWS': 1000,
        '_ROWS': 256,
        'spearman_interval(seed)': 0,
        'spearman_interval(draws)': 1000,
        'kendall_interval(seed)': 0,
        'kendall_interval(draws)': 1000,
    },
    "evaluation.metrics.intervals": {
        'DRAWS': 2000,
        'LEVEL': 0.95,
        'FEW': 100,
        'FEWEST': 10,
        '_CELLS': 4000000,
        'bootstrap_mean(seed)': 0,
        'bootstrap_mean(draws)': 2000,
        'bootstrap_mean(is_share)': False,
        'bootstrap_ratio(seed)': 0,
        'bootstrap_ratio(draws)': 2000,
        'bootstrap_ratio(is_share)': False,
    },
    "evaluation.metrics.judge_quality": {
        'ScoredPrompt.cluster': '',
        'judge_quality(seed)': 0,
    },
    "evaluation.metrics.length_controlled": {
        'STRENGTHS': pytest.approx(tuple(10 ** (k * 8 / 9 - 4) for k in range(10))),
        'FOLDS': 5,
        'GAMED_WEIGHT': 0.1,
        '_MOST_STEPS': 200,
        '_TOLERANCE': 1e-11,
        '_STILL': 1e-8,
        '_SMALLEST': 1e-12,
        '_ZERO': (0.0, 0.0, 0.0),
    },
    "evaluation.metrics.log_fit": {
        'DRAWS': 2000,
        'log_fit(seed)': 0,
        'log_fit(draws)': 2000,
    },
    "evaluation.metrics.overlap": {
        'DRAWS': 1000,
        'bleu(tokenize)': '13a',
        'bleu(seed)': 0,
        'chrf(seed)': 0,
    },
    "evaluation.metrics.poster": {
        'UNREADABLE': -1.0,
        'TOP': 5.0,
    },
    "evaluation.metrics.power": {
        'LEVEL': 0.95,
        'Design.level': pytest.approx(0.05),
        'Design.power': 0.8,
        'win_spread(tie_share)': 0.0,
        'paired_spread(correlation)': 0.0,
    },
    "rouge": {
        'rouge_l(stemming)': True,
    },
    "evaluation.metrics.significance": {
        'DRAWS': 10000,
        '_EXACT': 13,
        '_TOLERANCE': 1e-09,
        '_ROWS': 2000000,
        'difference(seed)': 0,
        'difference(draws)': 10000,
        'sign_flip_p(seed)': 0,
        'sign_flip_p(draws)': 10000,
    },
    "evaluation.metrics.style_control": {
        'DRAWS': 200,
        'RIDGE': 0.1,
        'style_controlled(seed)': 0,
    },
    "evaluation.metrics.win_rate": {
        'DRAWS': 2000,
        'FEW': 100,
        'FEW_OF_A_KIND': 10,
        'Outcome.seed': 0,
        'outcome(model_is)': 0,
        'outcome(seed)': 0,
        'win_rate(seed)': 0,
        'win_rate(draws)': 2000,
        'win_rate(resample_seeds)': False,
    },
}  # fmt: skip
"""Module -> its numbers and defaults; figures depend on each, so that a change is a decision."""


@pytest.mark.parametrize("module", DEFAULTS)
def test_defaults_and_constants_stay_what_they_are(module):
    assert defaults_of(import_module(f"alignlab.{module}")) == DEFAULTS[module]


def _noise(*shape: int, low: int = 0, high: int = 4):
    return generator("every metric").integers(low, high, size=shape).astype(float)


RATINGS = _noise(40, 3)
PROMPTS = [ScoredPrompt(str(i), tuple(_noise(50, 6)[i, :3]), tuple(_noise(50, 6)[i, 3:]))
           for i in range(50)]  # fmt: skip
TEXTS = [f"the cat {'sat' if i % 3 else 'ran'} on the {'mat' if i % 2 else 'red mat'} {i}"
         for i in range(30)]  # fmt: skip
REFERENCES = [(f"the cat sat on the mat {i}",) for i in range(30)]
OUTCOMES = [Outcome(str(i % 110), float(v > 1), i % 2) for i, v in enumerate(_noise(220))]
BATTLES = [Battle("m", str(i), "word " * (i % 7 + 1), "word " * (i % 5 + 1), float(v > 1))
           for i, v in enumerate(_noise(40))]  # fmt: skip
CALLS: dict[str, Callable[..., Sequence[Interval]]] = {
    "raw agreement": lambda **k: [raw_agreement(RATINGS, **k)],
    "Cohen": lambda **k: [cohen_kappa(RATINGS[:, 0], RATINGS[:, 1], **k)],
    "Fleiss": lambda **k: [fleiss_kappa(RATINGS, **k)],
    "Krippendorff": lambda **k: [krippendorff_alpha(RATINGS, **k)],
    "calibration": lambda **k: (
        found := calibration(_noise(60) / 4 + 0.1, _noise(2, 60)[1] > 1, **k),
        [found.brier, found.ece],
    )[1],
    "Spearman": lambda **k: [spearman_interval(*RATINGS[:, :2].T, np.arange(40), **k)],
    "Kendall": lambda **k: [kendall_interval(*RATINGS[:, :2].T, np.arange(40), **k)],
    "mean": lambda **k: [bootstrap_mean(RATINGS[:, 0], **k)],
    "crossed mean": lambda **k: [
        bootstrap_mean(RATINGS[:, 0], prompts_N=range(40), seeds_N=[i % 3 for i in range(40)], **k)
    ],
    "ratio": lambda **k: [bootstrap_ratio(RATINGS[:, 0], RATINGS[:, 1] + 1, **k)],
    "judge": lambda **k: [v for _, v in judge_quality(PROMPTS, **k).intervals()],
    "line": lambda **k: (
        fit := log_fit(RATINGS.ravel(), [1, 2, 4] * 40, [i // 3 for i in range(120)], **k),
        [fit.per_doubling, *fit.fitted, *fit.measured],
    )[1],
    "BLEU": lambda **k: [corpus_bleu(TEXTS, REFERENCES, **k)],
    "chrF": lambda **k: [chrf(TEXTS, REFERENCES, **k)],
    "difference": lambda **k: [difference(RATINGS[:, 0], RATINGS[:, 1], **k).interval],
    "win rate": lambda **k: [win_rate(OUTCOMES, **k).rate],
    "method's win rate": lambda **k: [win_rate(OUTCOMES, resample_seeds=True, **k).rate],
    "style": lambda **k: list(style_controlled(BATTLES, **k).win_rates.values()),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_seed_decides_every_interval_and_is_0_by_default(name):
    call = CALLS[name]
    zero, others = call(seed=0), [call(seed=seed) for seed in (1, 2, 3)]
    assert call() == zero
    assert zero
    for one, *drawn in zip(zero, *others, strict=True):
        assert {(one.value, one.n)} == {(other.value, other.n) for other in drawn}
        # Bounds of a discrete figure may agree by chance, not at every seed.
        assert len({(x.low, x.high) for x in (one, *drawn)}) > 1
        assert one.low < one.value < one.high


@pytest.mark.parametrize("name", ["mean", "crossed mean", "ratio"])
@pytest.mark.parametrize("cells", [1, 40, 41, 999])
def test_memory_bounds_change_no_mean(name, cells, monkeypatch):
    """The value and its number of draws stay; draws of one chunk are those of several."""
    call = CALLS[name]
    whole = call(draws=100)[0]
    monkeypatch.setattr(intervals, "_CELLS", cells)
    parts = call(draws=100)[0]
    assert (parts.value, parts.n) == (whole.value, whole.n)
    assert parts.low == pytest.approx(whole.low, abs=0.15)
    assert parts.high == pytest.approx(whole.high, abs=0.15)


@pytest.mark.parametrize("rows", [1, 7, 40, 256, 1000])
def test_memory_bounds_change_no_rank_correlation(rows, monkeypatch):
    whole = CALLS["Kendall"]()
    monkeypatch.setattr(correlation, "_ROWS", rows)
    assert CALLS["Kendall"]() == whole


@pytest.mark.parametrize("draws", [1, 2, 99, 100, 101])
@pytest.mark.parametrize("size", [1, 3, 50, 100, 1000])
def test_chunks_hold_every_draw_once(draws, size, monkeypatch):
    monkeypatch.setattr(intervals, "_CELLS", size)
    assert sum(intervals._chunks(draws, 1)) == draws
    assert max(intervals._chunks(draws, 1)) <= size
    monkeypatch.setattr(significance, "_ROWS", size)
    signs = list(significance._signs(1, draws, 0))
    assert sum(map(len, signs)) == draws
    assert max(map(len, signs)) <= size
    assert {float(v) for some in signs for v in some.ravel()} <= {-1.0, 1.0}


def test_p_values_are_decided_by_their_seed():
    assert sign_flip_p(RATINGS[:, 0] - 1.4) == sign_flip_p(RATINGS[:, 0] - 1.4, seed=0)
    assert sign_flip_p(RATINGS[:, 0] - 1.4) != sign_flip_p(RATINGS[:, 0] - 1.4, seed=1)


def test_a_ratio_of_parts_of_a_unit_has_an_interval():
    """Denominators below 1, whose sum in a draw may be 1 or less."""
    found = bootstrap_ratio([0.1, 0.2, 0.05], [0.25, 0.25, 0.25])
    assert found.value == pytest.approx(0.35 / 0.75)
    assert found.low == pytest.approx(0.2)
    assert found.high == pytest.approx(0.8)


def test_a_line_through_two_sizes_is_the_means():
    fit = log_fit(RATINGS[:, :2].ravel(), [1, 8] * 40, [i // 2 for i in range(80)], seed=3)
    for line, mean in zip(fit.fitted, fit.measured, strict=True):
        assert (line.value, line.low, line.high) == pytest.approx((mean.value, mean.low, mean.high))
    counts = resample_counts(40, 2000, generator(3, "log fit"))
    drawn = (counts @ RATINGS[:, 1] - counts @ RATINGS[:, 0]) / counts.sum(1) / 3
    value = float(RATINGS[:, 1].mean() - RATINGS[:, 0].mean()) / 3
    by_hand = percentile_interval(value, drawn, n=80, units=40)
    found = fit.per_doubling
    assert (found.low, found.high) == pytest.approx((by_hand.low, by_hand.high))


@pytest.mark.parametrize(
    "ask",
    [
        lambda: win_spread(-0.5),
        lambda: win_spread(1.01),
        lambda: cohen_kappa(RATINGS, RATINGS),
        lambda: cohen_kappa([1, 2], [1]),
        lambda: difference(RATINGS, RATINGS),
    ],
)
def test_what_is_no_list_or_share_is_refused(ask):
    with pytest.raises(BadInput):
        ask()


def test_a_tokenisers_failure_is_told_in_120_characters(monkeypatch):
    class Failing:
        TOKENIZERS = ("flores200",)

        def __init__(self, **options):
            raise RuntimeError("x" * 300)

    monkeypatch.setattr(bleu, "BLEU", Failing)
    with pytest.raises(BadInput) as told:
        bleu.bleu_metric("flores200")
    assert str(told.value).endswith(", found: " + "x" * 120)


def test_shares_that_are_alike_have_wilsons_bounds():
    """Six prompts won out of six show no more than 0.61, which resampling cannot know."""
    found = bootstrap_ratio([2.0] * 6, [2.0] * 6, is_share=True)
    assert (found.value, found.n, found.high) == (1, 12, 1)
    assert found.low == pytest.approx(6 / (6 + 1.959964**2))
    never = bootstrap_ratio([0.0] * 6, [2.0] * 5 + [0.0], is_share=True)
    assert (never.value, never.low) == (0, 0)
    assert never.high == pytest.approx(1.959964**2 / (5 + 1.959964**2))
    assert bootstrap_ratio([2.0] * 6, [2.0] * 6).low == 1
    varied = bootstrap_ratio([2.0, 1.0, 0.0, 2.0], [2.0] * 4, is_share=True)
    assert varied == bootstrap_ratio([2.0, 1.0, 0.0, 2.0], [2.0] * 4)
    right = [ScoredPrompt(str(i), (2.0, 1.0), (5.0, 3.0)) for i in range(6)]
    quality = judge_quality(right)
    for name in ("pairwise_accuracy", "pairwise_accuracy_untied", "exact_match", "five_best"):
        assert getattr(quality, name).low == pytest.approx(6 / (6 + 1.959964**2)), name
