"""Relevance of a response to a text: a dot product of embeddings, as in R3.

`minilm` is the model of the `[relevance]` extra, `tfidf` needs no model; any other name is a folder
or hub id of a sentence-transformers model or a plain encoder, whose token embeddings are averaged
(Contriever, arXiv 2112.09118).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from alignlab.feedback.conversion import feedback_on, finite_score
from alignlab.protocols import flatten
from alignlab.registry import register
from alignlab.types import Feedback, Prompt, Response, Unscored


class Relevance(Protocol):
    """Relevance model for pairs of texts."""

    name: str

    def products(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the dot product of the two texts' embeddings, for each pair."""
        ...


def relevance_model(name: str, *, normalise: bool = False) -> Relevance:
    """Make a relevance model by name: "minilm", "tfidf", or an encoder's folder or hub id.

    Args:
        name: "minilm", "tfidf", or an encoder's folder or hub id.
        normalise: scale embeddings to length 1; those of TF-IDF always have it.

    Raises:
        BadInput: there is no such encoder, or the package that reads it is not installed.
    """
    if name == "tfidf":
        return TfidfRelevance()
    from alignlab.feedback.relevance_encoder import EncoderRelevance

    return EncoderRelevance(name, normalise=normalise)


class TfidfRelevance:
    """Cosine similarity of word counts (1 + log count), common English words left out.

    Words are hashed and not weighted by how rare they are, so that a value depends on its two
    texts alone and not on what else is scored in the same call.
    """

    name = "tfidf"

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        self._vectoriser = HashingVectorizer(
            n_features=2**20, alternate_sign=False, norm=None, stop_words="english"
        )

    def products(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return the cosine of each pair, in [0, 1]; 0 where a text has only stop words."""
        if not pairs:
            return []
        left, right = (self._weights([pair[side] for pair in pairs]) for side in (0, 1))
        found: list[float] = np.asarray(left.multiply(right).sum(axis=1)).ravel().tolist()
        return found

    def _weights(self, texts: Sequence[str]):  # type: ignore[no-untyped-def]
        from sklearn.preprocessing import normalize

        counts = self._vectoriser.transform(texts)
        counts.data = 1 + np.log(counts.data)
        return normalize(counts)


class RelevanceSource:
    """Feedback source that scores a response by its relevance to the prompt's last turn alone."""

    def __init__(self, model: Relevance):
        self.model = model
        self.name = f"relevance:{model.name}"

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one score per response; nothing is sampled. An empty response is Unscored."""
        pairs = [(prompt.text, response.text) for prompt, response in flatten(items)]
        scores = iter(self.model.products([pair for pair in pairs if pair[1].strip()]))
        empty = Unscored("the response is empty")
        verdicts = [
            finite_score(value := next(scores), (value,)) if text.strip() else empty
            for _, text in pairs
        ]
        return feedback_on(items, self.name, verdicts)


@register("feedback", "relevance")
def make_relevance(rest: str) -> RelevanceSource:
    """`relevance:minilm|tfidf|FOLDER`: nearness of response and question, no more."""
    return RelevanceSource(relevance_model(rest or "minilm"))
