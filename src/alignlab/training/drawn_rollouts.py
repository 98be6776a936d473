"""Commit the rollouts of an engine before they are trained on.

An engine's draws cannot be repeated bit for bit, unlike those of the local sampler. A resumed run
therefore trains on the rollouts that were committed, and asks for those that were not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alignlab.errors import BadInput, bad_record
from alignlab.records import from_line, to_line, whole_lines
from alignlab.training.environment import EngineDraw, Sample, SampledGroup
from alignlab.types import Prompt

FILE = "drawn_rollouts.jsonl"

Place = tuple[int, int]
"""Step, from 1, and number of the refill in it, 0 for the step's own prompts."""


@dataclass(frozen=True)
class DrawnRollout:
    """Responses to one prompt of one batch, as drawn."""

    step: int
    """Training step that learns from them, from 1."""
    refill: int
    version: int
    """Training steps of the weights that drew them."""
    staleness: int
    """Training steps from these weights to those that learn: step - 1 - version."""
    prompt_id: str
    prompt: tuple[int, ...]
    """Tokens of the prompt."""
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class BatchEnd:
    """End of a committed batch."""

    step: int
    refill: int
    prompts: int
    """Number of the batch's prompts, which the lines before this one answer."""
    checked: tuple[tuple[float, ...], ...]
    """Log-probabilities of responses of the step before, scored again by the same weights."""


class DrawnRollouts:
    """File of the rollouts of a run by batch; a batch is committed whole.

    Args:
        path: the file.
        run: identity of the run.
        done: training steps done; their rollouts are not needed again.
        ahead: largest staleness.

    Raises:
        BadInput: the file is of another run, or damaged.
    """

    def __init__(self, path: Path, run: str, *, done: int, ahead: int) -> None:
        self.path, self._ahead = path, ahead
        self._batches: dict[Place, list[DrawnRollout]] = {}
        self._checked: dict[Place, tuple[tuple[float, ...], ...]] = {}
        lines = [line for _, line in whole_lines(path)]
        kept = self._read(lines, run, done)
        if not lines:
            lines, kept = [json.dumps({"run": run}) + "\n"], 1
        # A batch that was cut off is drawn again, whole.
        partial = path.with_suffix(".partial")
        partial.write_text("".join(lines[:kept]), encoding="utf-8")
        os.replace(partial, path)

    def holds(self, place: Place) -> bool:
        """Return True for a batch that is committed and not yet taken."""
        return place in self._batches

    def commit(self, place: Place, draw: EngineDraw) -> None:
        """Write a batch to disk."""
        step, refill = place
        stale = step - 1 - draw.version
        batch = [
            DrawnRollout(step, refill, draw.version, stale, g.prompt.id, g.prompt_T, g.samples)
            for g in draw.groups
        ]
        end = BatchEnd(step, refill, len(batch), tuple(draw.checked))
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(map(to_line, [*batch, end])))
            stream.flush()
            os.fsync(stream.fileno())
        self._batches[place], self._checked[place] = batch, end.checked

    def checked(self, place: Place) -> tuple[tuple[float, ...], ...]:
        """Return the log-probabilities that were computed with a committed batch."""
        return self._checked[place]

    def take(self, place: Place, prompts: Sequence[Prompt]) -> list[SampledGroup]:
        """Return a committed batch, once.

        Raises:
            BadInput: it answers other prompts.
        """
        batch = self._batches.pop(place)
        self._checked.pop(place)
        if [one.prompt_id for one in batch] != [prompt.id for prompt in prompts]:
            raise BadInput(f"{self.path}: step {place[0]}: expected answers to the step's prompts, "
                           "found others")  # fmt: skip
        return [
            SampledGroup(prompt, one.prompt, one.samples, one.staleness)
            for prompt, one in zip(prompts, batch, strict=True)
        ]

    def _read(self, lines: Sequence[str], run: str, done: int) -> int:
        """Read the batches of coming steps; return the number of lines of whole batches."""
        if lines and json.loads(lines[0]) != {"run": run}:
            raise BadInput(
                f"{self.path}: expected rollouts of this run, found those of one with other "
                "settings, data or first weights; give another output folder, or delete it"
            )
        kept, batch = 1, list[DrawnRollout]()
        for number, line in enumerate(lines[1:], start=2):
            if '"prompts"' not in line.partition("[")[0]:
                batch.append(from_line(DrawnRollout, line))
                continue
            end = from_line(BatchEnd, line)
            self._check(number, end, batch)
            if end.step > done:
                place = (end.step, end.refill)
                self._batches[place], self._checked[place] = batch, end.checked
            kept, batch = number, []
        return kept

    def _check(self, number: int, end: BatchEnd, batch: list[DrawnRollout]) -> None:
        """Refuse a batch that is not whole, doubled, or too stale."""
        place = (end.step, end.refill)
        whole = len(batch) == end.prompts and place not in self._batches
        if not whole or any(
            (one.step, one.refill) != place or not 0 <= one.staleness <= self._ahead
            for one in batch
        ):
            expected = (
                f"{end.prompts} prompts of step {end.step}, at most {self._ahead} steps stale"
            )
            raise bad_record(self.path, number, None, expected, "others")
