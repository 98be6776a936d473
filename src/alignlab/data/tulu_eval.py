"""Tulu's human evaluation (arXiv 2306.04751): two models' completions, compared by people.

Rows of `eval_annotations.xlsx` (or the sheet as CSV, JSONL or JSON): `prompt`, `model_a`,
`model_b`, `completion_a`, `completion_b`, `preference`, `evaluator`, `timestamp`. Sides are
shuffled per evaluator; the latest annotation of an evaluator counts. Rows without a preference are
remarks and are dropped.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from alignlab.data.build_records import BuildResult, Dropped, Origin, ResponseDraft
from alignlab.data.formats import Format, corpus_of, placed
from alignlab.data.judged_pairs import FIRST, SECOND, TIE, JudgedPair, judged_pair_group
from alignlab.data.options import Options
from alignlab.data.read import Faults, RawTable
from alignlab.data.rows import Row
from alignlab.data.unread import UnreadFields
from alignlab.errors import BadInput
from alignlab.registry import register
from alignlab.types import Corpus

VOTES = {
    "a-is-better": FIRST, "a-is-slightly-better": FIRST, "tie": TIE,
    "b-is-slightly-better": SECOND, "b-is-better": SECOND,
}  # fmt: skip
COLUMNS = ("prompt", "model_a", "model_b", "completion_a", "completion_b", "preference")


class EvaluatorComparison(NamedTuple):
    """Comparison by one evaluator, sides in the order of the models' names."""

    prompt: str
    answers: tuple[ResponseDraft, ResponseDraft]
    vote: float
    row: Row


def corpus(self: Format, table: RawTable, options: Any, faults: Faults) -> Corpus:
    """Merge all evaluators' votes on each pair of completions."""
    unread = UnreadFields(table.rows, options.ignore)
    table = unread.watched_table(table)
    results: list[BuildResult] = []
    latest: dict[tuple[Any, ...], EvaluatorComparison] = {}
    for row in sorted(table.rows, key=lambda row: str(row.get("timestamp") or "")):
        try:
            if not row.has("preference") or not row.text("preference").strip():
                results.append(Dropped("remark without a preference"))
                continue
            one = _annotation(row)
        except BadInput as error:
            faults.add(error)
            continue
        key = (one.prompt, one.answers, str(row.get("evaluator") or row.line))
        if key in latest:
            results.append(Dropped("annotation that its evaluator replaced"))
        latest[key] = one
    pairs: dict[tuple[str, tuple[ResponseDraft, ResponseDraft]], list[EvaluatorComparison]] = {}
    for one in latest.values():
        pairs.setdefault((one.prompt, one.answers), []).append(one)
    for (prompt, (first, second)), several in pairs.items():
        votes = tuple(one.vote for one in several)
        pair = JudgedPair(prompt, first, second, votes, Origin("tulu_eval"))
        results += [placed(item, several[0].row, options) for item in judged_pair_group(pair)]
    return corpus_of(self.name, results, unread.counted(table), options, faults)


def _annotation(row: Row) -> EvaluatorComparison:
    preference = row.text("preference").strip()
    if preference not in VOTES:
        raise row.bad("preference", "one of " + ", ".join(VOTES))
    a, b = (ResponseDraft(row.text(f"completion_{s}"), model=row.text(f"model_{s}")) for s in "ab")
    vote = VOTES[preference]
    if a.model > b.model:
        a, b, vote = b, a, 1 - vote
    return EvaluatorComparison(row.text("prompt"), (a, b), vote, row)


tulu_eval = register("data", "tulu_eval")(
    Format(
        name="tulu_eval",
        doc="Two models' completions compared by people, as Tulu's annotation sheet has them.",
        columns=(frozenset(COLUMNS),),
        options=Options,
        corpus=corpus,
    )
)
