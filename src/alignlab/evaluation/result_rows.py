"""Result rows from intervals, overall and by part of a benchmark (prompt type, family)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from alignlab.evaluation.metrics.intervals import Interval
from alignlab.types import EvalResult, Prompt

T = TypeVar("T")


@dataclass(frozen=True)
class Subject:
    """Subject of a row; the same for all metrics of one model on one benchmark."""

    model: str
    benchmark: str
    against: str | None = None
    """Name of the other side of a comparison, where there is one."""
    seeds: tuple[int, ...] = ()
    """Training seeds that the figures pool."""

    def row(
        self, metric: str, figure: Interval, *, unscored: int = 0, group: str | None = None
    ) -> EvalResult:
        """Build a row from one measured figure."""
        return EvalResult(
            model=self.model,
            benchmark=self.benchmark,
            metric=metric,
            value=figure.value,
            low=figure.low,
            high=figure.high,
            n=figure.n,
            unscored=unscored,
            against=self.against,
            group=group,
            seeds=self.seeds,
        )

    def count(self, metric: str, value: float, n: int) -> EvalResult:
        """Build a row from a count or a figure without an interval."""
        return self.row(metric, Interval(value, None, None, n))


def prompt_groups(prompt: Prompt) -> tuple[str | None, ...]:
    """Return the parts of a benchmark that a prompt belongs to; None is the whole.

    The query type is the part `type:open` or `type:closed`; the prompt's family is what its
    source names after the last slash (`sandbox/list` belongs to `family:list`).
    """
    parts: list[str | None] = [None]
    if prompt.query_type is not None:
        parts.append(f"type:{prompt.query_type}")
    _, slash, family = prompt.source.rpartition("/")
    if slash and family:
        parts.append(f"family:{family}")
    return tuple(parts)


def by_group(
    items: Sequence[T], prompt_of: Callable[[T], Prompt]
) -> list[tuple[str | None, list[T]]]:
    """Group items by part, the whole first, then types and families by name."""
    found: dict[str | None, list[T]] = {None: []}
    for item in items:
        for part in prompt_groups(prompt_of(item)):
            found.setdefault(part, []).append(item)
    rest = sorted((name for name in found if name is not None), key=_types_first)
    return [(None, found[None]), *((name, found[name]) for name in rest)]


def _types_first(name: str) -> tuple[bool, str]:
    return (not name.startswith("type:"), name)
