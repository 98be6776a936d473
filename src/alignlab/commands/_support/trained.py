"""Collect and print the result of `alignlab train`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alignlab.records import read_records
from alignlab.runs import Run
from alignlab.types import Checkpoint, Count, EvalResult

NAME = "model"
"""Name of the trained model in its run."""
_IDLE = (
    "warning: nothing was learned: the gradient was 0 in every step (equal scores of all responses "
    "to a prompt give none)"
)


@dataclass(frozen=True)
class TrainOutput:
    """Result of `alignlab train`."""

    model: Checkpoint
    metrics: str
    """File of the training's metrics, one JSON line per `log_every` steps."""
    counts: tuple[Count, ...]
    """Numbers of records used, dropped and changed on the way from data to tokens."""
    held_out: tuple[EvalResult, ...]
    """Preference accuracy on the data's held-out groups; empty without held-out groups."""
    dtype: str = ""
    """Type and device of the training's passes: "bfloat16 on cpu"."""
    idle: bool = False
    """True where the gradient was 0 in every step, so that nothing was learned."""

    def __str__(self) -> str:
        lines = [f"model: {self.model.path}", f"metrics: {self.metrics}"]
        lines += [f"trained in {self.dtype}"] if self.dtype else []
        lines += [_IDLE] if self.idle else []
        lines += [_count_line(c) for c in self.counts if c.dropped or c.changed]
        return "\n".join(lines + [_figure_line(row) for row in self.held_out])


def collect_result(run: Run, model: Checkpoint, held_out: Sequence[EvalResult] = ()) -> TrainOutput:
    """Collect the result of a training from its run directory."""
    metrics = Path(model.path).with_name("metrics.jsonl")
    types = {name: used for name, used in run.types().items() if name.endswith(", training")}
    used = next(iter(types.values()), "")
    return TrainOutput(model, str(metrics), _counts(run), tuple(held_out), used, _is_idle(metrics))


def _is_idle(metrics: Path) -> bool:
    """Return True where no logged step, each the mean of several, had a gradient."""
    rows = map(json.loads, metrics.read_text().splitlines()) if metrics.exists() else ()
    norms = [row["grad_norm"] for row in rows if "grad_norm" in row]
    return bool(norms) and not any(norms)


def _counts(run: Run) -> tuple[Count, ...]:
    files = sorted((run.path / "stages").rglob("counts.jsonl"))
    return tuple(count for file in files for count in read_records(file, Count))


def _count_line(count: Count) -> str:
    left_out = [f"{why} {n}" for why, n in (*count.dropped.items(), *count.changed.items())]
    return f"{count.stage}: {count.kept} {count.what} kept; {', '.join(left_out)}"


def _figure_line(row: EvalResult) -> str:
    value = "not measured" if row.value is None else f"{row.value:.3f}"
    bounds = "" if row.low is None else f" [{row.low:.3f}, {row.high:.3f}]"
    against = f" against {row.against}" if row.against else ""
    return f"held-out {row.metric}, {row.model}{against}: {value}{bounds}, n {row.n}"
