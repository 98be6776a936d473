"""Show training: curves, alarms, and samples of rollouts step by step."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alignlab.errors import BadInput
from alignlab.report import labels, line_chart
from alignlab.report.line_chart import Point
from alignlab.report.run_data import label_of, words_of
from alignlab.viewer.alarms import Alarm, entropy_per_token, of_metrics, of_rewards
from alignlab.viewer.filters import RolloutFilter
from alignlab.viewer.index import Index

MAIN = (
    "loss", "rewards/accuracies", "rewards/margins", "objective/scores", "objective/kl",
    "objective/entropy_per_token", "completions/mean_length", "completions/repetition",
    "completions/clipped_ratio", "validation", "grad_norm",
)  # fmt: skip
"""Training metrics in the order of their charts; others follow by name."""
FIGURES = MAIN[3:9]
"""Metrics shown next to the samples of a step."""
_NOT_DRAWN = frozenset({"step", "epoch", "learning_rate", "tokens"})
_MARKS = 5
"""Number of steps linked from the first to the last."""

Curves = Mapping[str, Sequence[Mapping[str, Any]]]
"""Stage -> lines of its metrics."""


def page(index: Index, asked: RolloutFilter, models: Iterable[str] = ()) -> dict[str, Any]:
    """Gather curves, alarms with addresses of samples, and the samples of one step.

    Args:
        models: names of the models, which name the curves of their trainings.

    Raises:
        BadInput: an unknown stage, or a step that is no number.
    """
    curves = read_curves(index)
    rewards = read_rewards(index)
    found = [a for stage, steps in curves.items() for a in of_metrics(stage, steps)]
    found += [
        alarm
        for stage, columns in rewards.items()
        for alarm in of_rewards(_trained(stage, curves), *columns)
    ]
    for stage, steps in curves.items():
        found += of_rewards(stage, *_validated(steps), name="validation score")
    sampled = _sampled(index)
    names = _names({**curves, **sampled}, tuple(models))
    return {
        "asked": asked,
        "legend": [names[stage] for stage in curves],
        "charts": [*_charts(curves), *map(_reward_chart, rewards, rewards.values())],
        "alarms": [_shown(alarm, sampled, names) for alarm in found],
        "rollouts": _rollouts(index, asked, sampled, curves, names) if sampled else None,
    }


def read_curves(index: Index) -> dict[str, list[dict[str, Any]]]:
    """Read the metrics of every stage, with the entropy per token."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in index.rows("SELECT stage, record FROM metrics ORDER BY stage, step"):
        step = json.loads(row["record"])
        if (entropy := entropy_per_token(step)) is not None:
            step["objective/entropy_per_token"] = entropy
        curves.setdefault(row["stage"], []).append(step)
    return curves


def read_rewards(index: Index) -> dict[str, tuple[list[float | None], list[float | None]]]:
    """Read reward and gold score of each step, of stages that watch a training."""
    found: dict[str, tuple[list[float | None], list[float | None]]] = {}
    for row in index.rows("SELECT stage, record FROM watched ORDER BY rowid"):
        record, columns = json.loads(row["record"]), found.setdefault(row["stage"], ([], []))
        columns[0].append(record["reward"])
        columns[1].append(record["truth"])
    return found


def _validated(steps: Sequence[Mapping[str, Any]]) -> tuple[list[float | None], list[float | None]]:
    """Return reward and validation score of the steps that were validated."""
    known = [step for step in steps if step.get("validation") is not None]
    return [s.get("objective/scores") for s in known], [s["validation"] for s in known]


def _charts(curves: Curves) -> list[dict[str, Any]]:
    """Draw every metric, all branches on one axis; a branch has one colour in all charts."""
    logged = {
        k
        for steps in curves.values()
        for step in steps
        for k, v in step.items()
        if isinstance(v, int | float) and k not in _NOT_DRAWN and not k.startswith("time/")
    }
    order = [m for m in MAIN if m in logged]
    return [
        {
            "main": metric in order,
            "legend": [],
            "chart": line_chart.line_chart(
                labels.metric(metric),
                [line_chart.curve(_known(steps, metric), metric) for steps in curves.values()],
                x_label="step",
            ),
        }
        for metric in [*order, *sorted(logged - set(order))]
    ]


