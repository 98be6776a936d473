"""Hold the files of a stage against what was written, the first fault of each.

The status.json of a finished stage holds the SHA-256 of every file of the stage, a line of
commits.jsonl the CRC-32 of every record it names. Stages of version 0.1 have neither: their files
are held against committed lengths and numbers of records, and must be whole JSON or whole weights.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab.checkpoint_files import newest_whole
from alignlab.files import file_digest
from alignlab.whole_files import json_problem, read_mapping, seal, torn

LARGE = 256 * 2**20
"""Bytes from which reports take a weight file as whole if it is older than its stage's status."""
_VOLATILE = ("commits.jsonl", "drawn_rollouts.jsonl", "metrics.jsonl", "rollout_samples.jsonl")
"""Files of a stage that hold times, or that no later stage reads."""


def line_sums(lines: Iterable[bytes]) -> str:
    """Return the CRC-32 of every line, 8 hexadecimal digits each."""
    return "".join(f"{zlib.crc32(line):08x}" for line in lines)


@dataclass(frozen=True)
class Damage:
    """One damaged or missing file of a run."""

    file: Path
    problem: str
    """Expected and found."""
    line: int | None = None
    stage: str | None = None
    """Stage to do again; None for a file of the run itself."""

    def __str__(self) -> str:
        where = f"{self.file}" if self.line is None else f"{self.file}, line {self.line}"
        return f"{where}: expected {self.problem}"


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of a finished stage's files by name, model files included."""
    return {name: file_digest(file) for name, file in _files(folder).items()}


