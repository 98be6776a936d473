"""Keep some responses of every step of a rollout training, for people to read.

rollout_samples.jsonl lies next to metrics.jsonl. Prompts come in random order, so that the first
ones of a step are a random sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alignlab.files import write_text
from alignlab.records import from_line, to_line, whole_lines
from alignlab.training.environment import SampledGroup

FILE = "rollout_samples.jsonl"
KEPT = 4
"""Number of prompts of a step of which a response is kept."""


@dataclass(frozen=True)
class RolloutSample:
    """Response that the policy drew at one step, with its score."""

    step: int
    """Training step, from 1; the weights are those before its update."""
    prompt_id: str
    prompt: str
    response: str
    """Answer without reasoning."""
    score: float | None
    """Reward; None is unscored."""
    tokens: int
    ended: bool
    """True where the end-of-turn token was drawn before the length limit."""


class SamplesFile:
    """File of samples by step."""

    def __init__(self, path: Path, step: int, *, writes: bool = True) -> None:
        """Continue a file after so many steps; later samples belong to steps to be repeated.

        Args:
            path: the file.
            step: number of steps whose samples are valid.
            writes: False on worker ranks.
        """
        self.path = path
        self._writes = writes
        if writes:
            lines = [line for _, line in whole_lines(path)]
            valid = [line for line in lines if from_line(RolloutSample, line).step <= step]
            write_text(path, "".join(valid))

    def write(
        self, step: int, sampled: Sequence[SampledGroup], scores: Sequence[Sequence[float | None]]
    ) -> None:
        """Append the first response to each of the step's first prompts.

        Args:
            step: number of the step, from 1.
            scores: score of every sample of every group.
        """
        if not self._writes:
            return
        kept = [
            RolloutSample(
                step, group.prompt.id, group.prompt.text, sample.text, score,
                len(sample.tokens), sample.ended,
            )
            for group, found in zip(sampled[:KEPT], scores[:KEPT], strict=True)
            for sample, score in list(zip(group.samples, found, strict=True))[:1]
        ]  # fmt: skip
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("".join(map(to_line, kept)))
