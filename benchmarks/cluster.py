"""Measure the overhead of Ray on one machine, and the scaling of independent branches on hosts.

    python -m benchmarks.cluster [--repeat 3] [--tasks 8] [--seconds 10]   # as root
    python -m benchmarks.cluster --study [--occupied] [key=value ...]                 # as root
    python -m benchmarks.cluster --demo [key=value ...]

The first form runs tasks that compute for a fixed number of CPU seconds, on two hosts (network
namespaces) with one CPU each and on one, so that nothing but placement differs. The second runs a
small study of four seeds (compare_feedback on the sandbox) on the same hosts. The third compares
the demo on two processes of this machine with the demo on a Ray of its cores. Both ways alternate.
Other programs must be idle.

Hosts of one machine share its memory and caches, those of a network do not. With --occupied the
machine's other core does the same work, as a process of its own, while one host is measured, so
that a core is as fast alone as next to the other.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from tests.cluster.hosts import Hosts, environment, missing
from tests.conftest import ROOT

BUSY = "tests.cluster.busy_run"
STUDY = (
    "seeds=4", "prompts=120", "propose.n=0", "corpus.test_prompts=120", "iterations=1",
    "branches=[teacher_reward,sft_strong,random_judge]", "hardware.threads=1",
)  # fmt: skip
"""Settings of the study of independent seeds."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", action="store_true", help="overhead of Ray on the demo")
    parser.add_argument("--study", action="store_true", help="scaling of a study of four seeds")
    parser.add_argument("--occupied", action="store_true", help="other core at work for one host")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="CPU seconds of a task")
    parser.add_argument("settings", nargs="*", metavar="key=value")
    given = parser.parse_intermixed_args()
    if given.occupied and not given.study:
        parser.error("--occupied goes with --study")
    if given.demo:
        overhead(given.repeat, given.settings)
    else:
        if reason := missing():
            print(reason, file=sys.stderr)
            return 2
        if given.study:
            work = partial(study, settings=given.settings)
            beside = partial(occupied, given.settings) if given.occupied else nullcontext
            what = "a study of four seeds" + (", other core occupied" if given.occupied else "")
            scaling(given.repeat, what, work, beside)
        else:
            work = partial(busy, tasks=str(given.tasks), seconds=f"{given.seconds:g}")
            what = f"{given.tasks} tasks of {given.seconds:g} CPU seconds"
            scaling(given.repeat, what, work)
    return 0


def overhead(repeat: int, settings: list[str]) -> None:
    """Print the time of the demo on processes and on Ray, alternated."""
    ways = {"processes": "hardware.workers=2", "ray": "hardware.cluster=auto"}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeat):
        for way, setting in ways.items():
            out = Path(tempfile.mkdtemp(prefix="cluster-")) / "run"
            argv = [sys.executable, "-m", "alignlab", "run", "compare_feedback", *settings]
            argv += [setting, "hardware.threads=1", f"out={out}"]
            taken[way].append(timed(argv))
            shutil.rmtree(out.parent)
    row("demo, 2 processes", taken["processes"])
    row("demo, Ray of 2 CPUs", taken["ray"])
    ratios = [ray / own - 1 for own, ray in zip(taken["processes"], taken["ray"], strict=True)]
    each = ", ".join(f"{ratio:+.1%}" for ratio in ratios)
    print(f"overhead of Ray: median {statistics.median(ratios):+.1%}, all {each}")


def scaling(
    repeat: int,
    what: str,
    seconds_on: Callable[[Hosts, Path], float],
    beside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Print the time of the same work on one host and on two; the start of Ray is not counted.

    Args:
        beside: makes the context in which one host is measured.
    """
    taken: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeat):
        for number in taken:
            around = beside() if number == 1 else nullcontext()
            with Hosts(number, cpus=1) as hosts, tempfile.TemporaryDirectory() as folder, around:
                taken[number].append(seconds_on(hosts, Path(folder)))
    row(f"{what}, 1 host", taken[1])
    row(f"{what}, 2 hosts", taken[2])
    ratios = [one / two for one, two in zip(taken[1], taken[2], strict=True)]
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    print(f"scaling on 2 hosts: median {statistics.median(ratios):.2f}x, all {each}")


def busy(hosts: Hosts, folder: Path, tasks: str, seconds: str) -> float:
    """Return the seconds of tasks that only compute, as their run prints them."""
    return float(printed(hosts, folder, ["-m", BUSY, hosts.address, tasks, seconds]).split()[-1])


def study(hosts: Hosts, folder: Path, settings: list[str]) -> float:
    """Return the seconds of a whole study, from the start of its command to its end.

    Print those that its stages took together, which do not depend on how they are placed.
    """
    argv = ["-m", "alignlab", "run", "compare_feedback", *STUDY, *settings]
    began = time.perf_counter()
    printed(hosts, folder, [*argv, f"hardware.cluster={hosts.address}", f"out={folder / 'run'}"])
    seconds = time.perf_counter() - began
    events = map(json.loads, (folder / "run" / "events.jsonl").read_text().splitlines())
    stages = sum(one.get("seconds") or 0.0 for one in events if one["event"] == "done")
    print(f"{len(hosts.addresses)} hosts: {stages:.1f} s in stages", flush=True)
    return seconds


@contextmanager
def occupied(settings: list[str]) -> Iterator[None]:
    """Keep another core at the same study, in a process of its own, during the block."""
    argv = [sys.executable, "-m", "alignlab", "run", "compare_feedback", *STUDY, *settings]
    with tempfile.TemporaryDirectory() as folder:
        one = f"{shlex.join(argv)} hardware.workers=1 out={folder}/run"
        again = f"while rm -rf {folder}/run; do {one}; done"
        other = subprocess.Popen(["sh", "-c", again], cwd=ROOT, env=environment(),
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                 start_new_session=True)  # fmt: skip
        try:
            yield
        finally:
            os.killpg(other.pid, signal.SIGKILL)
            other.wait()


def printed(hosts: Hosts, folder: Path, argv: list[str]) -> str:
    """Return what a command of Python prints on the first host.

    Raises:
        RuntimeError: it failed.
    """
    log = folder / "log"
    code = hosts.run(0, [sys.executable, *argv], log).wait()
    text = log.read_text()
    if code:
        raise RuntimeError(text)
    return text


def timed(argv: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, cwd=ROOT, env=environment(), check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)  # fmt: skip
    return time.perf_counter() - began


def row(what: str, seconds: list[float]) -> None:
    low, high = min(seconds), max(seconds)
    print(f"{what:45}{statistics.median(seconds):8.1f} s   ({low:.1f} to {high:.1f})")


if __name__ == "__main__":
    sys.exit(main())
