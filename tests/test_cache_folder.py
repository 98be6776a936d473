"""All that alignlab keeps of a machine lies in one folder, which tests and users can move."""

from pathlib import Path

import pytest

from alignlab.commands._support import measured_speed
from alignlab.files import cache_folder
from alignlab.measuring import card_cache
from alignlab.models import gguf


def test_one_folder_holds_cards_speeds_and_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALIGNLAB_CACHE", str(tmp_path))
    card_cache.keep({"identity": "x", "judge": "longer", "rows": []})
    assert (tmp_path / "judge-cards/x.json").is_file()
    assert gguf.cache().parent == measured_speed.cache_file().parent == tmp_path


def test_without_the_variable_it_is_the_users_cache(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ALIGNLAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_folder() == Path("/elsewhere/alignlab")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache/alignlab"
