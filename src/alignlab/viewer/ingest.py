"""Read records of a run into the tables of its index, one function per kind of record file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alignlab.types import Message, Prompt, Score

Records = Iterable[tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class RecordOrigin:
    """Origin of records: a record file, its stage and the training seed."""

    file: int
    stage: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the stage, without scopes and its number."""
        number, dash, name = self.stage.rpartition("/")[2].partition("-")
        return name if dash and number.isdigit() else number + dash + name

    @property
    def is_held_out(self) -> bool:
        """Return True if the stage answers the held-out prompts."""
        return self.name.startswith("answer")


def _prompt(db: sqlite3.Connection, where: RecordOrigin, plain: Mapping[str, Any]) -> None:
    turns = tuple(Message(m["role"], m["content"]) for m in plain["messages"])
    prompt = Prompt(plain["id"], turns)
    row = db.execute(
        "INSERT OR IGNORE INTO prompts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            where.seed, prompt.id, prompt.text, json.dumps(plain["messages"], ensure_ascii=False),
            plain["reference"], plain["source"], plain["query_type"], prompt.cluster,
        ),
    )  # fmt: skip
    if row.rowcount == 1:
        words = "\n".join(m.content for m in turns)
        db.execute("INSERT INTO prompt_words VALUES (?, ?, ?)", (words, where.seed, prompt.id))


def _response(db: sqlite3.Connection, where: RecordOrigin, plain: Mapping[str, Any]) -> None:
    row = db.execute(
        "INSERT OR IGNORE INTO responses VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            where.file, where.seed, where.stage, plain["id"], plain["prompt_id"],
            plain["sampler"]["model"], plain["text"], plain["tokens"], plain["finish"],
            where.is_held_out,
        ),
    )  # fmt: skip
    if row.rowcount == 1:
        db.execute(
            "INSERT INTO response_words (rowid, text) VALUES (?, ?)", (row.lastrowid, plain["text"])
        )


def prompts(db: sqlite3.Connection, where: RecordOrigin, records: Records) -> int:
    """Index prompts."""
    read = 0
    for read, (_, record) in enumerate(records, start=1):  # noqa: B007
        _prompt(db, where, record)
    return read


def responses(db: sqlite3.Connection, where: RecordOrigin, records: Records) -> int:
    """Index responses."""
    read = 0
    for read, (_, record) in enumerate(records, start=1):  # noqa: B007
        _response(db, where, record)
    return read


def feedback(db: sqlite3.Connection, where: RecordOrigin, records: Records) -> int:
    """Index verdicts with the samples and raw replies behind them."""
    read = 0
    for read, (number, record) in enumerate(records, start=1):  # noqa: B007
        verdict, ids = record["verdict"], record["response_ids"]
        samples = verdict.get("samples") or verdict.get("orders") or verdict.get("ranks") or []
        spread = Score(0.0, tuple(samples)).spread if verdict["kind"] == "score" else None
        row = db.execute(
            "INSERT INTO feedback VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
            "NULL, NULL)",
            (
                where.file, number, where.seed, where.stage, record["source"], verdict["kind"],
                record["prompt_id"], ids[0], ids[1] if len(ids) > 1 else None,
                verdict.get("value"), spread, verdict.get("winner"), verdict.get("reason"),
                verdict.get("text") or record["rationale"], json.dumps(samples),
                json.dumps(record["raw"], ensure_ascii=False),
            ),
        )  # fmt: skip
        if where.name == "truth" and verdict["kind"] == "score":
            db.execute(
                "INSERT OR REPLACE INTO truth VALUES (?, ?, ?, ?)",
                (where.seed, ids[0], verdict["value"], record["source"]),
            )
        words = "\n".join([record["rationale"], *record["raw"]])
        if words.strip():
            db.execute(
                "INSERT INTO feedback_words (rowid, text) VALUES (?, ?)", (row.lastrowid, words)
            )
    return read


def groups(db: sqlite3.Connection, where: RecordOrigin, records: Records) -> int:
    """Index preference groups: the pair of best and worst, and a gold score of a person each."""
    read = 0
    by_people = where.name == "seed"
    for read, (_, record) in enumerate(records, start=1):  # noqa: B007
        _prompt(db, where, record["prompt"])
        for response, score in zip(record["responses"], record["scores"], strict=True):
            _response(db, where, response)
            if by_people:
                db.execute(
                    "INSERT OR IGNORE INTO truth VALUES (?, ?, ?, ?)",
                    (where.seed, response["id"], score, f"data ({record['source']})"),
                )
        if by_people:
            continue
        best, worst = record["responses"][0], record["responses"][-1]
        high, low = record["scores"][0], record["scores"][-1]
        db.execute(
            "INSERT INTO pairs VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)",
            (
                where.file, where.seed, where.stage, record["prompt"]["id"], best["id"],
                worst["id"], high, low, high - low, len(best["text"]) - len(worst["text"]),
                len(record["responses"]),
            ),
        )  # fmt: skip
    return read


def demonstrations(db: sqlite3.Connection, where: RecordOrigin, records: Records) -> int:
    """Index targets of supervised fine-tuning."""
    read = 0
    for read, (_, record) in enumerate(records, start=1):  # noqa: B007
        _prompt(db, where, record["prompt"])
        _response(db, where, record["response"])
        db.execute(
            "INSERT INTO demonstrations VALUES (NULL, ?, ?, ?, ?, ?, ?)",
            (
                where.file, where.seed, where.stage, record["prompt"]["id"],
                record["response"]["id"], record["task"],
            ),
        )  # fmt: skip
    return read


def audits(db: sqlite3.Connection, where: RecordOrigin, records: Records) -> int:
    """Index gold scores of judged responses."""
    read = 0
    for read, (_, record) in enumerate(records, start=1):  # noqa: B007
        db.execute(
            "INSERT OR REPLACE INTO truth VALUES (?, ?, ?, 'gold score')",
            (where.seed, record["response_id"], record["truth"]),
        )
    return read


def _by_step(table: str) -> Callable[[sqlite3.Connection, RecordOrigin, Records], int]:
    def keep(db: sqlite3.Connection, where: RecordOrigin, records: Records) -> int:
        read = 0
        for read, (number, record) in enumerate(records, start=1):  # noqa: B007
            step = record.get("step", number)
            plain = json.dumps(record, ensure_ascii=False)
            values = (where.file, where.seed, where.stage, step, plain)
            db.execute(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", values)
        return read

    return keep


def _plain(table: str) -> Callable[[sqlite3.Connection, RecordOrigin, Records], int]:
    def keep(db: sqlite3.Connection, where: RecordOrigin, records: Records) -> int:
        read = 0
        for read, (_, record) in enumerate(records, start=1):  # noqa: B007
            db.execute(
                f"INSERT INTO {table} VALUES (?, ?, ?)",
                (where.file, where.stage, json.dumps(record, ensure_ascii=False)),
            )
        return read

    return keep


READERS: Mapping[str, Callable[[sqlite3.Connection, RecordOrigin, Records], int]] = {
    "prompts": prompts,
    "test_prompts": prompts,
    "responses": responses,
    "test_groups": groups,
    "groups": groups,
    "demonstrations": demonstrations,
    "feedback": feedback,
    "audit": audits,
    "metrics": _by_step("metrics"),
    "rollout_samples": _by_step("rollouts"),
    "results": _plain("results"),
    "counts": _plain("counts"),
    "lost": _plain("counts"),
    "watched": _plain("watched"),
}
"""Name of a record file -> its reader, samples before what refers to them."""

UNCOMMITTED = frozenset({"metrics", "rollout_samples"})
"""Record files that trainers append to without committing units."""
