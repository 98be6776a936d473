"""Find the verdict in a reply: after a label, under a JSON key, or in a form like `[[A]]`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from alignlab.turns import own_turn
from alignlab.verdicts import languages
from alignlab.verdicts.mentions import Mention, given

_NORMAL = {i: i - 0xFEE0 for i in range(0xFF01, 0xFF5F)} | str.maketrans(
    "\u3000\u00a0\u202f【】∶﹕−’。⁄∕", "   []::-'.//", "\u200b\u200c\u200d\u2060\ufeff"
)
"""Full-width and typographic characters -> their plain form."""
_HEADED = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]*[*_]*|[*_]{2})(?P<head>[^\W\d_][^\n:*_#|]{0,30}?)[*_]*[ \t]*\n"
    r"(?:[ \t]*\n)?"
    r"(?=(?:[^\d\n]{1,30}|[^A-Za-z\n]*(?:points?|stars?|out\s+of)?[^A-Za-z\n]*)(?:\n|\Z))",
    re.MULTILINE,
)
"""Heading over a line that may be a verdict: a number, or a few words without one."""
_LATEX = re.compile(r"\\(?:text\w*|mathbf|mathrm)\s*\{(?P<inner>[^{}]*)\}|\\[()]")
BETTER_LABELS = (r"better(?:[ _](?:answer|response|assistant|option))?", languages.WINNER)
"""Labels of a winner that may also stand within a sentence."""
DECORATION = " \t\r\n*_`~#>\"'$"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object; the value of a repeated key becomes a list, which no verdict is."""
    keys = [key for key, _ in pairs]
    return {key: value if keys.count(key) == 1 else [value] for key, value in pairs}


_JSON = json.JSONDecoder(object_pairs_hook=_once)

_HEADING = re.compile(
    r"justif\w*(?:\s+(?:for|of|the|my|your|this|total|final|overall))*\s*$", re.IGNORECASE
)
_NOT_OWN = re.compile(
    r"\b(?:base|initial|preliminary|previous|starting|max(?:imum)?|min(?:imum)?|highest|lowest|possible"
    r"|confidence)[ *_-]+$",
    re.IGNORECASE,
)
"""Words before a label of a score that is not the verdict: an end of the scale, a first step."""
_OF_A_SIDE = re.compile(
    r"\b(?:answer|assistant|response|model|option)\s+\W*[ab12]\W*\s*$", re.IGNORECASE
)
_TOTAL = re.compile(r"\b(?:total|final|overall|my|the)\s+$", re.IGNORECASE)
_WHOLE = re.compile(
    r"\b(?:total|final|overall|my|the|your|this|a|response|answer|quality|sum|average|mean|so|and|is"
    r"|following|resulting|summary|better)\b",
    re.IGNORECASE,
)
"""Words before a label that do not name an aspect."""
_FORM = re.compile(
    r"<(?P<tag>score|rating|verdict|winner|answer)>(?P<tagged>[^<]*)</(?P=tag)>"
    r"|\\boxed\s*\{(?P<boxed>[^{}]*)\}"
    r"|(?:(?<![A-Za-z0-9_])|(?<=rating)|(?<=score)|(?<=verdict)|(?<=is))(?<!\w\()"
    r"\[\[(?P<double>[^\[\]]*)\]\]"
    r"|\[RESULT\][ \t]*:?[ \t]*(?P<result>[^\n]*)",
    re.IGNORECASE,
)
"""Forms of a verdict without a label, the last one Prometheus's; `a[[1]]` is a subscript."""

_UNCLOSED = re.compile(r"<(?:score|rating|verdict|winner|answer)>[^<]*\Z", re.IGNORECASE)
"""Form at the end of a reply that was cut off: a later verdict than those before it."""


class Verdict(NamedTuple):
    """Verdict in a reply, with its position."""

    at: int
    value: Any
    """Parsed value; None if unreadable."""


def readable(text: str) -> str:
    """Return a judge's final text in plain characters, without LaTeX; headings as labels."""
    plain = _LATEX.sub(lambda wrapped: wrapped["inner"] or "", own_turn(text).translate(_NORMAL))
    return _HEADED.sub(lambda heading: f"{heading['head'].strip()}: ", plain)


