"""Measure the steps of one side: time, parts of a step, and a recording by torch's profiler."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from op_profile import PART, Profile, profiles
from roofline import Needed
from torch.profiler import ProfilerActivity, profile, record_function

Count = Callable[[tuple[Any, ...], Any], Sequence[Needed]]
"""Arguments and result of a call -> what it needs, in turn."""


@dataclass
class Part:
    """Part of a step: its time and what it needs."""

    cpu: float = 0.0
    needed: list[Needed] = field(default_factory=list)


@dataclass(frozen=True)
class Step:
    """Measured step."""

    cpu: float
    wall: float
    parts: dict[str, Part]
    needed: list[Needed]
    """What the whole step needs, where that is not the sum of its parts."""


class Meter:
    """Measure steps instead of taking turns with another side (`sides.Turns`)."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.steps: list[Step] = []
        self.profiles: dict[str, Profile] = {}
        self._profiler: Any = None
        self._calls: list[tuple[str, float, Count, tuple[Any, ...], Any]] = []
        self._inside = False

    @property
    def count(self) -> int:
        """Return the number of steps: a warm-up, the timed ones, and the recorded one."""
        return self.rounds + 2

    def __call__(self, **told: Any) -> Meter:
        """Begin, where a side makes its turns."""
        self.begin()
        return self

    def begin(self) -> None:
        self._calls.clear()
        if len(self.steps) == self.count - 1:
            self._profiler = profile(activities=[ProfilerActivity.CPU])
            self._profiler.__enter__()
        self._began = time.process_time(), time.perf_counter()

    def end(self, *, needed: Sequence[Needed] = (), **told: Any) -> None:
        cpu, wall = self._began
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if self._profiler is not None:
            self._profiler.__exit__(None, None, None)
            self.profiles = profiles(self._profiler.events())
            self._profiler = None
        parts: dict[str, Part] = defaultdict(Part)
        for name, seconds, count, args, result in self._calls:
            parts[name].cpu += seconds
            parts[name].needed += count(args, result)
        self.steps.append(Step(cpu, wall, dict(parts), list(needed)))

    @contextmanager
    def part(self, owner: Any, name: str, part: str, count: Count) -> Iterator[None]:
        """Count every outermost call of a method as a part of its step, while it lasts."""
        original: Callable[..., Any] = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return original(*args, **kwargs)
            self._inside, began = True, time.process_time()
            try:
                with record_function(PART + part):
                    result = original(*args, **kwargs)
            finally:
                self._inside = False
            self._calls.append((part, time.process_time() - began, count, args, result))
            return result

        with patch.object(owner, name, call):
            yield
