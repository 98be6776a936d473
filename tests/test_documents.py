"""README and docs: commands exist, links lead somewhere, words are the field's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from alignlab import cli, registry
from tests.conftest import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
STARTS = re.compile(r"^(?:torchrun .*? -m |accelerate launch -m )?(alignlab .*)")


def commands() -> list[tuple[str, str]]:
    """Page and line of every documented command."""
    found = []
    for page in PAGES:
        for language, block in FENCED.findall(page.read_text("utf-8")):
            lines = block.replace("\\\n", " ").splitlines() if language in ("", "bash") else []
            for line in lines:
                if match := STARTS.match(" ".join(line.split())):
                    found.append((page.name, match[1].partition(" #")[0].partition(" > ")[0]))
    return found


COMMANDS = commands()


@pytest.fixture(scope="module")
def root() -> Any:
    """Return the command line as click sees it."""
    return typer.main.get_command(cli.app)


def test_commands_are_found():
    assert len(COMMANDS) > 40
    assert {page for page, _ in COMMANDS} >= {"README.md", "quickstart.md", "feedback.md"}


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=lambda text: text[:60])
def test_a_documented_command_exists(root: Any, page: str, line: str):
    command: Any = root
    path: list[str] = []
    words = shlex.split(line)[1:]
    while hasattr(command, "get_command") and words:
        name = words.pop(0)
        path.append(name)
        if (
            len(path) == 2
            and path[0] == "evaluate"
            and not {"--annotations", "--scores"} & set(words)
        ):
            return  # a benchmark's options are tried in commands/test_documented_benchmarks.py
        command = command.get_command(None, name)
        assert command is not None, path
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert given <= known, path
    kind = {"run": "recipe", "check": "recipe", "train": "objective"}.get(path[0])
    if kind and words and words[0].replace("_", "").islower():
        kinds = ("recipe", "objective") if path[0] == "check" else (kind,)
        assert any(words[0] in registry.names(one) for one in kinds)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_words_are_the_fields(page: Path):
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text("utf-8"), flags=re.DOTALL)
    assert re.findall(r"\b(?:beside|told|said)\b", prose, re.IGNORECASE) == []


def test_no_page_holds_an_unfinished_merge():
    marked = re.compile(r"^(<{7} |={7}$|>{7} )", re.MULTILINE)
    assert [page.name for page in PAGES if marked.search(page.read_text("utf-8"))] == []
