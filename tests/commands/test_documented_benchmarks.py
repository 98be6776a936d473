"""The commands of docs/benchmarks.md are commands: benchmarks, options and settings that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from alignlab import configs
from alignlab.commands.benchmark import Given, _split, find_task, tasks
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "benchmarks.md").read_text()
BLOCKS = re.findall(r"^```[a-z]*\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
LINES = [
    line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()
    if line.startswith(("alignlab evaluate ", "alignlab judge-card "))
]  # fmt: skip
FILES = ("--scores", "--annotations", "--run", "judge-card")
OF_FILES = [line for line in LINES if any(word in line for word in FILES)]
RUNS = [line for line in LINES if line not in OF_FILES]


def words(line):
    """Name of the benchmark and arguments of a command."""
    _, _, *rest = shlex.split(line)
    return tuple(rest)


def test_every_benchmark_has_its_command_and_its_page():
    assert {words(line)[0] for line in RUNS} == set(tasks())
    for name in tasks():
        assert f"| `{name}` |" in PAGE  # what it measures, its judge, its data and their licence
        assert re.search(rf"^- .*\*\*`{name}`\*\*", PAGE, re.MULTILINE) or name in (
            "arena_hard", "super_ni", "judge_quality",
        )  # fmt: skip


@pytest.mark.parametrize("line", RUNS)
def test_documented_commands_are_accepted(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, *rest = words(line)
    options: dict[str, list[str]] = {}
    settings = []
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            options.setdefault(word[2:], []).append(rest.pop(0))
        elif word != "...":
            settings.append(word)
            for file in word.partition("=")[2].split(","):
                if word.startswith(("files.", "corpus")):
                    Path(file).touch()
    data = options.get("data", [""])[0]
    if data:
        Path(data).touch()
    kind = find_task(name)
    _split(kind, [configs.parse_overrides(settings)])
    assert options.keys() <= {"data", "model", "outputs", "judge", "baseline", "out"}
    given = Given(
        tuple(options.get("model", ())),
        tuple(options.get("outputs", ())),
        options.get("judge", [""])[0],
        data,
        options.get("baseline", [""])[0],
    )
    given.check(name, kind.needs)
