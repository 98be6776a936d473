"""Read data sets of the Hugging Face hub by id; needs the `hub` extra."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignlab.errors import BadInput

_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class HubChoice:
    """Split, configuration and revision of a hub data set."""

    split: str = "train"
    config: str = ""
    revision: str = ""


def looks_like_hub_id(path: str) -> bool:
    """Return true if a path has the form `ORG/NAME`."""
    return _ID.fullmatch(path) is not None


def read_hub(name: str, choice: HubChoice) -> Sequence[Mapping[str, Any]]:
    """Read all rows of a split.

    Raises:
        BadInput: the `datasets` package is missing or cannot load the data set, or the split is
            empty.
    """
    try:
        import datasets  # an extra, not a dependency
    except ImportError:
        raise BadInput(
            f"{name}: no such file; a hub data set needs the datasets package: "
            "pip install 'alignlab[hub]'"
        ) from None
    try:
        loaded = datasets.load_dataset(
            name,
            choice.config or None,
            split=choice.split,
            revision=choice.revision or None,
        )
    except Exception as error:  # datasets raises many kinds: offline, missing, gated, bad split
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{name}: no such file, and the hub says: {first}") from error
    rows = list(loaded)
    if not rows:
        raise BadInput(
            f"{name}: expected at least one record in split {choice.split!r}, found none"
        )
    return rows
