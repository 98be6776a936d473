from __future__ import annotations

from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlab.evaluation.metrics import win_rate
from alignlab.evaluation.metrics.power import detectable
from alignlab.report import headline
from alignlab.report.forest import single
from alignlab.report.headline import DETECTED, derive, standing
from alignlab.types import EvalResult


def row(model: str, value: float, low: float, high: float, n: int = 400) -> EvalResult:
    return EvalResult(model, "head_to_head", "win_rate", value, low, high, n, 0, "M1")


def test_sentences_name_each_standing() -> None:
    rows = [row("A", 0.6, 0.55, 0.65), row("B", 0.53, 0.49, 0.57), row("C", 0.4, 0.35, 0.45)]
    answer = derive(rows, "M1")
    assert answer.first == "1 of 3 models is better than M1: A (60.0%, 55.0 to 65.0%)."
    assert answer.second == (
        "M1 is better than C (40.0%, 35.0 to 45.0%), and not distinguishable from B."
    )
    assert "400 judged comparisons per model" in answer.basis


def test_a_single_model() -> None:
    won = derive([row("A", 0.6, 0.55, 0.65)], "M1")
    assert won.first == "A (60.0%, 55.0 to 65.0%) is better than M1."
    assert won.second == "No model is worse than M1, and no comparison is undecided."
    even = derive([row("A", 0.52, 0.48, 0.56)], "M1")
    assert even.first == "Compared with M1, the one model is not shown to be better."
    assert even.second == "M1 is not distinguishable from A."


def test_all_models_are_named_the_best_first() -> None:
    rows = [row(f"m{i}", 0.6 + i / 100, 0.55, 0.7) for i in range(5)]
    first = derive(rows, "M1").first
    assert first.startswith("All 5 models compared are better than M1: m4 ")
    assert first.endswith("and m0 (60.0%, 55.0 to 70.0%).")


def test_each_option_of_the_question_is_answered_by_the_corrected_verdict() -> None:
    rows = [
        row("M2", 0.56, 0.51, 0.61),
        row("teacher", 0.6, 0.55, 0.65),
        row("demo", 0.4, 0.35, 0.45),
        row("control", 0.5, 0.45, 0.55),
    ]
    adjusted = [
        EvalResult(r.model, "head_to_head", "win_rate_p_holm", p, None, None, 400, 0, "M1")
        for r, p in zip(rows, (0.2, 0.001, 0.01, 0.9), strict=True)
    ]
    options = {"Its own": ("M2",), "A teacher's": ("teacher", "demo"), "Absent": ("M9",)}
    answer = derive([*rows, *adjusted], "M1", options)
    assert answer.options == (
        "Its own: not shown, M2 (56.0%, 51.0 to 61.0%).",
        "A teacher's: yes, teacher (60.0%, 55.0 to 65.0%); worse with demo (40.0%, 35.0 to 45.0%).",
    )
    assert answer.second == ("Against M1, control (50.0%, 45.0 to 55.0%) is not distinguishable.")


def test_a_benchmark_opens_with_its_own_figures() -> None:
    rows = [
        EvalResult("A", "mt_bench", "mean", 6.1, 5.8, 6.4, 80, 2),
        EvalResult("B", "mt_bench", "mean", 6.6, 6.2, 7.0, 80),
        EvalResult("B", "mt_bench", "tokens", 90.0, None, None, 80),
    ]
    answer = derive(rows, "")
    assert (
        answer.first == "MT-Bench, mean score: B (6.60, 6.20 to 7.00) and A (6.10, 5.80 to 6.40)."
    )
    assert answer.basis == "n = 80, 2 unscored left out."


def test_no_comparison_makes_no_claim() -> None:
    score = EvalResult("A", "score", "mean", 4.0, 3.9, 4.1, 10)
    answer = derive([score], "M1")
    assert answer.first == "This run holds no win rate against M1."
    assert answer.basis == ""


def test_parts_and_other_baselines_do_not_count() -> None:
    part = EvalResult("A", "head_to_head", "win_rate", 0.9, 0.8, 1.0, 9, 0, "M1", "type:open")
    other = EvalResult("A", "head_to_head", "win_rate", 0.9, 0.8, 1.0, 9, 0, "M0")
    assert derive([part, other], "M1").first == "This run holds no win rate against M1."


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.5, 0.6, "not distinguishable"),
        (0.4, 0.5, "not distinguishable"),
        (0.51, 0.6, "better"),
        (0.3, 0.49, "worse"),
    ],
)
def test_an_interval_that_touches_one_half_decides_nothing(
    low: float, high: float, expected: str
) -> None:
    assert standing(row("A", (low + high) / 2, low, high)) == expected


