"""Finished studies planned again without measured speeds."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from alignlab.errors import BadInput
from tests.benchmarks.test_scripts import script
from tests.recipes.small import SMALL

plans = script("rough_plans")


def finished(path: Path, command: str) -> Path:
    """Two stages of 3 and 4 processor seconds, and one of drift around the second."""
    for stage, seconds in {"01-m1": 3, "a/01-drift-m2": 4, "a/02-m2": 4}.items():
        folder = path / "stages" / stage
        folder.mkdir(parents=True)
        (folder / "status.json").write_text(json.dumps({"cpu_seconds": seconds}))
    manifest = {"recipe": "self_rewarding", "command": command, "outcome": {}}
    (path / "manifest.json").write_text(json.dumps(manifest))
    return path


def test_a_finished_study_is_planned_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = shlex.join(["alignlab", "run", "self_rewarding", *SMALL])
    run = finished(tmp_path / "mine", command)
    assert plans.took(run) == 7
    monkeypatch.setenv("ALIGNLAB_CACHE", str(tmp_path / "cache"))  # restored at the end
    monkeypatch.setattr("sys.argv", ["rough_plans.py", str(run)])
    monkeypatch.setattr(plans, "planned", lambda _: 14.0)
    plans.main()
    printed = capsys.readouterr().out
    assert "| mine | 14 s | 7 s | 2.00 |" in printed
    assert "over 1 studies: 2.00 to 2.00, median 2.00; half to double in 1" in printed


def test_a_prediction_grows_with_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGNLAB_CACHE", str(tmp_path / "cache"))
    rounds = [
        plans.planned(
            finished(
                tmp_path / str(n),
                shlex.join(["alignlab", "run", "self_rewarding", *SMALL, f"iterations={n}"]),
            )
        )
        for n in (1, 2)
    ]
    assert 0 < rounds[0] < rounds[1]
    with pytest.raises(BadInput, match="expected a run of `alignlab run`"):
        plans.planned(finished(tmp_path / "other", "alignlab train dpo"))
