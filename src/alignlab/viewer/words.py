"""Mark differences between two texts, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import NamedTuple

LONGEST = 4000
"""Maximum number of words of a text that is compared; longer texts are shown unmarked."""


class Piece(NamedTuple):
    """Part of a text; `differs` if the other text does not have it at this place."""

    text: str
    differs: bool


def differences(one: str, other: str) -> tuple[list[Piece], list[Piece]]:
    """Split two texts into common and differing pieces; spaces and line breaks are kept."""
    first, second = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (one, other))
    if max(len(first), len(second)) > LONGEST:
        return [Piece(one, False)], [Piece(other, False)]
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, a, b, c, d in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if a < b:
            left.append(Piece("".join(first[a:b]), kind != "equal"))
        if c < d:
            right.append(Piece("".join(second[c:d]), kind != "equal"))
    return left, right