@given(st.floats(0, 0.5), st.floats(0.5, 1), st.floats(0, 1))
def test_a_covering_interval_is_never_called_a_win(low: float, high: float, at: float) -> None:
    answer = derive([row("A", low + at * (high - low), low, high)], "M1")
    assert "is better than M1" not in answer.first
    assert "better than A" not in answer.second


def test_the_basis_says_which_findings_stand_when_corrected() -> None:
    def adjusted(model: str, p: float) -> EvalResult:
        return EvalResult(
            model, "head_to_head", "win_rate_p_holm", p, None, None, 400, 0, against="M1"
        )

    rows = [row("A", 0.6, 0.55, 0.65), row("B", 0.55, 0.51, 0.59), row("C", 0.5, 0.45, 0.55)]
    stands = derive([*rows, adjusted("A", 0.001), adjusted("B", 0.04), adjusted("C", 1.0)], "M1")
    assert "Every finding stands when corrected for 3 comparisons (Holm" in stands.basis
    falls = derive([*rows, adjusted("A", 0.001), adjusted("B", 0.06), adjusted("C", 1.0)], "M1")
    assert falls.basis.endswith("randomisation test), B is not distinguishable.")
    assert stands.first.startswith("2 of 3 models are better than M1: A (")
    assert falls.first == "1 of 3 models is better than M1: A (60.0%, 55.0 to 65.0%)."
    assert falls.second == "M1 is not distinguishable from B and C."
    untested = derive([*rows, adjusted("A", 0.001), adjusted("C", 1.0)], "M1")
    assert untested.first == falls.first
    assert "Holm" not in derive(rows, "M1").basis
    assert "Holm" not in derive([rows[2], adjusted("C", 1.0)], "M1").basis


def test_where_nothing_is_decided_the_basis_names_the_difference_that_would_be_found() -> None:
    """By hand: (1.960 + 0.842) / 1.960 = 1.4294 half-widths, as `power` has it."""
    assert detectable(1, 1 / NormalDist().inv_cdf(0.975)) == pytest.approx(DETECTED, abs=1e-4)
    decided = [row("A", 0.6, 0.55, 0.65), row("D", 0.4, 0.35, 0.45)]
    assert "80% power" not in derive(decided, "M1").basis
    one = derive([*decided, row("B", 0.5, 0.45, 0.55)], "M1").basis
    assert "Where the interval covers 50%, 7.1 points of win rate would be found" in one
    several = [row("B", 0.5, 0.45, 0.55), row("C", 0.5, 0.4, 0.6)]
    assert "covers 50%, 7.1 to 14.3 points of win rate" in derive(several, "M1").basis


def test_a_single_win_that_its_test_does_not_confirm_is_none() -> None:
    def tested(p: float) -> EvalResult:
        return EvalResult("A", "head_to_head", "win_rate_p", p, None, None, 400, 0, "M1")

    won = row("A", 0.6, 0.55, 0.65)
    assert derive([won, tested(0.05)], "M1").first == "A (60.0%, 55.0 to 65.0%) is better than M1."
    lost = derive([won, tested(0.051)], "M1")
    assert lost.first == "Compared with M1, the one model is not shown to be better."
    assert lost.basis.endswith("By the paired randomisation test, A is not distinguishable.")


def test_marks_are_filled_as_the_headline_says() -> None:
    rows = [row("A", 0.6, 0.55, 0.65), row("B", 0.55, 0.51, 0.59), row("C", 0.4, 0.35, 0.45)]
    adjusted = [
        EvalResult(m, "head_to_head", "win_rate_p_holm", p, None, None, 400, 0, "M1")
        for m, p in (("A", 0.001), ("B", 0.06), ("C", 0.01))
    ]
    drawn = single(rows, {}, reference=0.5, reference_label="", tested=[*rows, *adjusted])
    assert [r.marks[0].look for r in drawn.rows] == ["better", "open", "worse"]
    plain = single(rows, {}, reference=0.5, reference_label="")
    assert {r.marks[0].look for r in plain.rows} == {"plain"}


@pytest.mark.parametrize(
    ("n", "rates", "says"),
    [
        (400, (0.5, 0.6), "95% bootstrap intervals over prompts."),
        (60, (0.5, 0.6), "95% score intervals with variance by prompt"),
        (400, (0.5, 0.01), "or score intervals where prompts, wins or losses are few"),
    ],
)
def test_the_kind_of_interval_is_the_one_used(
    n: int, rates: tuple[float, float], says: str
) -> None:
    rows = [row(f"M{k}", rate, 0.1, 0.9, n) for k, rate in enumerate(rates)]
    assert says in derive(rows, "M1").basis
    assert (headline.FEW, headline.FEW_OF_A_KIND) == (win_rate.FEW, win_rate.FEW_OF_A_KIND)
