"""State what a run's figures rest on: model, data, doubts, and stages that are left."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from alignlab.plan import label
from alignlab.report import headline, labels
from alignlab.report.run_data import Manifest, RunData
from alignlab.types import EvalResult

CUT = 0.25
"""Share of answers cut off above which a model's figures are doubted."""
WIDE = 0.1
"""Half width of an interval of a win rate above which the number of prompts is doubted."""
HELD_OUT = "held-out prompts"


def facts(manifest: Manifest, settings: Any) -> list[tuple[str, str]]:
    """Return the base model with its size and the number of held-out prompts, where planned.

    Args:
        settings: settings of the run by dotted name.
    """
    plan = manifest.plan
    found = []
    if name := base_model(str(settings.get("model") or ""), str(plan.get("model", ""))):
        found.append(("Base model", name))
    used = next((d["used"] for d in plan.get("data", ()) if d["what"] == HELD_OUT), 0)
    if used:
        found.append(("Held-out prompts", f"{used:,}"))
    return found


def base_model(spec: str, planned: str) -> str:
    """Return a base model's name without its folders, and its size: "knows_all, 0.9M parameters".

    Args:
        spec: model as the settings name it.
        planned: model as the plan describes it, with its number of parameters.
    """
    path = spec or planned.partition(": ")[0]
    name = PurePath(path.rpartition(":")[2] or path).name
    size = re.search(r"([\d,]+) parameters", planned)
    return ", ".join(filter(None, (name, size and f"{_short(size[1])} parameters")))


def doubts(results: Sequence[EvalResult], baseline: str) -> list[str]:
    """Return sentences on answers cut off and on too few prompts to show anything."""
    found = [
        f"{labels.number(row.value, row.metric)} of the answers of {row.model} were cut off at the "
        "length limit."
        for row in results
        if row.metric == "cut_share" and row.group is None and (row.value or 0.0) > CUT
    ]
    rows = headline.comparisons(results, baseline)
    halves = [(r.high - r.low) / 2 for r in rows if r.low is not None and r.high is not None]
    if halves and max(halves) > WIDE:
        n, points = min(r.n for r in rows), 100 * max(halves)
        found.append(
            f"With {n:,} judged comparisons, win rates closer to one half than about "
            f"{points:.0f} points cannot be told from it."
        )
    return found


def left(manifest: Manifest, begun: Sequence[str]) -> list[str]:
    """Return the stages of the plan that have not begun in all seeds, in their order.

    Args:
        begun: paths of the stages that have begun, below `stages/`.
    """
    seeds = max(1, len(manifest.seeds))
    counted = Counter(map(label, begun))
    planned = [str(stage["stage"]) for stage in manifest.plan.get("stages", ())]
    return [stage for stage in dict.fromkeys(planned) if counted[stage] < seeds]


def progress(run: RunData) -> Iterator[str]:
    """Yield what an unfinished run has done, does, and has left."""
    running = [s.path for s in run.stages if s.state != "done"]
    yield f"{len(run.stages) - len(running)} stages are done"
    if running:
        yield f"under way: {_listed(running)}"
    if waiting := left(run.manifest, [s.path for s in run.stages]):
        yield f"left of the plan: {_listed(waiting)}"


def _listed(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _short(parameters: str) -> str:
    number = int(parameters.replace(",", ""))
    if number >= 1e9:
        return f"{number / 1e9:.1f}B"
    return f"{number / 1e6:.1f}M" if number < 1e8 else f"{number / 1e6:.0f}M"
