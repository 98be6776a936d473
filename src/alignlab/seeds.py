"""Randomness from names: every draw is decided by a seed and the names of what it is for."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(*parts: object) -> int:
    """A 63-bit seed from any names and numbers; the same on every machine and in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: object) -> np.random.Generator:
    """A counter-based generator (Philox) of its own for the given names."""
    return np.random.Generator(np.random.Philox(derive(*parts)))
