"""Three hosts with addresses of their own: workers, hosts, cables and the head are lost, no record.

A study that ran on them has the records and figures of one that ran on this machine.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from alignlab.redo import events
from tests.cluster.hosts import Hosts, environment, missing
from tests.conftest import ROOT
from tests.recipes import kill_resume
from tests.recipes.small import SMALL

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(bool(reason := missing()), reason=reason or "there is a cluster"),
]

PARTS, UNITS = 6, 20
TOY = ("-m", "tests.cluster.toy_run")
STUDY = (
    "compare_feedback",
    *(setting for setting in SMALL if "workers" not in setting),
    "hardware.threads=1",
    "branches=[teacher_reward,random_judge,sft_strong]",
)
LIMIT_S = 600


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with Hosts(3) as found:
        yield found


@pytest.fixture
def whole(hosts: Hosts) -> Hosts:
    """The cluster with all of its hosts."""
    for host in range(3):
        hosts.mend(host)
    if not hosts.is_up(0):
        for host in (1, 2):
            hosts.kill(host)
    for host in range(3):
        if not hosts.is_up(host):
            hosts.kill(host)
            hosts.start(host)
    return hosts


def toy(hosts: Hosts, out: Path, pause: float = 0.5) -> subprocess.Popen[bytes]:
    """Start tasks without models from the head."""
    words = [hosts.address, str(out), str(PARTS), str(UNITS), str(pause)]
    return begun(hosts, 0, [sys.executable, *TOY, *words], out)


def begun(hosts: Hosts, host: int, argv: list[str], out: Path) -> subprocess.Popen[bytes]:
    """Start a command on a host, whose run is watched from here."""
    _running[out] = hosts.run(host, argv, out.with_suffix(".log"))
    return _running[out]


def ended(process: subprocess.Popen[bytes], out: Path) -> str:
    """What a command printed that ended without an error."""
    code = process.wait(LIMIT_S)
    printed = out.with_suffix(".log").read_text()
    assert code == 0, printed
    return printed


_running: dict[Path, subprocess.Popen[bytes]] = {}


def started(out: Path, number: int = 1) -> list[dict[str, Any]]:
    """Attempts at tasks, as soon as there are so many."""
    return until(lambda: [e for e in events(out) if e["event"] == "task"], number, out)


def lost(out: Path, number: int = 1) -> list[dict[str, Any]]:
    """Attempts that were lost, as soon as there are so many."""
    return until(lambda: [e for e in events(out) if e["event"] == "lost"], number, out)


def until(read: Callable[[], list[Any]], number: int, out: Path) -> list[Any]:
    deadline = time.monotonic() + LIMIT_S
    while len(found := read()) < number:
        over = time.monotonic() > deadline or _running[out].poll() is not None
        assert not over or len(read()) >= number, out.with_suffix(".log").read_text()
        time.sleep(0.1)
    return found


def refuse_lost_or_doubled(out: Path) -> None:
    """Check that every unit of every part was written once, and nothing else."""
    for part in range(PARTS):
        folder = out / f"stages/part-{part}/01-work"
        written = [json.loads(line) for line in (folder / "counts.jsonl").read_text().splitlines()]
        assert [one["kept"] for one in written] == list(range(UNITS))
        commits = [json.loads(line) for line in (folder / "commits.jsonl").open()]
        assert [one["unit"] for one in commits] == [str(unit) for unit in range(UNITS)]
        assert json.loads((folder / "status.json").read_text())["state"] == "done"


def test_a_worker_killed_at_five_instants_costs_its_unfinished_unit(whole: Hosts, tmp_path: Path):
    out, draw, kills = tmp_path / "run", random.Random(1), 0
    process = toy(whole, out, pause=1.0)
    while process.poll() is None and kills < 5:
        time.sleep(draw.uniform(0.2, 1.5))
        last = {e["task"]: e for e in started(out)}
        going = [e for e in last.values() if not _done(out, e["task"])]
        few = [e for e in going if e["attempt"] <= 2]  # within the attempts that a task has
        if few:
            with suppress(ProcessLookupError):
                os.kill(draw.choice(few)["pid"], signal.SIGKILL)
                kills += 1
                lost(out, kills)
    assert "attempt 2 of 4 goes on" in ended(process, out)
    assert kills == 5
    refuse_lost_or_doubled(out)
    assert {e["reason"] for e in lost(out)} == {"its worker is gone"}
    assert len({e["node"] for e in started(out)}) == 3


def test_a_host_that_dies_costs_its_unfinished_units(whole: Hosts, tmp_path: Path):
    out = tmp_path / "run"
    process = toy(whole, out)
    node = whole.addresses[2]
    until(lambda: [e for e in started(out) if e["node"] == node], 1, out)
    whole.kill(2)
    ended(process, out)
    refuse_lost_or_doubled(out)
    tasks = {e["task"] for e in lost(out)}
    assert tasks
    assert all(e["node"] != node for e in started(out) if e["task"] in tasks and e["attempt"] > 1)


def test_a_host_cut_off_for_30_s_writes_nothing_more(whole: Hosts, tmp_path: Path):
    out = tmp_path / "run"
    process = toy(whole, out, pause=1.5)
    node = whole.addresses[1]
    (first, *_) = until(lambda: [e for e in started(out) if e["node"] == node], 1, out)
    whole.cut(1)
    began = time.monotonic()
    lost(out)
    time.sleep(max(0.0, 30 - (time.monotonic() - began)))
    assert not Path(f"/proc/{first['pid']}").exists()  # its claim was another's
    whole.mend(1)
    ended(process, out)
    refuse_lost_or_doubled(out)


def test_the_head_is_killed_and_the_command_repeated(whole: Hosts, tmp_path: Path):
    out = tmp_path / "run"
    process = toy(whole, out)
    started(out, 3)
    until(lambda: list(out.rglob("counts.jsonl")), 1, out)
    whole.kill(0)  # with the command, which ran there
    assert process.wait(60) != 0
    before = {p: p.read_bytes() for p in out.rglob("counts.jsonl")}
    assert before
    for host in (1, 2):
        whole.kill(host)
    for host in (0, 1, 2):
        whole.start(host)
    ended(toy(whole, out), out)
    refuse_lost_or_doubled(out)
    assert all(path.read_bytes().startswith(kept) for path, kept in before.items())


def test_a_command_whose_head_is_gone_ends_with_one_line(whole: Hosts, tmp_path: Path):
    out = tmp_path / "run"
    words = [whole.address, str(out), str(PARTS), str(UNITS), "1.0"]
    process = begun(whole, 1, [sys.executable, *TOY, *words], out)
    started(out, 3)
    whole.kill(0)
    assert process.wait(120) == 1
    last = out.with_suffix(".log").read_text().splitlines()[-1]
    assert last == (
        f"alignlab: the head of the cluster at {whole.address} does not answer; the same command "
        "resumes when it does"
    )
    for host in (1, 2):
        whole.kill(host)
    for host in (0, 1, 2):
        whole.start(host)
    ended(toy(whole, out, pause=0.1), out)
    refuse_lost_or_doubled(out)


def test_engines_are_cut_off_and_die_and_no_chunk_is_lost(whole: Hosts, tmp_path: Path):
    out = tmp_path / "run"
    words = [whole.address, str(out), "1", "60", "1.0", "2"]
    process = begun(whole, 0, [sys.executable, *TOY, *words], out)
    started(out)
    engines = until(lambda: [e for e in events(out) if e["event"] == "engine"], 2, out)
    assert {e["node"] for e in engines} == set(whole.addresses[1:])  # the task is on the first
    counts = out / "stages/part-0/01-work/counts.jsonl"

    def written() -> int:
        return len(counts.read_text().splitlines()) if counts.exists() else 0

    until(lambda: [0] * written(), 3, out)
    whole.cut(2)  # nothing tells the task that its chunk will not come
    (cut_off,) = lost(out)
    whole.kill(1)  # there is no room to start them again
    assert lost(out, 2)[-1]["task"] != cut_off["task"]
    so_far = written()
    until(lambda: [0] * written(), so_far + 3, out)  # the task does the chunks itself
    ended(process, out)
    whole.mend(2)
    lines = [json.loads(line)["kept"] for line in counts.read_text().splitlines()]
    assert lines == [k * k for k in range(60)]
    assert len(lost(out, 2)) == 2


ALONE = [sys.executable, "-m", "alignlab", "run", *STUDY]


def study_here(out: Path, *settings: str) -> None:
    """Run the study on this machine alone."""
    with out.with_suffix(".log").open("wb") as log:
        subprocess.run(
            [*ALONE, *settings, "hardware.workers=1", f"out={out}"], cwd=ROOT, env=environment(),
            stdout=log, stderr=log, timeout=LIMIT_S, check=True,
        )  # fmt: skip


def test_a_study_on_three_hosts_equals_one_on_this_machine(whole: Hosts, tmp_path: Path):
    here, there = tmp_path / "here", tmp_path / "there"
    study_here(here)
    argv = [*ALONE, f"hardware.cluster={whole.address}", f"out={there}"]
    process = begun(whole, 0, argv, there)
    # A branch's worker is killed, too, as soon as there is one.
    (branch, *_) = until(
        lambda: [e for e in started(there) if e["task"] != "study" and _begun(there, e)], 1, there
    )
    with suppress(ProcessLookupError):
        os.kill(branch["pid"], signal.SIGKILL)
    ended(process, there)
    expected, found = kill_resume.contents(here), kill_resume.contents(there)
    assert kill_resume.differences(expected, found) == ()
    assert len(expected) > 50
    assert {e["node"] for e in started(there)} <= set(whole.addresses)
    assert len({e["node"] for e in started(there)}) > 1
    assert [e["task"] for e in lost(there)] == [branch["task"]]
    manifest = json.loads((there / "manifest.json").read_text())
    assert manifest["cluster"]["lost_attempts"] == 1


def test_a_study_whose_engines_are_on_other_hosts_equals_one_on_this_machine(
    whole: Hosts, tmp_path: Path
):
    here, there = tmp_path / "here", tmp_path / "there"
    study_here(here)
    argv = [*ALONE, f"hardware.cluster={whole.address}", "hardware.engines=2", f"out={there}"]
    process = begun(whole, 0, argv, there)
    engines = until(lambda: [e for e in events(there) if e["event"] == "engine"], 2, there)
    until(lambda: list(there.glob("stages/**/responses.jsonl")), 1, there)
    os.kill(engines[0]["pid"], signal.SIGKILL)
    ended(process, there)
    expected, found = kill_resume.contents(here), kill_resume.contents(there)
    assert kill_resume.differences(expected, found) == ()
    assert {e["node"] for e in engines} == set(whole.addresses[1:])
    manifest = json.loads((there / "manifest.json").read_text())
    assert manifest["cluster"]["lost_attempts"] == len([
        e for e in events(there) if e["event"] == "lost"
    ]) <= 1  # fmt: skip


LONGER = ("seeds=3", "preference.epochs=4", "sample.n=6")


def test_a_study_goes_through_kills_a_cut_cable_and_the_loss_of_its_head(
    whole: Hosts, tmp_path: Path
):
    here, there, draw = tmp_path / "here", tmp_path / "there", random.Random(3)
    study_here(here, *LONGER)
    argv = [*ALONE, *LONGER, f"hardware.cluster={whole.address}", f"out={there}"]
    process = begun(whole, 0, argv, there)
    kills, killed = 0, set[int]()
    while process.poll() is None and kills < 5:
        time.sleep(draw.uniform(0.2, 2.0))
        last = {e["task"]: e for e in started(there)}
        few = [e for e in last.values() if e["attempt"] <= 2 and _begun(there, e)]
        few = [e for e in few if e["pid"] not in killed and Path(f"/proc/{e['pid']}").exists()]
        if few:
            before = len(_lost(there))
            chosen = draw.choice(few)["pid"]
            killed.add(chosen)
            os.kill(chosen, signal.SIGKILL)
            deadline = time.monotonic() + 30  # the worker may have ended its task and be idle
            while len(_lost(there)) == before and time.monotonic() < deadline:
                time.sleep(0.2)
            kills += len(_lost(there)) > before
    assert process.poll() is None, there.with_suffix(".log").read_text()
    away = until(lambda: [e for e in started(there) if _at_work(e, whole)], 1, there)[-1]
    host = whole.addresses.index(away["node"])
    whole.cut(host)
    time.sleep(30)
    whole.mend(host)
    assert process.poll() is None, "the study ended before its head was lost: make it longer"
    whole.kill(0)  # with the command, which ran there
    assert process.wait(60) != 0
    for host in (1, 2):
        whole.kill(host)
    for host in (0, 1, 2):
        whole.start(host)
    ended(begun(whole, 0, argv, there), there)
    expected, found = kill_resume.contents(here), kill_resume.contents(there)
    assert kill_resume.differences(expected, found) == ()
    assert kills == 5
    assert len({e["node"] for e in started(there)}) == 3


def _at_work(event: dict[str, Any], hosts: Hosts) -> bool:
    """Whether a task's worker lives, on a host that is not the head."""
    return event["node"] != hosts.addresses[0] and Path(f"/proc/{event['pid']}").exists()


def _lost(out: Path) -> list[dict[str, Any]]:
    return [e for e in events(out) if e["event"] == "lost"]


def _done(out: Path, part: str) -> bool:
    status = out / f"stages/{part}/01-work/status.json"
    return status.exists() and '"done"' in status.read_text()


def _begun(out: Path, event: dict[str, Any]) -> bool:
    """Whether a task has begun a stage after it was started."""
    return any(e["event"] == "stage" and e["time"] > event["time"] for e in events(out))
