"""Check a response against its prompt's reference: 1 if the final answer is right, else 0."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from alignlab.answers import forms, libraries
from alignlab.answers.markers import Marked, explicit, marked
from alignlab.configs import Bounded, NonNegative
from alignlab.errors import BadInput
from alignlab.turns import strip_thoughts
from alignlab.types import Finish

Extract = Literal["auto", "answer", "number", "choice", "boxed", "math", "text", "regex"]
EXTRACTORS: tuple[str, ...] = Extract.__args__  # type: ignore[attr-defined]
NO_REFERENCE = "the prompt has no reference answer"
NO_ANSWER = "no answer found"
SEVERAL = "no single answer"
CUT_OFF = "cut off before an answer"
WHOLE_TEXT = "the reference is a whole text, no final answer (extract=text compares it anyway)"
MOST_WORDS = 20
"""Longest text that counts as a final answer, in words, on one line."""


_NUMBER_LINE = re.compile(r"(?:answer\s*:\s*)?(?:\\\(\s*)?\\?[-$\u20ac\u00a3.\d]", re.IGNORECASE)


_LISTED = re.compile(r"[\[(][^()\[\]]*,[^()\[\]]*[\])]")
"""Point, interval or list without markup."""


@dataclass(frozen=True)
class AnswerOptions(Bounded):
    """Options of reading and comparing answers."""

    extract: Extract = "auto"
    """Place of the answer: "auto" takes the last marker (####, \\boxed, <answer>, "Answer:", "the
    answer is"), and without one the last number, option or line, by the form of the reference;
    "answer" takes markers alone, "boxed" \\boxed{} alone; "number", "choice", "math" and "text" fix
    the form; "regex" takes the last match of the pattern, its first group if it has one."""
    strict: bool = False
    """Leave a response without a readable answer unscored, instead of scoring it 0."""
    tolerance: NonNegative = 0.0
    """Largest relative difference between equal numbers; 0 compares exactly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tolerance and self.extract in ("choice", "math", "text"):
            raise BadInput(
                f"setting tolerance: has no effect with extract={self.extract}; leave it out"
            )


@dataclass(frozen=True)
class CheckResult:
    """Result of checking one response."""

    score: float | None
    """1 right, 0 wrong, or a checker's partial score; None is unscored."""
    answer: str | None
    """Answer as written in the response; None where none was found."""
    key: str = ""
    """Text that equal answers share, for votes; empty without an answer."""
    reason: str = ""
    """Reason of a missing answer or score, or the share of instructions followed; else empty."""


@dataclass(frozen=True)
class _Read:
    """Answer found in a response."""

    text: str
    key: str
    right: bool


def reference_kind(reference: str) -> str:
    """Return how a reference is checked: gym, instructions, number, choice, math or text."""
    values = libraries.structured(reference)
    if values is not None:
        return "gym" if libraries.GYM in values else "instructions"
    return forms.form_of(explicit(reference))


def check(
    response: str,
    reference: str | None,
    question: str = "",
    options: AnswerOptions | None = None,
    *,
    pattern: str = "",
    finish: Finish = "stop",
) -> CheckResult:
    """Check the final answer of a response; thoughts are removed first.

    Args:
        response: text of the response.
        reference: reference answer, in any of the marked forms, or in JSON the reference of a
            reasoning-gym task or of an IFEval record.
        question: text of the prompt, whose options (A. ..., B. ...) may be named by their words.
        pattern: regular expression of `extract="regex"`.
        finish: "length" for a response cut off at its token limit; its last word is not read.

    Raises:
        BadInput: a package of the extra `verify` is needed and not installed.
    """
    chosen = options or AnswerOptions()
    if reference is None or not reference.strip():
        return CheckResult(None, None, reason=NO_REFERENCE)
    text = strip_thoughts(response)
    values = libraries.structured(reference)
    if values is not None and libraries.INSTRUCTIONS in values:
        followed = libraries.instructions_followed(values, question, text)
        if isinstance(followed, str):
            return CheckResult(None, text, reason=followed)
        share = f"{sum(followed)} of {len(followed)} instructions followed"
        return CheckResult(float(all(followed)), text, text, share)
    cut = finish == "length"
    if values is not None:
        return _gym(values, question, text, cut, chosen)
    wanted = explicit(reference)
    if not wanted:
        return CheckResult(None, None, reason=NO_REFERENCE)
    if chosen.extract == "auto" and _is_whole_text(wanted):
        return CheckResult(None, None, reason=WHOLE_TEXT)
    reason = CUT_OFF if cut else NO_ANSWER
    try:
        found = _find(text, wanted, question, chosen, pattern, cut)
    except forms.Ambiguous:
        found, reason = None, SEVERAL
    if found is None:
        return CheckResult(None if chosen.strict else 0.0, None, reason=reason)
    return CheckResult(float(found.right), found.text, found.key)


def _is_whole_text(wanted: str) -> bool:
    """Return True for a text to imitate: no answer would equal it, and 0 would say nothing."""
    if len(wanted.split()) <= MOST_WORDS and "\n" not in wanted.strip():
        return False
    form = forms.form_of(wanted)
    return form == "text" or (form == "math" and not libraries.formula(wanted))


def _gym(
    values: Mapping[str, Any], question: str, text: str, cut: bool, options: AnswerOptions
) -> CheckResult:
    """Score by the task's checker the marked answer, or the whole response without a marker.

    Checkers read a bare answer. Where the task's own is a number and these are not right, the
    response is read as for references that are numbers: "7 + 5 = 12." answers 12.
    """
    found = _last(text, cut)
    answer = found.text.strip() if found else ("" if cut else text.strip())
    score = libraries.gym_score(values, question, answer) if answer else 0.0
    key = str(values.get("answer") or "")
    if score != 1 and forms.form_of(key) == "number" and options.extract in ("auto", "number"):
        read = None
        with suppress(forms.Ambiguous):
            read = _find(text, key, question, replace(options, extract="number"), "", cut)
        if read:
            whole = read.key.lstrip("-").isdigit()  # without currency, unit and separators
            answer = read.key if whole else read.text
            score = libraries.gym_score(values, question, answer)
    if not answer:
        reason = CUT_OFF if cut else NO_ANSWER
        return CheckResult(None if options.strict else 0.0, None, reason=reason)
    if isinstance(score, str):
        return CheckResult(None, answer, answer, score)
    if not math.isfinite(score):
        return CheckResult(None, answer, answer, f"the checker gave {score}")
    return CheckResult(score, answer, forms.plain_words(answer))


def _find(
    text: str, reference: str, question: str, options: AnswerOptions, pattern: str, cut: bool
) -> _Read | None:
    """Find the answer in a text and compare it; None where none can be read."""
    extract = options.extract
    if extract == "regex":
        matches = list(_compiled(pattern).finditer(text))
        if not matches:
            return None
        last = matches[-1]
        content = (last[1] if last.re.groups else last[0]) or ""
        candidates, whole = [Marked(last.start(), content, last.end(), "tag")], None
    else:
        candidates = [m for m in marked(text) if extract != "boxed" or m.kind == "boxed"]
        candidates = [m for m in candidates if not (cut and m.end >= len(text.rstrip()) > 0
                                                    and m.kind in ("words", "hashes"))]  # fmt: skip
        whole = None if cut or extract in ("answer", "boxed") else text
    fixed = extract if extract in ("number", "choice", "math", "text") else ""
    form = fixed or forms.form_of(reference)
    if not fixed and form == "math" and not libraries.formula(reference):
        form = "text"  # "2/5 of <the> people", code, a regular expression
    read = _READERS[form]
    for candidate in candidates:
        # A heading "#### Step 2" is no answer: where it marks one, nothing but the answer follows.
        if candidate.kind == "hashes" and not _is_answer_line(candidate, form):
            continue
        found = read(candidate, candidate.text, reference, question, options.tolerance)
        if found is not None:
            return found
        if extract == "regex":
            return None
    if whole is None or (candidates and form == "text"):
        return None
    return read(None, whole, reference, question, options.tolerance)


def _number(
    mark: Marked | None, text: str, reference: str, question: str, tolerance: float
) -> _Read | None:
    found = forms.number_of(text) if mark else forms.last_number(text, question)
    wanted = forms.number_of(reference)
    if found is None or wanted is None:
        return None
    return _Read(found.text, str(found.value), found.equals(wanted, tolerance))


def _choice(
    mark: Marked | None, text: str, reference: str, question: str, tolerance: float
) -> _Read | None:
    find = forms.letter_of if mark else forms.first_letter
    letter = find(text, question)
    wanted = forms.letter_of(reference, question)
    return None if letter is None else _Read(letter, letter, letter == wanted)


def _math(
    mark: Marked | None, text: str, reference: str, question: str, tolerance: float
) -> _Read | None:
    content = text.strip().rstrip(".").strip("* ")
    alone = mark is not None
    if not mark and "$" not in text and _LISTED.fullmatch(reference.strip()):
        written = _LISTED.findall(text)  # "The point is (1, 2)."
        if len(set(written)) > 1 and re.search(r"\bor\b", text):
            raise forms.Ambiguous
        if written:
            alone, content = True, written[-1]
    words = forms.plain_words(content)
    same = words == forms.plain_words(reference)  # "km/h" and "C:/a" are no formulas
    parsed = libraries.formula(content) if alone else libraries.formulas(text)
    parsed = parsed or (libraries.formulas(content) if alone else [])
    wanted = libraries.formula(reference)
    if not wanted and not same:
        raise BadInput(f"reference {reference[:60]!r}: expected a formula, found none in it")
    if not parsed:
        return _Read(content, words, True) if same else None
    right = same or libraries.same_formula(wanted, parsed)
    return _Read(str(parsed[-1]), str(parsed[0]), right)


def _text(
    mark: Marked | None, text: str, reference: str, question: str, tolerance: float
) -> _Read | None:
    answer = forms.text_of(mark, text, reference)
    if answer is None:
        return None
    words = forms.plain_words(answer)
    return _Read(answer, words, words == forms.plain_words(reference))


_READERS: dict[str, Callable[..., _Read | None]] = {
    "number": _number,
    "choice": _choice,
    "math": _math,
    "text": _text,
}


def _last(text: str, cut: bool) -> Marked | None:
    found = [m for m in marked(text) if m.kind != "hashes"]
    if cut:
        found = [m for m in found if m.kind in ("tag", "boxed")]
    return found[0] if found else None


def _is_answer_line(mark: Marked, form: str) -> bool:
    """Return whether a line after #### is an answer rather than a heading."""
    content = mark.text.strip().strip("*")
    if form == "number":
        return _NUMBER_LINE.match(content) is not None
    if form == "choice":
        return re.match(r"\(?[A-J](?![A-Za-z])", content) is not None
    return not content.endswith(":")


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise BadInput(f"extract=regex: expected a pattern, found {pattern!r}: {error}") from None
