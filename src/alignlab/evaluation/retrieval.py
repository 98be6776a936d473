"""Retrieval of passages of a local corpus by TF-IDF, as evidence for judges."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alignlab.errors import BadInput
from alignlab.evaluation.task_files import read_rows

WORDS = 200
"""Words of a passage; longer texts are cut into several."""


@dataclass(frozen=True)
class Passage:
    """Passage of a text of the corpus."""

    title: str
    text: str


class PassageIndex:
    """Search index over passages, all or those of one title."""

    def __init__(self, passages: list[Passage]) -> None:
        # Importing it takes a second.
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.passages = passages
        self._words = TfidfVectorizer(sublinear_tf=True)
        self._table_PW = self._words.fit_transform([f"{p.title} {p.text}" for p in passages])
        self._of_title: dict[str, list[int]] = {}
        for index, passage in enumerate(passages):
            self._of_title.setdefault(passage.title.lower(), []).append(index)

    def find(self, query: str, most: int, *, title: str = "") -> list[Passage]:
        """Find the passages nearest to a query, those of the title where the corpus has it."""
        query_W = self._words.transform([query])
        near_P = (self._table_PW @ query_W.T).toarray()[:, 0]
        chosen = self._of_title.get(title.lower()) or range(len(self.passages))
        ranked = sorted(chosen, key=lambda i: (-near_P[i], i))
        return [self.passages[i] for i in ranked[:most]]


def read_corpus(path: Path) -> PassageIndex:
    """Index the passages of a corpus; errors as of `read_passages`."""
    return PassageIndex(read_passages(path))


def read_passages(path: Path) -> list[Passage]:
    """Read a corpus from rows of `title` and `text`.

    Raises:
        BadInput: no such file, or a row without a title or a text.
    """
    passages = [
        Passage(row.text("title"), piece)
        for row in read_rows(path)
        for piece in _cut(row.text("text"))
    ]
    if not passages:
        raise BadInput(f"{path}: expected passages, found none")
    return passages


def _cut(text: str) -> list[str]:
    found = text.split()
    return [" ".join(found[i : i + WORDS]) for i in range(0, len(found), WORDS)]