def verdict_in(
    text: str,
    names: Sequence[str],
    after: Callable[[re.Match[str]], Any],
    inside: Callable[[str], Any],
) -> Verdict | None:
    """Find the last verdict: after a label, under a JSON key, or in a form; None without one.

    Args:
        text: the reply.
        names: labels and keys as regular expressions; the first one present counts.
        after: parser of the text after a label.
        inside: parser of a whole JSON value or form.
    """
    objects = list(_objects(text))
    forms, unclosed = _forms(text, inside)
    for name in names:
        verdicts = [
            Verdict(end, None if value is None else inside(str(value)))
            for _, end, parsed in objects
            for value in _under(parsed, name)
        ]
        labels = [
            label
            for label in _labels(text, name)
            if not any(start < label.start() < end for start, end, _ in objects)
        ]
        # Scores of aspects ("Clarity score: 5") count without another score, and only if equal.
        aspects = [label for label in labels if _aspect(text, label)]
        if len(aspects) < len(labels):
            labels = [label for label in labels if label not in aspects]
        elif len({after(label) for label in aspects}) > 1:
            return Verdict(len(text), None)
        keys = [label for label in labels if label["key"]]
        if keys and len({after(key) for key in keys}) > 1:
            return Verdict(len(text), None)
        # In truncated JSON, labels within the reasons do not count.
        verdicts += [Verdict(key.start(), after(key)) for key in keys]
        own = [Mention(x.start(), x.end(), after(x), is_label=True) for x in labels if not keys]
        if verdicts or own:
            return _last(text, own + forms, verdicts + unclosed)
    return _last(text, forms, unclosed)


def _last(text: str, mentions: Sequence[Mention], verdicts: Sequence[Verdict]) -> Verdict | None:
    """Return the last verdict of those that the reply gives; None without one."""
    own = [Verdict(mention.start, mention.value) for mention in given(text, mentions)]
    return max((*own, *verdicts), key=lambda one: one.at, default=None)


def _forms(text: str, inside: Callable[[str], Any]) -> tuple[list[Mention], list[Verdict]]:
    """Parse the forms that hold a verdict, unlike [[rating]] or an equation in a box; and one that
    was cut off after them, without a value.
    """
    found = []
    for form in _FORM.finditer(text):
        held = form["tagged"] or form["boxed"] or form["double"] or form["result"] or ""
        value = inside(held)
        if value is not None:
            found.append(Mention(form.start(), form.end(), value, is_label=False))
    is_cut = found and _UNCLOSED.search(text, found[-1].end)
    return found, [Verdict(len(text), None)] if is_cut else []


def _labels(text: str, name: str) -> Iterator[re.Match[str]]:
    """Find the labels of a name that introduce a verdict, not a reason or a variable."""
    pattern = (
        rf"(?<![\w.])(?<!\w-)(?:(?P<key>[\"']{name}[\"'])|{name})(?P<scale>\s*\([^()\n]*\))?[*_`]*\s*"
        r"(?:is\s*(?=:))?(?P<sign>[:=]|(?<=[是为為は]):?)[*_`\s]*"
    )
    if name.endswith("is"):
        pattern = rf"\b{name}\b(?P<key>(?!))?(?P<scale>)(?P<sign>:?)[*_`\s]*"
    for label in re.finditer(pattern, text, re.IGNORECASE):
        before = text[text.rfind("\n", 0, label.start()) + 1 : label.start()]
        capital = label[0].lstrip("\"'")[0].isupper()
        if name in BETTER_LABELS:
            # "What makes it better: a clear plan" gives a reason.
            ends = ".:;!?" if name == BETTER_LABELS[0] else ".:;!?,"
            own = capital or not before.strip(DECORATION + "-•") or before.rstrip()[-1] in ends
        else:
            own = label["sign"] != "=" or capital or _TOTAL.search(before) is not None
        if own and not _HEADING.search(before) and not _NOT_OWN.search(before):
            yield label


def _aspect(text: str, label: re.Match[str]) -> bool:
    """Return true for the label of an aspect, such as "Clarity score"."""
    before = text[text.rfind("\n", 0, label.start()) + 1 : label.start()]
    if _OF_A_SIDE.search(before):
        return True
    named = re.fullmatch(r"[\W\d_]*(\w+(?:[ -]\w+)?)[ *_]+", before)
    return named is not None and not _WHOLE.search(named[1])


def _objects(text: str) -> Iterator[tuple[int, int, Any]]:
    """Yield start, end and value of the outermost JSON objects and lists of a text."""
    at = 0
    while opening := re.compile(r"[{\[]").search(text, at):
        try:
            parsed, at = _JSON.raw_decode(text, opening.start())
            yield opening.start(), at, parsed
        except (ValueError, RecursionError):
            at = opening.end()


def _under(parsed: Any, name: str) -> list[Any]:
    """Return the value under a key, of the object or of nested ones; [None] if ambiguous."""
    wanted = rf"(?:(?:final|overall|total)[ _]?)?(?:{name})"
    if isinstance(parsed, dict):
        own = [v for k, v in parsed.items() if re.fullmatch(wanted, k.strip(), re.IGNORECASE)]
        if own:
            return own if len(own) == 1 and not isinstance(own[0], dict | list) else [None]
        parsed = list(parsed.values())
    parts = parsed if isinstance(parsed, list) else ()
    within = [value for part in parts for value in _under(part, name)]
    return within if len(within) < 2 else within[:1] if len(set(map(str, within))) == 1 else [None]
