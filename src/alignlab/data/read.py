"""Read rows from JSONL, JSON, Parquet, Arrow, CSV and TSV (plain or .gz), folders and the hub."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.lib import ArrowException

from alignlab.data.hub import HubChoice, looks_like_hub_id, read_hub
from alignlab.data.hub_card import named_files
from alignlab.data.json_rows import broken_json, is_test_name, json_rows
from alignlab.data.rows import Row, listed
from alignlab.errors import BadInput, bad_record
from alignlab.files import csv_reader, file_digest, refuse_pointer, sheet_rows
from alignlab.run_models import is_run
from alignlab.strict_json import parse_json
from alignlab.types import Count

_DESCRIPTIONS = frozenset(
    ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
)
"""Metadata files of the datasets package."""
_PART = re.compile(
    r"(?P<name>.*?)(?P<part>\d{3,})-of-(?P<of>\d{3,})(?:-[0-9a-f]{8,})?(?P<ending>\..*)"
)
"""Name of a part of a whole, as the datasets package numbers them."""


@dataclass
class Faults:
    """Collector of bad records."""

    stop: bool = True
    """Raise the first bad record instead of collecting it."""
    found: list[BadInput] = field(default_factory=list)

    def add(self, error: BadInput) -> None:
        """Collect a bad record, or raise it if `stop` is set."""
        if self.stop:
            raise error
        self.found.append(error)


@dataclass(frozen=True)
class RawTable:
    """Rows of a source before they become records, in the order of the files."""

    path: str
    rows: tuple[Row, ...]
    files: Mapping[str, str]
    """File -> SHA-256."""
    ignored: tuple[str, ...] = ()
    """Files of a folder that hold no data."""
    unnamed: tuple[str, ...] = ()
    """Data files of a folder that its card does not name."""
    counts: tuple[Count, ...] = ()
    """Counts of unread fields."""


def read_table(path: str, faults: Faults, hub: HubChoice | None = None) -> RawTable:
    """Read a file, a folder, or a hub data set by its id (`ORG/NAME`).

    Raises:
        BadInput: the path does not exist, the file type is unknown, or a record is bad and
            `faults.stop` is set.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return _read_folder(place, faults, hub)
    if place.is_file():
        _refuse(hub, path)
        return RawTable(path, tuple(_read_file(place, faults)), {path: file_digest(place)})
    if looks_like_hub_id(path):
        return rows_table(read_hub(path, hub or HubChoice()), path, faults)
    raise BadInput(f"{path}: expected a file, a folder or a hub id (ORG/NAME), found nothing there")


def _read_folder(folder: Path, faults: Faults, hub: HubChoice | None) -> RawTable:
    _refuse(hub, str(folder))
    if is_run(folder):
        raise BadInput(
            f"{folder}: expected data, found a run directory; name one of the files in its stages/"
        )
    inside = sorted(p for p in folder.rglob("*") if p.is_file() and not _hidden(p, folder))
    data = [p for p in inside if _is_data(p)]
    for path in inside:
        if path.name == "state.json":
            _refuse_indices(path)
    if not data:
        raise BadInput(f"{folder}: expected data files ({_known()}), found none")
    named = named_files(folder, data)
    read = [p for p in data if p in named] or data
    _refuse_missing_parts(read)
    tests = {p for p in read if is_test_name(named.get(p) or str(p.relative_to(folder)))}
    if len(tests) == len(read):
        tests = set()  # a folder of test data alone is what was asked for
    rows = tuple(
        replace(row, held_out=True) if path in tests else row
        for path in read
        for row in _read_file(path, faults)
    )
    return RawTable(
        str(folder),
        rows,
        {str(p): file_digest(p) for p in read},
        tuple(str(p) for p in inside if p not in data),
        tuple(str(p) for p in data if p not in read),
    )


def _refuse_missing_parts(data: Iterable[Path]) -> None:
    """Refuse files named as parts of a whole (train-00000-of-00003.parquet) if one is missing.

    Raises:
        BadInput: parts are missing; the message numbers them.
    """
    parts: dict[tuple[str, int], set[int]] = {}
    for path in data:
        if found := _PART.fullmatch(path.name):
            whole = path.with_name(f"{found['name']}*-of-{found['of']}{found['ending']}")
            parts.setdefault((str(whole), int(found["of"])), set()).add(int(found["part"]))
    for (whole_name, of), there in parts.items():
        missing = min((set(range(n, n + of)) - there for n in (0, 1)), key=len)
        if missing:
            raise BadInput(
                f"{whole_name}: expected {of} parts, found {len(there)} (without part "
                f"{listed(sorted(missing))}); name the files to read these alone"
            )


