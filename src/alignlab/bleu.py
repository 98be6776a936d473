"""BLEU (Papineni and others 2002) by `sacrebleu`, for benchmarks and for scores of one text."""

from __future__ import annotations

from sacrebleu.metrics.bleu import BLEU

from alignlab.errors import BadInput


def bleu_metric(tokenize: str, *, effective_order: bool = False) -> BLEU:
    """Make sacrebleu's BLEU with a tokeniser.

    Args:
        tokenize: sacrebleu's name of the tokeniser; 13a splits words at spaces.
        effective_order: count no n-grams that are longer than the text, as for one sentence.

    Raises:
        BadInput: there is no such tokeniser, or it lacks a package or, offline, its model.
    """
    if tokenize not in BLEU.TOKENIZERS:
        raise BadInput(f"tokenize: expected {', '.join(BLEU.TOKENIZERS)}, found {tokenize!r}")
    try:
        return BLEU(tokenize=tokenize, effective_order=effective_order)
    except (RuntimeError, ImportError, OSError) as error:
        need = {"ja-mecab": "sacrebleu[ja]", "ko-mecab": "sacrebleu[ko]"}
        found = " ".join(str(error).split())[:120]
        raise BadInput(
            f"tokenize={tokenize}: expected the tokeniser to be installed (pip install "
            f"'{need.get(tokenize, 'sentencepiece')}'; tokenize=char needs nothing), found: {found}"
        ) from None
