"""Shared test helpers."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.running import CommandLine

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# What was measured on this machine must not decide a test.
os.environ["ALIGNLAB_CACHE"] = tempfile.mkdtemp(prefix="alignlab-cache-")
atexit.register(shutil.rmtree, os.environ["ALIGNLAB_CACHE"], ignore_errors=True)


def pytest_collection_finish() -> None:
    """Leave modules and tests out of collections: each training collects, and would walk 0.9 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def alignlab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line, run in this process: `alignlab("list", "recipes")`."""
    return CommandLine(monkeypatch, capsys)


def shared_path(relative: str) -> Path:
    """A file of the reference data; skips the test where the folder is absent."""
    base = Path(os.environ.get("ALIGNLAB_SHARED", ROOT.parent / "shared"))
    path = base / relative
    if not path.exists():
        pytest.skip(f"reference data absent: {relative} (set ALIGNLAB_SHARED)")
    return path
