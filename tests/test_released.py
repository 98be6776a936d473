"""Weights that are deleted on purpose are no damage, and others stay damage."""

import json
from pathlib import Path

from alignlab.integrity import damages
from alignlab.released import release_weights
from alignlab.run_identity import RunIdentity
from alignlab.runs import Run
from alignlab.types import Count


def finished(path: Path) -> Path:
    """Write a run of one finished stage with a model in it; return the stage's folder."""
    run = Run.start(path, RunIdentity("train", {}, (0,), {}))
    with run.stage("train") as stage:
        (stage.path / "model").mkdir()
        (stage.path / "model/model.safetensors").write_bytes(b"weights")
        (stage.path / "model/config.json").write_text("{}")
        stage.count([Count("train", "records", 1, {})])
        folder = stage.path
    run.close()
    return folder


def test_released_weights_are_no_damage(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    assert not list(damages(tmp_path / "run"))
    release_weights(tmp_path / "run/stages")
    assert not (folder / "model/model.safetensors").exists()
    assert (folder / "model/config.json").exists()
    assert not list(damages(tmp_path / "run"))
    known = json.loads((folder / "status.json").read_text())
    assert list(known["released"]) == ["model/model.safetensors"]
    (folder / "model/config.json").unlink()
    assert [d.file.name for d in damages(tmp_path / "run")] == ["config.json"]


def test_weights_that_vanish_are_damage(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    (folder / "model/model.safetensors").unlink()
    assert [d.file.name for d in damages(tmp_path / "run")] == ["model.safetensors"]


def test_a_release_that_was_killed_is_ended_by_the_next(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    weights = folder / "model/model.safetensors"
    release_weights(tmp_path / "run/stages")
    weights.write_bytes(b"weights")  # noted in the status, but not deleted yet
    assert not list(damages(tmp_path / "run"))
    release_weights(tmp_path / "run/stages")
    assert not weights.exists()


def test_weights_of_unfinished_stages_stay(tmp_path: Path) -> None:
    folder = finished(tmp_path / "run")
    status = folder / "status.json"
    status.write_text(json.dumps({"state": "running"}))
    release_weights(tmp_path / "run/stages")
    assert (folder / "model/model.safetensors").exists()
