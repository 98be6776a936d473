"""Layouts of rows: recognition by columns, and conversion of rows to records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from alignlab.configs import build
from alignlab.data.build_records import BuildResult, Kept, held_out, with_changes
from alignlab.data.hub import HubChoice
from alignlab.data.json_rows import is_test_name
from alignlab.data.options import Options, ReadOptions, split_rest
from alignlab.data.pair_columns import pair_columns
from alignlab.data.read import Faults, RawTable, read_table
from alignlab.data.remarks import remarks_on
from alignlab.data.rows import Row, is_nothing, listed
from alignlab.data.split_dedupe import STAGE, distinct_prompts, of_kind, prompt_of, split_dedupe
from alignlab.data.templated import IN_WORDS, ends_in_template_words, template_mark, texts_of
from alignlab.data.unread import UnreadFields
from alignlab.errors import BadInput, bad_record
from alignlab.registry import get, names, register
from alignlab.types import (
    Corpus,
    Count,
    CritiquedResponse,
    Demonstration,
    PreferenceGroup,
    Prompt,
    UnpairedPreference,
)

O = TypeVar("O", bound=ReadOptions)  # noqa: E741 - the options of a format
SPLIT = "split"
"""Column whose value may name the part of the data that a row belongs to."""
LABELS = ("label", "feedback")
"""Columns that make another record of a prompt and its answer."""
RecordOf = Callable[[Row, Any], list[BuildResult]]
CorpusOf = Callable[["Format", RawTable, Any, Faults], Corpus]


@dataclass(frozen=True)
class Format:
    """Layout of data; a call with `PATH?option=value` reads a corpus."""

    name: str
    doc: str
    """Description, one sentence."""
    columns: tuple[frozenset[str], ...]
    """Column sets, any of which identifies the layout."""
    options: type[ReadOptions]
    corpus: CorpusOf
    looks: Callable[[Row], bool] | None = None
    """Test of a row's values, for layouts that share columns with another."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.doc)  # shown by `alignlab list data`

    def __call__(self, rest: str) -> Corpus:
        """Read the corpus of `PATH?option=value`.

        Raises:
            BadInput: an option is unknown, or a record is bad and `bad=drop` is not set.
        """
        return self.read(rest)

    def read(self, rest: str, faults: Faults | None = None) -> Corpus:
        """Read the corpus of `PATH?option=value`; bad records go to `faults` if given."""
        path, raw = split_rest(rest)
        options = build(self.options, raw)
        faults = faults or faults_of(raw)
        return self.corpus(self, read_table(path, faults, hub_choice(raw)), options, faults)

    def from_table(self, table: RawTable, raw: Mapping[str, Any], faults: Faults) -> Corpus:
        """Build the corpus of a table."""
        return self.corpus(self, table, build(self.options, raw), faults)

    def match(self, row: Row) -> float:
        """Return the number of matching columns of a row, plus 0.5 if its values match too.

        0 if the row has another layout.
        """
        matched = max((len(c) for c in self.columns if c <= row.values.keys()), default=0)
        if matched and self.looks is not None:
            return matched + 0.5 if self.looks(row) else 0
        return matched


def row_format(
    name: str,
    *,
    columns: Iterable[Iterable[str]],
    options: type[Options] = Options,
    looks: Callable[[Row], bool] | None = None,
) -> Callable[[RecordOf], Format]:
    """Register a layout of independent rows; the decorated function builds a row's records."""

    def wrap(record: RecordOf) -> Format:
        def corpus(self: Format, table: RawTable, chosen: Options, faults: Faults) -> Corpus:
            return _collect(self.name, record, table, chosen, faults)

        sets = tuple(frozenset(c) for c in columns)
        doc = (record.__doc__ or "").strip().splitlines()[0]
        return register("data", name)(Format(name, doc, sets, options, corpus, looks))

    return wrap


