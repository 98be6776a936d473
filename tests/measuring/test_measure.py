"""Judging of held-out answers: unit by unit, so that a killed run repeats the last unit alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from alignlab.measuring.measure import _score
from alignlab.stages.judge import JUDGE_CHUNK
from alignlab.types import Feedback, Prompt, Response, Score
from tests.stages.making import context, prompt, responses

PROMPTS = [prompt(n) for n in range(2 * JUDGE_CHUNK + 10)]
ANSWERS = [response for one in PROMPTS for response in responses(one, "yes")]


class Counting:
    """A source that scores every response 1, and is killed at a call of its own."""

    name = "counting"

    def __init__(self, killed_at: int | None = None) -> None:
        self.killed_at = killed_at
        self.rated: list[int] = []

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        if len(self.rated) == self.killed_at:
            raise RuntimeError("killed")
        self.rated.append(len(items))
        return [Feedback(p.id, (r.id,), self.name, Score(1.0)) for p, rs in items for r in rs]


def test_a_killed_measurement_goes_on_after_its_last_unit(tmp_path: Path) -> None:
    killed = context(tmp_path / "run")
    with pytest.raises(RuntimeError, match="killed"):
        _score(killed, Counting(killed_at=2), PROMPTS, "M1", ANSWERS)
    killed.run.close()
    rest = Counting()
    found = _score(context(tmp_path / "run"), rest, PROMPTS, "M1", ANSWERS)
    assert rest.rated == [10]  # two units of 64 were kept
    assert [f.prompt_id for f in found] == [p.id for p in PROMPTS]


def test_scores_that_an_older_version_wrote_at_once_are_read(tmp_path: Path) -> None:
    here = context(tmp_path / "run")
    old = [Feedback(r.prompt_id, (r.id,), "counting", Score(2.0)) for r in ANSWERS]
    with here.run.stage("score-m1", inputs={"by": "counting"}) as stage:
        stage.once("feedback", Feedback, lambda: old, title="")
    here.run.close()
    again = Counting()
    assert _score(context(tmp_path / "run"), again, PROMPTS, "M1", ANSWERS) == old
    assert again.rated == []
