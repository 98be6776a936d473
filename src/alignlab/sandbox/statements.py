"""Declarative sentences of the sandbox: write facts as clauses and parse clauses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from alignlab.sandbox.draws import pick
from alignlab.sandbox.world import ATTRIBUTES, BY_NAME, Fact, world

_PLACEHOLDERS = {"{e}": r"(?P<e>[a-z]+)", "{v}": r"(?P<v>[a-z]+(?: [a-z]+)?)"}
JOINTS = ("while", "but", "and")
"""Conjunctions between two clauses, after a comma."""
_JOINT = re.compile(rf", (?:{'|'.join(JOINTS)}) ")


@dataclass(frozen=True)
class Claim:
    """Content of a clause; a pronoun is not resolved."""

    attribute: str
    value: str
    entity: str | None
    """Town in the world's spelling, or as written if unknown; None for a pronoun."""


def clause(rng: np.random.Generator, fact: Fact, *, pronoun: bool = False) -> str:
    """Phrase a fact at random, without a full stop."""
    attribute = BY_NAME[fact.attribute]
    return pick(rng, attribute.pronoun if pronoun else attribute.named).format(
        e=fact.entity, v=fact.value
    )


def lower_first(text: str) -> str:
    """Lower the first letter of a clause unless it starts with a town."""
    first = text.split(" ", 1)[0]
    return text if first in world().entities else text[:1].lower() + text[1:]


def joined(first: str, second: str, word: str) -> str:
    """Join two clauses by one of `JOINTS`, without a full stop."""
    return f"{first}, {word} {lower_first(second)}"


def read_sentence(text: str) -> tuple[Claim, ...] | None:
    """Parse the claims of a sentence without its full stop; None if a clause is unknown."""
    claims = tuple(read_clause(part) for part in _JOINT.split(text))
    return None if None in claims else tuple(c for c in claims if c is not None)


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    patterns = []
    for attribute in ATTRIBUTES:
        for template in attribute.pronoun + attribute.named:
            pattern = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
            for name, group in _PLACEHOLDERS.items():
                pattern = pattern.replace(name, group)
            patterns.append((attribute.name, re.compile(pattern, re.IGNORECASE | re.ASCII)))
    return tuple(patterns)


def read_clause(text: str) -> Claim | None:
    """Parse the claim of a clause; None outside the sandbox's language."""
    for attribute, pattern in _patterns():
        match = pattern.fullmatch(text.strip())
        if match is not None:
            value = match["v"].lower()
            value = value.capitalize() if attribute == "festival" else value
            return Claim(attribute, value, _entity(match.groupdict().get("e")))
    return None


def known_entity(name: str) -> str | None:
    """Find a town by name, ignoring case; None if unknown."""
    return _lowered().get(name.lower())


def _entity(written: str | None) -> str | None:
    if written is None or written.lower() == "it":
        return None
    return known_entity(written) or written


@cache
def _lowered() -> dict[str, str]:
    return {name.lower(): name for name in world().entities}
