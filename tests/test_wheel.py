"""The wheel: what is in it, and that it is enough."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

CONSTRAINTS = ROOT / "constraints.txt"
MOST_BYTES = 6 << 20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a wheel, built without a network."""
    pytest.importorskip("hatchling", reason="the build backend is not installed ([dev])")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (built,) = out.glob("alignlab-*.whl")
    return built


def test_it_holds_the_package_its_models_and_pages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    packages = {name.split("/")[0] for name in names}
    assert {p for p in packages if not p.endswith(".dist-info")} == {"alignlab"}
    sources = (ROOT / "src" / "alignlab").rglob("*")
    expected = {
        str(Path("alignlab") / p.relative_to(ROOT / "src" / "alignlab"))
        for p in sources
        if p.is_file() and "__pycache__" not in p.parts
    }
    assert expected <= names
    for model in ("knows_all", "knows_three_quarters"):
        assert f"alignlab/sandbox/checkpoints/{model}/model.safetensors" in names
    assert not [name for name in names if "/tests/" in name or name.endswith((".pyc", ".jsonl.gz"))]
    assert wheel.stat().st_size < MOST_BYTES


@pytest.mark.heavy
def test_it_runs_the_demo_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS)]
    torch = next(n for n in CONSTRAINTS.read_text().splitlines() if n.startswith("torch=="))
    subprocess.run([*install, torch], check=True)
    subprocess.run([*install, str(wheel)], check=True)
    command = [str(python), "-m", "alignlab", "demo", "--out", "demo"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(command, cwd=tmp_path, check=True, env=environment)
    assert (tmp_path / "demo" / "report.html").is_file()
