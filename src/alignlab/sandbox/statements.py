"""The sandbox's declarative language: facts to clauses, and clauses back to facts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from alignlab.sandbox.draws import pick
from alignlab.sandbox.world import ATTRIBUTES, BY_NAME, Fact, world

_PLACEHOLDERS = {"{e}": r"(?P<e>[a-z]+)", "{v}": r"(?P<v>[a-z]+(?: [a-z]+)?)"}
JOINTS = ("while", "but", "and")
"""Words that join two clauses after a comma."""
_JOINT = re.compile(rf", (?:{'|'.join(JOINTS)}) ")


@dataclass(frozen=True)
class Claim:
    """What a clause says, as far as the words go."""

    attribute: str
    value: str
    entity: str | None
    """The town named, as the world spells it; as written, where there is no such town; None is
    a pronoun."""


def clause(rng: np.random.Generator, fact: Fact, *, pronoun: bool = False) -> str:
    """State a fact in one of its phrasings, without a full stop."""
    attribute = BY_NAME[fact.attribute]
    return pick(rng, attribute.pronoun if pronoun else attribute.named).format(
        e=fact.entity, v=fact.value
    )


def lower_first(text: str) -> str:
    """A clause as it goes on within a sentence: lower case unless it starts with a town."""
    first = text.split(" ", 1)[0]
    return text if first in world().entities else text[:1].lower() + text[1:]


def joined(first: str, second: str, word: str) -> str:
    """Two clauses as one sentence without its full stop, joined by one of JOINTS."""
    return f"{first}, {word} {lower_first(second)}"


def read_sentence(text: str) -> tuple[Claim, ...] | None:
    """The claims of a sentence given without its full stop; None when a clause makes no sense."""
    claims = tuple(read_clause(part) for part in _JOINT.split(text))
    return None if None in claims else tuple(c for c in claims if c is not None)


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    made = []
    for attribute in ATTRIBUTES:
        for template in attribute.pronoun + attribute.named:
            pattern = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
            for name, group in _PLACEHOLDERS.items():
                pattern = pattern.replace(name, group)
            made.append((attribute.name, re.compile(pattern, re.IGNORECASE | re.ASCII)))
    return tuple(made)


def read_clause(text: str) -> Claim | None:
    """The claim of one clause, or None when it is none in the sandbox's language."""
    for attribute, pattern in _patterns():
        found = pattern.fullmatch(text.strip())
        if found is not None:
            value = found["v"].lower()
            value = value.capitalize() if attribute == "festival" else value
            return Claim(attribute, value, _entity(found.groupdict().get("e")))
    return None


def known_entity(name: str) -> str | None:
    """The town of this name in whatever case, or None."""
    return _lowered().get(name.lower())


def _entity(written: str | None) -> str | None:
    if written is None or written.lower() == "it":
        return None
    return known_entity(written) or written


@cache
def _lowered() -> dict[str, str]:
    return {name.lower(): name for name in world().entities}