def _names(stages: Iterable[str], models: Sequence[str]) -> dict[str, str]:
    """Name stages by the models that they train, with the seed where several have one name."""
    found = {stage: words_of(stage, models) for stage in stages}
    several = {name for name, n in Counter(found.values()).items() if n > 1}
    return {
        stage: f"{name} ({stage.partition('/')[0]})" if name in several else name
        for stage, name in found.items()
    }


def _reward_chart(
    stage: str, columns: tuple[Sequence[float | None], Sequence[float | None]]
) -> dict[str, Any]:
    lines = {
        name: [Point(i, v) for i, v in enumerate(values, start=1) if v is not None]
        for name, values in zip(("reward", "gold score"), columns, strict=True)
    }
    drawn = {name: line for name, line in lines.items() if line}
    title = f"Reward and gold score: {label_of(stage).replace('drift-', '')}"
    chart = line_chart.line_chart(title, list(drawn.values()), x_label="step")
    return {"main": True, "legend": list(drawn), "chart": chart}


def _known(steps: Sequence[Mapping[str, Any]], metric: str) -> list[Mapping[str, Any]]:
    return [step for step in steps if step.get(metric) is not None]


def _trained(watching: str, curves: Curves) -> str:
    """Return the stage whose training a stage watches; the stage itself if there is none."""
    scope, name = watching.rpartition("/")[0], label_of(watching).replace("drift-", "")
    return next(
        (s for s in curves if s.rpartition("/")[0] == scope and label_of(s) == name), watching
    )


def _sampled(index: Index) -> dict[str, list[int]]:
    """Return the steps with samples of every stage."""
    found: dict[str, list[int]] = {}
    for row in index.rows("SELECT DISTINCT stage, step FROM rollouts ORDER BY stage, step"):
        found.setdefault(row["stage"], []).append(row["step"])
    return found


def _shown(
    alarm: Alarm, sampled: Mapping[str, Sequence[int]], names: Mapping[str, str]
) -> dict[str, str]:
    """Return an alarm's text, and the address of the samples behind it."""
    steps = sampled.get(alarm.stage)
    address = RolloutFilter(stage=alarm.stage, step=str(steps[-1])).address() if steps else ""
    name = names.get(alarm.stage, label_of(alarm.stage))
    return {"text": f"{name}: {alarm.text}", "link": address}


def _rollouts(
    index: Index,
    asked: RolloutFilter,
    sampled: Mapping[str, Sequence[int]],
    curves: Curves,
    names: Mapping[str, str],
) -> dict[str, Any]:
    """Return the samples of one step with its metrics, and the addresses of other steps."""
    stage = asked.stage or next(iter(sampled))
    if stage not in sampled:
        raise BadInput(f"address: stage: expected one of {', '.join(sampled)}, found {stage!r}")
    if asked.step and not asked.step.isdecimal():
        raise BadInput(f"address: step: expected a number, found {asked.step!r}")
    steps = sampled[stage]
    wanted = int(asked.step) if asked.step else steps[-1]
    now = min(range(len(steps)), key=lambda i: abs(steps[i] - wanted))
    rows = index.rows(
        "SELECT record FROM rollouts WHERE stage = ? AND step = ? ORDER BY rowid",
        (stage, steps[now]),
    )
    # Of several steps a line, the one that holds this step.
    logged = next((s for s in curves.get(stage, ()) if s.get("step", 0) >= steps[now]), {})
    marks = sorted({round(i * (len(steps) - 1) / (_MARKS - 1)) for i in range(_MARKS)})

    def address(place: int) -> str:
        return asked.address(stage=stage, step=str(steps[place]))

    return {
        "stage": stage,
        "step": steps[now],
        "stages": [(stage, names[stage]) for stage in sampled],
        "first": steps[0],
        "last": steps[-1],
        "before": address(now - 1) if now else "",
        "after": address(now + 1) if now + 1 < len(steps) else "",
        "marks": [(steps[i], address(i)) for i in marks],
        "figures": [
            (labels.metric(m), f"{logged[m]:.3g}") for m in FIGURES if logged.get(m) is not None
        ],
        "samples": [json.loads(row["record"]) for row in rows],
    }
