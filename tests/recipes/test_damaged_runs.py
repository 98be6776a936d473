"""A damaged study is refused by `report` and `run`, and is whole again after `run --repair`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipes import damaged_runs, kill_resume

pytestmark = pytest.mark.slow

SOME = {"altered figure", "truncated weights", "intermediate model gone", "manifest no JSON"}
"""Damage whose repair goes through the study; tests/test_integrity.py has every kind."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, never damaged."""
    out = tmp_path_factory.mktemp("whole") / "run"
    kill_resume.finish(damaged_runs.COMMAND, out)
    return out


@pytest.mark.parametrize(
    "case", [c for c in damaged_runs.CASES if c.name in SOME], ids=lambda case: case.name
)
def test_damage_is_told_and_repaired(whole, tmp_path, case):
    row = damaged_runs.damage_and_repair(whole, tmp_path / "run", damaged_runs.COMMAND, case)
    assert row.problem == ""
    assert row.differences == ()
