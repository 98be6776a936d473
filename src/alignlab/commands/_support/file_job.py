"""Write one output file, with a run directory that makes the command resumable.

`OUT.run/` is a run directory: records with every reply, inputs, counts, costs, and the calls to
servers. A killed command resumes from its finished units; OUT is written whole at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from alignlab.context import Hardware, RunContext
from alignlab.data.convert import writer_of
from alignlab.errors import BadInput, RunFailed
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

    def __str__(self) -> str:
        return f"{self.path}: {self.rows} rows" + (f" ({self.note})" if self.note else "")

    def with_content(self, useful: int, what: str) -> FileWritten:
        """Return the file if any of its rows is useful.

        Raises:
            RunFailed: no row is useful, though there was work to do, so the command must fail.
        """
        if useful or not self.note:
            return self
        raise RunFailed(
            f"{self.path}: no {what} ({self.note}); to ask again, remove {self.records}"
        )


def workplace(out: Path) -> Path:
    """Return the run directory of an output file, FILE.run.

    Raises:
        BadInput: the file's ending is unsupported, or the file exists and has no run directory.
    """
    writer_of(out)
    beside = out.with_name(f"{out.name}.run")
    if out.exists() and not (beside / "config.yaml").exists():
        raise BadInput(f"{out}: expected a new file, found one that this command did not write")
    out.parent.mkdir(parents=True, exist_ok=True)
    return beside


@contextmanager
def laboratory(
    out: Path, command: str, identity: Mapping[str, Any], seed: int, hardware: Hardware
) -> Iterator[RunContext]:
    """Open the run of an output file with the context of its stages; close it at the end.

    Args:
        identity: settings and inputs that determine the content of the file, by name.
    """
    run = Run.start(workplace(out), RunIdentity(command, identity, (seed,)))
    try:
        template = identity.get("chat_template") or None
        lab = RunContext(run, seed, hardware, template)
        torch.set_num_threads(lab.threads)
        yield lab
    finally:
        run.close()
