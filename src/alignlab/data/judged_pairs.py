"""Two answers to a prompt that people compared, and their votes, as a preference group.

A vote is 1 where the first answer is better, 0 where the second is, 0.5 for a tie. The group's
order is the majority's, the scores 1 and 0; a tie, or no majority, is a group of equal scores 0.5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from alignlab.data.build_records import BuildResult, Kept, Origin, ResponseDraft, group, user
from alignlab.data.read import Faults, read_table
from alignlab.data.rows import Row

FIRST, TIE, SECOND = 1.0, 0.5, 0.0
NOT_TEXT = "truth value written as text"


@dataclass(frozen=True)
class JudgedPair:
    """One row of such data."""

    prompt: str
    first: ResponseDraft
    second: ResponseDraft
    votes: tuple[float, ...]
    """One per annotator, in the data's order of annotators."""
    origin: Origin
    changed: tuple[str, ...] = ()

    @property
    def majority(self) -> float:
        """The vote that most annotators gave; a tie where no vote leads."""
        (vote, number), *others = Counter(self.votes).most_common(2)
        return TIE if others and others[0][1] == number else vote


def judged_pair_group(pair: JudgedPair) -> list[BuildResult]:
    """The group of a compared pair."""
    answers = [
        replace(pair.first, score=pair.majority),
        replace(pair.second, score=1 - pair.majority),
    ]
    if pair.first.text == pair.second.text:
        answers = answers[:1]  # counted as a pair of equal answers, not as a mended group
    made = group(user(pair.prompt), answers, pair.origin)
    if isinstance(made, Kept):
        return [replace(made, changed=(*made.changed, *pair.changed))]
    return [made]


def read_judged_pairs(path: str, compared: Callable[[Row], JudgedPair]) -> list[JudgedPair]:
    """Every row of a file, with each annotator's vote; none is left out or merged.

    Raises:
        BadInput: no such file, or a bad record.
    """
    return [compared(row) for row in read_table(path, Faults(stop=True)).rows]


def text_or_truth(row: Row, field: str) -> tuple[str, tuple[str, ...]]:
    """A text that a JSON writer may have turned into true or false, and whether it had."""
    value = row.get(field)
    if isinstance(value, bool):
        return str(value), (NOT_TEXT,)
    return row.text(field), ()