def _refuse_indices(state: Path) -> None:
    """Refuse a data set of the datasets package whose rows are selected by an indices file."""
    try:
        state_dict = parse_json(state.read_text("utf-8-sig"))
    except ValueError:
        return  # another program's file of that name
    names = ("_indices_data_files", "_indices_files")
    if isinstance(state_dict, dict) and any(map(state_dict.get, names)):
        expected = "all rows of the Arrow files (flatten_indices, then save_to_disk)"
        raise bad_record(state, None, "_indices_data_files", expected, "a choice of rows")


def rows_table(rows: Iterable[Any], name: str, faults: Faults) -> RawTable:
    """Build a table from dicts, a `datasets.Dataset`, or a mapping of splits to either.

    Lines are row numbers within the split, from 1; a split named as test data is held out.
    """
    splits = rows if isinstance(rows, Mapping) else {"": rows}
    digest = hashlib.sha256()
    tests = {split for split in splits if is_test_name(str(split))}
    table = []
    for split, several in splits.items():
        place = f"{name}[{split}]" if split else name
        for line, values in enumerate(several, start=1):
            digest.update(json.dumps(values, ensure_ascii=False, default=str).encode() + b"\n")
            if not isinstance(values, Mapping):
                faults.add(bad_record(place, line, None, "a dict", repr(values)))
                continue
            held_out = split in tests and len(tests) < len(splits)
            table.append(Row(place, line, dict(values), held_out))
    return RawTable(name, tuple(table), {name: digest.hexdigest()})


def _read_file(path: Path, faults: Faults) -> Iterator[Row]:
    reader = _reader(path)
    if reader is None:
        raise BadInput(
            f"{path}: expected a data file ({_known()}), found {path.suffix or path.name!r}"
        )
    before = len(faults.found)
    empty = True
    try:
        with _open(path) as handle:
            refuse_pointer(path)
            for row in reader(str(path), handle, faults):
                empty = False
                yield row
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise bad_record(path, None, None, "a complete gzip file", str(error)) from None
    if empty and len(faults.found) == before:
        raise bad_record(path, None, None, "at least one record", "an empty file")


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _jsonl(file: str, handle: IO[bytes], faults: Faults) -> Iterator[Row]:
    for line, raw in enumerate(handle, start=1):
        try:
            # Concatenated files have a byte order mark in their middle.
            text = _decode(raw, file, line).removeprefix("\ufeff")
            if not text.strip():
                continue
            value = parse_json(text.rstrip("\r\n"))
        except (ValueError, RecursionError) as error:
            faults.add(broken_json(file, error, line))
        except BadInput as error:
            faults.add(error)
        else:
            if isinstance(value, dict):
                yield Row(file, line, value)
            else:
                faults.add(bad_record(file, line, None, "an object", repr(value)))


def _json(file: str, handle: IO[bytes], faults: Faults) -> Iterator[Row]:
    content = handle.read()
    try:
        text = _decode(content, file, 1)
    except BadInput as error:
        faults.add(error)
        return
    rows = json_rows(file, text, faults.add)
    # Many published .json files hold one object per line.
    yield from rows if rows is not None else _jsonl(file, io.BytesIO(content), faults)


def _parquet(file: str, handle: IO[bytes], faults: Faults) -> Iterator[Row]:
    content = io.BytesIO(handle.read())
    if not content.getbuffer().nbytes:
        return
    yield from _batches(file, lambda: pq.ParquetFile(content).iter_batches(), "Parquet", faults)


def _arrow(file: str, handle: IO[bytes], faults: Faults) -> Iterator[Row]:
    """Read an Arrow stream, as `save_to_disk` of the datasets package writes it, or a file."""
    content = handle.read()
    if content.startswith(b"ARROW1"):
        whole = pa.ipc.open_file
        yield from _batches(file, lambda: _parts(whole(content)), "an Arrow file", faults)
        return
    yield from _batches(file, lambda: pa.ipc.open_stream(content), "an Arrow stream", faults)


def _parts(source: Any) -> Iterator[pa.RecordBatch]:
    return (source.get_batch(n) for n in range(source.num_record_batches))


