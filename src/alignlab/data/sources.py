"""Load a corpus by spec: `load("oasst:PATH?english=true")`, `load("PATH")`, `load("sandbox")`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from alignlab.data.formats import Format, detect, faults_of, hub_choice
from alignlab.data.options import split_rest
from alignlab.data.read import Faults, read_table, rows_table
from alignlab.errors import BadInput, unknown_name
from alignlab.registry import get, names
from alignlab.types import Corpus

_NAMED = re.compile(r"([a-z][a-z0-9_]+):(.*)", re.DOTALL)


def load(spec: str) -> Corpus:
    """Load data by spec: `FORMAT:PATH`, a `PATH` whose layout is detected, or a source's name.

    PATH is a file (.jsonl, .json, .parquet, .csv, .tsv, each also .gz), a folder, or a hub id;
    options follow as `?key=value&key=value`.

    Raises:
        BadInput: the path does not exist, the layout is unknown, or a record is bad.
    """
    return read_spec(spec, None)


def load_rows(
    rows: Iterable[Any], name: str = "rows", *, layout: str = "", **options: Any
) -> Corpus:
    """Load records from memory: dicts, a `datasets.Dataset` or a `DatasetDict`.

    Args:
        rows: the records; splits named as test data are held out.
        name: name of the records in error messages and the manifest.
        layout: name of the layout; detected by the columns if left out.
        options: options of the layout, such as `test_share=0.1`.

    Raises:
        BadInput: there are no rows, the layout or an option is unknown, or a record is bad.
    """
    faults = faults_of(options)
    table = rows_table(rows, name, faults)
    if not table.rows:
        raise BadInput(f"{name}: expected at least one record, found none")
    chosen = get("data", layout) if layout else detect(table)
    if not isinstance(chosen, Format):
        raise BadInput(f"{layout}: expected a layout of rows, found a source of its own")
    return chosen.from_table(table, options, faults)


def read_spec(spec: str, faults: Faults | None) -> Corpus:
    """Load data by spec; bad records go to `faults` if given."""
    source, rest = find_source(spec)
    if isinstance(source, Format):
        return source.read(rest, faults)
    if source is not None:
        corpus = source(rest)
        if not isinstance(corpus, Corpus):
            raise TypeError(f"data source {spec!r} gave {type(corpus).__name__}, not a Corpus")
        return corpus
    path, raw = split_rest(rest)
    faults = faults or faults_of(raw)
    table = read_table(path, faults, hub_choice(raw))
    if not table.rows:
        raise BadInput(f"{path}: expected at least one readable record, found none")
    return detect(table).from_table(table, raw, faults)


def find_source(spec: str) -> tuple[Any, str]:
    """Split a spec into its registered source (None for a bare path) and the rest."""
    head, mark, options = spec.partition("?")
    known = names("data")
    if head in known and not isinstance(get("data", head), Format):
        return get("data", head), mark + options
    if Path(head).expanduser().exists():
        return None, spec
    named = _NAMED.fullmatch(spec)
    if named is None:
        return None, spec
    if named[1] not in known:
        raise unknown_name("data format", named[1], known)
    return get("data", named[1]), named[2]
