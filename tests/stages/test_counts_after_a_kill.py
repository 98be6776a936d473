"""A kill between the last unit and the count leaves a stage that is counted when it is resumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlab.feedback.rules import RandomJudge
from alignlab.generation.scripted import ScriptedEngine
from alignlab.runs import Stage
from alignlab.stages.judge import judge
from alignlab.stages.lab import Lab
from alignlab.stages.propose import Material, ProposeSettings, propose
from alignlab.stages.sample import SampleSettings, sample
from tests.stages.making import lab, prompt, responses

PROMPTS = [prompt(i) for i in range(3)]


def say(request: object, sample: int) -> str:
    return f"Who was the person in row {getattr(request, 'id', '')} then?"


def sampled(where: Lab) -> None:
    sample(where, ScriptedEngine(say), PROMPTS, SampleSettings(n=2, chunk=2))


def judged(where: Lab) -> None:
    judge(where, RandomJudge(), PROMPTS, [r for p in PROMPTS for r in responses(p, "a", "b")])


def proposed(where: Lab) -> None:
    propose(
        where,
        ScriptedEngine(say),
        Material(PROMPTS, [prompt(9)]),
        ProposeSettings(n=3, max_rounds=1),
    )


def thought(where: Lab) -> None:
    engine = ScriptedEngine(lambda request, k: ("<think>hm</think>" if k else "") + f"No {k}.")
    drawn = sample(where, engine, PROMPTS, SampleSettings(n=2, chunk=2))
    assert [r.text for r in drawn] == ["No 0.", "No 1."] * 3
    (line,) = [x for p in where.run.path.rglob("counts.jsonl") for x in p.open()]
    assert json.loads(line)["changed"] == {"thoughts taken off": 3}


def files(path: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(path)): p.read_bytes()
        for p in path.glob("stages/*/*.jsonl")
        if p.name != "commits.jsonl"
    }


@pytest.mark.parametrize("work", [sampled, thought, judged, proposed])
@pytest.mark.parametrize("at", range(5))
def test_every_kill_between_commits(tmp_path, monkeypatch, work, at: int):
    whole = lab(tmp_path / "whole")
    work(whole)
    commit, left = Stage.commit, [at]

    def dying(self: Stage, *arguments: object) -> None:
        commit(self, *arguments)
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    killed = lab(tmp_path / "killed")
    with monkeypatch.context() as patched:
        patched.setattr(Stage, "commit", dying)
        try:
            work(killed)
        except KeyboardInterrupt:
            killed.run.close()
    killed.run.close()
    work(lab(tmp_path / "killed"))
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert all(json.loads(c) for c in files(tmp_path / "whole").values() if c.count(b"\n") == 1)
