"""Numbers in answers: thousands separators, currencies, percent, fractions, units.

Values are exact fractions, so that 0.5, 1/2, .50 and \\frac{1}{2} are one number. Numbers in words
("twelve") are not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_GROUPS = "[,\u00a0\u202f'\u2019]"
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Letters of languages that write no space before a number."""
_PLAIN = (
    rf"(?>(?:\d+(?:{_GROUPS}\d{{3}})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][+-]?\d+(?![\w.]))?|\.\d+)"
    r"(?!(?:st|nd|rd|th)\b)"
)
_NUMBER = re.compile(
    rf"(?<![^\W{_CJK}]|[.^])(?P<sign>(?<![)\]}}%])[-\u2212\u2013]\s?|\bnegative\s+|"
    r"(?:(?<!\w\s)|(?<=\bis\s))\bminus\s+)?(?P<money>[$\u20ac\u00a3\u00a5\u20b9]\s?)?"
    r"(?P<minus>-)?(?:(?:(?P<whole>\d+)\s+)?(?P<top>\d+)\s*/\s*(?P<bottom>\d+)(?![\d/])"
    rf"|(?P<plain>{_PLAIN}))"
    r"(?P<percent>\s?%|\s+(?:percent|per cent)\b)?"
    r"(?:\s+(?P<scale>thousand|million|billion|trillion)\b|(?-i:(?P<suffix>[kKM]|bn)\b))?",
    re.IGNORECASE,
)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
           "k": 10**3, "m": 10**6, "bn": 10**9}  # fmt: skip
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]+)\}|(\d))\s*(?:\{([^{}]+)\}|(\d))")
_LATEX = (
    (re.compile(r"\{,\}|\\[,;!]"), ""),
    (re.compile(r"\\(?=[$%])"), ""),
    (re.compile(r"\s?\^\s?(?:\\circ\b|\{\s?\\circ\s?\})|\\degree\b"), "\u00b0"),
    (re.compile(r"\\(?:text|mathrm|mathbf|textbf)\{([^{}]*)\}"), r" \1"),
    (re.compile(r"\\[()\[\]]|\\(?:left|right|quad|displaystyle)\b"), " "),
)
_LONGEST = 1000
"""Characters of the longest number read: a response may repeat a digit up to its token limit."""
_UNITS = {
    "$": "dollar", "usd": "dollar", "\u20ac": "euro", "eur": "euro", "\u00a3": "pound sterling",
    "m": "metre", "meter": "metre", "km": "kilometre", "kilometer": "kilometre",
    "cm": "centimetre", "centimeter": "centimetre", "mm": "millimetre", "mi": "mile",
    "ft": "foot", "feet": "foot", "inch": "inch", "inches": "inch", "kg": "kilogram",
    "g": "gram", "mg": "milligram", "lb": "pound", "lbs": "pound", "oz": "ounce",
    "l": "litre", "liter": "litre", "ml": "millilitre", "milliliter": "millilitre",
    "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "mins": "minute",
    "s": "second", "sec": "second", "secs": "second",
}  # fmt: skip
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_UNITS |= {"am": "a.m.", "pm": "p.m."} | {
    name.lower()[:length]: name for name in _MONTHS for length in (3, 4, len(name))
}
"""Words after a number -> unit; clock times and months count as units: 5 PM is not 5 AM."""
_FRACTIONS = {"\u00bd": "1/2", "\u00bc": "1/4", "\u00be": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
_KNOWN = {*_UNITS.values(), "cent", "day", "week", "month", "year", "yard", "tonne", "ton"}


@dataclass(frozen=True)
class Number:
    """Number in a text, with its unit."""

    value: Fraction
    percent: bool
    unit: str
    """Known unit of measure or currency, singular, or a capital letter ("5 V"); empty for none."""
    start: int
    end: int
    text: str

    def equals(self, other: Number, tolerance: float = 0.0) -> bool:
        """Compare values; 12% equals 12 and 0.12; two known units must agree."""
        if self.unit and other.unit and self.unit != other.unit:
            return False
        if self.percent != other.percent:
            shares = (self if self.percent else other).value / 100
            if _near(shares, (other if self.percent else self).value, tolerance):
                return True
        return _near(self.value, other.value, tolerance)


def plain_text(text: str) -> str:
    """Remove LaTeX markup around numbers: \\frac{1}{2} becomes 1/2, 1{,}000 becomes 1,000."""
    for sign, words in _FRACTIONS.items():
        text = text.replace(sign, f" {words}")
    for _ in range(2):  # fractions inside \text{} and the reverse
        text = _FRACTION.sub(lambda m: f" {m[1] or m[2]}/{m[3] or m[4]}", text)
        for pattern, by in _LATEX:
            text = pattern.sub(by, text)
    return text


def numbers_in(text: str) -> list[Number]:
    """List the numbers of a text, in order."""
    found = (_number(match, text) for match in _NUMBER.finditer(text))
    return [number for number in found if number is not None]


def whole_number(text: str) -> Number | None:
    """Read a text that is one number with at most three words of unit; None for another text.

    "2x", "3D" and "5 and a half" are other texts.
    """
    plain = plain_text(text).replace("*", "").strip().strip(" $.").strip().removeprefix("+")
    if text.strip().lstrip("*\\( ").startswith("$"):
        plain = f"${plain}"
    found = numbers_in(plain)
    if len(found) != 1 or found[0].start > 0:
        return None
    after = plain[found[0].end :].removeprefix("\u00b0")
    rest = after.strip()
    letter = re.match(r"[^\W\d_]\b", after)
    if re.match(r"(?:and|or|to)\b", rest) or (letter and not found[0].unit):
        return None
    return found[0] if re.fullmatch(r"(?:[^\W\d]+[\s./]*){0,3}", rest) else None


def _number(match: re.Match[str], text: str) -> Number | None:
    if len(match[0]) > _LONGEST or re.search(r"[eE][+-]?\d{4}", match[0]):
        return None
    if match["bottom"]:
        if not int(match["bottom"]):
            return None
        value = Fraction(int(match["top"]), int(match["bottom"])) + int(match["whole"] or 0)
    else:
        value = Fraction(re.sub(_GROUPS, "", match["plain"]))
    value *= _SCALES.get((match["scale"] or match["suffix"] or "").lower(), 1)
    if match["sign"] or match["minus"]:
        value = -value
    unit, shown = _unit(match, text), match[0].strip()
    return Number(value, bool(match["percent"]), unit, match.start(), match.end(), shown)


def _unit(match: re.Match[str], text: str) -> str:
    money = (match["money"] or "").strip()
    if money:
        return _UNITS.get(money, "")
    after = re.sub(r"^(\s*[ap])\.\s?m\b", r"\1m", text[match.end() :], flags=re.IGNORECASE)
    word = re.match(r"\s*-?([A-Za-z]+)(?:(?:\s?/\s?|\s+per\s+)([A-Za-z]+))?", after)
    if word is None:
        return ""
    names = [_known(part) for part in word.groups() if part]
    if all(names):
        return "/".join(names)
    letter = re.match(r"\s([B-HJ-Z])\b(?!')", after)
    return names[0] or (letter[1] if letter else "")


def _known(word: str) -> str:
    """Return the unit that a word names, in the singular; empty for another word."""
    name = word.lower()
    name = _UNITS.get(name, name)
    singular = name.removesuffix("s") if name not in _KNOWN else name
    singular = _UNITS.get(singular, singular)
    is_verb = singular in _MONTHS and word.islower()  # "5 may be right"
    return singular if singular in _KNOWN and not is_verb else ""


def _near(a: Fraction, b: Fraction, tolerance: float) -> bool:
    return a == b or abs(a - b) <= Fraction(tolerance) * abs(b)
