"""Compute data order and learning rate as functions of (configuration, step)."""

from __future__ import annotations

import hashlib
import math

import numpy as np

from alignlab.training.config import TrainConfig


def derived_seed(*parts: object) -> int:
    """Derive a 63-bit seed from any parts, the same on every machine."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def steps_per_epoch(groups: int, config: TrainConfig) -> int:
    """Return the optimiser steps of one pass; the last batch may be smaller."""
    return math.ceil(groups / config.batch_size)


def epoch_order(groups: int, config: TrainConfig, epoch: int) -> list[list[int]]:
    """Draw the order of an epoch; return the indices of the groups of each step."""
    rng = np.random.Generator(np.random.Philox(derived_seed("order", config.seed, epoch)))
    order = rng.permutation(groups).tolist()
    size = config.batch_size
    return [order[i : i + size] for i in range(0, groups, size)]


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Return the learning rate of a step, 0 to total - 1."""
    warmup = round(config.warmup_ratio * total)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    done = (step - warmup) / max(1, total - 1 - warmup)
    left = 1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return config.lr * (config.min_lr_ratio + (1 - config.min_lr_ratio) * left)
