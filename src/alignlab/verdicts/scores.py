"""Parse scores and ratings: one complete number on the judge's scale."""

from __future__ import annotations

import re
from collections.abc import Sequence

from alignlab.turns import own_turn
from alignlab.verdicts import languages
from alignlab.verdicts.reply import DECORATION, readable, verdict_in

_N = r"\d+(?:\.\d+)?"
_NUMBER = re.compile(
    rf"(?:[\[(\"'$]*|<(?=\s*{_N}\s*>))\s*(?P<value>[+-]?{_N})"
    rf"(?:{languages.UNIT}|(?![^\W_]|\.\d))[*_`]*"
)
_TOP = re.compile(
    r"[)\]\"' \t]*(?:points?|pts\.?|stars?|marks?)?[ \t]*[(\[]?[ \t]*"
    rf"(?:(?:{languages.TOP})\s*:?|/|(?:out\s+)?of\b|max(?:imum)?\b[.:]?|(?:in|over|from|von|sur|su|de|av|van|из)\b)"
    r"\s*(?:(?:a|the)\s+)?(?:(?:possible|total|max(?:imum)?\.?)\s+(?:(?:score\s+)?of\s+)?)?"
    rf"[*_`]*(?P<top>{_N}){languages.UNIT}?[*_`)\]]*",
    re.IGNORECASE,
)
_MORE = re.compile(
    r"[)\]}>\"'*_` \t]*(?:(?<=[*_`])\d|[%‰]|per\s?cent\b|pct\b|[½¼¾⅓⅔]"
    rf"|{languages.RANGE}|{languages.TOP}|(?:{languages.WORDS_BETWEEN})[ \t]+\d"
    r"|[-–]?ish\b|\+(?!\w)|/(?!/)\s*\S|[ \t]\d"
    r"|at\s+(?:most|least|best|worst)\b|(?:is|was|seems|feels|would\s+be)\s+(?:\w+\s+){0,2}too\b"
    r"|(?:or|and)\s+(?:more|less|above|below|higher|lower|up|so)\b"
    r"|(?:[-–—+±=×^,;:&|~…→⇒]|->|\\to\b|=>|\.\.+|to\b|or\b|and\b|plus\b|minus\b|vs\b\.?|versus\b|bis\b|und\b|oder\b"
    r"|through\b)[ \t]*(?:(?:maybe|perhaps|even|rather|possibly)\s+)?[\[(\"'*_`]*[+-]?\d)",
    re.IGNORECASE,
)
"""Text after a number that makes the verdict more than the number."""
_LATER = re.compile(
    r"\b(?:revis\w*|chang\w*|correct(?:ed|ion|ing)|adjust\w*|updat\w*|lower(?:ed|ing)|raised"
    rf"|reduced|increased|bumped|downgraded|upgraded)\W+(?:\w+\s+){{0,3}}to\W+({_N})\b"
    rf"|(?:{languages.REVISED})[^\d\n.]{{0,8}}({_N})",
    re.IGNORECASE,
)
_INSTEAD = re.compile(
    r"(?:\b(?:actually|rather|instead|make\s+(?:that|it)|i\s+mean|sorry|wait|no|now|then|becomes?|final(?:ly)?|later|hmm+|reconsider\w*"
    r"|on\s+(?:second\s+thought|reflection|balance)|after\s+\w+)\b[,:;.\s—–-]*"
    r"(?:(?:make\s+(?:that|it)|i\s+(?:mean|give)|it\s+is|it's|a)\s+)?|(?:->|=>|→|⇒)\s*"
    rf"|\b(?:corrected|revised|previously|formerly|(?<=\()was)\b:?\s*|^\s*\(\s*(?={_N}\s*\)))({_N})\b(?!\s*(?:/|of\b))",
    re.IGNORECASE,
)
_HEDGED = re.compile(
    r"\b(?:or|maybe|perhaps|possibly|(?:could|might)\s+(?:also\s+)?be|closer\s+to|almost|nearly)\s+"
    rf"(?:an?\s+)?({_N})\b",
    re.IGNORECASE,
)
_LISTED = re.compile(r"(?:\b(?:and|or)\s+(?:an?\s+)?|\+\s*)\d", re.IGNORECASE)
_RUBRIC = re.compile(
    rf"\s*(?:for|if|means?|=)\s[^\n]*?[;,]\s*{_N}\s*(?:for|if|means?|=)\s", re.IGNORECASE
)
_SCALE = re.compile(
    rf"(?:{_N}\s*(?:[-–—~]|to\b|through\b|\.\.+)|out\s+of|/|\bmax(?:imum)?\b\.?|\bof\b)\s*"
    rf"(?P<top>{_N})",
    re.IGNORECASE,
)
_ON_SCALE = re.compile(
    rf"\bscale\s*:?\s*(?:of|from|is)?\s*(?:{_N}\s*(?:[-–—~]|to|through)\s*)?({_N})"
    rf"|\b({_N})[- ]point\s+scale|^\s*[\[(]\s*{_N}\s*[-–—]\s*({_N})\s*[\])]",
    re.IGNORECASE,
)
_NUMBER_END = re.compile(r"[)\]}>\"'*_`$\s]*(?:points?|stars?)?[.!\s*_`$\"']*", re.IGNORECASE)

