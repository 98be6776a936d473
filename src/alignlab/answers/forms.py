"""Read an answer in the form that its reference has: a number, an option, a formula, or a text."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from alignlab.answers.markers import Marked
from alignlab.answers.numbers import Number, numbers_in, plain_text, whole_number
from alignlab.text import sentences

Form = Literal["number", "choice", "math", "text"]

_LETTER = re.compile(r"\(?([A-J])\)?[.:]?")
_FORMULA = re.compile(r"[\\^{}=]|\bsqrt\b|\bpi\b|(?<=[\w)])\s*[*+/]\s*(?=[\w(])|[\[(].*,.*[\])]")
_OPTION = re.compile(r"^\s*(?:\*\*)?\(?([A-J])[).:]\s*(?:\*\*)?\s*(\S.*)$", re.MULTILINE)
_NAMED = re.compile(
    r"(?<![\w'])(?:\(([A-Ja-j])\)|([A-J])(?=[).:,;*]|\s*$|\s*\n)|([B-HJ])(?![\w'\u2019])|^([a-j])[).:])"
)
_BETWEEN = re.compile(r"\s*(?:[-\u2013~,;&]|\b(?:to|or|and)\b)?\s*[$\u20ac\u00a3]?\s*")
_BETWEEN_UNITS = re.compile(r"\s*-?[A-Za-z]+,?\s*(?:and\s*)?")
_TWICE = re.compile(r"\b([A-Za-z]\w*)\s*=[^=]*\b(?:or|and)\s+\1\s*=")
_EITHER_SIGN = re.compile(r"(?:\u00b1|\\pm)\s*\$?$")
_PART_BEFORE = re.compile(rf"\d[.,]$|{_EITHER_SIGN.pattern}")
_PART_AFTER = re.compile(r"\^|[.,]\d")
_REJECTED = re.compile(
    r"(?:^|[,(]?\s+\(?)(?:not|rather than|instead of)\s.*", re.IGNORECASE | re.DOTALL
)
_BOTH = re.compile(r"\W*(?:yes|true)\W*(?:and|or|/)\W*(?:no|false)\b", re.IGNORECASE)
_SEVERAL = re.compile(r"\(?[A-J][).:]*\s*(?:or|and|,|/)\s*\(?[A-J]\b")
_CALCULATION = re.compile(
    r"\.\d|\s*(?:(?<!\*)\*(?!\*)|[+/\u00d7\u00f7^]|\\(?:cdot|times|div)\b|[-\u2212\u2013]\s*[\d(])"
)
_NOTES = re.compile(
    r"\s*(?:(?:\d+[.)]|[-*\u2022])\s+[^\d\s]|\W{0,4}(?:notes?|rounded|explanation|reasoning|steps?|"
    r"because|since|check|here(?:'s| is| are)|this is)\b)",
    re.IGNORECASE,
)
"""Start of notes below an answer."""
_RESULT = re.compile(
    r"=\s*\S+\s*$|\b(?:so|thus|therefore|hence|total|altogether|wait|actually|sorry|correction|"
    r"final)\b",
    re.IGNORECASE,
)
"""Result in notes, which may be another than the number above them."""
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_MONEY = re.compile(
    r"\bhow much\b|[$\u20ac\u00a3]|\bdollars?\b|\bcosts?\b|\bmoney\b", re.IGNORECASE
)
_PERCENT = re.compile(r"percent|per cent|%", re.IGNORECASE)
_CURRENCIES = {"dollar", "euro", "pound sterling"}
_BOOLEANS = {"yes", "no", "true", "false"}


class Ambiguous(Exception):
    """Answer that states several values."""


def form_of(reference: str) -> Form:
    """Return the form of a reference's answer."""
    if _LETTER.fullmatch(reference.strip()):
        return "choice"
    if whole_number(reference) is not None:
        return "number"
    worded = re.sub(r"\\text\{([^{}]*)\}", r"\1", reference)
    return "math" if _FORMULA.search(worded) else "text"


def number_of(text: str) -> Number | None:
    """Return the number that a marked text states; None without one.

    Of an equation it is the number after the last equals sign.

    Raises:
        Ambiguous: two values are stated ("5 or 6", "5-6", "5, 6", "1.234,56", "5 hours 30 minutes",
            "x = 5 or x = 6"), or a calculation without its result ("2*x + 4").
    """
    plain = plain_text(text)
    after = re.split(r"=|\u2248|\\approx", plain)[-1]
    found = numbers_in(after) or numbers_in(plain)
    if not found:
        return None
    source = after if numbers_in(after) else plain
    if _CALCULATION.match(source, found[0].end) or _EITHER_SIGN.search(source[: found[0].start]):
        raise Ambiguous
    if _TWICE.search(plain) or (len(found) > 1 and _two_values(source, found[0], found[1])):
        raise Ambiguous
    return found[0]


