"""What every data source may be told behind its path: `PATH?limit=100&test_share=0.1`."""

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
    """How a source is read."""

    bad: Literal["stop", "drop"] = "stop"
    """"stop" ends at the first bad record with its file, line and field; "drop" counts them."""
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
    """How a source of independent records is read and split."""

    limit: int | None = None
    """Most records kept for training, the first ones; the others are counted as dropped."""
    test_share: float = 0.0
    """Share of the prompts held out for testing, 0 to 1, chosen by a hash of prompt and seed."""
    seed: int = 0
    """Which prompts are held out; only with test_share."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise BadInput(f"setting limit: expected at least 1, found {self.limit}")
        if not 0 <= self.test_share < 1:
            raise BadInput(f"setting test_share: expected 0 <= share < 1, found {self.test_share}")
        if self.seed and not self.test_share:
            raise BadInput("setting seed: has no effect without test_share")

    def holds_out(self, prompt_id: str) -> bool:
        """Say whether a prompt belongs to the held-out share."""
        return falls_in(self.test_share, self.seed, "held out", prompt_id)


def falls_in(share: float, seed: int, *parts: str) -> bool:
    """Say whether ids fall in a seeded share: the same answer wherever it is asked."""
    return derive(seed, *parts) < share * 2**63


def split_rest(rest: str) -> tuple[str, Mapping[str, Any]]:
    """Split `PATH?key=value&key=value` into the path and its options.

    Raises:
        BadInput: an option is not key=value, or no path is given.
    """
    parts = split(rest)
    if not parts.head:
        raise BadInput(f"expected a path of data before its options, found {rest!r}")
    return parts.head, parse_overrides([unquote(part) for part in parts.options])
