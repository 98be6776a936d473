"""Read a run's events, and empty stages so that they are done again."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def timestamp() -> str:
    """Return the time in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def order(run: Path) -> list[str]:
    """Return the stages of a run in the order in which they were begun first."""
    begun = (e["stage"] for e in events(run) if e.get("event") == "stage" and "stage" in e)
    return list(dict.fromkeys(begun))


def events(run: Path) -> list[dict[str, Any]]:
    """Return the events of a run that can be read."""
    found = []
    with suppress(FileNotFoundError):
        for raw in (run / "events.jsonl").read_bytes().splitlines():
            with suppress(ValueError):
                event = json.loads(raw)
                found += [event] if isinstance(event, dict) else []
    return found


def seconds_at_work(found: Iterable[Mapping[str, Any]]) -> float:
    """Return the seconds of all sessions of a run by its events, pauses between them left out."""
    total, first, last = 0.0, None, None
    for event in found:
        when = datetime.fromisoformat(event["time"])
        if event["event"] in ("start", "resume"):
            total += (last - first).total_seconds() if first and last else 0.0
            first = when
        first, last = first or when, when
    return total + ((last - first).total_seconds() if first and last else 0.0)


def is_finished(found: Iterable[Mapping[str, Any]]) -> bool:
    """Return True if a run was done in its last session by its events."""
    finished = False
    for event in found:
        if event["event"] in ("start", "resume"):
            finished = False
        finished = finished or (event["event"] == "done" and "stage" not in event)
    return finished


def last_events(run: Path) -> dict[str, str]:
    """Return each stage's last event of its beginning, its end, and its being emptied."""
    kinds = ("stage", "done", "redo")
    return {e["stage"]: e["event"] for e in events(run) if e.get("event") in kinds and "stage" in e}


def redo(run: Path, stages: Iterable[str]) -> None:
    """Empty stages, so that they are done again; `redo_left` ends what a kill has cut short."""
    stages = list(stages)
    with (run / "events.jsonl").open("a") as file:
        for name in stages:
            line = {"time": timestamp(), "event": "redo", "stage": name}
            file.write(json.dumps(line) + "\n")
    for stage in stages:
        _empty(run / "stages" / stage)


def redo_left(run: Path) -> None:
    """Empty the stages that a killed process was about to empty."""
    for stage, event in last_events(run).items():
        if event == "redo":
            _empty(run / "stages" / stage)


def redo_later(run: Path, stage: str, found: str) -> None:
    """Empty what was made from a stage's earlier content, if it came out different this time.

    Stages that this session opened before cannot have read it; others that began later may have.

    Args:
        found: the stage's `content` now.
    """
    before = [e for e in events(run) if e.get("event") == "done" and e.get("stage") == stage]
    if not before or before[-1].get("content") == found:
        return
    names = order(run)
    earlier = set(names[: names.index(stage)] if stage in names else ())
    since = (run / ".lock").stat().st_mtime_ns
    stale = [
        name
        for status in sorted((run / "stages").rglob("status.json"))
        if (name := stage_name(run, status.parent)) not in {*earlier, stage}
        and not _opened(status.parent, since)
    ]
    if stale:
        log.warning(
            "%s: its records differ from those that %d later stages were made from, or nothing "
            "says that they are equal; these stages are done again", stage, len(stale)
        )  # fmt: skip
        redo(run, stale)


def _opened(folder: Path, since: int) -> bool:
    """Say whether a stage was opened after a time; every opening touches its lock."""
    held = folder / ".lock"
    return held.exists() and held.stat().st_mtime_ns >= since


def _empty(folder: Path) -> None:
    if folder.exists():
        for place in folder.iterdir():
            if place.is_dir():
                shutil.rmtree(place)
            elif place.name != ".lock":
                place.unlink()


def stage_name(run: Path, folder: Path) -> str:
    """Return a stage's name from its folder: seed-0/02-sample."""
    return "/".join(folder.relative_to(run / "stages").parts)
