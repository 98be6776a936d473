"""Self-BLEU: similarity of several samples of one prompt (arXiv 1802.01886)."""

from __future__ import annotations

from collections.abc import Sequence

from sacrebleu.metrics.bleu import BLEU


def self_bleu(texts: Sequence[str]) -> float | None:
    """Compute mean sentence BLEU (0 to 100) of each text against the others; None below two.

    sacrebleu's sentence BLEU with effective order, so that short texts are not all zero.
    """
    if len(texts) < 2:
        return None
    bleu = BLEU(effective_order=True)
    scores = [
        bleu.sentence_score(text, [*texts[:i], *texts[i + 1 :]]).score
        for i, text in enumerate(texts)
    ]
    return float(sum(scores) / len(scores))
