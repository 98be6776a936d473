"""Cache of paid answers on disk, keyed by the content of the request.

The file also holds, for all processes of a run, the tokens and dollars of each endpoint so far,
unusable replies included, and the endpoint's learnt limits. An answer and its price are written in
one transaction.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignlab import leases
from alignlab.errors import BadInput, RunFailed
from alignlab.files import make_folder
from alignlab.types import Usage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, source TEXT NOT NULL, answer TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, tokens INTEGER NOT NULL, calls INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS spent (
    source TEXT PRIMARY KEY, prompt_tokens INTEGER NOT NULL, tokens INTEGER NOT NULL,
    calls INTEGER NOT NULL, usd REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS limits (source TEXT PRIMARY KEY, limits TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS servers (
    source TEXT NOT NULL, url TEXT NOT NULL, answered INTEGER NOT NULL,
    handed_over INTEGER NOT NULL, PRIMARY KEY (source, url)
);
INSERT OR IGNORE INTO spent
    SELECT source, SUM(prompt_tokens), SUM(tokens), SUM(calls), 0 FROM answers
    WHERE NOT EXISTS (SELECT * FROM spent) GROUP BY source
"""
_ADD = """
INSERT INTO spent VALUES (?, ?, ?, ?, ?) ON CONFLICT (source) DO UPDATE SET
    prompt_tokens = prompt_tokens + excluded.prompt_tokens, tokens = tokens + excluded.tokens,
    calls = calls + excluded.calls, usd = usd + excluded.usd
"""

_ADD_SERVER = """
INSERT INTO servers VALUES (?, ?, ?, ?) ON CONFLICT (source, url) DO UPDATE SET
    answered = answered + excluded.answered, handed_over = handed_over + excluded.handed_over
"""


@dataclass(frozen=True)
class Spent:
    """Tokens and dollars that an endpoint has cost."""

    usage: Usage = field(default_factory=Usage)
    usd: float = 0.0
    """Dollars, at the prices set at the time of the calls."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.usage + other.usage, self.usd + other.usd)


class AnswerCache:
    """SQLite cache of answers, safe to share between processes; each answer is durable once put."""

    def __init__(self, path: Path | None):
        """Open or create the file; without a path, a cache in memory.

        Raises:
            BadInput: the file is no answer cache.
        """
        if path is not None:
            make_folder(path.parent)
        self.path = path
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path or ":memory:", timeout=60, check_same_thread=False)
            # Processes of several machines have no memory in common, which WAL needs.
            mode = "TRUNCATE" if leases.is_claimed() else "WAL"
            self._db.execute(f"PRAGMA journal_mode={mode}")
            # Safe when the process is killed, without a wait for the disk after every answer, in
            # which no call would go on; only a power cut can lose the last ones.
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA}; COMMIT")
            self._db.execute("SELECT key, source, answer, calls FROM answers LIMIT 1")
        except sqlite3.DatabaseError as error:
            raise BadInput(f"{path}: expected a cache of answers, found: {error}") from error

    def get(self, key: str) -> Any | None:
        """Return the answer stored under a key, as plain JSON values; None where there is none."""
        with self._reading() as db:
            row = db.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, source: str, answer: Any, spent: Spent) -> None:
        """Store an answer and add its cost; an existing answer under the key stays."""
        usage = spent.usage
        row = (key, source, json.dumps(answer), usage.prompt_tokens, usage.tokens, usage.calls)
        with self._writing() as db:
            db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)
            db.execute(_ADD, (source, *row[3:], spent.usd))

    def add(self, source: str, spent: Spent) -> None:
        """Add the cost of unusable replies."""
        usage = spent.usage
        row = (source, usage.prompt_tokens, usage.tokens, usage.calls, spent.usd)
        with self._writing() as db:
            db.execute(_ADD, row)

    def spent(self, source: str) -> Spent:
        """Return tokens and dollars of all calls to one source."""
        query = "SELECT prompt_tokens, tokens, calls, usd FROM spent WHERE source = ?"
        with self._reading() as db:
            row = db.execute(query, (source,)).fetchone()
        return Spent() if row is None else Spent(Usage(*row[:3]), row[3])

    def limits(self, source: str) -> Any | None:
        """Return the learnt limits of a source as plain JSON values; None where there are none."""
        with self._reading() as db:
            row = db.execute("SELECT limits FROM limits WHERE source = ?", (source,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put_limits(self, source: str, limits: Any) -> None:
        """Store the learnt limits of a source."""
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO limits VALUES (?, ?)", (source, json.dumps(limits)))

    def add_servers(self, source: str, counts: Mapping[str, tuple[int, int]]) -> None:
        """Add answered and handed-over calls of each server of a pool."""
        with self._writing() as db:
            rows = [(source, url, *numbers) for url, numbers in counts.items()]
            db.executemany(_ADD_SERVER, rows)

    def account(self) -> dict[str, dict[str, Any]]:
        """Return tokens, calls and dollars by source, as plain JSON values; of pools, by server."""
        with self._reading() as db:
            rows = db.execute("SELECT * FROM spent ORDER BY source").fetchall()
            servers = db.execute("SELECT * FROM servers ORDER BY source, url").fetchall()
        names = ("prompt_tokens", "tokens", "calls", "usd")
        found = {source: dict(zip(names, row, strict=True)) for source, *row in rows}
        for source, url, answered, handed_over in servers:
            pool = found.setdefault(source, {}).setdefault("servers", {})
            pool[url] = {"answered": answered, "handed_over": handed_over}
        return found

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._failing_plainly():
            yield self._db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._failing_plainly(), self._db:
            yield self._db

    @contextmanager
    def _failing_plainly(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:  # a full disk, a lock never freed, a damaged file
            raise RunFailed(f"{self.path}: {error}") from error


def request_key(request: Mapping[str, Any]) -> str:
    """Return the content hash of a request given as plain JSON values."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
