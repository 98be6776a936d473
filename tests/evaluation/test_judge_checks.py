"""What is read off a judge's verdicts on a benchmark, by hand."""

from dataclasses import replace

import pytest

from alignlab.evaluation.judge_checks import judge_checks
from alignlab.evaluation.tasks import Question
from alignlab.types import Feedback, Preference, Score, Unscored
from tests.evaluation.asking import Pairs, asked, said
from tests.stages.making import prompt

LENGTHS = {"M": [1, 2, 3, 4], "base": [2, 2, 2, 2]}


@pytest.fixture
def given():
    """Four questions, a model's answers and a baseline's of known lengths."""
    questions = [Question(prompt(i)) for i in range(4)]
    own, base = (said(m, questions, *("x" * n for n in some)) for m, some in LENGTHS.items())
    return asked(questions, own, judge=Pairs(len), baseline=base)


def rows(given, verdicts, pair=True):
    model = given.answers[0].turns
    base = given.baseline.turns if given.baseline else {}
    found = []
    for question, verdict in zip(given.questions, verdicts, strict=True):
        ids = [model[question.id][-1].id] + ([base[question.id][-1].id] if pair else [])
        found.append(Feedback(question.id, tuple(ids), "judge", verdict))
    return {r.metric: r for r in judge_checks(given, found)}


def test_position_and_length_of_pairs(given):
    verdicts = [
        Preference(0, (0, 0)),  # the shorter wins in both orders
        Preference(None, (0, 1)),  # always the one shown first
        Preference(0, (0, 0)),  # the longer
        Unscored("no verdict"),  # the model's is longer
    ]
    found = rows(given, verdicts)
    assert found["consistent"].value == pytest.approx(2 / 3)
    assert found["first_wins"].value == pytest.approx((1 + 0 + 1 + 1 + 1 + 0) / 6)
    longer = found["longer_wins"]
    assert (longer.value, longer.n, longer.unscored) == (0.5, 2, 1)  # question 1: equal lengths
    assert (found["unreadable"].value, found["unreadable"].n) == (0.25, 4)
    assert {r.benchmark for r in found.values()} == {"judge_checks"}
    assert {r.model for r in found.values()} == {f"judge {given.judge.name}"}


def test_scores_that_follow_length(given):
    by_length = [Score(1.0), Score(2.0), Score(3.0), Score(4.0)]
    assert rows(given, by_length, pair=False)["spearman_with_length"].value == pytest.approx(1)
    turned = rows(given, by_length[::-1], pair=False)["spearman_with_length"]
    assert turned.value == pytest.approx(-1)
    lost = rows(given, [*by_length[:3], Unscored("none")], pair=False)["spearman_with_length"]
    assert (lost.n, lost.unscored) == (3, 1)


def test_a_judge_that_says_nothing_readable_is_told_of(given):
    found = rows(given, [Unscored("nonsense")] * 4, pair=False)
    assert set(found) == {"unreadable"}
    assert found["unreadable"].value == 1


def test_no_judge_and_nothing_said_of_answers(given):
    answer = given.answers[0].turns[given.questions[0].id][-1]
    about = Feedback(answer.prompt_id, (answer.id,), "judge", Score(1.0))
    assert judge_checks(given, [about]) != []
    assert judge_checks(replace(given, judge=None), [about]) == []
    assert judge_checks(given, []) == []
    assert judge_checks(given, [replace(about, response_ids=("elsewhere",))]) == []


def test_two_scores_bound_no_correlation_with_length(given):
    found = rows(given, [Score(1.0), Score(2.0), *[Unscored("none")] * 2], pair=False)
    figure = found["spearman_with_length"]
    assert (figure.value, figure.low, figure.high, figure.n) == (1, None, None, 2)


def test_questions_of_one_text_are_one_prompt():
    def number(question):
        return int(question.id.partition("/")[0])

    def found(copies, kind):
        many = [
            Question(replace(prompt(i), id=f"{i}/{k}")) for i in range(12) for k in range(copies)
        ]
        pair = kind is Preference
        own = said("M", many, *("x" * (1 + number(q) % 4) for q in many))
        base = said("base", many, *["xx"] * len(many)) if pair else None
        verdicts = [
            Preference(0, (0, None)) if pair else Score(float(number(q) in (1, 2, 7, 10)))
            for q in many
        ]
        return rows(asked(many, own, judge=Pairs(len), baseline=base), verdicts, pair=pair)

    for kind, metrics in (
        (Preference, ("first_wins", "longer_wins")),
        (Score, ("spearman_with_length",)),
    ):
        one, several = found(1, kind), found(6, kind)
        for metric in metrics:
            a, b = one[metric], several[metric]
            assert b.n == 6 * a.n
            # Repeated items change a mid-rank correlation by a rounding error only.
            assert (b.low, b.high) == pytest.approx((a.low, a.high), abs=2e-3), metric
