"""The command line in this process: what it printed and the exit code it ended with."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from alignlab import cli, progress


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line on stderr; anything else there is an error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("alignlab: ")
        return lines[0]


class CommandLine:
    """Runs `alignlab ARGUMENTS` without the cost of a new process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> Ended:
        self._monkeypatch.setattr(sys, "argv", ["alignlab", *map(str, arguments)])
        self._capsys.readouterr()
        progress.use(progress.Silent())
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            progress.use(None)
        found = self._capsys.readouterr()
        return Ended(code, found.out, found.err)
