"""A study on a cluster has the records and figures of one on this machine's processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlab.redo import events
from tests.recipes import kill_resume
from tests.recipes.small import SMALL

pytest.importorskip("ray", reason="the extra [ray] is not installed")

STUDY = (
    "compare_feedback",
    *(setting for setting in SMALL if "workers" not in setting),
    "hardware.threads=1",
    "branches=[teacher_reward,random_judge]",
    "seeds=2",
)


@pytest.mark.heavy
def test_two_seeds_as_tasks_equal_two_as_processes(tmp_path: Path):
    here, there = tmp_path / "here", tmp_path / "there"
    kill_resume.finish((*STUDY, "hardware.workers=1"), here)
    kill_resume.finish((*STUDY, "hardware.cluster=auto"), there)
    expected, found = kill_resume.contents(here), kill_resume.contents(there)
    assert kill_resume.differences(expected, found) == ()
    tasks = [e["task"] for e in events(there) if e["event"] == "task"]
    studies = ["seed-0: study", "seed-1: study"]
    branches = [f"seed-{n}: {b}" for n in (0, 1) for b in ("random_judge", "teacher_reward")]
    # A study's first task ends at its branches, its second one measures them.
    assert sorted(tasks) == sorted([*studies, *studies, *branches])
    manifest = json.loads((there / "manifest.json").read_text())
    assert manifest["cluster"]["lost_attempts"] == 0
    assert manifest["outcome"]["peak_gigabytes"] >= manifest["cluster"]["peak_gigabytes"] > 0
    # The setting may change between two sessions of a run.
    kill_resume.finish((*STUDY, "hardware.workers=1"), there)


@pytest.mark.usefixtures("eight_cpus")
def test_the_plan_shows_the_places(alignlab):
    shown = alignlab("check", *STUDY, "hardware.cluster=auto", "--rough", "--sample", "0")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    (at,) = [i for i, line in enumerate(lines) if line.startswith("places")]
    assert lines[at].startswith("places    up to 4 tasks ready at a time, 1 CPU, 1.0 GB each")
    assert lines[at].endswith("GB each: 4 at once")
    assert lines[at + 1].strip() == "this machine: 8 CPUs, 16.0 GB; 8 tasks at once"


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("hardware.cluster=ray://head:10001", "expected auto, or HOST:PORT"),
        ("hardware.cluster=head", "expected auto, or HOST:PORT"),
    ],
)
def test_addresses_that_are_none_are_refused(alignlab, setting, expected):
    ended = alignlab("check", *STUDY, setting, "--sample", "0")
    assert ended.code == 2
    assert expected in ended.line


def test_without_ray_the_extra_is_named(alignlab, monkeypatch, tmp_path):
    monkeypatch.setattr("alignlab.cluster.session.find_spec", lambda name: None)
    out = tmp_path / "run"
    ended = alignlab("run", *STUDY, "hardware.cluster=auto", f"out={out}")
    assert ended.code == 2
    assert "pip install 'alignlab[ray]'" in ended.line
    assert not out.exists()


def test_a_launch_by_torchrun_and_a_cluster_exclude_each_other(monkeypatch):
    from alignlab.context import Hardware
    from alignlab.errors import BadInput

    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match=r"hardware\.cluster: has no effect here: torchrun"):
        Hardware(cluster="auto")
