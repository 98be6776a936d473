"""Convert any data source to a common layout, in JSONL or Parquet (`alignlab data convert`)."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from alignlab.data.formats import Format
from alignlab.data.options import split_rest
from alignlab.data.sources import find_source, load
from alignlab.data.split_dedupe import STAGE
from alignlab.data.writers import PAIRS, WRITERS, Pairs, Written
from alignlab.errors import BadInput, unknown_name
from alignlab.files import make_folder
from alignlab.types import Corpus, Count

Part = Literal["train", "test"]


@dataclass(frozen=True)
class Converted:
    """Summary of a conversion."""

    path: str
    to: str
    rows: int
    count: Count
    unread: Count | None = None
    """Count of unread fields of the source; None if all were read."""

    def __str__(self) -> str:
        unread = self.unread.changed if self.unread else {}
        numbers = (self.count.dropped, self.count.changed, unread)
        account = [f"{why} {n}" for reasons in numbers for why, n in reasons.items()]
        more = f" ({'; '.join(account)})" if account else ""
        return f"{self.path}: {self.rows} rows as {self.to}{more}"


def convert(
    spec: str,
    out_path: str | Path,
    *,
    to: str,
    part: Part = "train",
    pairs: Pairs | None = None,
) -> Converted:
    """Convert a data source to a layout and write it atomically.

    Args:
        spec: spec of the source.
        out_path: file ending in .jsonl, .jsonl.gz or .parquet.
        to: groups, preference, messages, prompt_completion, unpaired, commented or prompts.
        part: "train" or "test", the held-out side.
        pairs: pairs of each group, for `preference` alone: "best_worst" (default) or "all" pairs
            of different scores.

    Raises:
        BadInput: the source is bad or would be overwritten, the layout or the file type is
            unknown, or the source has no record that the layout can hold.
    """
    if to not in WRITERS:
        raise unknown_name("layout to write", to, WRITERS)
    if pairs is not None and (to != "preference" or pairs not in PAIRS):
        raise BadInput(f"pairs={pairs}: expected {' or '.join(PAIRS)}, for to=preference alone")
    path = Path(out_path)
    writer_of(path)
    _refuse_source(spec, path)
    corpus = _part(load(spec), part)
    written = WRITERS[to](corpus, pairs or "best_worst")
    if not written.rows:
        reasons = ", ".join(f"{why} {n}" for why, n in written.dropped.items()) or "no records"
        raise BadInput(f"{spec}: expected records to write as {to}, found none ({reasons})")
    write_rows(path, written)
    count = Count(STAGE, f"{to} rows", len(written.rows), written.dropped, written.changed)
    unread = next((each for each in corpus.counts if each.what == "rows"), None)
    return Converted(str(path), to, len(written.rows), count, unread)


def write_rows(path: Path, written: Written) -> None:
    """Write rows atomically to a .jsonl, .jsonl.gz or .parquet file.

    Raises:
        BadInput: the file has another ending.
    """
    write = writer_of(path)
    make_folder(path.parent)
    unfinished = path.with_name(path.name + ".part")
    write(unfinished, written)
    os.replace(unfinished, path)


def _refuse_source(spec: str, path: Path) -> None:
    """Refuse to write over the source, or over a file of the folder that is the source."""
    named, rest = find_source(spec)
    if named is not None and not isinstance(named, Format):
        return  # data made from settings: no file
    source, out = Path(split_rest(rest)[0]).expanduser().resolve(), path.resolve()
    if out.exists() and (out == source or source in out.parents):
        raise BadInput(f"{path}: expected a new file, found the source, which it would replace")


def _part(corpus: Corpus, part: Part) -> Corpus:
    if part == "train":
        return corpus
    if part != "test":
        raise BadInput(f"part={part}: expected train or test")
    return replace(
        corpus,
        demonstrations=(),
        labelled=(),
        commented=(),
        groups=corpus.test_groups,
        prompts=corpus.test_prompts,
    )


def writer_of(path: Path) -> Callable[[Path, Written], None]:
    """Return the writer of a file by its ending.

    Raises:
        BadInput: the ending is unknown.
    """
    kinds: Mapping[str, Callable[[Path, Written], None]] = {
        ".jsonl": _write_jsonl,
        ".jsonl.gz": _write_jsonl_gz,
        ".parquet": _write_parquet,
    }
    for ending, write in kinds.items():
        if path.name.endswith(ending):
            return write
    raise BadInput(f"{path}: expected a file name ending in {', '.join(kinds)}")


def _write_jsonl(path: Path, written: Written) -> None:
    path.write_bytes(_jsonl(written))


def _write_jsonl_gz(path: Path, written: Written) -> None:
    path.write_bytes(gzip.compress(_jsonl(written), mtime=0))  # reproducible bytes


def _jsonl(written: Written) -> bytes:
    lines = (json.dumps(_without_nulls(row), ensure_ascii=False) for row in written.rows)
    return "".join(line + "\n" for line in lines).encode()


def _write_parquet(path: Path, written: Written) -> None:
    # Columns are taken from the first row, so every row needs them all.
    columns = dict.fromkeys(key for row in written.rows for key in row)
    rows = [{key: row.get(key) for key in columns} for row in written.rows]
    table = pa.Table.from_pylist(rows)
    empty = [name for name in table.column_names if pa.types.is_null(table.schema.field(name).type)]
    pq.write_table(table.drop_columns(empty), path)


def _without_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value is not None}
