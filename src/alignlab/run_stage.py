"""Keep the stages of a run: record files that grow unit by unit, and what the units cost.

Work is cut into *units* (a chunk of prompts, a training run). A unit's records are written first
and then named in the stage's `commits.jsonl` with the length the record file then has; what lies
behind the last committed length was written by a run that was killed, and is cut off on resume.
So every unit is done once and only once, and the record files of a resumed run are the same bytes
as those of a run that was never killed. Times live in status.json and events.jsonl alone.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from alignlab import meter, progress
from alignlab.at_once import in_order
from alignlab.changed_settings import refuse_change
from alignlab.files import lock, read_json, write_json
from alignlab.records import read_records, to_dict, to_line
from alignlab.redo import redo_later
from alignlab.stage_integrity import content, digests, line_sums
from alignlab.types import Count, Unscored, Usage
from alignlab.whole_files import seal

if TYPE_CHECKING:
    from alignlab.runs import Run

T = TypeVar("T")
S = TypeVar("S")

ALL = "all"
"""Unit of records that are made at once."""


@dataclass(frozen=True)
class Changed(Generic[T]):
    """A record that was changed on its way, with the reason; `Stage.map` counts it."""

    record: T
    reason: str


def _now() -> tuple[float, float]:
    """Return wall and processor time in seconds."""
    return time.monotonic(), time.process_time()


class _Clock:
    """Wall and processor time of a stage in seconds, without that of stages opened inside it."""

    def __init__(self) -> None:
        self._known = 0.0, 0.0
        self._since: tuple[float, float] | None = None

    def start(self) -> None:
        """Count the time from now on."""
        self._since = _now()

    def stop(self) -> None:
        """Count no time until the next start."""
        self._known, self._since = self._so_far(), None

    def lap(self) -> tuple[float, float]:
        """Return the time counted since the last lap."""
        found = self._so_far()
        self._known = 0.0, 0.0
        if self._since:
            self.start()
        return found

    def _so_far(self) -> tuple[float, float]:
        if self._since is None:
            return self._known
        wall, cpu = (now - then for now, then in zip(_now(), self._since, strict=True))
        return self._known[0] + wall, self._known[1] + cpu


class _Clocks(threading.local):
    """Clocks of this thread's open stages, of which the innermost runs."""

    def __init__(self) -> None:
        self._open: list[_Clock] = []

    def push(self, clock: _Clock) -> None:
        """Start the clock of a stage that opens inside the others."""
        if self._open:
            self._open[-1].stop()
        self._open.append(clock)
        clock.start()

    def pop(self) -> None:
        """Stop the clock of the innermost stage, which closes, and go on with the next."""
        self._open.pop().stop()
        if self._open:
            self._open[-1].start()


_open_clocks = _Clocks()


