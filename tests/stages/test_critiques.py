"""Critics' units, their classes, rules of merging, and pairs validated by revisions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlab.feedback.critique_units import MetaCritic, Unit
from alignlab.feedback.model_judge import critique_judge
from alignlab.feedback.rules import LengthJudge
from alignlab.feedback.teachers import Criticised, Refiner
from alignlab.stages.critiques import classify, commonest, criticise, merge, severity
from alignlab.stages.revisions import DISAGREE, UNSCORED, revise, validated_pairs
from alignlab.types import PreferenceGroup
from tests.feedback.worlds import by
from tests.stages.making import context, prompt, responses

A, B, C = (Unit("", kind) for kind in "abc")
PROMPTS = [prompt(n) for n in range(3)]
FIRST = [r for p in PROMPTS for r in responses(p, "one two")]
R0, R1, R2 = (r.id for r in FIRST)


def counts(path: Path, stage: str) -> list[dict[str, object]]:
    (file,) = path.glob(f"stages/*-{stage}/counts.jsonl")
    return [json.loads(line) for line in file.open()]


def test_units_and_classes_are_kept_and_losses_counted(tmp_path: Path) -> None:
    here = context(tmp_path)

    def answer(text: str) -> str:
        if "<faults>" in text:
            return "1: minor\n2: invalid" if "question 0" in text else "no idea"
        return "Too short." if "question 2" in text else "Problems: b, a."

    named = criticise(here, critique_judge(by(answer)), PROMPTS, FIRST, name="Critic 1")
    assert named == {R0: (B, A), R1: (B, A)}
    assert counts(tmp_path, "units-critic-1")[0]["dropped"] == {"no readable list of faults": 1}
    judged = classify(here, MetaCritic(by(answer)), PROMPTS, FIRST, {**named, R2: ()})
    assert judged == {R0: {A.key: "minor", B.key: "invalid"}, R2: {}}
    assert counts(tmp_path, "meta")[0]["dropped"] == {"no readable class for each fault": 1}


def test_merging_by_every_rule() -> None:
    one = {R0: (Unit("", "a", "first"), B), R1: (A,)}
    other = {R0: (Unit("", "a", "second"), C)}
    judged = {
        R0: {A.key: "major", B.key: "invalid", C.key: "minor"},
        R1: {A.key: "invalid"},
        R2: {},
    }
    critics = (one, other)
    first = Unit("", "a", "first")
    assert merge(critics, judged, "meta", 0) == {R0: (first, C), R1: (), R2: ()}
    assert merge(critics, judged, "union", 0) == {R0: (first, B, C), R1: (A,), R2: ()}
    assert merge(critics, judged, "majority", 0) == {R0: (first,), R1: (), R2: ()}


def test_the_coin_keeps_as_many_units_as_the_meta_judge() -> None:
    keys = [str(n) for n in range(400)]
    named = dict.fromkeys(keys, (A, B, C))
    judged = {key: {A.key: "major", B.key: "invalid", C.key: "invalid"} for key in keys}
    kept = merge((named,), judged, "coin", 1)
    shares = [sum(unit in units for units in kept.values()) / 400 for unit in (A, B, C)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.08)
    assert kept == merge((named,), judged, "coin", 1)
    assert kept != merge((named,), judged, "coin", 2)


def test_the_commonest_fault() -> None:
    assert commonest({R0: (A, Unit("", "b", "x")), R1: (B,), R2: ()}) == (B,)
    assert commonest({R0: ()}) == ()


def test_the_severity_of_a_critique() -> None:
    classes = {A.key: "major", B.key: "minor", C.key: "invalid"}
    assert severity((A, B), classes) == 3.0
    assert severity((A, C), classes) == 0.0
    assert severity((), classes) == 0.0


def pairs_of(better: str, worse: str) -> tuple[list[PreferenceGroup], dict[str, Criticised]]:
    """Two critiques of each of the first two responses, the preferred one first."""
    groups, of = [], {}
    for asked, first, texts in zip(
        PROMPTS, FIRST, ((better, worse), (worse, better)), strict=False
    ):
        request = prompt(int(asked.id[1:]) + 10)
        both = responses(request, *texts, by="critic")
        groups.append(PreferenceGroup(request, tuple(both), (1.0, 0.0), "meta"))
        of |= {c.id: Criticised(asked, first, c.text) for c in both}
    return groups, of


def test_pairs_are_kept_where_revisions_agree(tmp_path: Path) -> None:
    seen: list[str] = []

    def answer(text: str) -> str:
        seen.append(text)
        return "one two three" if "Add a word" in text else "one"

    groups, of = pairs_of("Add a word.", "Drop a word.")
    found = validated_pairs(
        context(tmp_path), [Refiner(by(answer))], LengthJudge(), groups, of, revisions=2
    )
    assert found == groups[:1]
    assert len(seen) == 8
    assert counts(tmp_path, "validated")[0]["dropped"] == {DISAGREE: 1}


def test_pairs_without_a_revision_are_dropped(tmp_path: Path) -> None:
    groups, of = pairs_of("Add a word.", "Drop a word.")
    silent = Refiner(by(lambda text: "" if "Drop" in text else "one"))
    assert not validated_pairs(context(tmp_path), [silent], LengthJudge(), groups, of, revisions=1)
    assert counts(tmp_path, "validated")[0]["dropped"] == {UNSCORED: 2}


def test_answers_without_a_named_fault_stay(tmp_path: Path) -> None:
    refiner = Refiner(by(lambda text: "better"))
    one = Criticised(PROMPTS[1], FIRST[1], "Problems: a.")
    found = revise(context(tmp_path), refiner, [one], FIRST, by="Critic 1")
    assert [r.text for r in found] == ["one two", "better", "one two"]
    assert [r.prompt_id for r in found] == ["p0", "p1", "p2"]
    assert [r.id for r in found] == [f"{r.id}|critic-1/refined" for r in FIRST]
