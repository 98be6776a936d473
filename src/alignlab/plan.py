"""Resource plan of a run: models, calls, memory, disk, time and money.

Figures are upper bounds, or rough estimates where a line reads "about". They come from running the
study with a recording context (`recording.py`); `commands/preflight.py` assembles them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alignlab.finding import Finding
from alignlab.progress import duration as duration


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
    """Predicted compute time of one stage on this machine, for one seed; servers excluded."""

    stage: str
    """Path of the stage below the seed's folder of stages."""
    seconds: float
    most: float = 0.0
    """Seconds if every reply is as long as the settings allow."""


@dataclass(frozen=True)
class Time:
    """Predicted time of a run on this machine; servers excluded."""

    seconds: float
    most: float
    """Seconds if every reply is as long as the settings allow."""
    basis: str
    """Origin of the speeds: measured, or the throughput of matrix products."""
    busy: float = 1.0
    """Processes that want a core, per core; above 1 other programs slow the run down."""

    rough: bool = False
    """True where the speed of a model was estimated, not measured."""

    RANGE, ROUGH = (0.7, 1.3), (0.5, 2.0)
    """Low and high end of the predicted range, as multiples of the prediction."""

    def __str__(self) -> str:
        factors = self.ROUGH if self.rough else self.RANGE
        low, high = (duration(self.seconds * factor) for factor in factors)
        return f"about {duration(self.seconds)} ({low} to {high})"

    def lines(self) -> list[str]:
        """Format the prediction, its upper bound, its basis and the state of the machine."""
        found = [
            f"{self} of computing on this machine, servers not counted",
            f"at most {duration(self.most)} if every reply is as long as allowed",
            self.basis,
        ]
        if self.busy >= 1.2:
            found.append(
                f"this machine is busy now: expect up to {self.busy:.1f} times as long until "
                "its other programs end"
            )
        return found


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
    """Rough estimate of the disk space of checkpoints and records."""
    free_gigabytes: float | None = None
    """Free disk space where the run directory is or will be; None where it was not read."""
    stages: tuple[StageTime, ...] = ()
    """Stages that compute on this machine, in the order of the study; empty: not estimated."""
    time: Time | None = None
    """Time of all seeds, branches shared among the processes; None: not estimated."""
    money: tuple[Price, ...] = ()
    """Costs of the endpoints whose specs give prices."""
    places: tuple[str, ...] = ()
    """Tasks at once, and nodes of the cluster; empty without `hardware.cluster`."""
    endpoints: tuple[str, ...] = ()
    """Probed endpoints, each with the request fields that it refuses."""
    findings: tuple[Finding, ...] = ()
    """Diagnoses of data, template and judges: whether the run can succeed."""

    def __str__(self) -> str:
        does = "resumes" if self.resumes else "writes"
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        models = [f"{name}: {how}" if how else name for name, how in self.models.items()]
        return "\n".join(
            [
                *listed("run", [f"{self.recipe}, preset {self.preset}, {seeds}"]),
                *listed("folder", [f"{does} {self.out}"]),
                *listed("model", [self.model]),
                *listed("data", self.data),
                *listed("compares", models),
                *listed("memory", self.memory),
                *listed("places", self.places),
                *listed("disk", [self._disk()]),
                *listed("asks for", self.calls),
                *listed("time", self._times()),
                *listed("money", self.money),
                *listed("endpoints", self.endpoints),
                *listed("success", self.findings),
            ]
        )

    def _disk(self) -> str:
        """Format the disk space that is needed and that is free."""
        needed = f"about {self.disk_gigabytes:.2g} GB of checkpoints and records"
        if self.free_gigabytes is None:
            return needed
        short = " (too little)" if self.free_gigabytes < self.disk_gigabytes else ""
        return f"{needed}, {self.free_gigabytes:,.0f} GB free{short}"

    def _times(self) -> list[str]:
        """List the total time and the five longest stages."""
        if self.time is None:
            return []
        longest = sorted(self.stages, key=lambda stage: -stage.seconds)[:5]
        longest = [stage for stage in longest if stage.seconds >= 1]
        return [*self.time.lines(), *(f"{duration(s.seconds):>7} {s.stage}" for s in longest)]


@dataclass(frozen=True)
class StageOutcome:
    """Predicted and actual time of a stage, of one seed on average."""

    stage: str
    predicted: float
    """Seconds; 0 for a stage of which none were predicted."""
    seconds: float
    """Seconds by the clock."""
    cpu_seconds: float = 0.0
    """Processor time; below `seconds` where other programs took the core."""


@dataclass(frozen=True)
class PlanAccuracy:
    """Costs of a finished run and of its plan."""

    seconds: float
    """Time of all sessions."""
    predicted_seconds: float
    """0 where no time was predicted."""
    peak_gigabytes: float
    """Peak memory of the largest process."""
    predicted_gigabytes: float
    dollars: float
    most_dollars: float
    """Upper bound of the plan."""
    stages: tuple[StageOutcome, ...] = ()

    @property
    def error(self) -> float | None:
        """Predicted over actual time, less 1: -0.2 is a fifth too short; None without either."""
        known = self.predicted_seconds and self.seconds
        return self.predicted_seconds / self.seconds - 1 if known else None

    def __str__(self) -> str:
        took = f"took {_in_full(self.seconds)}"
        if self.error is None:
            return took
        predicted = f"predicted {_in_full(self.predicted_seconds)} ({self.error:+.0%})"
        stages = [s for s in self.stages if s.predicted]
        cpu, clock = sum(s.cpu_seconds for s in stages), sum(s.seconds for s in stages)
        busy = f"; other programs held the cores for {1 - cpu / clock:.0%} of it" if clock else ""
        return f"{took}, {predicted}{busy if cpu < 0.8 * clock else ''}"


def _in_full(seconds: float) -> str:
    """Format a duration that is compared with another: seconds up to ten minutes."""
    return f"{seconds:.0f} s" if seconds < 600 else duration(seconds)


def label(stage: str) -> str:
    """Return a stage's path without the scope of its seed."""
    first, slash, rest = stage.partition("/")
    return rest if slash and first.startswith("seed-") else stage


def listed(title: str, items: Iterable[object]) -> list[str]:
    """Format one line per item with the title before the first."""
    return [f"{title if i == 0 else '':10}{item}" for i, item in enumerate(items)]