class Stage:
    """One step of a run; use as a context manager: leaving it without an error marks it done."""

    def __init__(self, run: Run, path: Path, identity: Mapping[str, Any]) -> None:
        self.run = run
        self.path = path
        self.name = "/".join(path.relative_to(run.path / "stages").parts)
        self.identity = identity
        self._files: dict[str, RecordFile[Any]] = {}
        self._usage = Usage()
        self._seconds = self._cpu_seconds = 0.0
        self._clock = _Clock()
        self._ends: dict[str, int] = {}
        self._units: dict[str, set[str]] = {}

    def __enter__(self) -> Stage:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = lock(self.path / ".lock", f"{self.name}: another process works on this stage")
        try:
            os.utime(self.path / ".lock")  # opened by this session: see `integrity.redo_later`
            self._open()
        except BaseException:
            os.close(self._lock)
            raise
        _open_clocks.push(self._clock)
        return self

    def _open(self) -> None:
        known = self.path / "config.json"
        if known.exists():
            refuse_change(known, read_json(known), self.identity, self.identity)
        else:
            write_json(known, to_dict(self.identity))
        status = self.path / "status.json"
        self.done = status.exists() and read_json(status)["state"] == "done"
        self._read_commits()
        if not self.done:
            write_json(status, {"state": "running"})
            self.run.event("stage", stage=self.name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not self.done:
                self._finish()
            elif kind is not None:
                # On a full disk this fails like the work before it, whose error is raised.
                with suppress(OSError):
                    self.run.event("failed", stage=self.name, error=f"{kind.__name__}: {error}")
        finally:
            _open_clocks.pop()
            os.close(self._lock)

    def _finish(self) -> None:
        seconds, cpu_seconds = self._clock.lap()
        self._seconds += seconds
        self._cpu_seconds += cpu_seconds
        files = digests(self.path)
        status = {
            "state": "done",
            "seconds": round(self._seconds, 3),
            "cpu_seconds": round(self._cpu_seconds, 3),
            "usage": asdict(self._usage),
            "records": {name: file.count() for name, file in sorted(self._files.items())},
            "files": files,
        }
        now = content(files)
        redo_later(self.run.path, self.name, now)
        write_json(self.path / "status.json", seal(status))
        self.run.event("done", stage=self.name, seconds=status["seconds"], content=now)
        self.done = True

    def records(self, name: str, cls: type[T]) -> RecordFile[T]:
        """Return the stage's file of records of one kind."""
        filename = f"{name}.jsonl"
        file = RecordFile(self, filename, cls)
        if not self.done:
            file.truncate(self._ends.get(filename, 0))
        self._files[filename] = file
        return file

    def write(self, name: str, cls: type[T], records: Iterable[T]) -> list[T]:
        """Write a whole file of records as one unit (once), and return what it holds."""
        file = self.records(name, cls)
        if "all" not in file.units:
            file.append("all", list(records))
        return file.read()

    def once(
        self, name: str, cls: type[T], work: Callable[[], Sequence[T]], *, title: str
    ) -> list[T]:
        """Do work whose records are written as one unit, and return the file's records.

        Args:
            name: name of the record file, without its ending.
            title: title of the progress bar.
        """
        file = self.records(name, cls)
        if ALL not in file.units:
            before = meter.mark()
            with progress.task(title, 1):
                file.append(ALL, work(), meter.since(before))
        return file.read()

    def map(
        self,
        name: str,
        cls: type[T],
        items: Sequence[S],
        work: Callable[[Sequence[S]], Sequence[T | Changed[T] | Unscored]],
        *,
        chunk: int,
        title: str,
        at_once: Callable[[], int] | None = None,
    ) -> list[T]:
        """Work through items chunk by chunk, each chunk written once, and return all records.

        Reasons of what is `Unscored` are counted in the stage's file "lost", chunk by chunk.

        Args:
            name: name of the record file, without its ending.
            chunk: items per unit; the same in every run of the stage.
            title: title of the progress bar.
            at_once: number of chunks that are worked on at once; it is asked for if there is any.
        """
        file = self.records(name, cls)
        parts = [(str(i // chunk), items[i : i + chunk]) for i in range(0, len(items), chunk)]
        todo = [(unit, some) for unit, some in parts if unit not in file.units]
        if not todo or ALL in file.units:  # runs of older versions wrote some stages at once
            return file.read()
        with progress.task(title, len(items)) as bar:
            bar.advance(len(items) - sum(len(some) for _, some in todo))
            threads = 1 if at_once is None else at_once()
            results = in_order(work, [some for _, some in todo], threads)
            for unit, some in todo:
                before = meter.mark()
                found = next(results)
                lost = Counter(f.reason for f in found if isinstance(f, Unscored))
                changed = Counter(f.reason for f in found if isinstance(f, Changed))
                if lost or changed:
                    self._tally(unit, lost, changed)
                made = [
                    f.record if isinstance(f, Changed) else f
                    for f in found
                    if not isinstance(f, Unscored)
                ]
                file.append(unit, made, meter.since(before))
                bar.advance(len(some))
        return file.read()

    def _tally(self, unit: str, lost: Mapping[str, int], changed: Mapping[str, int]) -> None:
        """Count a unit's losses and changes; before the unit, as a repeated unit counts once."""
        file = self.records("lost", Count)
        if unit not in file.units:
            file.append(unit, [Count(self.name, "lost", 0, dict(lost), dict(changed))])

    def lost(self) -> dict[str, int]:
        """Return how many items were lost to `map`, by reason."""
        total: Counter[str] = Counter()
        for count in self.records("lost", Count).read():
            total.update(count.dropped)
        return dict(total)

    def changed(self) -> dict[str, int]:
        """Return how many records `map` changed, by reason."""
        total: Counter[str] = Counter()
        for count in self.records("lost", Count).read():
            total.update(count.changed)
        return dict(total)

    def count(self, counts: Sequence[Count]) -> None:
        """Keep what was kept and dropped; it goes into the manifest."""
        self.write("counts", Count, counts)

    def count_further(self, unit: str, counts: Sequence[Count]) -> None:
        """Keep counts after the first ones, once, under the name of a unit."""
        file = self.records("counts", Count)
        if counts and unit not in file.units:
            file.append(unit, list(counts))

    def spend(self, usage: Usage) -> None:
        """Add to what this stage has spent, outside of committed units."""
        self._usage += usage

    def commit(self, filename: str, unit: str, end: int, usage: Usage, crc32: str) -> None:
        """Name a written unit in commits.jsonl, with the length of its file and its checksums."""
        seconds, cpu_seconds = self._clock.lap()
        line = {
            "file": filename,
            "unit": unit,
            "end": end,
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu_seconds, 3),
            "usage": asdict(usage),
            "crc32": crc32,
        }
        with (self.path / "commits.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._account(line)

    def units(self, filename: str) -> set[str]:
        """Return the committed units of a record file."""
        return self._units.setdefault(filename, set())

    def _account(self, line: Mapping[str, Any]) -> None:
        self._ends[line["file"]] = line["end"]
        self.units(line["file"]).add(line["unit"])
        self._usage += Usage(**line["usage"])
        self._seconds += line["seconds"]
        self._cpu_seconds += line.get("cpu_seconds", 0.0)  # 0.1 noted none

    def _read_commits(self) -> None:
        path = self.path / "commits.jsonl"
        if not path.exists():
            return
        whole = 0
        for raw in path.read_bytes().splitlines(keepends=True):
            if not raw.endswith(b"\n"):
                break
            whole += len(raw)
            self._account(json.loads(raw))
        os.truncate(path, whole)


class RecordFile(Generic[T]):
    """An append-only JSONL file of one kind of record, written unit by unit."""

    def __init__(self, stage: Stage, filename: str, cls: type[T]) -> None:
        self.stage = stage
        self.path = stage.path / filename
        self.cls = cls

    @property
    def units(self) -> set[str]:
        """The units already written."""
        return self.stage.units(self.path.name)

    def append(self, unit: str, records: Sequence[T], usage: Usage | None = None) -> None:
        """Write the records of a unit and commit it; a unit is written once.

        Raises:
            RunFailed: another process took over the run.
        """
        if unit in self.units:
            raise ValueError(f"{self.path}: unit {unit!r} is already written")
        if self.stage.run.lease is not None:
            self.stage.run.lease.check()
        lines = [to_line(record).encode() for record in records]
        with self.path.open("ab") as file:
            file.writelines(lines)
            file.flush()
            end = file.tell()
        self.stage.commit(self.path.name, unit, end, usage or Usage(), line_sums(lines))

    def read(self) -> list[T]:
        """Return all records, in the order written."""
        return list(read_records(self.path, self.cls))

    def count(self) -> int:
        """Return the number of records in the file."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            return sum(1 for _ in file)

    def truncate(self, end: int) -> None:
        """Cut off what a killed run left behind the last committed unit."""
        if self.path.exists() and self.path.stat().st_size > end:
            os.truncate(self.path, end)
