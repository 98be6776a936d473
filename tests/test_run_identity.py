"""The commit that a run's manifest names."""

from __future__ import annotations

import subprocess
from pathlib import Path

from alignlab.run_identity import commit


def git(folder: Path, *words: str) -> str:
    mine = ["-c", "user.name=me", "-c", "user.email=me@localhost"]
    ran = subprocess.run(
        ["git", "-C", str(folder), *mine, *words], capture_output=True, text=True, check=True
    )
    return ran.stdout.strip()


def test_the_commit_of_a_clone_and_of_a_changed_one(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert commit(tmp_path) == ""  # nothing committed yet
    file = tmp_path / "code.py"
    file.write_text("1\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "tag", "v1")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == head
    file.write_text("2\n")
    assert commit(tmp_path) == f"{head}-dirty"


def test_an_installed_package_has_none(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    git(tmp_path, "init", "-q")
    assert commit(tmp_path / "inside") == ""
