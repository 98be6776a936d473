"""Turn the query of a page's address into conditions on the index, and back into an address."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar
from urllib.parse import urlencode

from alignlab.errors import BadInput

PAGE = 50
"""Number of rows on a page."""
LONGEST = 400
"""Maximum length of a search, in characters."""

F = TypeVar("F", bound="Filter")


@dataclass(frozen=True)
class Filter:
    """State of a page with rows, as its address holds it."""

    q: str = ""
    """Text to search for: words, "a phrase", or a regular expression."""
    regex: str = ""
    """"1" reads `q` as a regular expression."""
    sort: str = ""
    page: int = 1
    """Page of rows, from 1."""

    @classmethod
    def parse(cls: type[F], query: Mapping[str, str]) -> F:
        """Read an address's query.

        Raises:
            BadInput: an unknown name or a page that is no number.
        """
        known = {f.name: f for f in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in query.items():
            if name not in known:
                raise BadInput(f"address: expected one of {', '.join(known)}, found {name!r}")
            if name == "page":
                if not value.isdecimal() or not 0 < int(value) < 10**9:
                    raise BadInput(f"address: page: expected a number from 1, found {value!r}")
                values[name] = int(value)
            else:
                values[name] = value
        found = cls(**values)
        if len(found.q) > LONGEST:
            raise BadInput(f"address: q: expected at most {LONGEST} characters")
        return found

    def address(self, **changes: Any) -> str:
        """Return the query of this state with some values changed; defaults are left out."""
        if changes and "page" not in changes:
            changes["page"] = 1
        changed = replace(self, **changes)
        default = type(self)()
        left = {k: v for k, v in asdict(changed).items() if v != getattr(default, k)}
        return f"?{urlencode(left)}" if left else "?"


@dataclass(frozen=True)
class AnswerFilter(Filter):
    """Filter of held-out answers."""

    model: str = ""
    """Model whose outcome, score and length the other conditions are about."""
    outcome: str = ""
    """`win`, `tie`, `loss` or `unscored` of the model against the baseline."""
    flag: str = ""
    """`cut`, `identical`, `disagree`, `shorter`, `longer` or `empty`."""
    part: str = ""
    """Part of the prompts: `type:open`, `type:closed` or `family:NAME`."""
    seed: str = ""


@dataclass(frozen=True)
class JudgementFilter(Filter):
    """Filter of judgements."""

    stage: str = ""
    source: str = ""
    kind: str = ""
    """`score`, `preference`, `critique`, `ranking` or `unscored`."""
    seed: str = ""
    read: str = ""
    """Score that was read, rounded to a whole number."""
    truth: str = ""
    """Gold score, rounded to a whole number."""


@dataclass(frozen=True)
class DataFilter(Filter):
    """Filter of training data."""

    stage: str = ""
    show: str = ""
    """`inverted`, `shorter` (the chosen one) or `longer`."""
    seed: str = ""


@dataclass(frozen=True)
class RolloutFilter(Filter):
    """Stage and step of which rollouts are shown."""

    stage: str = ""
    """Stage of a rollout training; the first by default."""
    step: str = ""
    """Training step; the last by default."""


@dataclass
class Conditions:
    """Conditions of an SQL query with their values."""

    parts: list[str] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def add(self, condition: str, *values: Any) -> None:
        """Add a condition that all rows have to meet."""
        self.parts.append(f"({condition})")
        self.values.extend(values)

    @property
    def sql(self) -> str:
        """The WHERE clause; empty without conditions."""
        return f" WHERE {' AND '.join(self.parts)}" if self.parts else ""


def refuse_unknown(name: str, value: str, known: Collection[str]) -> None:
    """Refuse a value that no filter has, which would show all rows as if they were selected.

    Raises:
        BadInput: such a value; the empty one selects all.
    """
    if value and value not in known:
        expected = ", ".join(k for k in known if k)
        raise BadInput(f"address: {name}: expected one of {expected}, found {value!r}")


def words(query: str) -> str:
    """Quote a search for FTS5: each word must occur; a phrase in quotes stays together."""
    found: list[str] = []
    for number, part in enumerate(query.split('"')):
        found += [part] if number % 2 else part.split()
    return " ".join(f'"{word}"' for word in found if word.strip())
