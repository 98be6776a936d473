"""Resource plan of a run: models, calls, memory, disk, time and money.

Figures are upper bounds, or rough estimates where a line reads "about". They come from running the
study with a recording context (`recording.py`); `commands/preflight.py` assembles them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alignlab.finding import Finding


@dataclass(frozen=True)
class Used:
    """Number of records of one kind that a run uses, of those in the data."""

    what: str
    used: int
    found: int

    def __str__(self) -> str:
        return f"{self.used:,} of {self.found:,} {self.what}"


@dataclass(frozen=True)
class Calls:
    """Upper bound on the calls of one model or source, over all seeds."""

    what: str
    """Kind of record requested: prompts, answers, judgements, scores, comparisons, ..."""
    by: str
    """Spec of an endpoint or a source, or `STUDENT`."""
    number: int
    tokens: int | None = None
    """Tokens generated; None where the called part decides."""
    read: int = 0
    """Prompt tokens, estimated from the number of characters."""

    def __str__(self) -> str:
        most = "" if self.tokens is None else f", up to {self.tokens:,} tokens"
        return f"{self.number:,} {self.what} by {self.by}{most}"


@dataclass(frozen=True)
class Memory:
    """Rough estimate of the memory of one process."""

    what: str
    gigabytes: float
    of: str
    """Summands of the estimate."""

    def __str__(self) -> str:
        return f"{self.what}: about {self.gigabytes:.2g} GB ({self.of})"


@dataclass(frozen=True)
class StageTime:
    """Compute time of one stage on this machine, for one seed; calls to servers excluded."""

    stage: str
    seconds: float


@dataclass(frozen=True)
class Price:
    """Upper bound on the cost of one endpoint, by the prices in its spec."""

    by: str
    dollars: float

    def __str__(self) -> str:
        return f"up to {self.dollars:,.2f} dollars for {self.by}"


@dataclass(frozen=True)
class Plan:
    """Resources of a run whose settings were validated."""

    recipe: str
    preset: str
    seeds: int
    out: str
    """Run directory, writable."""
    resumes: bool
    """True if the run directory holds a run, which would be resumed."""
    model: str
    """Base model on one line."""
    data: tuple[Used, ...]
    models: Mapping[str, str]
    """Compared model -> one line on its training, in the order of the report."""
    calls: tuple[Calls, ...]
    memory: tuple[Memory, ...] = ()
    disk_gigabytes: float = 0.0
    """Rough estimate of the disk space of checkpoints."""
    stages: tuple[StageTime, ...] = ()
    """Stages that compute on this machine, in the order of the study; empty: not estimated."""
    money: tuple[Price, ...] = ()
    """Costs of the endpoints whose specs give prices."""
    endpoints: tuple[str, ...] = ()
    """Probed endpoints, each with the request fields that it refuses."""
    findings: tuple[Finding, ...] = ()
    """Diagnoses of data, template and judges: whether the run can succeed."""

    @property
    def seconds(self) -> float:
        """Compute time of all stages and seeds in sequence."""
        return self.seeds * sum(stage.seconds for stage in self.stages)

    def __str__(self) -> str:
        does = "resumes" if self.resumes else "writes"
        models = [f"{name}: {how}" if how else name for name, how in self.models.items()]
        return "\n".join(
            [
                *listed("run", [f"{self.recipe}, preset {self.preset}, {self.seeds} seed(s)"]),
                *listed("folder", [f"{does} {self.out}"]),
                *listed("model", [self.model]),
                *listed("data", self.data),
                *listed("compares", models),
                *listed("memory", self.memory),
                *listed("disk", [f"about {self.disk_gigabytes:.2g} GB of checkpoints"]),
                *listed("asks for", self.calls),
                *listed("time", self._times()),
                *listed("money", self.money),
                *listed("endpoints", self.endpoints),
                *listed("success", self.findings),
            ]
        )

    def _times(self) -> list[str]:
        """List the total time and the five longest stages."""
        if not self.stages:
            return []
        longest = sorted(self.stages, key=lambda stage: -stage.seconds)[:5]
        longest = [stage for stage in longest if stage.seconds >= 1]
        total = f"about {duration(self.seconds)} of computing here, roughly (servers not counted)"
        return [total, *(f"about {duration(s.seconds)}: {s.stage}" for s in longest)]


def duration(seconds: float) -> str:
    """Format a duration in a suitable unit: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def listed(title: str, items: Iterable[object]) -> list[str]:
    """Format one line per item with the title before the first."""
    return [f"{title if i == 0 else '':10}{item}" for i, item in enumerate(items)]