def content(files: Mapping[str, str]) -> str:
    """Return one hash of what later stages can read of a stage: records and weights, no times."""
    kept = {
        name: digest
        for name, digest in files.items()
        if name.endswith((".jsonl", ".safetensors")) and name not in _VOLATILE
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


Fault = tuple[str, int | None, str]
"""Name of a file, line, and what was expected and found."""


def stage_damage(folder: Path, stage: str, hash_large: bool) -> Iterator[Damage]:
    """Yield what is wrong with the files of a stage, the first fault of each."""
    if not folder.exists() or not any(f.name != ".lock" for f in folder.iterdir()):
        return
    for name in ("config.json", "status.json"):
        problem = read_mapping(folder / name)[1]
        # A kill may fall between the two.
        if problem and not (name == "status.json" and set(_files(folder)) == {"config.json"}):
            yield Damage(folder / name, problem, stage=stage)
            return
    status = read_mapping(folder / "status.json")[0]
    finished, known = status.get("state") == "done", status.get("files")
    commits = folder / "commits.jsonl"
    if commits.exists() and (fault := first_fault(commits, (), finished)):
        yield Damage(commits, fault[1], fault[0], stage)
        return
    units = _units(commits)
    if "sha256" in status and seal(status) != status:
        yield Damage(folder / "status.json", "the status that was written, found another content",
                     stage=stage)  # fmt: skip
    faults = (
        _known_faults(folder, known, units, hash_large)
        if finished and known is not None
        else _structural_faults(folder, status, units, finished, hash_large)
    )
    for name, line, problem in faults:
        yield Damage(folder / name, problem, line, stage)


def _known_faults(
    folder: Path, known: Mapping[str, str], units: Mapping[str, list[Any]], hash_large: bool
) -> Iterator[Fault]:
    """Hold a finished stage's files against their hashes."""
    since = (folder / "status.json").stat().st_mtime_ns
    present = _files(folder)
    for name, digest in known.items():
        file = present.get(name)
        if file is None:
            yield name, None, "a file of a finished stage, found none"
            continue
        size, changed = file.stat().st_size, file.stat().st_mtime_ns
        if size > LARGE and changed <= since and not hash_large and not torn(file):
            continue
        if file_digest(file) != digest:
            fault = torn(file) or (
                first_fault(file, units.get(name, ()), finished=True)
                if file.suffix == ".jsonl"
                else None
            )
            yield name, *(fault or (None, "the file that was written, found another content"))
    for name in present.keys() - known.keys():
        if name.endswith(".jsonl"):
            yield name, None, "no such file (the stage wrote none), found one"


def _structural_faults(
    folder: Path,
    status: Mapping[str, Any],
    units: Mapping[str, list[Any]],
    finished: bool,
    weights: bool,
) -> Iterator[Fault]:
    """Check what has no hashes: an unfinished stage, or one of version 0.1."""
    present = _files(folder)
    for name in units.keys() - present.keys():
        if units[name][-1]["end"]:
            yield name, None, f"{units[name][-1]['end']} bytes of records, found no file"
    if finished and "trained.jsonl" in units and not (folder / "model" / "config.json").exists():
        yield "model", None, "a trained model, found none"
    for name, file in present.items():
        if file.suffix == ".jsonl" and name != "commits.jsonl":
            if fault := first_fault(file, units.get(name, ()), finished):
                yield name, *fault
        elif file.suffix == ".json" and finished and (problem := json_problem(file)):
            yield name, None, problem
        elif (finished or weights) and (fault := torn(file)):
            yield name, *fault
    if weights and not finished:
        # A training resumes from the newest whole checkpoint, if there is one.
        newest = newest_whole(folder)
        for damage in newest.damaged if newest.path is None else ():
            yield str(damage.file.relative_to(folder)), None, damage.problem
    if finished and any(
        name in present and name not in units for name in status.get("records", {})
    ):
        yield "commits.jsonl", None, "the commits of the stage's records, found none"


def first_fault(
    file: Path, units: Sequence[Mapping[str, Any]], finished: bool
) -> tuple[int | None, str] | None:
    """Return the line and the problem of the first line that is not what was committed.

    Args:
        units: lines of commits.jsonl; without any, all whole lines are held to be JSON.
        finished: nothing may follow the last unit, and the last line must be whole.
    """
    marks = [(u["end"], u.get("crc32"), False) for u in units]
    if finished or not units:
        marks.append((file.stat().st_size, None, True))
    number = at = 0
    with file.open("rb") as stream:
        for end, sums, beyond in marks:
            start = number
            while at < end:
                line = stream.readline()
                number, at = number + 1, at + len(line)
                if not line.endswith(b"\n"):
                    if beyond and not finished:
                        return None
                    return (
                        number,
                        "a whole line, found half a line" if line else "a record, found the end",
                    )
                if units and beyond:
                    return number, "the end of the file, found another line"
                if problem := _line_problem(line, sums, number - start - 1):
                    return number, problem
    return None


def _line_problem(line: bytes, sums: str | None, index: int) -> str:
    try:
        json.loads(line)
    except ValueError:
        return "JSON, found a line that is not"
    known = None if sums is None else sums[8 * index : 8 * index + 8]
    return (
        "" if known in (None, line_sums([line])) else "the record that was written, found another"
    )


def _units(commits: Path) -> dict[str, list[Any]]:
    """Return the whole lines of commits.jsonl by the file that they name."""
    found: dict[str, list[Any]] = {}
    if commits.exists():
        for raw in commits.read_bytes().splitlines(keepends=True):
            if raw.endswith(b"\n"):
                line = json.loads(raw)
                found.setdefault(line["file"], []).append(line)
    return found


def _files(folder: Path) -> dict[str, Path]:
    """Return a stage's files by name, apart from its status, locks, trackers and checkpoints.

    Folders that a kill left unfinished (`model.tmp`) are no files of a stage.
    """
    return {
        str(name): file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and not (name := file.relative_to(folder)).name.startswith(".")
        and str(name) != "status.json"
        and not name.parts[0].startswith(("checkpoint-", "tracking"))
        and not file.name.endswith(".partial")
        and not name.parts[0].endswith((".tmp", ".partial", ".old"))
    }
