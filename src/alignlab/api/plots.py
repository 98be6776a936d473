"""Plot results: lines by step, points with intervals, histograms."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from alignlab.errors import BadInput

_LABELS = ("model", "benchmark", "metric", "group")
_NOT_DRAWN = {"step", "seed", "n", "unscored", "epoch"}


def figure(rows: Sequence[Mapping[str, Any]], title: str) -> Any:
    """Plot rows as `Result.plot` describes."""
    from matplotlib.figure import Figure

    class Shown(Figure):
        """Figure that a notebook displays without pyplot."""

        def _repr_png_(self) -> bytes:
            content = io.BytesIO()
            self.savefig(content, format="png", dpi=100)
            return content.getvalue()

    columns = _numbers(rows)
    if not columns:
        raise BadInput(f"{title}: expected rows with numbers to draw, found none")
    if "value" in columns:
        drawing = Shown(figsize=(7, 1 + 0.3 * len(rows)), layout="constrained")
        _intervals(drawing.subplots(), [row for row in rows if row.get("value") is not None])
    else:
        drawing = Shown(figsize=(9, 2.4 * ((len(columns) + 2) // 3)), layout="constrained")
        axes = drawing.subplots((len(columns) + 2) // 3, 3, squeeze=False).flat
        for axis in list(axes)[len(columns) :]:
            axis.remove()
        for axis, column in zip(axes, columns, strict=False):
            drawn = [row for row in rows if isinstance(row.get(column), int | float)]
            values = [row[column] for row in drawn]
            if all("step" in row for row in drawn):
                axis.plot(
                    [row["step"] for row in drawn], values, marker="." if len(drawn) < 20 else ""
                )
                axis.set_xlabel("step")
            else:
                axis.hist(values, bins=20)
            axis.set_title(column, fontsize="small")
    drawing.suptitle(title, fontsize="small")
    return drawing


def _numbers(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return [
        key
        for key in keys
        if key not in _NOT_DRAWN
        and not key.endswith(("_low", "_high"))
        and any(isinstance(r.get(key), int | float) and not isinstance(r[key], bool) for r in rows)
    ]


def _intervals(axis: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    for place, row in enumerate(reversed(rows)):
        value, low, high = row["value"], row.get("low"), row.get("high")
        if low is not None and high is not None:
            axis.plot([low, high], [place, place], color="0.6")
        axis.plot([value], [place], marker="o", color="C0")
    names = [" ".join(str(row[key]) for key in _LABELS if row.get(key)) for row in rows]
    axis.set_yticks(range(len(rows)), names[::-1], fontsize="x-small")
