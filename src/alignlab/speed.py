"""Speed of a model on this machine, and the time of an amount of work at that speed.

Work is linear in its parts: a forward pass over prompt tokens, decoding steps (each reads all
weights once, whatever the number of rows) and the rows' tokens in them, training tokens, updates of
the optimiser, loads and saves. `commands/_support/measured_speed.py` measures the coefficients.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Speed:
    """Seconds that one process takes for each part of the work of one model."""

    read: float = 0.0
    """Seconds per prompt token of a forward pass."""
    step: float = 0.0
    """Seconds per decoding step, without its rows."""
    draw: float = 0.0
    """Seconds per token drawn, a row in a decoding step."""
    train: float = 0.0
    """Seconds per token of a forward and backward pass."""
    update: float = 0.0
    """Seconds per step of the optimiser."""
    load: float = 0.0
    """Seconds to load or save the model."""
    cost: float = 0.0
    """Seconds that the measurement took."""
    measured: bool = True
    """False for an estimate from the machine's throughput of matrix products."""


@dataclass(frozen=True)
class Compute:
    """Amount of work of one model on this machine."""

    read: float = 0.0
    """Prompt tokens of forward passes."""
    step: float = 0.0
    """Decoding steps."""
    draw: float = 0.0
    """Tokens drawn."""
    train: float = 0.0
    """Tokens of forward and backward passes."""
    update: float = 0.0
    """Steps of the optimiser."""
    load: float = 0.0
    """Number of times that the model is loaded or saved."""

    def __add__(self, other: Compute) -> Compute:
        return Compute(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def times(self, factor: float) -> Compute:
        """Return the work repeated `factor` times."""
        return Compute(*(getattr(self, f.name) * factor for f in fields(self)))


NOTHING = Compute()


def seconds(work: Compute, speed: Speed) -> float:
    """Return the time of an amount of work in seconds."""
    taken = (getattr(work, f.name) * getattr(speed, f.name) for f in fields(work))
    return float(sum(taken))


def from_throughput(parameters: int, gflops: float, trained: int | None = None) -> Speed:
    """Estimate a model's speed from the throughput of large matrix products in GFLOP/s.

    Two operations per parameter and token of a forward pass, two of the gradient through it, two
    more per trained parameter (arXiv 2001.08361, section 2.1). Decoding steps move all weights and
    updates all trained ones, which takes as long as the given numbers of tokens, and have a fixed
    cost that decides for small models. These numbers were fitted to the stages of finished studies
    of models of 0.9 to 1,544 million parameters on one core.

    Args:
        parameters: parameters of the matrices that tokens are multiplied by.
        gflops: GFLOP/s.
        trained: those that are trained, such as an adapter's; None for all.
    """
    token, trains = (2 * n / (gflops * 1e9) for n in (parameters, trained or parameters))
    step, update, load = 0.006 + 80 * token, 0.02 + 600 * trains, 0.1 + 15e-9 * parameters
    return Speed(token, step, token, 2 * token + trains, update, load, 0.0, measured=False)


def elapsed(branches: Mapping[str, float], order: Sequence[str], workers: int) -> float:
    """Return the time until the last branch ends when free processes take the next one.

    Args:
        branches: seconds of each branch.
        order: names of the branches in the order in which they are started.
        workers: number of processes.
    """
    free = [0.0] * max(1, workers)
    for name in order:
        heapq.heappush(free, heapq.heappop(free) + branches[name])
    return max(free)
