"""Index the records of a run, and follow a run that is still under way.

Record files grow by whole lines. Each call reads what was committed since the last one; a file
that shrank or begins otherwise (a stage that was done again) empties the index, which is then built
from the beginning.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput
from alignlab.viewer import derived, ingest, schema

_HEAD = 256
"""Number of bytes at a file's start whose hash identifies its content."""


class Index:
    """Index of one run; safe to read from several threads, one at a time.

    Args:
        run: the run directory, which is never written to.
        path: the index's file.
    """

    def __init__(self, run: Path, path: Path) -> None:
        self.run = run
        self.path = path
        self._lock = threading.RLock()
        self._db = schema.connect(path)
        self.version = 0
        """Number of updates that found something new; changes when pages should reload."""

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def rows(self, query: str, values: Any = ()) -> list[sqlite3.Row]:
        """Return all rows of a query.

        Raises:
            BadInput: a regular expression takes too long on some text.
        """
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.OperationalError as error:
                if "user-defined function" not in str(error):
                    raise
                raise BadInput(
                    "q: expected a regular expression that ends quickly; this one takes too long "
                    "on some text"
                ) from None

    def one(self, query: str, values: Any = ()) -> Any:
        """Return the first value of a query's first row; None without a row."""
        with self._lock:
            row = self._db.execute(query, values).fetchone()
            return None if row is None else row[0]

    def function(self, name: str, arguments: int, call: Any) -> None:
        """Define an SQL function."""
        with self._lock:
            self._db.create_function(name, arguments, call)

    def update(self) -> int:
        """Read what the run's stages have committed since the last update.

        Returns:
            Number of records read.
        """
        with self._lock:
            if any(self._changed(path) for path in self._files()):
                self._db.close()
                self.path.unlink(missing_ok=True)
                self._db = schema.connect(self.path)
            read = 0
            try:
                for path in self._files():
                    read += self._take(path)
                if read:
                    derived.refresh(self._db)
                self._db.commit()
            except BaseException:
                self._db.rollback()
                raise
            self.version += bool(read)
            return read

    def _files(self) -> list[Path]:
        """Return the record files, samples before what refers to them."""
        found = [
            p for p in sorted((self.run / "stages").rglob("*.jsonl")) if p.stem in ingest.READERS
        ]
        order = list(ingest.READERS)
        return sorted(found, key=lambda p: (order.index(p.stem), p))

    def _known(self, path: Path) -> sqlite3.Row | None:
        name = path.relative_to(self.run).as_posix()
        found: sqlite3.Row | None = self._db.execute(
            "SELECT * FROM files WHERE path = ?", (name,)
        ).fetchone()
        return found

    def _changed(self, path: Path) -> bool:
        known = self._known(path)
        if known is None:
            return False
        return path.stat().st_size < known["done"] or bool(
            _head(path, known["done"]) != known["head"]
        )

    def _take(self, path: Path) -> int:
        """Read the new whole lines of a file into the tables."""
        known = self._known(path)
        done, lines = (known["done"], known["lines"]) if known else (0, 0)
        end = _committed(path)
        if end <= done:
            return 0
        name = path.relative_to(self.run).as_posix()
        if known is None:
            self._db.execute("INSERT INTO files VALUES (NULL, ?, 0, '', 0)", (name,))
        key = self._db.execute("SELECT id FROM files WHERE path = ?", (name,)).fetchone()[0]
        stage = path.parent.relative_to(self.run / "stages").as_posix()
        where = ingest.RecordOrigin(key, stage, _seed_of(stage, self.run))
        read = 0
        with path.open("rb") as file:
            file.seek(done)
            records = _whole(file.read(end - done), lines)
            read = ingest.READERS[path.stem](self._db, where, records)
        self._db.execute(
            "UPDATE files SET done = ?, head = ?, lines = ? WHERE id = ?",
            (end, _head(path, end), lines + read, key),
        )
        return read


def _whole(content: bytes, before: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield numbered records; the content ends with a whole line."""
    for number, line in enumerate(content.splitlines(), start=before + 1):
        yield number, json.loads(line)


def _committed(path: Path) -> int:
    """Return the number of bytes that are written for good: whole lines of committed units."""
    commits = path.with_name("commits.jsonl")
    end = 0
    if commits.exists():
        for line in commits.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n") and (unit := json.loads(line))["file"] == path.name:
                end = unit["end"]
    if end or path.stem not in ingest.UNCOMMITTED:
        return min(end, path.stat().st_size)
    content = path.read_bytes()
    return content.rfind(b"\n") + 1


def _head(path: Path, end: int) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(min(_HEAD, end))).hexdigest()


def _seed_of(stage: str, run: Path) -> int:
    for part in stage.split("/"):
        seed = part.removeprefix("seed-")
        if seed != part and seed.lstrip("-").isdigit():
            return int(seed)
    seeds = json.loads((run / "manifest.json").read_text()).get("seeds") or [0]
    return int(seeds[0])
