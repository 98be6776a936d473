"""Files of judgements: Arena-Hard's judge and Tulu's human evaluators, figures by hand."""

import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.arena_hard import judgement_rows
from alignlab.evaluation.human_comparisons import human_rows
from tests.evaluation.asking import figures, jsonl


def games(*verdicts):
    return [
        None if v is None else {"score": v, "judgment": {"answer": "..."}, "prompt": []}
        for v in verdicts
    ]


def second(uid, *verdicts, model="m", category="hard_prompt", judge="gpt-4.1"):
    """A row of Arena-Hard v2.0."""
    return {
        "uid": uid, "category": category, "judge": judge, "model": model, "baseline": "b",
        "games": games(*verdicts),
    }  # fmt: skip


def test_judgements_count_battles_and_leave_nulls_out(tmp_path):
    rows = [
        second("a", "A>B", "A>>B"),  # the baseline by one, the model by three
        second("b", "B>A", None),
        second("c", "B>A", "A=B", category="creative_writing"),
        second("d", "B<<A", "B>>A"),  # the baseline by three twice
        second("a", "A=B", "A=B", model="n"),
    ]
    rows[1]["games"][1] = {"score": None}
    found = judgement_rows(jsonl(tmp_path / "m.jsonl", *rows))
    of_m = [r for r in found if r.model == "m"]
    got = figures(of_m)
    assert got["win_rate"] == pytest.approx((3 + 1.5) / (4 + 2 + 6))
    assert got["win_rate family:creative_writing"] == 0.75
    assert got["win_rate family:hard_prompt"] == pytest.approx(3 / 10)
    assert (of_m[0].n, of_m[0].unscored, of_m[0].against) == (3, 1, "b")
    assert [(r.value, r.n) for r in found if r.model == "n"] == [(0.5, 1)]


@pytest.mark.parametrize(
    ("row", "value", "unscored"),
    [
        # The first release: question_id, no baseline, no category (arena-hard-auto#14, #23).
        ({"question_id": "a", "model": "m", "judge": "j", "games": games("B>A", "A>B")}, 1, 0),
        ({"question_id": "a", "model": "m", "judge": "j", "games": games("A>B", "A>B")}, 0.5, 0),
        ({"question_id": "a", "model": "m", "judge": "j", "games": games("B>>A")}, 1, 0),  # #6
        ({"question_id": "a", "model": "m", "judge": "j", "games": games(None, "A>B")}, None, 1),
        (second("a", "A<B", "A<<B"), 0.25, 0),
    ],
)
def test_both_releases_of_judgements(tmp_path, row, value, unscored):
    (found,) = judgement_rows(jsonl(tmp_path / "m.jsonl", row))
    assert (found.value, found.unscored) == (value, unscored)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([second("a", "A>B", "A")], r"'games\[1\].score': expected a verdict such as A>B, found A"),
        ([second("a")], "'games': expected one or two games"),
        ([second("a", "A>B", "A>B")] * 2, "line 2, field 'uid': expected each prompt once"),
        ([{"uid": "a", "model": "m"}], "'games': expected one or two games, found None"),
        ([{"uid": "a", "games": []}], "'model': expected a text"),
        ([second("a", ["A>B"], "A>B")], r"'games\[0\].score': expected a verdict such as A>B"),
        (
            [{**second("a"), "games": [None, 5]}],
            r"'games\[1\]': expected an object or null, found 5",
        ),
    ],
)
def test_bad_judgements_are_named(tmp_path, rows, complaint):
    with pytest.raises(BadInput, match=complaint):
        judgement_rows(jsonl(tmp_path / "m.jsonl", *rows))


def test_several_judges_of_one_model_are_pooled(tmp_path):
    rows = [second("a", "B>A", "A>B"), second("a", "A>B", "B>A", judge="gemini-2.5")]
    (found,) = judgement_rows(jsonl(tmp_path / "m.jsonl", *rows))
    assert (found.value, found.n) == (0.5, 2)


def human(instance, preference, evaluator="ann", time=1, swap=False, marks=("yes", "no"), **more):
    sides = ("n", "m") if swap else ("m", "n")
    marks = marks[::-1] if swap else marks
    return {
        "instance_id": instance, "instance_index": 3, "prompt": "Q?", "model_a": sides[0],
        "model_b": sides[1], "completion_a": "x", "completion_b": "y",
        "completion_a_is_acceptable": marks[0], "completion_b_is_acceptable": marks[1],
        "preference": preference, "instance_quality": "", "comment": "", "evaluator": evaluator,
        "timestamp": f"2023-05-01 10:00:0{time}", **more,
    }  # fmt: skip


def test_human_evaluation_as_published(tmp_path):
    rows = [
        human("i", "a-is-better"),
        human("i", "a-is-slightly-better", "ben", 2, swap=True),  # n: they disagree
        human("j", "b-is-better", time=1),  # replaced by her own later one
        human("j", "tie", time=3, marks=("yes", "yes")),
        human("j", "b-is-better", "ben", 4),  # a tie against a win: half agreed
        human("j", "a-is-better", "cat", 5),  # the third does not count
        human("k", "b-is-slightly-better", swap=True, marks=("no", "no")),  # m
        human("l", "b-is-better", marks=("", "yes")),
        human("l", "", "dan", 9, marks=("", "")),  # a remark
    ]
    found = human_rows(jsonl(tmp_path / "eval_annotations.jsonl", *rows))
    by_model = figures(found, "m")
    assert by_model["win_rate"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    shares = ("clear_wins", "slight_wins", "ties", "slight_losses", "clear_losses")
    assert [by_model[s] for s in shares] == [0.25, 0.25, 0.25, 0, 0.25]
    assert (by_model["agreement"], by_model["agreement_relaxed"]) == (0, 0.25)
    assert by_model["acceptable"] == pytest.approx(2 / 3)
    assert figures(found, "n")["acceptable"] == 0.5
    win_rate = found[0]
    assert (win_rate.n, win_rate.unscored, win_rate.against) == (4, 1, "n")
    (acceptable,) = [r for r in found if r.model == "m" and r.metric == "acceptable"]
    assert (acceptable.n, acceptable.unscored) == (3, 1)


def test_names_that_hold_each_other_are_told_apart(tmp_path):
    rows = [human("i", "a-is-better", model_a="tulu_65B", model_b="tulu_65B_human")]
    found = human_rows(jsonl(tmp_path / "a.jsonl", *rows))
    got = figures(found, "tulu_65B")
    assert (got["win_rate"], got["clear_wins"], got["clear_losses"]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (human("i", "a-is-best"), "'preference': expected one of a-is-better"),
        (human("i", "tie", marks=("maybe", "no")), "is_acceptable': expected yes or no"),
        (human("i", "tie", model_b="m"), "'model_b': expected another model than model_a"),
        (human("i", "tie", evaluator=None), "'evaluator': expected an id"),
        (human("i", ""), "'preference': expected a comparison, found remarks alone"),
    ],
)
def test_bad_annotations_are_named(tmp_path, row, complaint):
    with pytest.raises(BadInput, match=complaint):
        human_rows(jsonl(tmp_path / "a.jsonl", row))
