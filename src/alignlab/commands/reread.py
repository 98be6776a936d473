"""Parse stored judgements again, and compare the scores with the stored ones.

A file holds one prompt per line: `{"prompt_id": ..., "completion": {"0": {"score": 4, "reasoning":
"the judge's answer, or its whole transcript"}, ...}}`; a missing or negative score marks an
unreadable judgement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from alignlab.commands._support.tables import Evaluated, empty_table
from alignlab.data.read import Faults, read_table
from alignlab.data.rows import Row
from alignlab.errors import BadInput
from alignlab.feedback.prompts import judge_prompt
from alignlab.turns import answer_in

Outcome = Literal["equal", "differ", "stored only", "read only", "neither"]
OUTCOMES: tuple[Outcome, ...] = ("equal", "differ", "stored only", "read only", "neither")


@dataclass(frozen=True)
class Reread:
    """Stored judgement, parsed again."""

    prompt_id: str
    key: str
    """Key of the completion within its prompt."""
    stored: float | None
    read: float | None
    answer: str
    """The judge's full answer."""

    @property
    def outcome(self) -> Outcome:
        """Return how the stored score and the parsed one relate."""
        if self.stored is None or self.read is None:
            both = self.stored is None and self.read is None
            return "neither" if both else "read only" if self.stored is None else "stored only"
        return "equal" if self.stored == self.read else "differ"


def reread(scores: str | Path, *, prompt: str = "additive_five_point") -> list[Reread]:
    """Parse every stored judgement of a file on the scale of a judge prompt.

    Raises:
        BadInput: an unreadable file or record, or an unknown prompt.
    """
    asked = judge_prompt(prompt)
    found = []
    for row in read_table(str(scores), Faults()).rows:
        for key, one in _completions(row):
            stored = one.number("score") if one.has("score") else -1.0
            answer = answer_in(one.text("reasoning"))
            found.append(
                Reread(
                    row.text("prompt_id"),
                    key,
                    None if stored < 0 else stored,
                    asked.read(answer),
                    answer,
                )
            )
    return found


def agreement(
    scores: str | Path, *, prompt: str = "additive_five_point", list: bool = False
) -> Evaluated:
    """Count stored judgements that parse to the stored score, to another, or on one side only.

    Args:
        scores: stored judgements with the judge's answers.
        prompt: judge prompt that defines the scale.
        list: also print the judgements that differ.

    Raises:
        BadInput: an unreadable file or record, or an unknown prompt.
    """
    found = reread(scores, prompt=prompt)
    counts = Counter(one.outcome for one in found)
    notes = tuple(told(found)) if list else ()
    name = Path(scores).name.split(".")[0]
    table = empty_table(name, (f"{len(found):,} judgements, read again", "n"))
    for outcome in OUTCOMES:
        table.add_row(outcome, f"{counts[outcome]:,}")
    row = {outcome.replace(" ", "_"): counts[outcome] for outcome in OUTCOMES}
    return Evaluated(({"model": name, "n": len(found), **row},), table, None, notes)


def told(found: Sequence[Reread]) -> Iterator[str]:
    """Return one line per judgement that differs from the stored score."""
    for one in found:
        if one.outcome not in ("equal", "neither"):
            shown = " ".join(one.answer.split())[:120]
            stored, read = (_number(value) for value in (one.stored, one.read))
            yield f"{one.prompt_id} {one.key}: stored {stored}, read {read}: {shown}"


def _completions(row: Row) -> Iterator[tuple[str, Row]]:
    completions = row.values.get("completion")
    if not isinstance(completions, dict) or not completions:
        raise row.bad("completion", "completions by key")
    for key, one in completions.items():
        if not isinstance(one, dict):
            raise BadInput(f"{row.file}, line {row.line}, field 'completion.{key}': no object")
        yield str(key), Row(row.file, row.line, one, within=f"completion.{key}.")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"
