"""Define the settings of rollout training: those of the loop, and those of sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alignlab.configs import NonNegative, NonNegativeInt, Positive, PositiveInt
from alignlab.errors import BadInput
from alignlab.training.config import TrainConfig

IMPORTANCE_CAP = 2.0
"""Largest importance weight by default."""


@dataclass(frozen=True)
class RolloutConfig(TrainConfig):
    """Settings of training on the policy's own samples; a step is one batch of rollouts.

    Responses are drawn at temperature 1 from the whole distribution, the policy whose gradient the
    objectives estimate.
    """

    schedule: Literal["cosine", "linear", "constant"] = "constant"
    """Shape of the learning rate over the steps, after the warm-up."""
    epochs: PositiveInt = 1
    """Passes over the prompts; `steps` counts batches instead."""
    batch_size: PositiveInt = 32
    """Prompts of one batch of rollouts."""
    steps: NonNegativeInt = 0
    """Number of batches of rollouts; 0 makes `epochs` passes over the prompts."""
    responses: PositiveInt = 4
    """Responses drawn per prompt."""
    max_tokens: PositiveInt = 256
    """Most tokens of a response, its end-of-turn token included."""
    updates: PositiveInt = 1
    """Passes over each batch of rollouts (PPO's epochs)."""
    minibatches: PositiveInt = 1
    """Optimiser steps of each pass over a batch of rollouts."""
    refills: NonNegativeInt = 0
    """Most further batches of prompts drawn in a step for those whose responses all have equal
    scores, which teach a group-relative objective nothing (DAPO, arXiv 2503.14476);
    0 trains on the batch as drawn."""
    engine: str = "local"
    """Sampler of the rollouts: "local", the model in training itself, or vllm[?python=PATH&...],
    a vLLM process whose weights follow it (options: docs/rollouts.md)."""
    ahead: Literal[0, 1] = 0
    """Steps that an engine samples ahead: with 1 it draws the next batch, by the weights before
    the step, while the step is learned."""
    importance_cap: Positive | None = None
    """Largest importance weight of what an engine drew, trainer's over engine's probability; by
    default 2."""
    mismatch_alarm: Positive | None = None
    """Mean difference of an engine's and the trainer's log-probabilities that rings, in nats per
    token; by default 1.5 times the trainer's own difference of bfloat16 and float32, measured at
    the start."""
    no_end_penalty: NonNegative = 0.0
    """Penalty subtracted from the score of a response without an end-of-turn token."""
    save_every: NonNegativeInt = 50
    """Steps between checkpoints; 0 writes none."""
    log_every: PositiveInt = 1
    """Steps per line of metrics.jsonl."""

    @property
    def serves(self) -> bool:
        """Return True where an engine outside the trainer samples."""
        return self.engine != "local"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._refuse_engine()
        if self.steps and self.epochs != 1:
            raise BadInput("train: epochs: has no effect with steps; leave one of them out")
        if self.minibatches > self.batch_size:
            raise BadInput(
                f"train: minibatches: expected at most batch_size ({self.batch_size} prompts), "
                f"found {self.minibatches}"
            )
        if self.neftune_alpha:
            raise BadInput("train: neftune_alpha: expected 0 in rollout training (noise would make "
                           "the policy another than the one that was sampled)")  # fmt: skip

    def _refuse_engine(self) -> None:
        """Refuse settings of an engine without one, and what cannot hold with one.

        Raises:
            BadInput: such a setting.
        """
        given = [k for k in ("ahead", "importance_cap", "mismatch_alarm") if getattr(self, k)]
        if given and not self.serves:
            raise BadInput(
                f"train: {given[0]}: has no effect with engine=local, whose draws are the model's "
                "own; leave it out"
            )
        if self.ahead and self.refills:
            raise BadInput(
                "train: ahead: expected 0 with refills (which prompts are drawn again is known "
                "after the scores), found 1"
            )
        if self.serves and self.quant != "none":
            raise BadInput(
                f"train: engine: expected local with quant={self.quant} (an engine of full-size "
                f"weights would sample from another model), found {self.engine}"
            )
