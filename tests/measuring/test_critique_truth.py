"""Precision, recall and F1 of critiques, by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlab.feedback.critique_units import Unit
from alignlab.measuring.critique_truth import f1, f1_feedback, unit_figures
from alignlab.types import Response, SampledBy, Score
from tests.stages.making import context

A, B, C = (Unit("", kind) for kind in "abc")
RESPONSES = [Response(f"r{n}", f"p{n}", "x", SampledBy("m")) for n in range(4)]
TRUE = {"r0": (A, B), "r1": (), "r2": (), "r3": (C,)}
NAMED = {"r0": (B, C), "r1": (A,), "r2": ()}


def test_figures_by_hand() -> None:
    found = {m.metric: m for m in unit_figures("critic", RESPONSES, NAMED, TRUE)}
    # Named: b, c of r0 and a of r1, of which b is right. True: a, b of r0, of which b is named.
    assert found["precision"].prompt_ids == ("p0", "p0", "p1")
    assert found["precision"].values == (1.0, 0.0, 0.0)
    assert found["recall"].values == (0.0, 1.0)
    assert sum(found["f1"].values) / 5 == pytest.approx(2 * (1 / 3 * 1 / 2) / (1 / 3 + 1 / 2))
    assert found["faulty_or_not"].values == (1.0, 0.0, 1.0)
    assert {m.unscored for m in found.values()} == {1}  # r3, which has no readable critique


def test_words_do_not_count_and_places_do() -> None:
    assert f1([Unit("1", "a", "one way")], [Unit("1", "a", "or another")]) == 1.0
    assert f1([Unit("1", "a")], [Unit("2", "a")]) == 0.0
    assert f1([], []) == 1.0
    assert f1([], [A]) == f1([A], []) == 0.0
    assert f1([A, B], [A]) == pytest.approx(2 / 3)


def test_f1_by_response_is_a_score(tmp_path: Path) -> None:
    found = f1_feedback(context(tmp_path), "The critic", RESPONSES, NAMED, TRUE)
    assert [(f.prompt_id, f.verdict) for f in found] == [
        ("p0", Score(0.5, (0.5,))),
        ("p1", Score(0.0, (0.0,))),
        ("p2", Score(1.0, (1.0,))),
    ]
    assert list(tmp_path.glob("stages/*-faults-the-critic/feedback.jsonl"))
