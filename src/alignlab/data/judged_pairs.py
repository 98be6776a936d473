"""Layouts of pairs of answers with human votes, as preference groups.

A vote is 1 if the first answer is better, 0 if the second is, 0.5 for a tie. The majority's choice
scores 1 and the other answer 0; a tie or no majority scores both 0.5.

Layouts: LLMBar (arXiv 2310.07641), whose authors also processed the human-labelled pairs of
FairEval, LLMEval2 and MT-Bench; Auto-J's test (arXiv 2310.05470); PandaLM's test (arXiv
2306.05087); JudgeBench (arXiv 2410.12784), with objective labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from alignlab.data.build_records import (
    UNKNOWN_WRITER,
    BuildResult,
    Origin,
    ResponseDraft,
    group,
    origin_of,
    user,
    with_changes,
)
from alignlab.data.conversations import instruction_of
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.read import Faults, read_table
from alignlab.data.rows import Row

FIRST, TIE, SECOND = 1.0, 0.5, 0.0
NOT_TEXT = "truth value written as text"
ANNOTATORS = ("annotator1", "annotator2", "annotator3")
"""Fields of PandaLM that hold votes."""
JUDGEBENCH = {"A>B": FIRST, "B>A": SECOND, "A=B": TIE}
JUDGEBENCH_PARTS = ("mmlu-pro", "livebench-reasoning", "livebench-math", "livecodebench")
"""Parts of JudgeBench: knowledge, reasoning, mathematics, coding."""


@dataclass(frozen=True)
class JudgedPair:
    """Pair of answers with its votes."""

    prompt: str
    first: ResponseDraft
    second: ResponseDraft
    votes: tuple[float, ...]
    """One vote per annotator, in the data's order of annotators."""
    origin: Origin
    changed: tuple[str, ...] = ()

    @property
    def majority(self) -> float:
        """Most frequent vote; `TIE` if no vote leads."""
        (vote, number), *others = Counter(self.votes).most_common(2)
        return TIE if others and others[0][1] == number else vote


def judged_pair_group(pair: JudgedPair) -> list[BuildResult]:
    """Build the preference group of a pair."""
    answers = [
        replace(pair.first, score=pair.majority),
        replace(pair.second, score=1 - pair.majority),
    ]
    if pair.first.text == pair.second.text:
        answers = answers[:1]  # counted as a pair of equal answers, not as a mended group
    return [with_changes(group(user(pair.prompt), answers, pair.origin), *pair.changed)]


def read_judged_pairs(path: str, compared: Callable[[Row], JudgedPair]) -> list[JudgedPair]:
    """Read every row of a file as a pair with all votes, without merging or dropping.

    Raises:
        BadInput: the file is missing, or a record is bad.
    """
    return [compared(row) for row in read_table(path, Faults(stop=True)).rows]


def text_or_truth(row: Row, field: str) -> tuple[str, tuple[str, ...]]:
    """Read a text that a JSON writer may have turned into true or false.

    Returns the text and the repairs, empty or `NOT_TEXT`.
    """
    value = row.get(field)
    if isinstance(value, bool):
        return str(value), (NOT_TEXT,)
    return row.text(field), ()


@row_format("llmbar", columns=[("input", "output_1", "output_2", "label")])
def llmbar(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of answers of which one follows the instruction; the file's name is their family."""
    return judged_pair_group(llmbar_pair(row))


def llmbar_pair(row: Row) -> JudgedPair:
    """Read one row of LLMBar; the label is 1 or 2, without ties."""
    return JudgedPair(
        prompt=row.text("input"),
        first=ResponseDraft(row.text("output_1")),
        second=ResponseDraft(row.text("output_2")),
        votes=((FIRST, SECOND)[row.whole("label", range(1, 3)) - 1],),
        origin=Origin(f"llmbar/{Path(row.file).name.split('.')[0]}"),
    )


@row_format("autoj", columns=[("prompt", "response 1", "response 2", "label")])
def autoj(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of answers by scenario, ties included."""
    return judged_pair_group(autoj_pair(row))


def autoj_pair(row: Row) -> JudgedPair:
    """Read one row of Auto-J; the label is 0 (first better), 1 (second better) or 2 (tie)."""
    return JudgedPair(
        prompt=row.text("prompt"),
        first=ResponseDraft(row.text("response 1")),
        second=ResponseDraft(row.text("response 2")),
        votes=((FIRST, SECOND, TIE)[row.whole("label", range(3))],),
        origin=Origin(f"autoj/{row.optional_text('scenario') or 'unknown'}"),
    )


@row_format("pandalm", columns=[("instruction", "response1", "response2", *ANNOTATORS)])
def pandalm(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of models' answers in the order of the annotators' majority, ties included."""
    return judged_pair_group(pandalm_pair(row))


def pandalm_pair(row: Row) -> JudgedPair:
    """Read one row of PandaLM with three votes: 1 or 2 for the better response, 0 for a tie.

    `cmp_key` names the two models.
    """
    models = (row.optional_text("cmp_key") or "").split("_")
    writers = models if len(models) == 2 else [UNKNOWN_WRITER] * 2
    (first, mended), (second, mended_too) = (
        text_or_truth(row, f"response{number}") for number in (1, 2)
    )
    return JudgedPair(
        prompt=instruction_of(row),
        first=ResponseDraft(first, model=writers[0]),
        second=ResponseDraft(second, model=writers[1]),
        votes=tuple((TIE, FIRST, SECOND)[row.whole(name, range(3))] for name in ANNOTATORS),
        origin=origin_of(row, "pandalm"),
        changed=(*mended, *mended_too),
    )


def _looks_like_judgebench(row: Row) -> bool:
    return row.values.get("label") in JUDGEBENCH


@row_format(
    "judgebench",
    columns=[("question", "response_A", "response_B", "label")],
    looks=_looks_like_judgebench,
)
def judgebench(row: Row, options: Options) -> list[BuildResult]:
    """Pairs of answers of which one is right, by the benchmark's four parts."""
    label = row.text("label")
    if label not in JUDGEBENCH:
        raise row.bad("label", "one of " + ", ".join(JUDGEBENCH))
    source = row.optional_text("source") or "unknown"
    part = next((part for part in JUDGEBENCH_PARTS if source.startswith(part)), source)
    pair = JudgedPair(
        prompt=row.text("question"),
        first=ResponseDraft(row.text("response_A")),
        second=ResponseDraft(row.text("response_B")),
        votes=(JUDGEBENCH[label],),
        origin=Origin(f"judgebench/{part}"),
    )
    return judged_pair_group(pair)
