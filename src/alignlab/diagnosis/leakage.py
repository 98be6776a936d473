"""Measure how far length and format alone explain preferences.

A model trained on pairs whose better response is nearly always the longer one learns length
(arXiv 2310.03716). The format figure is the cross-validated accuracy of a logistic regression on
the differences of counts of markdown (headers, bold, lists, code, paragraphs), without length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignlab.evaluation.metrics.intervals import Floats, wilson
from alignlab.evaluation.metrics.style_control import style_F
from alignlab.finding import Finding, judged
from alignlab.types import Corpus, PreferenceGroup, UnpairedPreference

LIMIT = 0.6
"""Lower bound of a share from which a finding warns that a trait alone decides."""
FEWEST = 40
"""Minimum number of pairs for a figure."""
FOLDS = 5
_MARKS = ("```", "\n\n")
"""Marks of code and paragraphs, in addition to those of `style_F`."""

Pair = tuple[str, str]
"""Better and worse response."""


def pairs_of(groups: Sequence[PreferenceGroup]) -> list[PreferenceGroup]:
    """Return the pair of best and worst response of every group with different scores."""
    return [pair for group in groups if (pair := group.best_and_worst()) is not None]


def leakage(corpus: Corpus) -> list[Finding]:
    """Diagnose length and format as explanations of a corpus's preferences or labels."""
    texts = [(p.responses[0].text, p.responses[1].text) for p in pairs_of(corpus.groups)]
    what = "pairs"
    if not texts:
        texts, what = _matched(corpus.labelled), "pairs of a desirable and an undesirable response"
    if not texts:
        return []
    if len(texts) < FEWEST:
        few = f"{len(texts)} {what} are too few for a figure (at least {FEWEST})"
        return [Finding(about, "skipped", few) for about in ("length", "format")]
    return [_length(texts, what), _format(texts, what)]


def _matched(labelled: Sequence[UnpairedPreference]) -> list[Pair]:
    """Pair desirable with undesirable responses in the order of the data."""
    good, bad = (
        [r.response.text for r in labelled if r.desirable is wanted] for wanted in (True, False)
    )
    return list(zip(good, bad, strict=False))


def _length(texts: Sequence[Pair], what: str) -> Finding:
    differ = [len(better) > len(worse) for better, worse in texts if len(better) != len(worse)]
    if not differ:
        return Finding("length", "ok", f"all {len(texts)} {what} are equally long", 0.5)
    share = wilson(sum(differ), len(differ))
    assert share.low is not None
    assert share.high is not None
    bad = share.low > LIMIT or share.high < 1 - LIMIT
    text = (
        f"the longer response is the better one in {_percent(share)} of {len(differ)} {what}"
        + bad * "; a model can win by length alone: compare at equal length, or normalise the loss"
    )
    return judged("length", text, share.value or 0.0, bad=bad)


def _format(texts: Sequence[Pair], what: str) -> Finding:
    difference_NF = np.stack([_marks(better) - _marks(worse) for better, worse in texts])
    differ = int((difference_NF != 0).any(axis=1).sum())
    right = _accuracy(difference_NF)
    share = wilson(right, len(texts))
    assert share.low is not None
    bad = share.low > LIMIT
    text = (
        f"marks (headers, bold, lists, code, paragraphs), which differ in {differ} of "
        f"{len(texts)} {what}, alone tell the better one in {_percent(share)}"
        + bad
        * "; a model can win by format alone"
    )
    return judged("format", text, share.value or 0.0, bad=bad)


def _accuracy(difference_NF: Floats) -> float:
    """Count pairs whose better response a cross-validated regression tells; half where it cannot.

    Every second difference is turned round, so that both classes are equally frequent.
    """
    from sklearn.linear_model import LogisticRegression

    sign_N = np.where(np.arange(len(difference_NF)) % 2, 1.0, -1.0)
    seen_NF = difference_NF * sign_N[:, None]
    fold_N = np.arange(len(sign_N)) // 2 % FOLDS
    right = 0.0
    for fold in range(FOLDS):
        train_N, test_N = fold_N != fold, fold_N == fold
        scale_F = seen_NF[train_N].std(axis=0) + 1e-9
        fit = LogisticRegression(fit_intercept=False)
        fit.fit(seen_NF[train_N] / scale_F, sign_N[train_N])
        logit_N = (seen_NF[test_N] / scale_F) @ fit.coef_[0]
        right += float(np.where(logit_N == 0, 0.5, logit_N * sign_N[test_N] > 0).sum())
    return right


def _marks(text: str) -> Floats:
    counts = [*style_F(text)[1:], *(text.count(mark) for mark in _MARKS)]
    return np.log1p(np.array(counts, np.float64))


def _percent(share: object) -> str:
    value, low, high = (100 * getattr(share, name) for name in ("value", "low", "high"))
    return f"{value:.0f}% [{low:.0f}, {high:.0f}]"
