"""Answers that were paid for, kept on disk by the content of the request, never by time."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput
from alignlab.types import Usage

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, source TEXT NOT NULL, answer TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL, tokens INTEGER NOT NULL, calls INTEGER NOT NULL
)
"""


class AnswerCache:
    """A SQLite file of answers; several processes may share it, each answer is safe once put."""

    def __init__(self, path: Path):
        """Open or make the file.

        Raises:
            BadInput: the file is no answer cache.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=60, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(_SCHEMA)
            self._db.execute("SELECT key, source, answer, calls FROM answers LIMIT 1")
        except sqlite3.DatabaseError as error:
            raise BadInput(f"{path}: expected a cache of answers, found: {error}") from error

    def get(self, key: str) -> Any | None:
        """The answer kept under a key, as plain JSON values."""
        with self._lock:
            row = self._db.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, key: str, source: str, answer: Any, usage: Usage) -> None:
        """Keep an answer; the first one kept under a key stays."""
        row = (key, source, json.dumps(answer), usage.prompt_tokens, usage.tokens, usage.calls)
        with self._lock, self._db:
            self._db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)

    def usage(self, source: str) -> Usage:
        """What all the answers kept of one source took."""
        query = (
            "SELECT TOTAL(prompt_tokens), TOTAL(tokens), TOTAL(calls) FROM answers WHERE source = ?"
        )
        with self._lock:
            prompt_tokens, tokens, calls = self._db.execute(query, (source,)).fetchone()
        return Usage(int(prompt_tokens), int(tokens), int(calls))

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def request_key(request: Mapping[str, Any]) -> str:
    """Content hash of a request given as plain JSON values."""
    text = json.dumps(request, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
