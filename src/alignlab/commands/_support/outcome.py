"""Keep the plan of a run in its manifest, and the costs when the run has finished."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alignlab.files import read_json
from alignlab.plan import Plan, PlanAccuracy, StageOutcome, label
from alignlab.records import from_dict, to_dict
from alignlab.runs import Run

UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes per unit of the system's peak memory."""


def note_plan(run: Run, plan: Plan) -> None:
    """Keep the plan of the first session in the manifest: a resumed run plans a part only."""
    if "plan" not in run.manifest():
        run.change_manifest(plan=to_dict(plan))


def note_outcome(run: Run, cluster: Mapping[str, Any] | None = None) -> None:
    """Write the costs of a finished run and of its plan into the manifest.

    Args:
        cluster: nodes, attempts that were lost, and peak memory of a task; None or empty without
            a cluster.
    """
    cluster = cluster or {}
    manifest = run.manifest()
    plan = from_dict(Plan, manifest["plan"])
    spent = run.path / "cache" / "spent.json"
    dollars = sum(one["usd"] for one in read_json(spent).values()) if spent.exists() else 0.0
    outcome = PlanAccuracy(
        seconds=manifest["wall_seconds"],
        predicted_seconds=plan.time.seconds if plan.time else 0.0,
        peak_gigabytes=round(max(peak_gigabytes(), cluster.get("peak_gigabytes", 0.0)), 3),
        predicted_gigabytes=max((one.gigabytes for one in plan.memory), default=0.0),
        dollars=dollars,
        most_dollars=sum(price.dollars for price in plan.money),
        stages=stage_outcomes(run.path / "stages", plan),
    )
    run.change_manifest(outcome=to_dict(outcome) | {"error": outcome.error})
    if cluster:
        run.change_manifest(cluster=cluster)


def stage_outcomes(folder: Path, plan: Plan) -> tuple[StageOutcome, ...]:
    """Return predicted and actual time by stage, a mean over seeds; in the order of their names."""
    predicted = {_unnumbered(stage.stage): stage.seconds for stage in plan.stages}
    found: dict[str, list[tuple[float, float]]] = {}
    for file in sorted(folder.rglob("status.json")):
        status = read_json(file)
        name = label(file.parent.relative_to(folder).as_posix())
        taken = status.get("seconds", 0.0), status.get("cpu_seconds", 0.0)
        found.setdefault(name, []).append(taken)
    return tuple(
        StageOutcome(
            name,
            round(predicted.get(_unnumbered(name), 0.0), 3),
            round(sum(clock for clock, _ in several) / len(several), 3),
            round(sum(cpu for _, cpu in several) / len(several), 3),
        )
        for name, several in found.items()
    )


def _unnumbered(stage: str) -> str:
    """Return a stage's name without its numbers: a plan does not know every stage of a scope."""
    return re.sub(r"(?<![^/])\d+-", "", stage)


def peak_gigabytes() -> float:
    """Return the peak memory of this process or of its largest ended child, in GB."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(one).ru_maxrss for one in who) * UNIT / 1e9
