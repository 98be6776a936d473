"""Prefer the responses of pairs by coin: the control that keeps the pairs and loses the labels."""

from __future__ import annotations

from dataclasses import replace

from alignlab import seeds
from alignlab.types import PreferenceGroup


def by_coin(group: PreferenceGroup, seed: int) -> PreferenceGroup:
    """Prefer either response of a pair with probability one half, and keep its scores."""
    one, other = sorted(group.responses, key=lambda r: r.id)
    heads = seeds.generator(seed, one.id, other.id).random() < 0.5
    return replace(group, responses=(one, other) if heads else (other, one), source="coin")
