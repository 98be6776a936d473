"""Agreement of annotators from their feedback; that of published sets as others compute it."""

from __future__ import annotations

import numpy as np
import pytest

from alignlab.data.judged_pairs import pandalm_pair, read_judged_pairs
from alignlab.data.read import Faults, read_table
from alignlab.data.xstest import labels_of
from alignlab.evaluation.annotators import Agreement, agreement, ratings_of
from alignlab.types import Critique, Feedback, Ranking, Score, Verdict
from tests.conftest import shared_path


def said(who: str, verdict: Verdict, *ids: str, raw: str = "") -> Feedback:
    return Feedback("p", ids, f"human:{who}", verdict, raw=(raw,))


def values(found: list[Agreement]) -> dict[str, float | None]:
    return {f"{one.what} {'-'.join(one.between)}": one.figure.value for one in found}


def test_a_ranking_is_its_pairs() -> None:
    table = ratings_of(
        [
            said("x", Ranking((0, 1, 1)), "a", "b", "c"),
            said("y", Ranking((1, 0, 2)), "b", "a", "c"),
        ],
        "preferences",
    )
    assert table.names == ("human:x", "human:y")
    # ab, ac, bc: x has a first and then a tie, y (whose order of responses differs) a, b, c.
    assert table.values_NA.tolist() == [[1, 1], [1, 1], [0.5, 1]]
    assert table.prompts == ("p",) * 3


def test_gaps_labels_and_words() -> None:
    rated = [said("x", Score(4), "a"), said("y", Score(2), "a"), said("y", Score(3), "b")]
    table = ratings_of(rated, "numbers")
    assert np.array_equal(table.values_NA, [[4, 2], [np.nan, 3]], equal_nan=True)
    # Two labels that both say "not good" are still different labels.
    labels = [said("x", Score(0), "a", raw="rude"), said("y", Score(0), "a", raw="wrong")]
    assert ratings_of(labels, "labels").values_NA.tolist() == [[0, 1]]
    assert ratings_of([said("x", Critique("w"), "a")], "numbers").values_NA.size == 0


def test_what_is_measured() -> None:
    votes = np.array([[1, 1, 1], [0, 0, 1], [0.5, 0.5, 0.5], [1, 0, 1]])
    found = values(agreement(votes, "xyz", "preferences"))
    assert found["equal ratings x-y-z"] == pytest.approx(8 / 12)
    assert found["Cohen's kappa x-z"] == pytest.approx(5 / 9)  # observed 12/16, expected 7/16
    assert "Fleiss' kappa x-y-z" in found
    gap = votes.copy()
    gap[0, 0] = np.nan
    assert "Fleiss' kappa x-y-z" not in values(agreement(gap, "xyz", "preferences"))
    numbers = values(agreement(votes, "xyz", "numbers"))
    assert "Cohen's kappa, squared weights x-y" in numbers
    assert "Krippendorff's alpha, ordinal x-y-z" in numbers
    assert agreement(votes[:, :1], "x", "labels") == []


@pytest.mark.shared
def test_pandalm_as_other_packages_compute_it() -> None:
    """scikit-learn 1.9.1 (Cohen), statsmodels 0.15.0 (Fleiss), krippendorff (alpha)."""
    file = shared_path("data/pandalm/testset-v1.json")
    pairs = read_judged_pairs(str(file), pandalm_pair)
    found = values(agreement([pair.votes for pair in pairs], "123", "preferences"))
    known = {
        "Cohen's kappa 1-2": 0.8520226785167024,
        "Cohen's kappa 1-3": 0.8789438112500384,
        "Cohen's kappa 2-3": 0.8616614540762907,
        "Fleiss' kappa 1-2-3": 0.864175364997549,
        "Krippendorff's alpha, nominal 1-2-3": 0.8642206851960816,
        "Krippendorff's alpha, interval 1-2-3": 0.8772172081293725,
    }
    assert {name: found[name] for name in known} == pytest.approx(known, abs=1e-12)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("model", "kappa", "alpha", "fleiss"),
    [
        ("gpt4", 0.9701070452474947, 0.9701351582224416, 0.9701019381537235),
        ("llama2new", 0.9257619171659286, 0.9258431161433731, 0.9257606279522088),
        ("mistralinstruct", 0.9195449004469728, 0.9195970502386315, 0.9195076142544697),
    ],
)
def test_xstest_as_other_packages_compute_it(
    model: str, kappa: float, alpha: float, fleiss: float
) -> None:
    file = shared_path(f"data/xstest/completions_{model}.csv")
    labels = [labels_of(row) for row in read_table(str(file), Faults()).rows]
    found = values(agreement(labels, "12", "labels"))
    assert found["Cohen's kappa 1-2"] == pytest.approx(kappa, abs=1e-12)
    assert found["Krippendorff's alpha, nominal 1-2"] == pytest.approx(alpha, abs=1e-12)
    assert found["Fleiss' kappa 1-2"] == pytest.approx(fleiss, abs=1e-12)


@pytest.mark.shared
def test_prometheus_samples_as_other_packages_compute_it() -> None:
    """Three sampled scores of one judge, 1 to 5, on 320 answers."""
    file = shared_path("data/prometheus_eval/vicuna_eval.json.gz")
    scores = [row.items("gpt4_score") for row in read_table(str(file), Faults()).rows]
    found = values(agreement(scores, "123", "numbers"))
    known = {
        "Cohen's kappa, squared weights 1-2": 0.798523664785063,
        "Cohen's kappa, squared weights 1-3": 0.803694363029105,
        "Cohen's kappa, squared weights 2-3": 0.8196643753652632,
        "Krippendorff's alpha, nominal 1-2-3": 0.5821574614739022,
        "Krippendorff's alpha, ordinal 1-2-3": 0.7234421508159365,
        "Krippendorff's alpha, interval 1-2-3": 0.8075435594275047,
    }
    assert {name: found[name] for name in known} == pytest.approx(known, abs=1e-9)
