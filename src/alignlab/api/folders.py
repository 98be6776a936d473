"""Manage output folders: fresh names, removal after a refused call, resumption."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alignlab import leases
from alignlab.errors import BadInput, RunFailed
from alignlab.files import lock
from alignlab.integrity import repairing
from alignlab.launched import is_worker_rank

RUNS = Path("runs")
"""Folder of runs without `out`."""


class Interrupted(KeyboardInterrupt):
    """Interruption by Ctrl-C or a notebook's stop button; finished work remains."""

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.out = out

    def __str__(self) -> str:
        kept = kept_in(self.out)
        if not kept:
            return "stopped; nothing was written"
        return f"stopped; {kept} is kept, and the same call with out={str(self.out)!r} resumes it"


def place_for(out: str | Path | None, name: str, ending: str = "") -> Path:
    """Return the given place, or one under `runs/`.

    Args:
        out: folder or file; None requests a new folder, an empty string one fixed folder for all
            calls, so that a repeated command resumes.
        name: name of the folder; a number is appended if it exists.
        ending: a file name inside the folder.
    """
    if out is not None:
        return _named(Path(out)) if str(out) else RUNS / name / ending
    names = (f"{name}-{number}" if number > 1 else name for number in range(1, 10**6))
    folder = next(RUNS / each for each in names if not (RUNS / each).exists())
    return folder / ending


def _named(out: Path) -> Path:
    """Return a folder by its name, also `.` and `..`; a name is needed for its sibling files."""
    found = out.resolve() if out.name in ("", "..") else out
    if not found.name:
        raise BadInput(f"{out}: expected a folder to write, found the root of the file system")
    return found


def kept_in(out: Path) -> Path | None:
    """Return the run directory of an output, a folder or a file; None if there is none."""
    places = (out, out.with_name(f"{out.name}.run"))
    return next((place for place in places if (place / "config.yaml").exists()), None)


@contextmanager
def writing(out: Path, *data: Path, repair: bool = False) -> Iterator[None]:
    """Remove the output of a refused call; name the resumable folder of an interrupted one.

    Existing files, and results of calls or training, are never removed.

    Args:
        out: folder or file that the call writes.
        data: files of rows in memory that it writes first.
        repair: compute the damaged stages of the output's run again.
    """
    outputs = [out, out.with_name(f"{out.name}.run"), *data]
    parents = [parent for file in (*data, out) for parent in file.parents]
    new = [place for place in dict.fromkeys((*outputs, *parents)) if not place.exists()]
    # Outputs go first, then the folders that they leave empty, inner ones first.
    new.sort(key=lambda place: (place not in outputs, -len(place.parts)))
    # An empty folder, such as mkdtemp makes, is to be empty again.
    cleared = out.is_dir() and not any(out.iterdir())
    try:
        with repairing(repair):
            yield
    except BadInput:
        if not is_worker_rank() and not any(map(_has_work, outputs)):
            if cleared:
                for inside in out.iterdir():
                    _remove(inside)
            for place in new:
                _remove(place) if place in outputs else _remove_empty(place)
        raise
    except KeyboardInterrupt:
        raise Interrupted(out) from None


def _has_work(folder: Path) -> bool:
    """Return whether calls were made or a model was trained, or another process works here."""
    events, held = folder / "events.jsonl", folder / ".lock"
    if events.exists() and '"event": "done"}' in events.read_text(encoding="utf-8"):
        return True  # a refused call finishes no run
    if held.exists():
        try:
            os.close(lock(held, "", patience_s=0))
            leases.refuse(folder)
        except RunFailed:
            return True
    if any(folder.glob("stages/**/model/*")) or any(folder.glob("stages/**/checkpoint*")):
        return True
    for commits in folder.glob("stages/**/commits.jsonl"):
        for line in commits.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, KeyError):
                if any(json.loads(line)["usage"].values()):
                    return True
    return any(map(_has_answers, folder.glob("cache/*")))


def _has_answers(file: Path) -> bool:
    """Return whether a cache of answers holds any; an unreadable file counts as one."""
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as cache:
            return bool(cache.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.Error:
        return file.stat().st_size > 0


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # another process may have put something there meanwhile
        folder.rmdir()
