"""ROUGE-L: longest common subsequence with a reference (Lin 2004), by `rouge-score`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import Floats


def rouge_l(
    texts: Sequence[str], references: Sequence[Sequence[str]], *, stemming: bool = True
) -> Floats:
    """Compute the F-measure (0 to 1) of each text against the best of its references; shape (N,).

    Args:
        texts: texts of a model.
        references: per text at least one good answer.
        stemming: compare stems (Porter), as SuperNI's evaluation does.

    Raises:
        BadInput: a text without reference, or lists of unlike lengths.
    """
    # Importing it takes a second.
    from rouge_score.rouge_scorer import RougeScorer

    check_references(texts, references, "ROUGE-L")
    scorer = RougeScorer(["rougeL"], use_stemmer=stemming)
    return np.array(
        [
            max(scorer.score(reference, text)["rougeL"].fmeasure for reference in known)
            for text, known in zip(texts, references, strict=True)
        ],
        dtype=np.float64,
    )


def check_references(
    texts: Sequence[str], references: Sequence[Sequence[str]], metric: str
) -> None:
    """Refuse texts without a reference.

    Raises:
        BadInput: a text without reference, or lists of unlike lengths.
    """
    if len(texts) != len(references):
        raise BadInput(
            f"{metric}: expected references for {len(texts)} texts, found {len(references)}"
        )
    bare = next((i for i, known in enumerate(references) if not known), None)
    if bare is not None:
        raise BadInput(f"{metric}: text {bare}: expected at least one reference, found none")
