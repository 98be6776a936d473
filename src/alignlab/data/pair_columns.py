"""Find a better and a worse answer in columns under other names than chosen and rejected.

Such a file has a prompt and would be read as a file of prompts alone, without its answers.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from alignlab.data.rows import Row, is_nothing

WORSE = {
    "chosen": ("rejected", "reject"), "preferred": ("dispreferred", "nonpreferred", "unpreferred",
                                                    "rejected", "other"),
    "prefer": ("disprefer", "reject"), "accepted": ("rejected", "refused"),
    "accept": ("reject",), "selected": ("rejected", "unselected"), "winner": ("loser",),
    "winning": ("losing",), "win": ("lose", "loss"), "won": ("lost",), "good": ("bad",),
    "pos": ("neg",), "positive": ("negative",), "better": ("worse",), "best": ("worst",),
    "w": ("l",), "upvoted": ("downvoted",), "liked": ("disliked",),
}  # fmt: skip
"""Name of the better side -> names of the worse one."""
_ABOUT = re.compile(
    r"responses?|answers?|completions?|outputs?|texts?|repl(y|ies)|generations?|summar(y|ies)|"
    r"messages?|samples?|y"
)
"""Words of a column's name that name no side."""


class PairColumns(NamedTuple):
    """Columns of both answers."""

    better: str
    worse: str


def pair_columns(row: Row, read: Collection[str]) -> PairColumns | None:
    """Return two columns that hold a better and a worse answer; None where there are none.

    Args:
        row: a record.
        read: names of columns that the layout of the record reads.
    """
    sides = {
        _side(name): name
        for name, value in row.values.items()
        if name not in read and isinstance(value, str | list | dict) and not is_nothing(value)
    }
    for (side, about), better in sides.items():
        for other in WORSE.get(side, ()):
            if (worse := sides.get((other, about))) is not None:
                return PairColumns(better, worse)
    return None


def _side(name: str) -> tuple[str, tuple[str, ...]]:
    """Split a name into that of its side and the words around it: `response_w` -> w, response."""
    words = re.sub(r"non[_ -](?=prefer)", "non", str(name).lower())
    parts = [part for part in re.split(r"[_ -]+", words) if part]
    about = tuple(part for part in parts if _ABOUT.fullmatch(part))
    return "_".join(part for part in parts if part not in about), about
