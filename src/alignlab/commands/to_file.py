"""Commands that write one file: their work is kept beside it, so that it is done only once.

`OUT.run/` is a run directory: the records with all that was said, what was read, counted and
spent, and the calls to servers. A killed command finds its finished units there; OUT itself
appears whole at the end.
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
from alignlab.errors import BadInput
from alignlab.runs import Run, RunIdentity


@dataclass(frozen=True)
class FileWritten:
    """What a command wrote."""

    path: str
    rows: int
    records: str
    """Folder of the records and the account of the work."""
    note: str = ""
    """What was left out, in words; empty where nothing was."""

    def __str__(self) -> str:
        return f"{self.path}: {self.rows} rows" + (f" ({self.note})" if self.note else "")


def workplace(out: Path) -> Path:
    """The run directory beside a file.

    Raises:
        BadInput: the file has another ending, or is there already and no such command wrote it.
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
    """The run beside a file, with what a stage is handed; closed at the end.

    Args:
        identity: what decides the content of the file, by name.
    """
    run = Run.start(workplace(out), RunIdentity(command, identity, (seed,)))
    try:
        template = identity.get("chat_template") or None
        lab = RunContext(run, seed, hardware, template)
        torch.set_num_threads(lab.threads)
        yield lab
    finally:
        run.close()