def detect(table: RawTable) -> Format:
    """Detect the layout of a table by the best match of its first row.

    A label or feedback in words that only later rows hold counts as a column of the first.

    Raises:
        BadInput: no layout fits, several fit equally well, or a pair of answers stands under names
            that the layout does not read.
    """
    first = table.rows[0]
    late = {n for row in table.rows for n in LABELS if not is_nothing(row.values.get(n))}
    missing = dict.fromkeys(late - first.values.keys())
    first = replace(first, values={**first.values, **missing})
    known = [part for part in (get("data", n) for n in names("data")) if isinstance(part, Format)]
    best = max(known, key=lambda each: each.match(first))
    fits = [each for each in known if each.match(first) == best.match(first)]
    # A blank around a name is not seen unless it is quoted.
    shown = [name if name == str(name).strip() else repr(name) for name in first.values]
    columns, layouts = listed(shown), listed(each.name for each in known)
    pair = pair_columns(first, frozenset().union(*best.columns) if best.match(first) else ())
    if pair is not None:
        raise bad_record(
            first.file, first.line, pair.better,
            "a pair of answers in columns named chosen and rejected (NAME:PATH names a layout that "
            "reads no such columns)", f"{pair.better} and {pair.worse}",
        )  # fmt: skip
    if best.match(first) == 0:
        raise BadInput(
            f"{first.file}, line {first.line}: expected the columns of a known layout, found "
            f"{columns}; name the layout as NAME:PATH, in Python as format=NAME "
            f"(known: {layouts})"
        )
    if len(fits) > 1:
        choices = " or ".join(f"{each.name}:{table.path}" for each in fits)
        raise BadInput(f"{first.file}: the columns {columns} fit several layouts; write {choices}")
    return best


def faults_of(raw: Mapping[str, Any]) -> Faults:
    """Create the collector of bad records that the option `bad` selects."""
    return Faults(stop=raw.get("bad", "stop") != "drop")


def hub_choice(raw: Mapping[str, Any]) -> HubChoice:
    """Return the options of a hub data set (`hub_split`, `hub_config`, `hub_revision`)."""
    keys = [f.name for f in fields(HubChoice) if f"hub_{f.name}" in raw]
    return HubChoice(**{key: str(raw[f"hub_{key}"]) for key in keys})


def table_counts(table: RawTable) -> tuple[Count, ...]:
    """Return the counts of unread fields, and of files if a folder held other files."""
    reasons = {"not a data file": len(table.ignored), "not named in README.md": len(table.unnamed)}
    dropped = {reason: number for reason, number in reasons.items() if number}
    if not dropped:
        return table.counts
    return (Count(STAGE, "files", len(table.files), dropped), *table.counts)


def _test_splits(rows: Sequence[Row]) -> frozenset[str]:
    """Return the values of a column `split` that name test data; empty where all or none do."""
    values = {value for row in rows if isinstance(value := row.values.get(SPLIT), str)}
    tests = frozenset(filter(is_test_name, values))
    return tests if tests != values else frozenset()


def _collect(
    name: str, record: RecordOf, table: RawTable, options: Options, faults: Faults
) -> Corpus:
    results: list[BuildResult] = []
    unread = UnreadFields(table.rows, options.ignore)
    tests = _test_splits(table.rows) if SPLIT not in unread.ignored else frozenset()
    for plain in table.rows:
        row = unread.watched(plain)
        if tests and row.get(SPLIT) in tests:
            row = replace(row, held_out=True)
        try:
            items = [_checked(item, row) for item in record(row, options)]
            if any(isinstance(item, Kept) for item in items):
                unread.account(row)
        except BadInput as error:
            faults.add(error)
            continue
        results += [placed(item, row, options) for item in items]
    unread.refuse_idle()
    return corpus_of(name, results, replace(table, counts=unread.counts), options, faults)


def _checked(item: BuildResult, row: Row) -> BuildResult:
    """Refuse a record whose texts contain a rendered chat template.

    Raises:
        BadInput: a text opens or ends with a template's token.
    """
    if not isinstance(item, Kept):
        return item
    for mark in filter(None, map(template_mark, texts_of(item.record))):
        at = next((name for name, value in row.values.items() if mark in str(value)), None)
        expected = "text to put into a chat template, not text that is in one already"
        raise bad_record(row.file, row.line, at, expected, mark)
    worded = [IN_WORDS] if ends_in_template_words(prompt_of(item.record)) else []
    return with_changes(item, *worded, *remarks_on(item.record))


def corpus_of(
    name: str, results: Sequence[BuildResult], table: RawTable, options: Options, faults: Faults
) -> Corpus:
    """Build the corpus of records after `placed`."""
    split = split_dedupe("records", results, limit=options.limit, bad=len(faults.found))
    return Corpus(
        name=name,
        demonstrations=of_kind(split.train, Demonstration),
        groups=of_kind(split.train, PreferenceGroup),
        prompts=of_kind(split.train, Prompt),
        labelled=of_kind(split.train, UnpairedPreference),
        commented=of_kind(split.train, CritiquedResponse),
        test_prompts=distinct_prompts(split.test),
        test_groups=of_kind(split.test, PreferenceGroup),
        counts=(*table_counts(table), split.count),
        files=table.files,
    )


def placed(item: BuildResult, row: Row, options: Options) -> BuildResult:
    """Mark a record as held out if its row or its prompt is."""
    if not isinstance(item, Kept):
        return item
    return held_out(item, row.held_out or options.holds_out(prompt_of(item.record).id))
