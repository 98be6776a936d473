"""Describe what a run would take before it is started: models, calls, memory, disk, time, money.

The figures are upper bounds, or rough where a line says "about". They come from running the study
with a recording context (`recording.py`); `commands/preflight.py` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Used:
    """Records of one kind that a run uses, of those that the data holds."""

    what: str
    used: int
    found: int

    def __str__(self) -> str:
        return f"{self.used:,} of {self.found:,} {self.what}"


@dataclass(frozen=True)
class Calls:
    """Completions that a run asks of someone, over all seeds; an upper bound."""

    what: str
    """Kind of record that is asked for: prompts, answers, judgements, scores, comparisons, ..."""
    by: str
    """Spec of an endpoint or a source, or `STUDENT`."""
    number: int
    tokens: int | None = None
    """Tokens generated; None where the part asked decides."""
    read: int = 0
    """Prompt tokens, estimated from the number of characters."""

    def __str__(self) -> str:
        most = "" if self.tokens is None else f", up to {self.tokens:,} tokens"
        return f"{self.number:,} {self.what} by {self.by}{most}"


@dataclass(frozen=True)
class Memory:
    """Memory of one process, roughly."""

    what: str
    gigabytes: float
    of: str
    """Parts that it is the sum of."""

    def __str__(self) -> str:
        return f"{self.what}: about {self.gigabytes:.2g} GB ({self.of})"


@dataclass(frozen=True)
class StageTime:
    """Computing time of one stage on this machine, of one seed; calls to servers take none."""

    stage: str
    seconds: float


@dataclass(frozen=True)
class Price:
    """Money that one endpoint would cost by the prices in its spec; an upper bound."""

    by: str
    dollars: float

    def __str__(self) -> str:
        return f"up to {self.dollars:,.2f} dollars for {self.by}"


@dataclass(frozen=True)
class Plan:
    """What a run would take; every part that its settings name can be made."""

    recipe: str
    preset: str
    seeds: int
    out: str
    """Run directory; it can be written."""
    resumes: bool
    """Whether the run directory holds a run already, which would be resumed."""
    model: str
    """The base model in one line."""
    data: tuple[Used, ...]
    models: Mapping[str, str]
    """Models compared, in the report's order -> one line on how each is made."""
    calls: tuple[Calls, ...]
    memory: tuple[Memory, ...] = ()
    disk_gigabytes: float = 0.0
    """Disk space of checkpoints, roughly."""
    stages: tuple[StageTime, ...] = ()
    """Stages that compute on this machine, in the order of the study; empty: not estimated."""
    money: tuple[Price, ...] = field(default=())
    """Endpoints whose specs give prices."""
    endpoints: tuple[str, ...] = ()
    """Endpoints that were asked one question, with the fields that they refuse."""

    @property
    def seconds(self) -> float:
        """Computing time of all stages and seeds, as if one followed the other."""
        return self.seeds * sum(stage.seconds for stage in self.stages)

    def __str__(self) -> str:
        does = "resumes" if self.resumes else "writes"
        made = [f"{name}: {how}" if how else name for name, how in self.models.items()]
        return "\n".join(
            [
                *_listed("run", [f"{self.recipe}, preset {self.preset}, {self.seeds} seed(s)"]),
                *_listed("folder", [f"{does} {self.out}"]),
                *_listed("model", [self.model]),
                *_listed("data", self.data),
                *_listed("compares", made),
                *_listed("memory", self.memory),
                *_listed("disk", [f"about {self.disk_gigabytes:.2g} GB of checkpoints"]),
                *_listed("asks for", self.calls),
                *_listed("time", self._times()),
                *_listed("money", self.money),
                *_listed("endpoints", self.endpoints),
            ]
        )

    def _times(self) -> list[str]:
        """Return the total and the longest stages."""
        if not self.stages:
            return []
        longest = sorted(self.stages, key=lambda stage: -stage.seconds)[:5]
        longest = [stage for stage in longest if stage.seconds >= 1]
        total = f"about {duration(self.seconds)} of computing here, roughly (servers not counted)"
        return [total, *(f"about {duration(s.seconds)}: {s.stage}" for s in longest)]


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _listed(title: str, items: Iterable[object]) -> list[str]:
    """Return one line per item with the title before the first."""
    return [f"{title if i == 0 else '':10}{item}" for i, item in enumerate(items)]
