"""Two sides of a comparison, each a process of its own that takes turns when it is told to.

A side says lines that start with `@@`; all else it prints is ignored.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignlab import progress
from alignlab.errors import RunFailed

HERE = Path(__file__).parent


class Side:
    """A process that takes a turn of its work when told to.

    Args:
        script: file in this folder that is run, as `SCRIPT NAME WORK_FILE`.
        name: which side it is.
        work_file: what it is to do; its log is written beside it.
        python: the interpreter, where it is not this one; alignlab's source is on its path.
        limit_s: seconds after which a start that is not done is ended.
    """

    def __init__(
        self,
        script: str,
        name: str,
        work_file: Path,
        *,
        python: str | None = None,
        limit_s: float | None = None,
    ) -> None:
        self.name = name
        self._log = work_file.with_name(f"{work_file.stem}-{name}.log").open("w+")
        path = {"PYTHONPATH": str(HERE.parent / "src")} if python else {}
        self._process = subprocess.Popen(
            [python or sys.executable, str(HERE / script), name, str(work_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONWARNINGS": "ignore", **path},
            text=True,
        )
        self.ready = self._answer(limit_s)

    def turn(self, word: str = "go", *, limit_s: float | None = None) -> dict[str, Any]:
        """Let it take its next turn; what it says of it.

        Raises:
            RunFailed: the process ended, or was ended after the seconds of its limit.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{word}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the log tells why it ended
        return self._answer(limit_s)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _answer(self, limit_s: float | None) -> dict[str, Any]:
        assert self._process.stdout is not None
        timer = threading.Timer(limit_s or 0, self._process.kill)
        if limit_s is not None:
            timer.start()
        began = time.monotonic()
        try:
            for line in self._process.stdout:
                if line.startswith("@@"):
                    answer: dict[str, Any] = json.loads(line[2:])
                    return answer
        finally:
            timer.cancel()
        if limit_s is not None and time.monotonic() - began >= limit_s:
            raise RunFailed(f"the {self.name} side was ended after {limit_s:.0f} s")
        self._log.seek(0)
        raise RunFailed(f"the {self.name} side ended:\n{self._log.read()[-2000:]}")


def alternated(
    script: str, names: Sequence[str], work_file: Path, steps: int, *, title: str
) -> dict[str, list[dict[str, Any]]]:
    """What each side says of each of its turns; who goes first changes from step to step."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    sides: list[Side] = []
    try:
        sides.extend(Side(script, name, work_file) for name in names)
        with progress.task(title, steps) as job:
            for step in range(steps):
                for side in sides if step % 2 else sides[::-1]:
                    found[side.name].append(side.turn())
                job.advance()
    finally:
        for side in sides:
            side.close()
    return found


class Turns:
    """The other end of a `Side`: waits for a turn, and tells its time and memory.

    A turn lasts from the word to the next call of `end`, whatever happens between; its seconds by
    the clock ("wall") and on the processor ("cpu") are told. Make it when the model is loaded:
    memory is told above that. On a GPU it is the peak of the GPU's memory, the model's included,
    and both ends of a turn wait for the GPU.
    """

    def __init__(self, **told: Any) -> None:
        self._gpu = gpu()
        if self._gpu:
            self._gpu.reset_peak_memory_stats()
        else:
            self._loaded_mb = _memory_mb("VmRSS")
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        say(told)
        self.begin()

    def begin(self) -> None:
        """Wait for the word; the process ends where none comes any more."""
        if not sys.stdin.readline():
            sys.exit()
        if self._gpu:
            self._gpu.synchronize()
        self._began = (time.perf_counter(), time.process_time())

    def end(self, **told: Any) -> None:
        if self._gpu:
            self._gpu.synchronize()
        wall, cpu = self._began
        times = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        if self._gpu:
            peak_mb = self._gpu.max_memory_allocated() / 2**20
        else:
            peak_mb = _memory_mb("VmHWM") - self._loaded_mb
        say({**told, **times, "peak_mb": peak_mb})


def gpu() -> Any:
    """torch.cuda where this process has torch and a GPU, else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def say(told: dict[str, Any]) -> None:
    """Answer the other end."""
    print("@@" + json.dumps(told), flush=True)


def _memory_mb(field: str) -> float:
    """VmRSS (resident now) or VmHWM (its peak since the last reset) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RunFailed(f"/proc/self/status has no {field}")
