"""Load data from a path, a spec, rows or a `datasets.Dataset`; check and convert files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from alignlab.api.inputs import MEMORY, DataLike, data_spec, load_memory
from alignlab.api.results import Result, Text
from alignlab.errors import BadInput

if TYPE_CHECKING:
    from alignlab.types import Corpus

_KINDS = {
    "demonstrations": "prompt_completion",
    "groups": "groups",
    "labelled": "unpaired",
    "commented": "commented",
    "prompts": "prompts",
}
"""Field of a corpus -> layout of its rows."""


class Data(Result):
    """Records read from data and split, with counts of records used, changed and dropped.

    Its rows have TRL's columns and `split`, "train" or "test".
    """

    def __init__(self, spec: str, corpus: Corpus, bad_records: tuple[str, ...]) -> None:
        super().__init__(_rows(corpus), spec)
        self.spec = spec
        """Spec from which commands read the records."""
        self.corpus = corpus
        """Typed records."""
        self.bad_records = bad_records
        """One line per record dropped as bad: file, line, field, expected, found."""

    @property
    def counts(self) -> Result:
        """Numbers of records used, changed and dropped, with reasons."""
        from alignlab.records import to_dict

        return Result([to_dict(count) for count in self.corpus.counts], "records")

    def __str__(self) -> str:
        return f"{self.spec}: {len(self.rows)} records, {len(self.bad_records)} bad ones left out"

    def _note_html(self) -> str:
        return self.counts._repr_html_()


def load_data(data: DataLike, *, format: str = "", **options: Any) -> Data:
    """Load data and validate every record.

    Args:
        data: PATH, FORMAT:PATH, hub id, rows (dicts of TRL's columns), a `datasets.Dataset`, or a
            mapping of parts such as {"train": ..., "test": ...}.
        format: layout from `alignlab list data`; empty detects it from the columns.
        options: of the source: test_share=0.1 (share of the prompts held out), limit=1000,
            bad="drop" (count bad records instead of refusing the data), seed=0.

    Raises:
        BadInput: no data at the path, an unknown layout, or a bad record.
    """
    from alignlab.data.read import Faults
    from alignlab.data.sources import read_spec

    spec = data_spec(data)
    in_memory = spec.startswith(f"{MEMORY}?")
    if format:
        options, spec = (
            (options | {"format": format}, spec)
            if in_memory
            else (
                options,
                f"{format}:{spec}",
            )
        )
    if options:
        mark = "&" if "?" in spec else "?"
        given = (f"{key}={quote(str(value), safe='[],:/')}" for key, value in options.items())
        spec = f"{spec}{mark}{'&'.join(given)}"
    faults = Faults(stop=False)
    rest = spec.removeprefix(MEMORY)
    drops = "bad=drop" in spec.partition("?")[2].split("&")
    try:
        corpus = load_memory(rest, faults) if in_memory else read_spec(spec, faults)
    except BadInput as error:
        # A file of which nothing can be read: the first fault is the reason.
        raise (error if drops or not faults.found else faults.found[0]) from None
    if faults.found and not drops:
        more = len(faults.found) - 1
        also = f"; {more} more bad records (bad='drop' leaves them out)" if more else ""
        raise BadInput(f"{faults.found[0]}{also}")
    return Data(spec, corpus, tuple(map(str, faults.found)))


def check_data(spec: str) -> Text:
    """List every bad record of a data file, and describe the good ones.

    Args:
        spec: PATH, FORMAT:PATH, or sandbox.
    """
    from alignlab.data.check import check
    from alignlab.records import to_dict

    found = check(spec)
    rows = [{"records": kind, "n": n} for kind, n in to_dict(found)["records"].items()]
    return Text(found, rows, spec)


def convert_data(source: str, out: str | Path, *, to: str = "groups") -> Text:
    """Convert data between formats.

    Args:
        source: PATH or FORMAT:PATH.
        out: file to write: .jsonl, .jsonl.gz or .parquet.
        to: columns to write: groups, preference, messages, prompt_completion, unpaired,
            commented or prompts.
    """
    from alignlab.data.convert import convert
    from alignlab.records import to_dict

    converted = convert(source, Path(out), to=to)
    return Text(converted, [to_dict(converted)], converted.path)


def _rows(corpus: Corpus) -> list[dict[str, Any]]:
    from alignlab.data.writers import WRITERS

    rows: list[dict[str, Any]] = []
    grouped = {group.prompt.id for group in corpus.test_groups}
    held_out = tuple(p for p in corpus.test_prompts if p.id not in grouped)
    corpus = replace(corpus, test_prompts=held_out)
    nothing: dict[str, Any] = dict.fromkeys((*_KINDS, "test_groups", "test_prompts"), ())
    for kind, layout in _KINDS.items():
        for split, held in (("train", kind), ("test", f"test_{kind}")):
            records = getattr(corpus, held, ())
            if records:
                part = replace(corpus, **{**nothing, kind: records})
                made = WRITERS[layout](part, "best_worst").rows
                rows += [{**row, "split": split} for row in made]
    return rows
