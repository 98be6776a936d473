"""Shared test helpers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def shared_path(relative: str) -> Path:
    """A file of the reference data; skips the test where the folder is absent."""
    base = Path(os.environ.get("ALIGNLAB_SHARED", ROOT.parent / "shared"))
    path = base / relative
    if not path.exists():
        pytest.skip(f"reference data absent: {relative} (set ALIGNLAB_SHARED)")
    return path
