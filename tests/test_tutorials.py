"""The tutorials run from top to bottom, and are what their sources say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

SOURCES = sorted((ROOT / "examples" / "tutorials").glob("*.md"))
PAGES = ROOT / "docs" / "tutorials"


@pytest.fixture(scope="module")
def notebooks() -> Any:
    """Import the script that writes notebooks."""
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "scripts" / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_source_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert len(SOURCES) == 5
    for source in SOURCES:
        assert f"tutorials/{source.stem}.ipynb" in navigation


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_is_what_its_source_says(notebooks: Any, source: Path):
    nbformat = pytest.importorskip("nbformat")
    kept = nbformat.read(PAGES / f"{source.stem}.ipynb", as_version=4)
    made = notebooks.notebook(source.read_text("utf-8"))
    assert kept.cells == made.cells, "run python scripts/notebooks.py"


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_tutorial_runs(source: Path, tmp_path: Path):
    pytest.importorskip("ipykernel")
    client = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    page = nbformat.read(PAGES / f"{source.stem}.ipynb", as_version=4)
    client.NotebookClient(
        page, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    assert (tmp_path / "runs").is_dir()
