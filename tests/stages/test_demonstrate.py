"""Poor demonstrations: how many, whose responses, and the same ones for every call."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlab.errors import BadInput
from alignlab.stages.demonstrate import spoil
from alignlab.types import Demonstration
from tests.stages.making import context, prompt, responses


def shown(n: int) -> list[Demonstration]:
    asked = [prompt(i) for i in range(n)]
    return [Demonstration(p, responses(p, f"answer {p.id}")[0]) for p in asked]


def test_a_share_has_the_response_of_another_and_is_counted(tmp_path: Path):
    before = shown(20)
    after = spoil(context(tmp_path), before, 0.3)
    assert [d.prompt for d in after] == [d.prompt for d in before]
    moved = [d for d, old in zip(after, before, strict=True) if d != old]
    assert len(moved) == 6  # 30% of 20
    assert all(d.response.prompt_id == d.prompt.id for d in moved)
    assert all(d.response.text != f"answer {d.prompt.id}" for d in moved)
    # No answer is lost or doubled.
    assert sorted(d.response.text for d in after) == sorted(d.response.text for d in before)
    assert len({d.response.id for d in after}) == 20
    (file,) = tmp_path.rglob("counts.jsonl")
    (count,) = map(json.loads, file.read_text().splitlines())
    assert (count["kept"], count["changed"]) == (20, {"response of another prompt": 6})


def test_no_share_changes_nothing(tmp_path: Path):
    assert spoil(context(tmp_path), shown(4), 0.0) == shown(4)


def test_the_draw_is_the_seeds(tmp_path: Path):
    first = spoil(context(tmp_path / "a"), shown(20), 0.5)
    assert spoil(context(tmp_path / "b"), shown(20), 0.5) == first
    assert spoil(context(tmp_path / "c", seed=1), shown(20), 0.5) != first


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_a_share_of_less_than_two_is_refused(tmp_path: Path, share: float):
    with pytest.raises(BadInput, match="2 demonstrations or more of 20, found"):
        spoil(context(tmp_path), shown(20), share)
