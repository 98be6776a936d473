"""Kill a run at random instants, resume it to its end, and hold every record against a run that
was left alone; then start two processes on one folder at once, and compare again.

    python -m tests.recipes.kill_resume --out DIR --kills 30 [--recipe compare_feedback]
        [--whole RUN] [--small] [key=value ...]

`--whole` names a finished run of the same settings, where one is there already; `--small` makes
the study a matter of seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT
from tests.recipes.small import SMALL, once

FINE = ("sft.log_every=1", "preference.log_every=1", "sft.save_every=1", "preference.save_every=1")
"""Every step of training is a line of metrics and a checkpoint, so that kills fall between them."""
POLL_S = 0.02
LIMIT_S = 24 * 3600


class Instant(NamedTuple):
    """When to kill: so many seconds after so many different events are in events.jsonl."""

    events: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What a killed and resumed run came to."""

    kills: int
    """Kills that hit a living process."""
    sessions: int
    compared: int
    """Files that were compared."""
    differences: tuple[str, ...]


def kill_and_compare(
    whole: Path, out: Path, command: Sequence[str], kills: int, seed: int = 0
) -> Outcome:
    """Run a command with `out=OUT` added, killing it so often, and compare the run with `whole`.

    Args:
        whole: a finished run of the same settings, from whose events the instants are drawn.
        command: recipe and settings as on the command line.
    """
    hit = sessions = 0
    for instant in instants(whole / "events.jsonl", kills, seed):
        sessions += 1
        process = start(command, out)
        if kill_at(process, out / "events.jsonl", instant):
            hit += 1
        elif process.returncode != 0:
            raise RuntimeError(f"session {sessions} failed: see {out.with_suffix('.log')}")
    finish(command, out)
    found, expected = contents(out), contents(whole)
    return Outcome(hit, sessions + 1, len(expected), differences(expected, found))


@dataclass(frozen=True)
class TwoAtOnce:
    """What two processes on one folder came to."""

    codes: tuple[int, ...]
    """Exit codes, the lower first."""
    refused: str
    """All that the refused one printed on stderr."""
    differences: tuple[str, ...]


def two_at_once(whole: Path, out: Path, command: Sequence[str]) -> TwoAtOnce:
    """Start two processes on the same new folder at once, and compare the run with `whole`."""
    logs = [out.with_name(f"{out.name}-{n}") for n in (1, 2)]
    both = [start(command, out, log) for log in logs]
    codes = [process.wait(LIMIT_S) for process in both]
    said = [
        log.with_suffix(".log").read_text() for log, code in zip(logs, codes, strict=True) if code
    ]
    found = contents(out) if 0 in codes else {}
    return TwoAtOnce(
        tuple(sorted(codes)), "".join(said).strip(), differences(contents(whole), found)
    )


def start(
    command: Sequence[str], out: Path, log_name: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a run in a process group of its own."""
    with (log_name or out).with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "alignlab", "run", *once(*command), f"out={out}"],
            cwd=ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def finish(command: Sequence[str], out: Path) -> None:
    """Run to the end."""
    if start(command, out).wait(LIMIT_S) != 0:
        raise RuntimeError(f"the run failed: {out.with_suffix('.log').read_text()[-2000:]}")


def instants(events: Path, kills: int, seed: int) -> list[Instant]:
    """Instants spread over the working time of a run: one drawn in each of `kills` equal parts."""
    draw = random.Random(seed)
    times = _first_times(events)
    whole = times[-1] - times[0]
    found = []
    for part in range(kills):
        at = times[0] + whole * (part + draw.random()) / kills
        before = [t for t in times if t <= at]
        found.append(Instant(len(before), at - before[-1]))
    return found


def kill_at(process: subprocess.Popen[bytes], events: Path, instant: Instant) -> bool:
    """Kill a process group at an instant; False when the process ended before."""
    while len(_seen(events)) < instant.events:
        if process.poll() is not None:
            return False
        time.sleep(POLL_S)
    time.sleep(instant.seconds)
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def contents(run: Path) -> dict[str, bytes]:
    """File -> what of it must be the same in every run of the same settings."""
    kept = {}
    for file in sorted((run / "stages").rglob("*")):
        name = str(file.relative_to(run))
        if file.name == "metrics.jsonl":
            kept[name] = _without_times(file)
        elif file.suffix == ".safetensors" or (
            file.suffix == ".jsonl" and not file.name.endswith("commits.jsonl")
        ):
            kept[name] = file.read_bytes()
    kept["summary.json"] = _without(run / "summary.json", "wall_seconds")
    # A plan is an estimate for this machine, an outcome its times.
    of_machine = ("wall_seconds", "created", "command", "machine", "sha256", "plan", "outcome",
                  "cluster")  # fmt: skip
    kept["manifest.json"] = _without(run / "manifest.json", *of_machine)
    kept["study.json"] = (run / "study.json").read_bytes()
    return kept


def differences(expected: dict[str, bytes], found: dict[str, bytes]) -> tuple[str, ...]:
    """Names of the files that only one run has, or that differ."""
    return tuple(
        name
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    )


def _without_times(metrics: Path) -> bytes:
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows]
    return json.dumps(kept).encode()


def _without(file: Path, *keys: str) -> bytes:
    plain = json.loads(file.read_text())
    return json.dumps({k: v for k, v in plain.items() if k not in keys}).encode()


def _read(events: Path) -> list[dict[str, str]]:
    lines = events.read_text().splitlines(keepends=True) if events.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _seen(events: Path) -> set[tuple[str, str]]:
    """Different events so far; what a resumed run says again does not count again."""
    counted = ("start", "stage", "done")
    return {(e["event"], e.get("stage", "")) for e in _read(events) if e["event"] in counted}


def _first_times(events: Path) -> list[float]:
    """When each different event came first, in seconds."""
    first: dict[tuple[str, str], float] = {}
    for event in _read(events):
        if event["event"] in ("start", "stage", "done"):
            key = event["event"], event.get("stage", "")
            first.setdefault(key, datetime.fromisoformat(event["time"]).timestamp())
    return sorted(first.values())


def main() -> int:
    """The command above; exit code 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--recipe", default="compare_feedback")
    parser.add_argument("--small", action="store_true", help="a study of seconds")
    parser.add_argument("--whole", type=Path, help="a finished run of the same settings")
    parser.add_argument("--seed", type=int, default=0, help="decides the instants")
    parser.add_argument("settings", nargs="*", metavar="key=value")
    given = parser.parse_intermixed_args()
    given.out.mkdir(parents=True, exist_ok=True)
    small = [*SMALL, *FINE, "preference.epochs=2"] if given.small else []
    command = [given.recipe, *small, *given.settings]
    whole = (given.whole or given.out / "whole").resolve()
    if not given.whole:
        finish(command, whole)
    killed = (given.out / "killed").resolve()
    shutil.rmtree(killed, ignore_errors=True)
    outcome = kill_and_compare(whole, killed, command, given.kills, given.seed)
    print(
        f"{outcome.kills} kills in {outcome.sessions} sessions, {outcome.compared} files "
        f"compared, {len(outcome.differences)} differ {', '.join(outcome.differences)}".rstrip()
    )
    shared = (given.out / "two-at-once").resolve()
    shutil.rmtree(shared, ignore_errors=True)
    two = two_at_once(whole, shared, command)
    print(
        f"two processes at once: exit codes {two.codes[0]} and {two.codes[1]}, "
        f"{len(two.differences)} files differ; refused with {two.refused!r}"
    )
    return 1 if outcome.differences or two.differences else 0


if __name__ == "__main__":
    sys.exit(main())
