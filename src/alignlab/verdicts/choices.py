"""Parse named choices (yes or no, open or closed), questions and lists."""

from __future__ import annotations

import re
from collections.abc import Sequence

from alignlab.turns import own_turn
from alignlab.verdicts.reply import DECORATION, readable, verdict_in
from alignlab.verdicts.winners import NOUN

_ASIDE = r"(?:actually|rather|instead|wait|correction|revised\s+to|changed\s+to|->|=>|→)"
_QUESTION = re.compile(r"^[*_\s]*Question\s*[*_]*\s*:\s*[*_]*\s*(?P<text>\S.*)$", re.MULTILINE)


def parse_choice(text: str, name: str | Sequence[str], choices: Sequence[str]) -> str | None:
    """Parse the choice in a reply; None if unreadable.

    Reads the last of "NAME: choice" and `{"NAME": "choice"}`, else a choice at the start of the
    reply or as its last line.
    """
    text = readable(text)
    names = (name,) if isinstance(name, str) else tuple(name)
    verdict = verdict_in(
        text,
        names,
        lambda label: _choice(text[label.end() :], choices),
        lambda inner: _choice(inner, choices),
    )
    if verdict is not None:
        choice: str | None = verdict.value
        return choice
    first = _choice(text, choices, opens=True)
    last = _choice(text.rstrip().rpartition("\n")[2], choices, alone=True)
    opens = re.match(rf"[\W_]*(?:{'|'.join(map(re.escape, choices))})\b", text, re.IGNORECASE)
    return first if opens and last in (None, first) else None if opens else last


def yes_or_no(text: str) -> bool | None:
    """Parse yes or no (true or false) in a reply; None for neither or both."""
    names = ("relevant", "supported", "answer", "verdict", r"answer\s+is")
    choice = parse_choice(text, names, ("yes", "no", "true", "false"))
    return None if choice is None else choice in ("yes", "true")


def parse_token(text: str, choices: Sequence[str]) -> str | None:
    """Parse a reply that is a single choice, case-sensitive ("A", "(m)"); None otherwise."""
    bare = re.sub(rf"^{NOUN}\s+", "", own_turn(text).strip(DECORATION + ".()[]"), flags=re.I)
    return next((choice for choice in choices if choice == bare.strip(".()[]*")), None)


def parse_question(text: str) -> str | None:
    """Parse the last line that starts with "Question:"; None without one."""
    questions = _QUESTION.findall(own_turn(text))
    return questions[-1].strip() if questions else None


def parse_list(text: str) -> list[str]:
    """Parse the items of a list in a reply (after -, *, • or 1.), without their marks."""
    lines = (
        re.match(r"\s*(?:[-•]\s*|\*\s+|\d+[.)]\s+)(?P<item>.*)", x)
        for x in own_turn(text).split("\n")
    )
    return [line["item"].strip() for line in lines if line]


def _choice(
    text: str, choices: Sequence[str], *, opens: bool = False, alone: bool = False
) -> str | None:
    """Parse the choice at the start of a text; None without one or with a second choice.

    Args:
        text: the text.
        choices: possible choices.
        opens: the text is a reply without a label; the choice must stand alone ("No, ...").
        alone: the text must be the choice and nothing else.
    """
    text = text.lstrip(DECORATION + "([<{")
    match = re.match("|".join(rf"{re.escape(c)}\b" for c in choices), text, re.IGNORECASE)
    if match is None:
        return None
    chosen, rest = match[0].lower(), text[match.end() :]
    others = "|".join(re.escape(c) for c in choices if c.lower() != chosen)
    both = rf"[\W_]*(?:(?:or|and|but)\b[\W_]*)?(?:{others})\b"
    taken_back = rf"{_ASIDE}\W+(?:\w+\W+){{0,2}}(?:{others})\b"
    line = rest.partition("\n")[0]
    if re.match(rf"\s*(?:/|\||&|or\b|and\b)\s*(?:{others})\b", rest, re.IGNORECASE):
        return None
    if re.fullmatch(rf"{both}[\W_]*", rest, re.IGNORECASE) or re.search(
        taken_back, line, re.IGNORECASE
    ):
        return None
    if alone and rest.strip(DECORATION + ".!)]>}"):
        return None
    if opens:
        # "No part of it ..." denies nothing, "yes it does" affirms.
        follows = r"\s+\w" if chosen in ("yes", "true") else r"\s+(?:it|this|that)\b"
        if not re.match(rf"[*_`\"')\]]*(?:[.,:;!?(\n–—-]|\s*$|\s+[–—(-]|{follows})", rest):
            return None
    return next(choice for choice in choices if choice.lower() == chosen)
