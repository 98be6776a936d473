"""Read which files a data set's card (README.md) names, and as which split."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from alignlab.data.rows import listed
from alignlab.errors import bad_record

CARD = "README.md"
_HEAD = re.compile(r"\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|\Z)", re.DOTALL)
"""Settings at the start of a card, as the hub reads them."""


def named_files(folder: Path, data: Collection[Path]) -> dict[Path, str]:
    """Map the data files that the card of a folder names to their splits.

    Empty if there is no card, or none of the files that it names is there.

    Raises:
        BadInput: the card names several configurations, and none as the default.
    """
    named: dict[Path, str] = {}
    for pattern, split in _patterns(_configuration(folder / CARD)):
        for path in _matches(folder, pattern):
            if path in data:
                named.setdefault(path, split)
    return named


def _configuration(card: Path) -> Mapping[str, Any]:
    """Read the one configuration of a card, or its default; empty without any."""
    found = [c for c in _configurations(card) if c.get("data_files") or c.get("data_dir")]
    default = [c for c in found if c.get("default") is True or c.get("config_name") == "default"]
    if len(found) > 1 and not default:
        names = listed(str(c.get("config_name")) for c in found)
        expected = "one configuration, or a default one (name the files of one to read these alone)"
        raise bad_record(card, None, "configs", expected, names)
    return next(iter(default or found), {})


def _configurations(card: Path) -> list[Mapping[str, Any]]:
    try:
        head = _HEAD.match(card.read_text("utf-8"))
        settings = yaml.safe_load(head[1]) if head else None
    except (OSError, ValueError, yaml.YAMLError):
        return []  # no card, or the readme of something else
    listing = settings.get("configs") if isinstance(settings, dict) else None
    return [c for c in listing if isinstance(c, dict)] if isinstance(listing, list) else []


def _patterns(configuration: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the patterns of files with their splits; none of an empty configuration."""
    if not configuration:
        return
    place = str(configuration.get("data_dir") or "").strip("/")
    files = configuration.get("data_files") or "**"
    for each in files if isinstance(files, list) else [files]:
        paths: Any = each
        split: Any = ""
        if isinstance(each, dict):
            paths, split = each.get("path"), each.get("split")
        for path in paths if isinstance(paths, list) else [paths]:
            yield "/".join(filter(None, (place, str(path)))), str(split or "train")


def _matches(folder: Path, pattern: str) -> Iterator[Path]:
    try:
        found = list(folder.glob(pattern.removeprefix("./").rstrip("/")))
    except (NotImplementedError, ValueError):  # an absolute or an empty pattern
        return
    for path in found:
        yield path
        if path.is_dir():
            yield from path.rglob("*")