_OFFICIAL = (
    re.compile(rf"\[\[({_N})\]\]"),
    re.compile(rf"rating\W{{0,12}}\[({_N})\]", re.IGNORECASE),
)


def parse_score(
    text: str, *, low: float, high: float, names: Sequence[str] = ("score", "rating")
) -> float | None:
    r"""Parse the score in a reply; None if unreadable or off the scale.

    Reads the last of "Score: 4" (also "score: 4/5", "**Score:** **4**", "Score (0-5): 4"),
    `{"score": 4}`, `<score>4</score>`, `\boxed{4}` and `[[4]]`, or a reply that is a number and
    nothing else ("4", "4/5").

    Args:
        text: the reply.
        low: lowest score of the scale.
        high: highest score of the scale; "4/10" is unreadable on a scale to 5.
        names: labels as regular expressions; the first one present counts.
    """
    text = readable(text)

    def inside(inner: str) -> float | None:
        return _whole_number(inner, high)

    def after(label: re.Match[str]) -> float | None:
        scale = _SCALE.search(label["scale"] or "")
        if scale and float(scale["top"]) != high:
            return None
        return _number(text, label.end(), high)[0]

    verdict = verdict_in(text, (*names, languages.SCORE), after, inside)
    if verdict is None:
        last = text.rstrip().rpartition("\n")[2]
        value = _whole_number(last if _TOP.search(last) else text, high)
    else:
        value = verdict.value
    return value + 0.0 if value is not None and low <= value <= high else None  # -0 is 0


def parse_rating(text: str, *, low: float, high: float, official: bool = False) -> float | None:
    """Parse the rating in a reply, `[[7]]` or any form of `parse_score`; None if unreadable.

    Args:
        text: the reply.
        low: lowest rating of the scale.
        high: highest rating of the scale.
        official: follow MT-Bench's rule, the first `[[number]]`, else "Rating: [number]". By
            default the last rating counts, so that a quoted answer cannot rate itself.
    """
    if not official:
        return parse_score(text, low=low, high=high, names=("rating", "score"))
    match = next((m for m in (p.search(own_turn(text)) for p in _OFFICIAL) if m), None)
    value = float(match[1]) if match else None
    return value if value is not None and low <= value <= high else None


def _number(text: str, start: int, high: float) -> tuple[float | None, int]:
    """Parse the number at a position and its end; None if it is not the complete verdict."""
    match = _NUMBER.match(text, start)
    if match is None:
        return None, start
    value, end = float(match["value"]), match.end()
    top = _TOP.match(text, end)
    if top:
        if float(top["top"]) != high:
            return None, end
        end = top.end()
    rest = text[end:]
    line = rest.partition("\n")[0]
    bare = re.sub(r"\s*\([^()]*\)", "", line)
    clause = re.split(r"[.;]", bare, maxsplit=1)[0]
    sentence = re.split(r"[.;]", line, maxsplit=1)[0]
    others = [one or other for one, other in _LATER.findall(rest)] + _INSTEAD.findall(line)
    others += _HEDGED.findall(sentence)
    if top:  # "5/5 for style, 2/5 for content"
        others += re.findall(rf"({_N})\s*(?:/|out\s+of)\s*{re.escape(top['top'])}\b", sentence)
    scales = [float("".join(tops)) for tops in _ON_SCALE.findall(line)]
    split = (
        _MORE.match(text, end)
        or _MORE.match(bare)
        or _LISTED.search(clause)
        or _RUBRIC.match(rest)
        or any(float(other) != value for other in others)
        or any(scale != high for scale in scales)
    )
    return (None if split else value), end


def _whole_number(text: str, high: float) -> float | None:
    """Parse a text that is a single number; None otherwise."""
    text = text.strip(DECORATION)
    value, end = _number(text, 0, high)
    return value if value is not None and _NUMBER_END.fullmatch(text, end) else None
