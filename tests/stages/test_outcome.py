"""Pairs by outcome: right over wrong alone, what is dropped, and the control's coin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlab.errors import BadInput
from alignlab.stages.outcome import OutcomeSettings, outcome_pairs
from alignlab.types import Unscored
from tests.stages.making import context, prompt, rated, responses

# Question 0 is mixed, 1 all right, 2 all wrong, 3 unread, 4 mixed with one text drawn twice.
TEXTS = {
    0: {"r0": 1, "w0": 0, "w1": 0, "w2": 0},
    1: {"a": 1, "b": 1},
    2: {"a": 0, "b": 0},
    3: {"a": None, "b": None},
    4: {"r": 1, "w": 0, "u": None},
}


def asked():
    prompts = [prompt(n) for n in TEXTS]
    answers = [r for p, texts in zip(prompts, TEXTS.values(), strict=True)
               for r in responses(p, *texts)]  # fmt: skip
    marks = [m for texts in TEXTS.values() for m in texts.values()]
    feedback = [
        rated(r, Unscored("no answer found") if mark is None else float(mark))
        for r, mark in zip(answers, marks, strict=True)
    ]
    return prompts, answers, feedback


def counts_of(folder: Path, what: str) -> dict[str, Any]:
    (file,) = folder.rglob("counts.jsonl")
    (found,) = [c for c in map(json.loads, file.read_text().splitlines()) if c["what"] == what]
    return found


def texts_of(groups):
    return [(g.prompt.id, *(r.text for r in g.responses)) for g in groups]


def test_right_over_wrong_alone_and_the_rest_counted(tmp_path: Path):
    groups = outcome_pairs(context(tmp_path), *asked(), OutcomeSettings(most=4))
    assert sorted(texts_of(groups)) == [
        ("p0", "r0", "w0"), ("p0", "r0", "w1"), ("p0", "r0", "w2"), ("p4", "r", "w"),
    ]  # fmt: skip
    assert all(g.scores == (1.0, 0.0) for g in groups)
    counts = counts_of(tmp_path, "questions")
    assert counts["kept"] == 2
    assert counts["dropped"] == {
        "all responses right": 1,
        "all responses wrong": 1,
        "no response with a readable outcome": 1,
    }
    assert counts_of(tmp_path, "groups")["kept"] == 4


def test_at_most_so_many_pairs_a_question(tmp_path: Path):
    groups = outcome_pairs(context(tmp_path), *asked(), OutcomeSettings(most=2))
    assert [g.prompt.id for g in groups] == ["p0", "p0", "p4"]
    assert len(set(texts_of(groups))) == 3


def test_equal_texts_make_one_pair(tmp_path: Path):
    one = prompt(0)
    answers = responses(one, "yes", "yes", "no", "no")
    feedback = [rated(r, float(r.text == "yes")) for r in answers]
    groups = outcome_pairs(context(tmp_path), [one], answers, feedback, OutcomeSettings())
    assert texts_of(groups) == [("p0", "yes", "no")]


def test_the_window_of_accuracy(tmp_path: Path):
    # The accuracy of question 0 is 1/4, that of question 4 is 1/2 of the two that were read.
    groups = outcome_pairs(context(tmp_path), *asked(), OutcomeSettings(least_accuracy=0.3))
    assert [g.prompt.id for g in groups] == ["p4"]
    assert counts_of(tmp_path, "questions")["dropped"]["accuracy outside the window"] == 1


def test_a_window_that_is_none_is_refused():
    with pytest.raises(BadInput, match="expected an interval, found"):
        OutcomeSettings(least_accuracy=0.5, most_accuracy=0.25)


def test_the_coin_ignores_the_truth(tmp_path: Path):
    """Preferred responses are right as often as sampled ones, here one in four."""
    prompts = [prompt(n) for n in range(400)]
    answers = [r for p in prompts for r in responses(p, "right", "w1", "w2", "w3")]
    feedback = [rated(r, float(r.text == "right")) for r in answers]
    run, settings = context(tmp_path), OutcomeSettings(most=2)
    by_truth = outcome_pairs(run, prompts, answers, feedback, settings)
    by_coin = outcome_pairs(run, prompts, answers, feedback, settings, labels="coin", name="coin")
    assert [g.prompt.id for g in by_coin] == [g.prompt.id for g in by_truth]
    assert all(g.responses[0].text == "right" for g in by_truth)
    assert all(a.text != b.text for a, b in (g.responses for g in by_coin))
    for place in (0, 1):  # preferred, and not
        share = sum(g.responses[place].text == "right" for g in by_coin) / len(by_coin)
        assert abs(share - 0.25) < 3.3 * 0.0217  # the deviation of 400 draws of 1 in 4
    assert {g.source for g in by_coin} == {"coin"}


def test_the_coin_draws_a_text_as_often_as_it_was_sampled(tmp_path: Path):
    prompts = [prompt(n) for n in range(400)]
    answers = [r for p in prompts for r in responses(p, "often", "often", "often", "once")]
    feedback = [rated(r, float(r.text == "once")) for r in answers]
    groups = outcome_pairs(
        context(tmp_path), prompts, answers, feedback, OutcomeSettings(), labels="coin"
    )
    share = sum(g.responses[0].text == "often" for g in groups) / len(groups)
    assert len(groups) == 400
    assert abs(share - 0.75) < 3.3 * 0.0217


def test_the_coin_falls_alike_where_the_truth_is_turned(tmp_path: Path):
    """The coin's draw of a pair is the same whichever of the two is right."""
    one = [prompt(n) for n in range(50)]
    answers = [r for p in one for r in responses(p, "x", "y")]
    first = []
    for folder, right in (("a", "x"), ("b", "y")):
        feedback = [rated(r, float(r.text == right)) for r in answers]
        found = outcome_pairs(
            context(tmp_path / folder), one, answers, feedback, OutcomeSettings(), labels="coin"
        )
        first.append([g.responses[0].text for g in found])
    assert first[0] == first[1]
