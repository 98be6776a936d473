"""Write one output file, with a run directory that makes the command resumable.

`OUT.run/` is a run directory: records with every reply, inputs, counts, costs, and the calls to
servers. A killed command resumes from its finished units; OUT is written whole at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab.commands._support.job import open_run
from alignlab.context import Hardware, RunContext
from alignlab.data.convert import writer_of
from alignlab.errors import BadInput, RunFailed
from alignlab.files import make_folder
from alignlab.runs import Run, RunIdentity


@dataclass(frozen=True)
class FileWritten:
    """File written by a command."""

    path: str
    rows: int
    records: str
    """Folder of the records, counts and costs of the work."""
    note: str = ""
    """Counts of records left out, by reason; empty if there are none."""
    types: str = ""
    """Type and device of the models that ran on this machine: "bfloat16 on cpu"."""

    def __str__(self) -> str:
        left_out = f" ({self.note})" if self.note else ""
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{self.path}: {rows}{left_out}" + (self.types and f"; {self.types}")

    def with_content(self, useful: int, what: str) -> FileWritten:
        """Return the file if any of its rows is useful.

        Raises:
            RunFailed: no row is useful, though there was work to do, so the command must fail.
        """
        if useful or not self.note:
            return self
        raise RunFailed(
            f"{self.path}: no {what} ({self.note}); to ask again, remove "
            f"{self.path} and {self.records}"
        )


def types_of(run: Run) -> str:
    """Return the types and devices that the models of a run computed in."""
    return ", ".join(sorted(set(run.types().values())))


def run_folder(out: Path) -> Path:
    """Return the run directory of an output file, FILE.run.

    Raises:
        BadInput: the file's ending is unsupported, or the file exists and has no run directory.
    """
    writer_of(out)
    folder = out.with_name(f"{out.name}.run")
    if out.exists() and not any((folder / n).exists() for n in ("config.yaml", "events.jsonl")):
        raise BadInput(f"{out}: expected a new file, found one that this command did not write")
    make_folder(out.parent)
    return folder


def open_file_run(
    out: Path, command: str, identity: Mapping[str, Any], seed: int, hardware: Hardware
) -> AbstractContextManager[RunContext]:
    """Open the run of an output file with the context of its stages; close it at the end.

    Args:
        identity: settings and inputs that determine the content of the file, by name.
    """
    run_identity = RunIdentity(command, identity, (seed,))
    return open_run(run_folder(out), run_identity, hardware, identity.get("chat_template", ""))
