"""BLEU (Papineni and others 2002) and chrF (Popovic 2015) by `sacrebleu`, with bootstrap intervals.

Both are figures of a whole corpus, 0 to 100: n-gram counts are summed before they are compared, and
the bootstrap sums the counts of resampled prompts (Koehn 2004), from sacrebleu's cached statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics.chrf import CHRF

from alignlab.bleu import bleu_metric
from alignlab.evaluation.metrics.intervals import (
    NOTHING,
    Interval,
    labels,
    percentile_interval,
    resample_counts,
)
from alignlab.rouge import check_references
from alignlab.seeds import generator

DRAWS = 1000


def bleu(
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenize: str = "13a",
    prompts_N: Sequence[object] | None = None,
    seed: int = 0,
) -> Interval:
    """Compute corpus BLEU of N texts (sacrebleu's exponential smoothing), 0 to 100.

    Args:
        texts: the texts to measure.
        references: good texts, one or more for each.
        tokenize: sacrebleu's name of the tokeniser; 13a splits words at spaces.
        prompts_N: the prompt of each text, for the interval.
        seed: decides the bootstrap draws.

    Raises:
        BadInput: a text without reference, lists of unlike lengths, or a tokeniser that is not
            installed.
    """
    check_references(texts, references, "BLEU")
    return _corpus(bleu_metric(tokenize), texts, references, prompts_N, seed)


def chrf(
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    prompts_N: Sequence[object] | None = None,
    seed: int = 0,
) -> Interval:
    """Compute corpus chrF (sacrebleu's defaults: 6 characters, beta 2) of N texts.

    Raises:
        BadInput: a text without reference, or lists of unlike lengths.
    """
    check_references(texts, references, "chrF")
    return _corpus(CHRF(), texts, references, prompts_N, seed)


def _corpus(
    metric: Any,
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    prompts_N: Sequence[object] | None,
    seed: int,
) -> Interval:
    """Compute a metric of all texts, bootstrapped over prompts from each text's statistics."""
    if not texts:
        return NOTHING
    width = max(len(known) for known in references)
    # sacrebleu wants one list per reference number; None where a text has fewer.
    streams = [[known[i] if i < len(known) else None for known in references] for i in range(width)]
    per_text_NS = np.array(metric._extract_corpus_statistics(list(texts), streams), np.float64)
    prompt_N = np.arange(len(texts)) if prompts_N is None else labels(prompts_N)
    per_prompt_PS = np.zeros((int(prompt_N.max()) + 1, per_text_NS.shape[1]))
    np.add.at(per_prompt_PS, prompt_N, per_text_NS)

    def score(sums_S: Any) -> float:
        return float(metric._compute_score_from_stats([int(s) for s in sums_S]).score)

    counts = resample_counts(len(per_prompt_PS), DRAWS, generator(seed, "overlap"))
    drawn = np.array([score(sums_S) for sums_S in counts @ per_prompt_PS])
    return percentile_interval(
        score(per_prompt_PS.sum(0)), drawn, n=len(texts), units=len(per_prompt_PS)
    )
