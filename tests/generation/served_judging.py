"""One judging over HTTP, broken in every way: faults, a kill, a budget; any server may be behind.

`judged` runs `alignlab judge` through a proxy that breaks 30% of the calls: a process that is
killed in the middle, then on to a budget, then to the end; and says what must hold of it.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import ROOT
from tests.generation.faulty_proxy import FAULTS, Proxy
from tests.running import CommandLine, Ended

KEY = "sk-secret-0123456789abcdef"
SAMPLES = 2
RESPONSES = 20
"""Rows with an answer each; every answer takes a call where the server gives several samples."""


@dataclass(frozen=True)
class Judging:
    """A judging that went through everything."""

    rows: list[dict[str, Any]]
    proxy: Proxy
    at_kill: int
    """Calls paid when the first process was killed."""
    at_budget: int
    """Calls paid when the budget stopped the second."""
    budget: int


def responses(folder: Path) -> Path:
    """A file of answers to judge."""
    path = folder / "answers.jsonl"
    rows = [
        {"prompt": f"Tell me about the river number {k}.", "completion": f"The river is {k} long."}
        for k in range(RESPONSES)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def judged(
    alignlab: CommandLine, proxy: Proxy, model: str, folder: Path, *, timeout_s: float
) -> Judging:
    """Judge through the proxy: killed when it holds, stopped at a budget, then to the end.

    Args:
        alignlab: the command line, in this process.
        proxy: with `hold_after` set.
        model: what the server calls its model.
        folder: where to work.
        timeout_s: seconds after which the client gives a silent call up.
    """
    out = folder / "judged.jsonl"
    data = responses(folder)

    def command(**options: object) -> tuple[str, ...]:
        options |= {"concurrency": 8, "timeout_s": timeout_s, "backoff_s": 0.05, "attempts": 12}
        said = "&".join(f"{name}={value}" for name, value in options.items())
        judge = f"llm,samples={SAMPLES},prompt=short_score,max_tokens=12,temperature=0.9"
        spec = f"{judge}:openai:{model}@{proxy.url}?{said}"
        return ("judge", "--judge", spec, "--responses", str(data), "--out", str(out))

    first = folder / "first.log"
    _start_and_kill(command(), first, proxy, folder)
    at_kill = proxy.paid.total()
    proxy.release()
    budget = at_kill + 3
    stopped = alignlab(*command(budget_calls=budget))
    at_budget = proxy.paid.total()
    assert stopped.code == 1, stopped.err
    assert f"the budget of {budget} calls is spent" in stopped.line
    again = alignlab(*command(budget_calls=budget))
    assert again.code == 1
    assert proxy.paid.total() == at_budget
    ended = alignlab(*command(budget_calls=10 * budget))
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    _no_key(folder, stopped, again, ended)
    return Judging(rows, proxy, at_kill, at_budget, budget)


def check(judging: Judging) -> None:
    """Every response has one verdict or a reason, and nothing was paid twice."""
    rows, proxy = judging.rows, judging.proxy
    assert len(rows) == RESPONSES
    assert len({(row["prompt"], row["completion"]) for row in rows}) == RESPONSES
    for row in rows:
        assert ("score" in row) != ("unscored" in row), row
    assert 0 < judging.at_kill < judging.at_budget <= judging.budget
    twice = {text: n for text, n in proxy.paid.items() if n > 1}
    assert not twice
    assert proxy.paid.total() >= RESPONSES
    # Nothing that the proxy made up came through, and faults of many kinds there were.
    assert all("Très bien" not in str(row) for row in rows)
    broken, came = proxy.faults.total(), proxy.came.total()
    assert 0.1 < broken / came < 0.7, (broken, came)
    assert len(proxy.faults) >= len(FAULTS) // 2, proxy.faults
    assert proxy.keys == {f"Bearer {KEY}"}


def accounts(folder: Path) -> dict[str, float]:
    """The one endpoint's account, as written beside the cache."""
    written = json.loads((folder / "judged.jsonl.run" / "cache" / "spent.json").read_text())
    (account,) = written.values()
    return account


def reasons(judging: Judging) -> Counter[str]:
    """Why responses have no score."""
    return Counter(row["unscored"] for row in judging.rows if row.get("unscored"))


def _start_and_kill(command: tuple[str, ...], log: Path, proxy: Proxy, folder: Path) -> None:
    """Run until the proxy holds and all answers before are kept, then kill without warning."""
    environment = {"OPENAI_API_KEY": KEY, "OMP_NUM_THREADS": "1", "OPENAI_LOG": "debug"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "alignlab", *command], cwd=ROOT, stdout=file, stderr=file,
            env={**os.environ, **environment}, start_new_session=True,
        )  # fmt: skip
        try:
            wait_until(lambda: proxy.held.is_set() or process.poll() is not None, 240)
            assert process.poll() is None, log.read_text()[-2000:]
            cache = folder / "judged.jsonl.run" / "cache" / "calls.sqlite"
            wait_until(lambda: _kept(cache) == proxy.passed, 60)
        finally:
            end_group(process)
    assert not (folder / "judged.jsonl").exists()


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process started in a session of its own, with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_until(true: Callable[[], bool], seconds: float) -> None:
    """Wait for something that another process or thread does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def _kept(cache: Path) -> int:
    db = sqlite3.connect(f"file:{cache}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT COUNT(*) FROM answers").fetchone()[0])
    finally:
        db.close()


def _no_key(folder: Path, *ended: Ended) -> None:
    """The key is in no file and in nothing that was printed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "calls.sqlite" for path in files)
    assert any(path.name == "first.log" for path in files)
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path
    for one in ended:
        assert KEY not in one.out + one.err
