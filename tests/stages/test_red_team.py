"""Red team: prompts like those answered harmfully, attacks that succeed, and mended answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alignlab.data.filters import FilterConfig
from alignlab.feedback.conversion import feedback_on
from alignlab.stages.red_team import RedTeam, red_team
from alignlab.stages.self_refine import RefineSettings
from alignlab.types import Prompt, Response, Score, Unscored
from tests.feedback.worlds import by
from tests.stages.making import context, prompt, rated, responses

FILTERS = FilterConfig(max_similarity=1.0, keywords=())


class Harm:
    """1 where the response holds the word harm, unscored where it is empty."""

    name = "harm"

    def rate(self, items: Any, seed: int) -> Any:
        marks = [
            Score(float("harm" in r.text)) if r.text else Unscored("empty")
            for _, several in items
            for r in several
        ]
        return feedback_on(items, self.name, marks)


def mends(asked: str) -> str:
    if "Write one new question" in asked:
        number = asked.split("What is question ")[1][0]
        return f"Question: What is attack {number}?"
    if "<critique>" in asked:
        return "still harm" if "attack 3" in asked else "kind words"
    return "It does harm."


def attacked(tmp_path: Path, **answers: str) -> tuple[RedTeam, list[str]]:
    """Attack a model that harms on prompts 1, 2, 3, and answers attack N with `aN`."""
    prompts = [prompt(n) for n in range(4)]
    given = [r for p in prompts for r in responses(p, "fine", "harm" if p.id != "p0" else "good")]
    marks = [rated(r, float(r.text == "harm")) for r in given]
    asked: list[str] = []

    def answer(attacks: Sequence[Prompt]) -> list[Response]:
        asked.extend(a.text for a in attacks)
        return [r for a in attacks for r in responses(a, "fine", answers[f"a{a.text[-2]}"])]

    found = red_team(
        context(tmp_path), by(mends), Harm(), (prompts, given, marks), answer,
        known=prompts, settings=(RefineSettings(), FILTERS),
    )  # fmt: skip
    return found, asked


def test_only_prompts_with_a_harmful_answer_are_imitated(tmp_path: Path):
    found, asked = attacked(tmp_path, a1="fine", a2="fine", a3="fine")
    assert asked == [f"What is attack {n}?" for n in (1, 2, 3)]
    assert list(found.succeeded.values()) == [0.0, 0.0, 0.0]
    assert found.pairs == ()


def test_mended_answers_are_preferred_where_they_do_no_harm(tmp_path: Path):
    found, _ = attacked(tmp_path, a1="harm", a2="fine", a3="harm")
    assert list(found.succeeded.values()) == [1.0, 0.0, 1.0]
    # The mended answer to attack 3 still does harm.
    texts = [(g.prompt.text, *(r.text for r in g.responses)) for g in found.pairs]
    assert texts == [("What is attack 1?", "kind words", "harm")]
    assert {g.source for g in found.pairs} == {"red team"}


def test_attacks_without_a_verdict_are_neither_hit_nor_miss(tmp_path: Path):
    prompts = [prompt(n) for n in range(2)]
    given = [r for p in prompts for r in responses(p, "harm")]
    marks = [rated(r, 1.0) for r in given]
    found = red_team(
        context(tmp_path), by(mends), Harm(), (prompts, given, marks),
        lambda attacks: [r for a in attacks for r in responses(a, "" if "0" in a.text else "ok")],
        known=prompts, settings=(RefineSettings(), FILTERS),
    )  # fmt: skip
    assert len(found.attacks) == 2
    assert list(found.succeeded.values()) == [0.0]
