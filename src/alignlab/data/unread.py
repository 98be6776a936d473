"""Account for fields that a layout does not read: refused if they change training, else counted."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from alignlab.data.read import RawTable
from alignlab.data.rows import Reading, Row, Unread, listed
from alignlab.errors import BadInput, bad_record
from alignlab.types import Count

log = logging.getLogger(__name__)

STAGE = "data"
_ANYWHERE = re.compile(
    "tool_calls|function_call|tools|functions|images?|videos?|audios?|loss_mask|kto_tag"
)
_IN_TURNS = re.compile(
    "reasoning_content|reasoning|thinking|thought|weight|loss|train|training|trainable|"
    "loss_weight|train_on_turn|train_turn|train_detail|mask(ed)?|prefix|tool_call_id"
)
_ANSWERS = re.compile(
    "completions?|responses?|outputs?|answers|generations|candidates|"
    "(completion|response|output|answer|generation|candidate)[_ -]?([ab12]|left|right)",
    re.IGNORECASE,
)
_CHOICE = re.compile("(is_)?(chosen|preferred|accepted|selected|desirable)|thumbs_up")
"""Names of marks that say of the row's answer that it is a good one."""
_WEIGHT = re.compile("((sample|example|loss|row)_)?weight")
_CONTEXT = re.compile(
    "sys(tem)?([ _-]?(prompt|message|instructions?|msg))?|history|context|instructions",
    re.IGNORECASE,
)
"""Names of texts that stand before a prompt."""
_OF_A_SIDE = re.compile(r"(chosen|rejected|accepted)([_ -].*)?|.*[_ -](chosen|rejected)", re.DOTALL)
_ABOUT_A_TEXT = re.compile(
    r".*[_ -](models?|source|generator|policy|by|ids?|uuid|hash|names?|scores?|ratings?|avg[_-].*|"
    r"rewards?|rank|length|tokens|reasons?|rationale|critique|feedback|labels?|type|lang\w*)",
    re.DOTALL,
)


class UnreadFields:
    """Tracker of the fields of a table that were not read.

    Args:
        rows: all rows of the table.
        ignored: names of fields to leave unread, separated by commas.
    """

    def __init__(self, rows: Sequence[Row], ignored: str = "") -> None:
        self.ignored = frozenset(filter(None, map(str.strip, ignored.split(","))))
        self.columns = frozenset(name for row in rows for name in row.values)
        self.memory: dict[Any, Any] = {}
        self.numbers: Counter[str] = Counter()
        self.met = self.ignored & self.columns
        self.rows = 0

    def watched(self, row: Row) -> Row:
        """Return a copy of the row that logs the fields read."""
        return replace(row, reading=Reading(self.columns, self.ignored, self.memory))

    def watched_table(self, table: RawTable) -> RawTable:
        """Return a copy of the table whose rows log the fields read."""
        return replace(table, rows=tuple(map(self.watched, table.rows)))

    def counted(self, table: RawTable) -> RawTable:
        """Count the unread fields of all rows, without refusing any, and add the counts."""
        for row in table.rows:
            self.account(row, refuse=False)
        return replace(table, counts=self.counts)

    def account(self, row: Row, *, refuse: bool = True) -> None:
        """Count the unread fields of a row.

        Raises:
            BadInput: an unread field changes the meaning of the record, and `refuse` is set.
        """
        assert row.reading is not None
        unread = list(row.reading.unread())
        for each in unread if refuse else ():
            if each.name not in self.ignored and _changes_meaning(each):
                raise _refusal(row, each)
        self.rows += 1
        self.met |= self.ignored & {str(each.name) for each in unread}
        for label, ignored in {(_label(each), each.name in self.ignored) for each in unread}:
            self.numbers[f"field {label} {'ignored' if ignored else 'not read'}"] += 1

    def refuse_idle(self) -> None:
        """Refuse names to ignore of which the data holds none; log those that it lacks of several.

        Raises:
            BadInput: the option `ignore` has no effect.
        """
        lacking = sorted(self.ignored - self.met)
        if not lacking or not self.rows:
            return
        if not self.met:
            have = listed(sorted(self.columns))
            raise BadInput(f"setting ignore: no record has {listed(lacking)} (fields: {have})")
        log.warning("ignore: no record has %s", listed(lacking))

    @property
    def counts(self) -> tuple[Count, ...]:
        """Count of rows per unread field; empty if all fields were read."""
        if not self.numbers:
            return ()
        return (Count(STAGE, "rows", self.rows, {}, dict(sorted(self.numbers.items()))),)


def _refusal(row: Row, unread: Unread) -> BadInput:
    expected = f"no such field, which this layout cannot use (?ignore={unread.name} leaves it out)"
    return bad_record(
        row.file, row.line, f"{unread.within}{unread.name}", expected, repr(unread.value)
    )


def _label(unread: Unread) -> str:
    """Format the name of a field with its innermost enclosing list or object."""
    inner = re.sub(r"\[\d+\]", "[]", unread.within).rstrip(".").rpartition(".")[2]
    return repr(" ".join(f"{inner}.{unread.name}".lstrip(".").split()))


def _changes_meaning(unread: Unread) -> bool:
    name = str(unread.name)
    if _CHOICE.fullmatch(name) and unread.value in (False, 0, "false", "False", "0"):
        return True
    if unread.value is False and name not in ("label", "kto_tag"):
        return False
    if _ANYWHERE.fullmatch(name):
        return True
    if unread.is_turn:
        return _IN_TURNS.fullmatch(name) is not None
    if unread.within:
        return False
    if name == "label":
        return unread.value in (True, False, "true", "false", "True", "False")
    if _WEIGHT.fullmatch(name):
        return unread.value in (0, "0", "0.0")
    if not isinstance(unread.value, str | list | dict):
        return False
    if _CONTEXT.fullmatch(name):
        return True
    if _ANSWERS.fullmatch(name):
        return True
    return bool(_OF_A_SIDE.fullmatch(name)) and not _ABOUT_A_TEXT.fullmatch(name)
