"""Define the records of what a run spends, counts and measures; `alignlab.types` has them too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Usage:
    """Tokens and calls spent by a stage."""

    prompt_tokens: int = 0
    tokens: int = 0
    """Tokens generated (sampling, judging) or trained on."""
    calls: int = 0
    """Completions requested from models, teachers and judges."""
    usd: float = 0.0
    """Price of the completions in dollars, at the prices set for their endpoints."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.tokens + other.tokens,
            self.calls + other.calls,
            self.usd + other.usd,
        )


@dataclass(frozen=True)
class Count:
    """Numbers of records that a step kept, changed and dropped, with reasons."""

    stage: str
    what: str
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of records."""
    changed: Mapping[str, int] = field(default_factory=dict)
    """Kind of change -> number of records."""


@dataclass(frozen=True)
class StudyDescription:
    """Question and models of a run, as the report introduces them."""

    recipe: str
    question: str
    baseline: str
    """Model that the others are compared with."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Name -> one line on its training, in the order of the report."""
    judge: str = ""
    """Sentence on the judge that measured, and on teachers that are the same model."""
    fitness: str = ""
    """Sentence on the measuring judge's fitness, by its card; empty where it does not apply."""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Option that the question names -> the models that stand for it."""
    left_out: str = ""
    """Sentence on branches that had nothing to train on; empty without any."""


@dataclass(frozen=True)
class EvalResult:
    """One metric of one model with its confidence interval."""

    model: str
    benchmark: str
    metric: str
    value: float | None
    """Metric; None when no unit could be scored."""
    low: float | None
    """Lower bound of the 95% interval."""
    high: float | None
    """Upper bound of the 95% interval."""
    n: int
    """Number of scored units."""
    unscored: int = 0
    """Units without a verdict, excluded from the value."""
    against: str | None = None
    """Opponent in a comparison."""
    group: str | None = None
    """Subset of the benchmark, such as a prompt type; None is the whole."""
    seeds: tuple[int, ...] = ()
    comparable: bool | None = None
    """True where the setup is that of the public leaderboard; None without a leaderboard."""


@dataclass(frozen=True)
class PromptValue:
    """Metric of a model on one prompt, for paired comparisons of runs."""

    model: str
    benchmark: str
    metric: str
    prompt: str
    """Hash of the prompt's text, equal across runs for equal prompts."""
    value: float
    by: str = ""
    """Name of the judge; values of different judges are not compared."""
    against: str | None = None
    seed: int = 0
    """Training seed."""


@dataclass(frozen=True)
class Paired:
    """Paired difference of a metric between two runs, over their common prompts."""

    first: str
    """Run and model of the minuend."""
    second: str
    """Run and model of the subtrahend."""
    benchmark: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    """Bounds of the 95% interval, prompts resampled in pairs."""
    p: float | None
    """p value of a two-sided paired randomisation test."""
    p_holm: float | None
    """p value adjusted for the number of differences tested (Holm)."""
    prompts: int
    """Number of common prompts."""
    reason: str = ""
    """Reason of a missing comparison; empty otherwise."""


@dataclass(frozen=True)
class Audit:
    """Judge score and gold score of one response."""

    response_id: str
    model: str
    """Model that wrote the response."""
    source: str
    """Name of the judge."""
    reward: float | None
    """Score by the judge; None is unscored."""
    truth: float
    """Gold score, by the oracle or a human."""
    prompt_id: str = ""


@dataclass(frozen=True)
class Drift:
    """KL divergence, reward and gold score of a policy at one training step.

    Means over the responses sampled for that step.
    """

    model: str
    step: int
    """Training step, from 1."""
    kl: float
    """KL divergence from the initial model, nats per response."""
    reward: float | None
    """Mean training reward."""
    truth: float | None
    """Mean gold score, where known."""
    n: int
    """Number of scored responses."""
    seed: int = 0
    """Training seed."""


@dataclass(frozen=True)
class ScalePoint:
    """One point of a scaling curve, measured or fitted."""

    series: str
    along: str
    """Quantity on the x axis: iterations, prompts or parameters."""
    at: float
    """Value on the x axis."""
    value: float
    low: float | None
    high: float | None
    n: int
    """Number of scored answers."""
    model: str = ""
    """Measured model; empty on the fitted line."""
