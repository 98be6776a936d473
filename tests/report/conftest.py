"""A made-up run for the report's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.build_run import build_run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return build_run(tmp_path / "alpha")
