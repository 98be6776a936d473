"""Files that a kill or a full disk leaves whole: replaced in one step, locked, torn ends cut."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from alignlab.errors import RunFailed


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: a reader or a killed writer never leaves half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        # On a full disk nothing may be left that takes up room.
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file in one step."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lock(path: Path, busy: str, patience_s: float = 10.0) -> int:
    """Hold a file lock until closed; the system frees it when the process dies.

    Workers of a killed run see their parent gone within a second, hence the patience.
    """
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(handle)
                raise RunFailed(busy) from None
            time.sleep(0.05)


def cut_torn_line(path: Path) -> None:
    """Cut off a last line that a full disk left half written."""
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)
