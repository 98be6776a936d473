"""Table of the controls of the studies on real models, as kept runs answer them.

A random control learns from chance instead of feedback, one of equal compute from answers without
the feedback that the study asks about, and a positive control from what is known to be right. A
positive control that does not win says that the study could not have shown a gain; a random one
that wins, that its gains are not the feedback's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

KINDS = {"random": "random control", "equal": "equal compute", "positive": "positive control"}
"""Field of a study in `claims.yaml` -> head of the column."""
OUTCOMES = ("wins", "loses", "undecided", "none")
WORDS = {"held": "**wins**", "failed": "**loses**", "undecided": "undecided"}

Measure = Callable[[Mapping[str, Any]], Any]
"""Function that measures one figure, a `reproductions.Figure`."""


def controls_table(studies: Mapping[str, Mapping[str, Any]], measure: Measure) -> str:
    """Return the table of controls: a row a study, with a count of the outcomes below."""
    lines = [f"| study | {' | '.join(KINDS.values())} |", "|---|---|---|---|"]
    outcomes: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for name, controls in studies.items():
        cells = [name]
        for kind in KINDS:
            found = [measure(asked | {"expect": "more"}) for asked in controls.get(kind, ())]
            cells.append("<br>".join(f"{one.cell()}: {_verdict(one)}" for one in found) or "none")
            outcomes[kind].append(_counted([one.verdict for one in found]))
        lines.append("| " + " | ".join(cells) + " |")
    cells = [
        ", ".join(f"{words} {some.count(words)}" for words in OUTCOMES if words in some)
        for some in outcomes.values()
    ]
    return "\n".join([*lines, f"| all {len(studies)} | {' | '.join(cells)} |"])


def _counted(verdicts: Sequence[str]) -> str:
    """Return the outcome of a study's controls of one kind: a win if one of them wins."""
    for verdict, words in zip(("held", "failed", "undecided"), OUTCOMES, strict=False):
        if verdict in verdicts:
            return words
    return "none"


def _verdict(figure: Any) -> str:
    return str(figure.verdict_cell()).replace(f"**{figure.verdict}**", WORDS[figure.verdict])
