"""Parse the winner of a pairwise comparison."""

from __future__ import annotations

import re
from typing import Literal

from alignlab.verdicts import languages
from alignlab.verdicts.reply import BETTER_LABELS, DECORATION, readable, verdict_in

Side = Literal["a", "b", "tie"]
NOUN = rf"(?:answer|assistant|response|model|option|candidate|output|reply|{languages.NOUNS})"
_LABELS = (
    BETTER_LABELS[0],
    "winner",
    "verdict",
    r"preferred(?:[ _](?:answer|response|assistant|option|summary))?",
    r"more[ _]helpful(?:[ _](?:answer|response))?",
    r"final[ _](?:answer|decision|choice)",
    BETTER_LABELS[1],
)
_ANSWER = re.compile(r"(?:the\s+)?answer(?:\s*:|\s+is)\s*", re.IGNORECASE)
_SIDE = re.compile(
    r"(?:(?:the|is|it's|it\s+is|clearly)\s+){0,2}"
    rf"(?P<edge>(?:an?\s+)?(?:\w+\s+){{0,2}}(?:edge|preference|advantage|lead|win)\s+(?:to|for)\s+)?"
    rf"(?P<noun>[<*_`\[(\"']*{NOUN}[\s_]*)?[\[(<\"'*_`${{]*(?P<side>[ab])"
    rf"(?!(?!{languages.BETTER})[^\W_]|_+[^\W_]|-[ab]\b)",
    re.IGNORECASE,
)
_TIE = re.compile(
    rf"(?:it's\s+|it\s+is\s+)?(?:an?\s+|[\[(<\"']*)(?:tie|draw|{languages.TIES})\b"
    r"(?:\s*\(both\s*(?:are\s+)?(?:bad|good)\)?)?",
    re.IGNORECASE,
)
_CLOSERS = r"[*_`$\"')\]>}\s]*"
_AFTER_A = re.compile(
    rf"{_CLOSERS}(?:$|{languages.BETTER}|[.,:;!?(\[<=|/&~+→≈–—-]|>+\s*B)|'s\b|[*_`\"')\]>}}]*\s+(?:is|was|wins?|because|since|as"
    r"|for|by|with|due|but|over|than|slightly|clearly|not|though|although|has|does|gives|answers"
    r"|answered|serves|in|on|provides|explains|offers|includes|covers|addresses|follows|stays|shows"
    rf"|states|uses|makes|(?:better|more)\b(?!\s+(?:\w+\s+){{0,3}}{NOUN}\b)|[Bb]\b|[^\w\s])",
)
"""Text after the letter A that rules out the article."""
_SECOND = re.compile(
    rf"{_CLOSERS}(?:(?:[/|,;?&=≈+~<→]|->|=>|or\b|and\b|vs\b\.?|versus\b|then\b"
    rf"|(?:{languages.WORDS_BETWEEN})\b)\s*)+"
    r"[*_`\[(\"']*(?:(?:also|maybe|perhaps|even|slightly|possibly|probably|leaning|an?|the)\s+)*"
    rf"(?:{NOUN}\s+)?(?:(?-i:[ABb])|tie|draw|both|neither)\b"
    rf"|{_CLOSERS}(?:(?:is|was)\s+(?:\w+ly\s+)?(?:not|worse|wrong|incorrect|inferior|weaker|less)\b|isn't|wasn't|loses\b|\((?:an?\s+)?(?:tie|draw|or))\b",
    re.IGNORECASE,
)
_RETRACTED = re.compile(
    r"(?:\b(?:revis\w*|chang\w*|correct(?:ed|ion)|actually|rather|instead|make\s+(?:that|it)|wait|no"
    r"|sorry|on\s+second\s+thought)\b[^.\n]{0,24}?[\s:,(\[]|(?:->|=>|→)\s*"
    rf"|(?:{languages.REVISED})[^.\n]{{0,12}}?)"
    r"(?P<side>(?-i:[AB])|tie|draw)\b",
    re.IGNORECASE,
)
_BRACKETED: dict[str, Side] = {
    "a": "a", "b": "b", "c": "tie", "tie": "tie", "a>>b": "a", "a>b": "a", "a=b": "tie",
    "b=a": "tie", "b>a": "b", "b>>a": "b", "a<b": "b", "a<<b": "b", "b<a": "a", "b<<a": "a",
}  # fmt: skip
"""Verdicts in double brackets of FastChat (C is a tie) and Arena-Hard -> winner."""


def parse_winner(text: str) -> Side | None:
    """Parse the winner in a reply; None if unreadable.

    Reads the last of "Better: A" (also "Better: Assistant A", "Better: a tie", "Preferred: A"),
    `{"winner": "A"}`, `[[A]]`, `[[A>>B]]`, `[RESULT] A` and `\\boxed{A}`, or a reply that is a side
    and nothing else.
    """
    text = readable(text)
    verdict = verdict_in(
        text,
        _LABELS,
        lambda label: _side(text[label.end() :]),
        lambda inner: _BRACKETED.get(re.sub(r"\s", "", inner).lower()) or _whole_side(inner),
    )
    side: Side | None = _whole_side(text) if verdict is None else verdict.value
    return side


def _side(text: str) -> Side | None:
    """Parse the side at the start of a text; None without one, or if later text retracts it."""
    tie, named = _TIE.match(text), _SIDE.match(text)
    if tie:
        side: Side = "tie"
        rest = text[tie.end() :]
    elif named:
        side = "a" if named["side"] in "aA" else "b"
        rest = text[named.end() :]
        article = named["side"] == "a" or not (named["noun"] or named["edge"])
        first = rest.partition("\n")[0]
        if side == "a" and article and not _AFTER_A.match(first):
            return None
        if named["side"] == "a" and re.match(r"\s+\w", first) and not named["noun"]:
            return None
    else:
        return None
    if re.match(languages.OTHER_WORD, rest):
        return None
    later = {_letter(one) for one in _RETRACTED.findall(rest.partition("\n")[0])}
    return None if _SECOND.match(rest) or later - {side} else side


def _letter(text: str) -> Side:
    return "a" if text == "A" else "b" if text == "B" else "tie"


def _whole_side(text: str) -> Side | None:
    """Parse a text that is a single side; None otherwise."""
    bare = _ANSWER.sub("", text.strip(DECORATION + ".()[]"), count=1).strip(DECORATION + ".()[]")
    match = _TIE.fullmatch(bare) or _SIDE.fullmatch(bare)
    return _side(bare) if match else None