def _batches(
    file: str, batches: Callable[[], Iterable[pa.RecordBatch]], expected: str, faults: Faults
) -> Iterator[Row]:
    line = 0
    try:
        for batch in batches():
            for values in batch.to_pylist():
                line += 1
                yield Row(file, line, values)
    except (ArrowException, OSError, ValueError) as error:  # raised by pyarrow for damaged files
        found = (str(error).splitlines() or [type(error).__name__])[0]
        faults.add(bad_record(file, line + 1, None, expected, found))


def _sheet(file: str, handle: IO[bytes], faults: Faults) -> Iterator[Row]:
    for line, values in sheet_rows(Path(file)):
        yield Row(file, line, values)


def _separated(delimiter: str) -> Callable[[str, IO[bytes], Faults], Iterator[Row]]:
    def read(file: str, handle: IO[bytes], faults: Faults) -> Iterator[Row]:
        lines = (_decode(raw, file, line) for line, raw in enumerate(handle, start=1))
        start = 1
        try:
            header, records = csv_reader(lines, delimiter)
            for start, cells in records:
                if len(cells) == len(header):
                    yield Row(file, start, dict(zip(header, cells, strict=True)))
                else:
                    expected = f"{len(header)} fields ({listed(header)})"
                    faults.add(bad_record(file, start, None, expected, f"{len(cells)} fields"))
        except csv.Error as error:
            faults.add(bad_record(file, start, None, "CSV", str(error)))
        except BadInput as error:  # text that is not UTF-8 ends the reading of this file
            faults.add(error)

    return read


_quoted_tsv = _separated("\t")


def _tsv(file: str, handle: IO[bytes], faults: Faults) -> Iterator[Row]:
    """Read tab-separated rows, quoted as in CSV, or unquoted where quoting does not fit.

    A sentence that opens with a quotation mark looks like a quoted field; files of sentences (WMT)
    are unquoted. If every line has all fields, no quoted field spans several lines.
    """
    content, quoted_faults = handle.read(), Faults(stop=False)
    rows = list(_quoted_tsv(file, io.BytesIO(content), quoted_faults))
    plain = _plain_tsv(file, content)
    # A file of one column has no tabs to tell a text of two lines from two texts.
    merged = len(rows) < len(plain) and len(plain[0].values) > 1
    if plain and (quoted_faults.found or merged):
        yield from plain
        return
    yield from rows
    for error in quoted_faults.found:
        faults.add(error)


def _plain_tsv(file: str, content: bytes) -> list[Row]:
    """Read rows without quoting; empty if lines differ in length or are not UTF-8."""
    try:
        lines = content.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError:
        return []
    filled = [(n, line.split("\t")) for n, line in enumerate(lines, start=1) if line]
    header = [name.strip() for name in filled[0][1]] if filled else []
    if any(len(cells) != len(header) for _, cells in filled):
        return []
    return [Row(file, n, dict(zip(header, cells, strict=True))) for n, cells in filled[1:]]


_READERS: dict[str, Callable[[str, IO[bytes], Faults], Iterator[Row]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".csv": _separated(","),
    ".tsv": _tsv,
    ".xlsx": _sheet,
}


def _reader(path: Path) -> Callable[[str, IO[bytes], Faults], Iterator[Row]] | None:
    return _READERS.get(Path(path.name.removesuffix(".gz")).suffix.lower())


def _is_data(path: Path) -> bool:
    """Return true for a file of records, false for metadata and caches of a data set."""
    if _reader(path) is None or path.name in _DESCRIPTIONS:
        return False
    # The datasets package caches intermediate results in the folder of `save_to_disk`.
    return path.suffix != ".arrow" or not path.name.startswith("cache-")


def _known() -> str:
    return ", ".join(_READERS) + ", each also with .gz"


def _decode(raw: bytes, file: str, line: int) -> str:
    """Decode UTF-8 without its byte order mark; the error names the line of the bad byte."""
    try:
        return raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        at = line + raw.count(b"\n", 0, error.start)
        found = f"byte 0x{raw[error.start]:02x}"
        raise bad_record(file, at, None, "UTF-8 text", found) from None


def _refuse(hub: HubChoice | None, path: str) -> None:
    if hub not in (None, HubChoice()):
        raise BadInput(f"{path}: hub_split, hub_config and hub_revision are for hub ids, not files")


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