def _two_values(text: str, first: Number, second: Number) -> bool:
    """Return whether two numbers in a row are a range, a list, or one amount in two units."""
    between = text[first.end : second.start] + _sign(second)
    if first.unit and second.unit and first.unit != second.unit:
        return _BETWEEN_UNITS.fullmatch(between) is not None
    return _BETWEEN.fullmatch(between) is not None and not first.equals(second)


def last_number(text: str, question: str = "") -> Number | None:
    """Return the number that a response without a marker ends on; None without numbers.

    Of the last sentence with numbers it is the only bold one, the one after the last equals sign,
    the only amount of money if the question's last sentence asks for money, or else the last; a
    percentage only if the question asks for one, or if there is no other number. A first line that
    is a number alone, with notes below it, is the answer.

    Raises:
        Ambiguous: the last number is part of one that is not read (5,5; x 10^3; \\pm 5).
    """
    first, _, notes = text.strip().partition("\n")
    headed = whole_number(first) if _NOTES.match(notes) and not _RESULT.search(notes) else None
    if headed is not None:
        return headed
    for sentence in reversed(sentences(plain_text(text))):
        found = numbers_in(sentence)
        if not found:
            continue
        last = found[-1]
        if _PART_BEFORE.search(sentence[: last.start]) or _PART_AFTER.match(sentence, last.end):
            raise Ambiguous
        if _TWICE.search(sentence):
            raise Ambiguous
        bold = [n for part in _BOLD.findall(sentence) for n in numbers_in(part)]
        if len(bold) == 1:
            return bold[0]
        if "=" in sentence and (after := numbers_in(sentence.rpartition("=")[2])):
            return after[0]
        asked = " ".join(sentences(question)[-1:])
        amounts = [n for n in found if n.unit in _CURRENCIES]
        if len(amounts) == 1 and _MONEY.search(asked):
            return amounts[0]
        plain = [n for n in found if not n.percent]
        return (plain or found)[-1] if question and not _PERCENT.search(asked) else found[-1]
    return None


def letter_of(text: str, question: str) -> str | None:
    """Return the option that a text names by letter or by its words; None without one.

    Raises:
        Ambiguous: several options are named.
    """
    options = {letter: plain_words(words) for letter, words in _OPTION.findall(question)}
    stripped = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip().strip("*_$ \"'`.").strip()
    stripped = _REJECTED.sub("", stripped)
    if re.fullmatch(r"\(?[a-j]\)?\.?", stripped):
        return stripped.strip("().").upper()
    named: set[str] = {next(filter(None, m.groups())).upper() for m in _NAMED.finditer(stripped)}
    if _SEVERAL.search(stripped):
        raise Ambiguous
    if re.match(r"\(?[A-J][).:]", stripped):
        return str(stripped.lstrip("(")[0])
    if len(named) > 1:
        raise Ambiguous
    if named:
        return named.pop()
    words = plain_words(stripped)
    same = [letter for letter, option in options.items() if option == words]
    return same[0] if len(same) == 1 else None


def first_letter(text: str, question: str) -> str | None:
    """Return the option of a response without a marker: its only line, its first or its last."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if len(lines) == 1:
        return letter_of(lines[0], question)
    for line in (lines[0], lines[-1]) if lines else ():
        bare = re.fullmatch(r"\W*(?:option\s+)?\(?([A-J])\)?\W*", line, re.IGNORECASE)
        headed = re.match(r"\s*\**\(?([A-J])[).:]\s*\S", line)
        if bare or headed:
            return (bare or headed)[1].upper()  # type: ignore[index]
    return None


def plain_words(text: str) -> str:
    """Normalise a text: case, markup, a leading article, the trailing point, white space."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"[\u2018\u2019]", "'", text)
    text = " ".join(text.split()).strip("*_`\"'$ ")
    text = text.rstrip(".!;:, ").strip("*_`\"'$ ")
    return re.sub(r"^(?:the|a|an)\s+(?=\w)", "", text)


def text_of(found: Marked | None, response: str, reference: str) -> str | None:
    """Return the text stated as the answer; None where a response of several lines marks none."""
    lines = [line for line in response.strip().splitlines() if line.strip()]
    text = found.text if found else (lines[0] if len(lines) == 1 else None)
    if plain_words(reference) in _BOOLEANS:
        if _BOTH.match(text or ""):
            raise Ambiguous
        first = re.match(r"\W*([A-Za-z]+)", text or (lines[0] if lines else ""))
        return first[1] if first and first[1].lower() in _BOOLEANS else None
    return text.strip() if text else None


def _sign(number: Number) -> str:
    """Return the dash that was read as the number's sign, as in 5-6 with a space before."""
    return "-" if number.text.startswith(("-", "\u2013")) else ""
