"""ROUGE-L: longest common subsequence with a reference (Lin 2004), by `rouge-score`."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alignlab.errors import BadInput

_NO_SPACES = r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
"""Thai, Lao, Tibetan, Burmese, Khmer, kana, Chinese characters."""
_INDIC = r"\u0900-\u0963\u0966-\u0dff"
"""Scripts of India, whose vowel signs belong to words."""
_TOKEN = re.compile(rf"[{_NO_SPACES}]|(?:[^\W{_NO_SPACES}]|[{_INDIC}])+")


def rouge_l(
    texts: Sequence[str], references: Sequence[Sequence[str]], *, stemming: bool = True
) -> NDArray[np.float64]:
    """Compute the F-measure (0 to 1) of each text against the best of its references; shape (N,).

    `rouge-score` knows the letters a to z alone. Where most letters of a reference are others, its
    words, or its characters in scripts without spaces, are compared as they are.

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
    plain = RougeScorer(["rougeL"], use_stemmer=stemming)
    other = RougeScorer(["rougeL"], tokenizer=_AnyScriptTokenizer())

    def score(reference: str, text: str) -> float:
        scorer = other if _is_other_script(reference) else plain
        return float(scorer.score(reference, text)["rougeL"].fmeasure)

    return np.array(
        [
            max(score(reference, text) for reference in known)
            for text, known in zip(texts, references, strict=True)
        ],
        dtype=np.float64,
    )


class _AnyScriptTokenizer:
    """Tokeniser of any script: words, and single characters where words have no spaces."""

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of a text in lower case."""
        return _TOKEN.findall(text.lower())


def _is_other_script(text: str) -> bool:
    """Return True for a text most of whose letters are not a to z."""
    letters = [char for char in text if char.isalpha()]
    return 2 * sum(char.isascii() for char in letters) < len(letters)


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
