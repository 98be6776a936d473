"""Samples of every step: first response to the first prompts, whole after a kill."""

from __future__ import annotations

from pathlib import Path

from alignlab.records import read_records
from alignlab.training.environment import Sample, SampledGroup
from alignlab.training.rollout_samples import KEPT, RolloutSample, SamplesFile
from alignlab.types import Message, Prompt


def groups(n: int) -> list[SampledGroup]:
    return [
        SampledGroup(
            Prompt(f"p/{i}", (Message("user", f"Question {i}?"),)),
            (1, 2),
            (Sample(f"first {i}", (3, 4), True), Sample("second", (5,), False)),
        )
        for i in range(n)
    ]


def test_the_first_response_to_the_first_prompts_is_kept(tmp_path: Path) -> None:
    file = SamplesFile(tmp_path / "s.jsonl", 0)
    empty = SampledGroup(Prompt("p/x", (Message("user", "?"),)), (1,), ())
    file.write(1, [empty, *groups(6)], [(), *[(0.5, 1.0)] * 6])
    found = list(read_records(tmp_path / "s.jsonl", RolloutSample))
    assert len(found) == KEPT - 1  # one of the first prompts could not be answered
    assert found[0] == RolloutSample(1, "p/0", "Question 0?", "first 0", 0.5, 2, True)


def test_steps_to_be_repeated_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    file = SamplesFile(path, 0)
    for step in (1, 2, 3):
        file.write(step, groups(1), [(None, 1.0)])
    with path.open("a") as stream:
        stream.write('{"step": 4, "prom')  # torn by a kill
    SamplesFile(path, 2)
    assert [one.step for one in read_records(path, RolloutSample)] == [1, 2]
    SamplesFile(path, 0, writes=False).write(1, groups(1), [(None, None)])
    assert len(list(read_records(path, RolloutSample))) == 2
