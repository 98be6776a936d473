"""Options of every data source, after its path: `PATH?limit=100&test_share=0.1`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from alignlab.configs import parse_overrides
from alignlab.errors import BadInput
from alignlab.seeds import derive
from alignlab.specs import split


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading a source."""

    bad: Literal["stop", "drop"] = "stop"
    """"stop" fails at the first bad record with file, line and field; "drop" counts them."""
    ignore: str = ""
    """Fields to treat as missing, comma-separated, such as tools,reasoning_content; counted."""
    hub_split: str = "train"
    """Split of a hub data set, such as train or test[:100]; for hub ids only."""
    hub_config: str = ""
    """Configuration (subset) of a hub data set; for hub ids only."""
    hub_revision: str = ""
    """Commit, tag or branch of a hub data set; for hub ids only."""


@dataclass(frozen=True)
class Options(ReadOptions):
    """Options of reading and splitting a source of independent records."""

    limit: int | None = None
    """Maximum number of training records, the first ones; the others count as dropped."""
    test_share: float = 0.0
    """Share of the prompts held out for testing, 0 to 1, chosen by a hash of prompt and seed."""
    seed: int = 0
    """Seed of the held-out share; only with test_share."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise BadInput(f"setting limit: expected at least 1, found {self.limit}")
        if not 0 <= self.test_share < 1:
            raise BadInput(f"setting test_share: expected 0 <= share < 1, found {self.test_share}")
        if self.seed and not self.test_share:
            raise BadInput("setting seed: has no effect without test_share")

    def holds_out(self, prompt_id: str) -> bool:
        """Return true if a prompt belongs to the held-out share."""
        return falls_in(self.test_share, self.seed, "held out", prompt_id)


def falls_in(share: float, seed: int, *parts: str) -> bool:
    """Return true if ids fall in a seeded share, by their hash alone."""
    return derive(seed, *parts) < share * 2**63


def split_rest(rest: str) -> tuple[str, Mapping[str, Any]]:
    """Split `PATH?key=value&key=value` into the path and its options.

    Raises:
        BadInput: an option is not key=value, or the path is empty.
    """
    parts = split(rest)
    if not parts.head:
        raise BadInput(f"expected a path of data before its options, found {rest!r}")
    return parts.head, parse_overrides([unquote(part) for part in parts.options])
