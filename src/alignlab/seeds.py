"""Seeds and generators derived from names: a draw depends on a seed and its purpose alone."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(*parts: object) -> int:
    """Derive a 63-bit seed from names and numbers (SHA-256), equal on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: object) -> np.random.Generator:
    """Return a Philox generator seeded by names and numbers."""
    return np.random.Generator(np.random.Philox(derive(*parts)))
