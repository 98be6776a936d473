"""Read critiques as lists of faults, and judge each fault with a model (arXiv 2410.15287).

MultiCritique takes a critique apart into units: place, kind, and words on what is wrong and what
mends it. A meta judge then reads all units on a response and calls each invalid, minor or major.
Departures: the paper has seven classes and judges one critique at a time with the others as its
context; here equal units of several critics are judged once, so that all get one class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from alignlab.ask_model import Ask, ask_model
from alignlab.feedback.prompts import JudgePrompt, judge_prompt
from alignlab.protocols import Completer
from alignlab.turns import own_turn
from alignlab.types import Prompt, Response, Sampling, Unscored

Form = Literal["lines", "labels"]
"""Form of a written critique: a line per fault, or kinds alone on one line."""
UnitClass = Literal["invalid", "minor", "major"]
CLASSES: tuple[UnitClass, ...] = get_args(UnitClass)
WEIGHTS: Mapping[UnitClass, float] = {"invalid": -2.0, "minor": 1.0, "major": 2.0}
"""Class of a unit -> its share of a critique's score; an invented fault costs a major one."""
UNREAD = "no readable list of faults"
UNJUDGED = "no readable class for each fault"
_NONE = re.compile(
    r"(?:(?:problems|faults)\s*:\s*)?none\.?|nothing needs to change\.?", re.IGNORECASE
)
_HEAD = re.compile(r"(problems|faults)\s*:\s*(\S.*)", re.IGNORECASE | re.DOTALL)
_LINE = re.compile(r"\s*(?:[-*•]|\d+[.)])\s*([^|]*)\|([^|]*)\|(.*)")
_BULLET = re.compile(r"\s*(?:[-*•]\s|\d+[.)]\s)")
_WHY = re.compile(r"([^(]*)\((.*)\)\s*", re.DOTALL)
_CLASS = re.compile(rf"\s*(\d+)\s*[:.)]\s*({'|'.join(CLASSES)})\b\s*\.?\s*", re.IGNORECASE)
_WHOLE = {"", "0", "whole", "all", "the whole response"}


@dataclass(frozen=True, order=True)
class Unit:
    """One fault that a critique names."""

    place: str
    """Place in the response, such as the number of a sentence; empty is the whole response."""
    kind: str
    """Kind of the fault in lower case, such as "incomplete"."""
    words: str = ""
    """Explanation and remedy by the critic; empty in a critique of kinds alone."""

    @property
    def key(self) -> tuple[str, str]:
        """Place and kind, by which units in other words count as one."""
        return self.place, self.kind

    @property
    def line(self) -> str:
        """Text of the unit on one line."""
        place, words = self.place or "whole", " ".join(self.words.split()).replace("|", "/")
        return f"{place} | {self.kind} | {words or self.kind}"


def read_units(critique: str) -> tuple[Unit, ...] | None:
    """Read the faults that a critique names, each once; None for a critique of another form.

    Forms: "none"; lines "- place | kind | words", around which other lines are left out;
    "Problems: kind, kind."; "Faults: kind (words); kind (words).".
    """
    text = own_turn(critique).strip()
    if _NONE.fullmatch(text):
        return ()
    head = _HEAD.fullmatch(text)
    if head is not None and head[1].lower() == "problems":
        named = [Unit("", _kind(part)) for part in head[2].partition(".")[0].split(",")]
    elif head is not None and "|" not in text:
        named = [_explained(part) for part in head[2].strip().rstrip(".").split(";")]
    else:
        lines = [line for line in text.splitlines() if _BULLET.match(line)]
        parts = [match for line in lines if (match := _LINE.fullmatch(line))]
        if not lines or len(parts) < len(lines):
            return None
        named = [Unit(_place(m[1]), _kind(m[2]), m[3].strip()) for m in parts]
    return distinct(named) if all(unit.kind for unit in named) else None


def write_units(units: Iterable[Unit], form: Form) -> str:
    """Write a critique that `read_units` reads, its units in the order of place and kind."""
    ordered = sorted(units)
    if form == "labels":
        return f"Problems: {', '.join(unit.kind for unit in ordered) or 'none'}."
    return "\n".join(f"- {unit.line}" for unit in ordered) or "none"


def distinct(units: Iterable[Unit]) -> tuple[Unit, ...]:
    """Return the first unit of each place and kind."""
    found: dict[tuple[str, str], Unit] = {}
    for unit in units:
        found.setdefault(unit.key, unit)
    return tuple(found.values())


def _kind(text: str) -> str:
    return " ".join(text.lower().split()).strip(" .*_`\"'")


def _place(text: str) -> str:
    place = re.sub(r"^(?:in\s+)?sentence\s+", "", _kind(text))
    return "" if place in _WHOLE else place


def _explained(text: str) -> Unit:
    found = _WHY.fullmatch(text)
    return Unit("", _kind(text)) if found is None else Unit("", _kind(found[1]), found[2].strip())


class MetaCritic:
    """Judge of critiques that classifies each of their units."""

    def __init__(
        self,
        completer: Completer,
        prompt: JudgePrompt | None = None,
        *,
        sampling: Sampling | None = None,
    ) -> None:
        """Set up a judge.

        Args:
            completer: the model that judges.
            prompt: template with the place {faults}; by default the prompt "meta_critique".
            sampling: sampling settings of the one reply; greedy by default.
        """
        self.prompt = prompt or judge_prompt("meta_critique")
        self.sampling = sampling or Sampling(temperature=0, top_p=1, max_tokens=256)
        self.name = f"{completer.name} as meta critic"
        self._completer = completer

    def classify(
        self, items: Sequence[tuple[Prompt, Response, Sequence[Unit]]], seed: int
    ) -> list[tuple[UnitClass, ...] | Unscored]:
        """Return one class per unit of each item; a response without units is not asked about."""
        asks = [
            Ask(
                f"meta|{response.id}",
                self.prompt.render(
                    prompt,
                    response,
                    faults="\n".join(f"{n}: {unit.line}" for n, unit in enumerate(units, 1)),
                ),
            )
            for prompt, response, units in items
            if units
        ]
        replies = iter(
            ask_model(
                self._completer,
                asks,
                own_turn,
                sampling=self.sampling,
                seed=seed,
                unread=UNJUDGED,
            )
        )
        found: list[tuple[UnitClass, ...] | Unscored] = []
        for _, _, units in items:
            reply = next(replies)[0].value if units else ""
            classes = reply if isinstance(reply, Unscored) else read_classes(reply, len(units))
            found.append(Unscored(UNJUDGED) if classes is None else classes)
        return found


def read_classes(reply: str, count: int) -> tuple[UnitClass, ...] | None:
    """Read lines "1: minor"; None unless they number 1 to `count`, each with a known class."""
    lines = [line for line in reply.splitlines() if line.strip()]
    found = [match for line in lines if (match := _CLASS.fullmatch(line))]
    numbers = [int(match[1]) for match in found]
    if len(found) < len(lines) or numbers != list(range(1, count + 1)):
        return None
    known = {name: name for name in CLASSES}
    return tuple(known[match[2].lower()] for match in found)  # type: ignore[index]
