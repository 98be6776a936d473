"""Alignment tax: recall of closed-ended answers, its paired change, and who is left out."""

from dataclasses import replace

from alignlab.measuring.alignment_tax import recalled, tax_rows
from alignlab.measuring.measure import HeldOut, StudyMeasurements
from alignlab.measuring.prompt_values import of_study
from alignlab.types import Score, Unscored
from tests.stages.making import prompt, rated, responses


def measured(answers, *, seed=0, **more):
    """Each model's answers to closed questions about towns, whose references add one word."""
    asked = [
        replace(
            prompt(i, f"What is the colour of town {i}?"),
            query_type="closed",
            reference=f"The colour of town {i} is purple.",
        )
        for i in range(12)
    ]
    asked.append(prompt(12, "Tell me about it."))  # open-ended: no part of the task
    given = {
        model: [
            r for p, text in zip(asked, texts, strict=True) for r in responses(p, text, by=model)
        ]
        for model, texts in answers.items()
    }
    scored = {m: [rated(r, 3.0) for r in several] for m, several in given.items()}
    return StudyMeasurements(
        seed, "M1", HeldOut(tuple(asked), ()), given, scored, {}, (), {}, (), {}, **more
    )


ANSWERS = {"M1": ["It is purple."] * 13, "M2": ["It is red."] * 9 + ["It is purple."] * 4}


def test_closed_answers_alone_are_looked_at():
    found = recalled(measured(ANSWERS), "M2")
    assert len(found) == 12
    assert sum(found.values()) == 3


def test_rows_hold_recall_and_its_tested_change():
    rows = {(r.model, r.metric): r for r in tax_rows([measured(ANSWERS)])}
    assert rows["M1", "recall"].value == 1.0
    assert rows["M2", "recall"].value == 0.25
    change = rows["M2", "recall_change"]
    assert (change.value, change.against, change.n) == (-0.75, "M1", 12)
    assert change.low <= -0.75 <= change.high < 0
    # All 9 prompts that differ have one sign: 2 of 2^9 patterns are as extreme.
    assert rows["M2", "recall_change_p_holm"].value == 2 / 2**9
    assert ("M1", "recall_change") not in rows


def test_swapping_models_flips_the_sign():
    swapped = {"M1": ANSWERS["M2"], "M2": ANSWERS["M1"]}
    rows = {(r.model, r.metric): r for r in tax_rows([measured(swapped)])}
    assert rows["M2", "recall_change"].value == 0.75


def test_seeds_are_pooled_by_prompt():
    rows = {(r.model, r.metric): r for r in tax_rows([measured(ANSWERS, seed=s) for s in (0, 1)])}
    assert rows["M2", "recall_change"].n == 24
    assert rows["M2", "recall_change"].seeds == (0, 1)
    assert rows["M2", "recall_change_p_holm"].value == 2 / 2**9


def test_no_closed_question_with_a_reference_gives_no_rows():
    one = measured(ANSWERS)
    bare = tuple(replace(p, reference=None) for p in one.held_out.prompts)
    assert tax_rows([replace(one, held_out=HeldOut(bare, ()))]) == []


def test_values_by_prompt_leave_out_what_means_something_else_in_every_run():
    one = measured(ANSWERS)
    kept = of_study([one])
    assert {v.metric for v in kept} == {"mean", "recall"}
    assert len([v for v in kept if v.metric == "mean"]) == 26
    assert {v.by for v in kept} == {"judge", ""}
    assert {v.metric for v in of_study([replace(one, self_judged=True)])} == {"recall"}


def test_what_is_unscored_has_no_value_by_prompt():
    one = measured(ANSWERS)
    lost = {m: [replace(f, verdict=Unscored("none")) for f in fs] for m, fs in one.scored.items()}
    assert {v.metric for v in of_study([replace(one, scored=lost)])} == {"recall"}
    assert all(isinstance(f.verdict, Score) for fs in one.scored.values() for f in fs)


def test_a_prompt_asked_under_two_ids_is_one_cluster():
    once = measured(ANSWERS)
    double = {p.id: replace(p, id=f"{p.id}'") for p in once.held_out.prompts}
    twice = replace(
        once,
        held_out=HeldOut((*once.held_out.prompts, *double.values()), ()),
        answers={
            m: [*several, *(replace(r, prompt_id=f"{r.prompt_id}'") for r in several)]
            for m, several in once.answers.items()
        },
    )
    rows = [{(r.model, r.metric): r for r in tax_rows([m])} for m in (once, twice)]
    for key in (("M2", "recall"), ("M2", "recall_change"), ("M2", "recall_change_p_holm")):
        a, b = (found[key] for found in rows)
        assert (a.value, a.low, a.high) == (b.value, b.low, b.high), key
    assert (rows[0]["M2", "recall"].n, rows[1]["M2", "recall"].n) == (12, 24)
