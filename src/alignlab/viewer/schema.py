"""Define the tables of a run's index and open it.

The index is a copy: it lies outside the run directory, is rebuilt when it is stale or of another
version, and holds nothing that the run's record files do not hold.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

VERSION = 2
"""Version of the tables; an index of another version is rebuilt."""

_TABLES = """
CREATE TABLE files (id INTEGER PRIMARY KEY, path TEXT UNIQUE, done INTEGER, head TEXT,
    lines INTEGER);
CREATE TABLE prompts (seed INTEGER, id TEXT, text TEXT, turns TEXT, reference TEXT, source TEXT,
    type TEXT, cluster TEXT, PRIMARY KEY (seed, id));
CREATE TABLE responses (rid INTEGER PRIMARY KEY, file INTEGER, seed INTEGER, stage TEXT, id TEXT,
    prompt TEXT, model TEXT, text TEXT, tokens INTEGER, finish TEXT, held_out INTEGER);
CREATE UNIQUE INDEX responses_id ON responses (seed, id);
CREATE INDEX responses_prompt ON responses (seed, prompt, held_out);
CREATE TABLE feedback (fid INTEGER PRIMARY KEY, file INTEGER, line INTEGER, seed INTEGER,
    stage TEXT, source TEXT, kind TEXT, prompt TEXT, first TEXT, second TEXT, value REAL,
    spread REAL, winner INTEGER, reason TEXT, rationale TEXT, samples TEXT, raw TEXT, truth REAL,
    error REAL);
CREATE INDEX feedback_first ON feedback (seed, first);
CREATE INDEX feedback_stage ON feedback (stage, kind);
CREATE INDEX feedback_error ON feedback (error);
CREATE TABLE truth (seed INTEGER, response TEXT, value REAL, origin TEXT,
    PRIMARY KEY (seed, response)) WITHOUT ROWID;
CREATE TABLE pairs (gid INTEGER PRIMARY KEY, file INTEGER, seed INTEGER, stage TEXT, prompt TEXT,
    chosen TEXT, rejected TEXT, high REAL, low REAL, gap REAL, longer INTEGER, inverted INTEGER,
    size INTEGER);
CREATE INDEX pairs_stage ON pairs (stage, seed);
CREATE TABLE demonstrations (did INTEGER PRIMARY KEY, file INTEGER, seed INTEGER, stage TEXT,
    prompt TEXT, response TEXT, task TEXT);
CREATE INDEX demonstrations_stage ON demonstrations (stage, task);
CREATE TABLE answers (seed INTEGER, prompt TEXT, model TEXT, rid INTEGER, score REAL, spread REAL,
    other REAL, outcome REAL, judged INTEGER, tokens INTEGER, cut INTEGER, same INTEGER,
    PRIMARY KEY (seed, prompt, model)) WITHOUT ROWID;
CREATE INDEX answers_model ON answers (model, outcome);
CREATE TABLE metrics (file INTEGER, seed INTEGER, stage TEXT, step INTEGER, record TEXT);
CREATE INDEX metrics_stage ON metrics (stage, seed, step);
CREATE TABLE results (file INTEGER, stage TEXT, record TEXT);
CREATE TABLE counts (file INTEGER, stage TEXT, record TEXT);
CREATE TABLE watched (file INTEGER, stage TEXT, record TEXT);
CREATE TABLE rollouts (file INTEGER, seed INTEGER, stage TEXT, step INTEGER, record TEXT);
CREATE INDEX rollouts_step ON rollouts (stage, step);
CREATE VIRTUAL TABLE response_words USING fts5 (text, content='');
CREATE VIRTUAL TABLE prompt_words USING fts5 (text, seed UNINDEXED, id UNINDEXED);
CREATE VIRTUAL TABLE feedback_words USING fts5 (text, content='');
"""


def connect(path: Path) -> sqlite3.Connection:
    """Open an index, empty if it is new or was written by another version.

    Raises:
        sqlite3.Error: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    index = None
    try:
        index = _open(path)
        version = index.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.DatabaseError:  # not an index, or torn by a full disk
        version = -1
    if index is None or version != VERSION:
        if index is not None:
            index.close()
        for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            name.unlink(missing_ok=True)
        index = _open(path)
        index.executescript(_TABLES)
        index.execute(f"PRAGMA user_version = {VERSION}")
        index.commit()
    return index


def _open(path: Path) -> sqlite3.Connection:
    index = sqlite3.connect(path, check_same_thread=False)
    index.row_factory = sqlite3.Row
    index.execute("PRAGMA journal_mode = WAL")
    index.execute("PRAGMA synchronous = OFF")  # a lost index is built again
    return index
