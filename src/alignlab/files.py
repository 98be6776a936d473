"""Files that a kill or a full disk leaves whole: replaced in one step, locked, torn ends cut."""

from __future__ import annotations

import csv
import errno
import fcntl
import gzip
import hashlib
import itertools
import json
import logging
import os
import time
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from alignlab.errors import BadInput, RunFailed, bad_record

CsvRows = Iterator[tuple[int, list[str]]]

log = logging.getLogger(__name__)

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk and of a spent quota."""
UNWRITABLE = (errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG, errno.EIO)
"""Error numbers of places that cannot be written, and of names that no file can have."""
_POINTER = b"version https://git-lfs.github.com/spec/"


def cache_folder() -> Path:
    """Return the folder of what outlives a run on this machine: judge cards, speeds, converted
    models. It is `$ALIGNLAB_CACHE`, else `$XDG_CACHE_HOME/alignlab`, else `~/.cache/alignlab`.
    """
    if given := os.environ.get("ALIGNLAB_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alignlab"


def make_folder(path: Path) -> None:
    """Make a folder and those above it, if they are not there.

    Raises:
        BadInput: it cannot be made, or is a file.
        OSError: the disk is full.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in FULL:
            raise
        raise BadInput(reason_of(error)) from None


def reason_of(error: OSError) -> str:
    """Describe in one line why a path cannot be written."""
    named = str(error.filename)
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        shown = named if len(named) < 80 else f"{named[:60]}... ({len(named):,} characters)"
        return f"{shown}: expected a path ({os.strerror(error.errno).lower()})"
    if isinstance(error, NotADirectoryError | FileExistsError):
        above = (*reversed(Path(named).parents), Path(named))
        file = next((place for place in above if place.exists() and not place.is_dir()), named)
        return f"{file}: expected a folder, found a file"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"{named}: cannot be written ({reason})"


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: a reader or a killed writer never leaves half of it."""
    # Processes of several machines, which may have one number, write into one folder.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
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
    return json.loads(path.read_text(encoding="utf-8-sig"))


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, gzipped or not, without its byte order mark.

    Raises:
        BadInput: the file cannot be read, or is not UTF-8.
    """
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{error.object[error.start]:02x}"
        raise bad_record(path, line, None, "UTF-8 text", found) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadInput(f"{path}: expected a readable file, found: {reason}") from None


def refuse_pointer(path: Path) -> None:
    """Refuse a file that Git LFS left in place of a large one."""
    with path.open("rb") as handle:
        if handle.read(len(_POINTER)) == _POINTER:
            raise bad_record(path, None, None, "the file itself (git lfs pull)", "its LFS pointer")


def csv_reader(lines: Iterator[str], delimiter: str) -> tuple[list[str], CsvRows]:
    """Read the names of a CSV's columns, and its records with the line each starts on.

    Spreadsheets separate with semicolons where the comma is in numbers, and may say so (`sep=;`);
    names lose the blanks around them.

    Raises:
        csv.Error: two columns have one name.
    """
    before, head = 0, ""
    for before, head in enumerate(lines):  # noqa: B007 - the last values count
        if head.lower().startswith("sep=") and len(head.strip()) == 5:
            delimiter = head[4]
        elif head.strip():
            break
    if delimiter == "," and "," not in head:
        delimiter = next((mark for mark in ";\t" if mark in head), ",")
    csv.field_size_limit(2**31 - 1)  # one answer may be longer than the default 131,072
    records = csv.reader(itertools.chain([head], lines), delimiter=delimiter, strict=True)
    names = _different([name.strip() for name in next(records, [])])

    def numbered() -> CsvRows:
        start = before + records.line_num + 1
        for cells in records:
            if cells:
                yield start, cells
            start = before + records.line_num + 1

    return names, numbered()


def _different(names: list[str]) -> list[str]:
    """Return the names of columns, of which the second of a name would hide the first.

    Raises:
        csv.Error: two are equal and not blank.
    """
    if again := next((name for name in names if name and names.count(name) > 1), None):
        found = ", ".join(names)
        raise csv.Error(f"two columns of the name {again!r} ({found})")
    return names


def sheet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the first sheet of a spreadsheet (.xlsx): row number and cells by column, blank as null.

    The first row that is not blank names the columns. Errors of formulas (`#NAME?`, as of a text
    that begins with =) are null.

    Raises:
        BadInput: openpyxl is not installed, the file is no spreadsheet, or two columns have one
            name.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise BadInput(
            f"{path}: expected openpyxl to read a spreadsheet (pip install 'alignlab[xlsx]'), or "
            "the sheet saved as CSV"
        ) from None
    try:
        first, *others = load_workbook(path, read_only=True, data_only=True).worksheets
        cells = first.iter_rows()
        rows = [[None if cell.data_type == "e" else cell.value for cell in row] for row in cells]
        filled = [
            (n, row) for n, row in enumerate(rows, start=1) if any(v is not None for v in row)
        ]
        head = filled[0][1] if filled else []
        names = _different(["" if name is None else str(name).strip() for name in head])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, csv.Error) as error:
        raise BadInput(f"{path}: expected a spreadsheet, found: {error}") from None
    if others:
        log.warning("%s: sheets that are not read: %s", path, ", ".join(s.title for s in others))
    for number, row in filled[1:]:
        yield number, dict(zip(names, row, strict=False))


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


def append_line(path: Path, line: str) -> None:
    """Append a line to a file that processes of several machines write.

    Under a lock, as the end of a file on a network file system may be known from a cache.
    """
    with path.open("a", encoding="utf-8") as file:
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        file.write(line)


@contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """Keep other processes out of such a block of theirs with the same file, which must exist."""
    with path.open("r+b") as file:
        with suppress(OSError):  # some file systems have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def cut_torn_line(path: Path) -> None:
    """Cut off a last line that a full disk left half written."""
    if path.exists():
        content = path.read_bytes()
        os.truncate(path, content.rfind(b"\n") + 1)
