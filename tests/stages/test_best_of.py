"""Best of n: ties, its expectation against every subset, its KL, and published picks."""

import gzip
import json
import math
import statistics
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlab import seeds
from alignlab.errors import BadInput, NothingToLearn
from alignlab.measuring.best_of_n import best_of_kl, expected_best
from alignlab.stages.best_of import best_of, best_scored
from alignlab.stages.rso import accept
from alignlab.types import Unscored
from tests.conftest import shared_path
from tests.stages.making import context, prompt, rated, responses


def test_the_best_scored_response_is_shown(tmp_path):
    asked = [prompt(n) for n in range(3)]
    drawn = [responses(p, "x", "y", "z") for p in asked]
    said = [[1.0, 5.0, 3.0], [Unscored("no"), 2.0, 1.0], [Unscored("no")] * 3]
    feedback = [
        rated(r, s)
        for several, some in zip(drawn, said, strict=True)
        for r, s in zip(several, some, strict=True)
    ]
    best = best_of(context(tmp_path), asked, [r for several in drawn for r in several], feedback)
    assert [(d.prompt.id, d.response.text) for d in best] == [("p0", "y"), ("p1", "y")]
    (file,) = tmp_path.rglob("counts.jsonl")
    assert '"no scored response": 1' in file.read_text()


def test_a_best_response_below_the_least_score_is_left_out_and_counted(tmp_path):
    asked = [prompt(n) for n in range(3)]
    drawn = [responses(p, "x", "y") for p in asked]
    said = [[0.0, 1.0], [0.05, 0.0], [Unscored("no")] * 2]
    feedback = [
        rated(r, s)
        for several, some in zip(drawn, said, strict=True)
        for r, s in zip(several, some, strict=True)
    ]
    every = [r for several in drawn for r in several]
    best = best_of(context(tmp_path), asked, every, feedback, least=1)
    assert [(d.prompt.id, d.response.text) for d in best] == [("p0", "y")]
    (file,) = tmp_path.rglob("counts.jsonl")
    assert '"no score of at least 1": 1' in file.read_text()
    assert '"no scored response": 1' in file.read_text()


def test_a_least_score_that_nothing_has_is_told(tmp_path):
    asked = [prompt(0)]
    drawn = responses(asked[0], "x", "y")
    with pytest.raises(NothingToLearn, match="no response has a score of at least 1"):
        best_of(context(tmp_path), asked, drawn, [rated(r, 0.0) for r in drawn], least=1)


def test_ties_fall_to_no_place():
    drawn = [responses(prompt(n), "a", "b", "c") for n in range(300)]
    first = [best_scored(d, {r.id: 1.0 for r in d}, 7) for d in drawn]
    counts = [sum(r.text == t for r in first if r) for t in "abc"]
    assert min(counts) > 70


def by_subsets(rewards, values, n):
    """The mean over all subsets, ties shared."""
    found = []
    for subset in combinations(range(len(rewards)), n):
        top = max(rewards[i] for i in subset)
        tied = [i for i in range(len(rewards)) if rewards[i] == top]
        found.append(statistics.fmean(values[i] for i in tied))
    return statistics.fmean(found)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.floats(-5, 5)), min_size=1, max_size=7),
    data=st.data(),
)
def test_the_expectation_is_the_mean_over_all_subsets(pairs, data):
    n = data.draw(st.integers(1, len(pairs)))
    rewards, values = zip(*pairs, strict=True)
    assert math.isclose(
        expected_best(rewards, values, n), by_subsets(rewards, values, n), abs_tol=1e-9
    )


def test_best_of_one_is_the_mean_and_best_of_all_the_best():
    rewards, values = [3.0, 1.0, 2.0], [10.0, 20.0, 60.0]
    assert expected_best(rewards, values, 1) == pytest.approx(30)
    assert expected_best(rewards, values, 3) == pytest.approx(10)
    # Of the three pairs two hold the first and one has the third as its best.
    assert expected_best(rewards, values, 2) == pytest.approx((10 + 10 + 60) / 3)


@pytest.mark.parametrize("n", [0, 4])
def test_no_best_of_more_than_there_are(n):
    with pytest.raises(BadInput, match="from 1 to 3"):
        expected_best([1, 2, 3], [1, 2, 3], n)


def test_kl_by_hand():
    assert best_of_kl(1) == 0
    assert best_of_kl(2) == pytest.approx(math.log(2) - 0.5)
    assert best_of_kl(16) == pytest.approx(math.log(16) - 15 / 16)


def test_kl_is_that_of_a_large_uniform_space():
    # Best of n over a continuum: density n * u^(n-1), so KL = integral of it times its log.
    n, steps = 4, 200_000
    grid = [(i + 0.5) / steps for i in range(steps)]
    kl = sum(n * u ** (n - 1) * math.log(n * u ** (n - 1)) for u in grid) / steps
    assert best_of_kl(n) == pytest.approx(kl, abs=1e-4)


def published():
    folder = shared_path("data/rewardbench_bon16")
    with gzip.open(folder / "alpacaeval_tulu2dpo13b_n16.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    return rows, json.loads((folder / "bon_eval_results.json").read_text())


def win_rate(preferences):
    return 100 * statistics.fmean(p - 1 for p in preferences)


@pytest.mark.shared
def test_published_win_rates_of_fixed_places_are_recomputed():
    rows, figures = published()
    for name in ("random_max", "random_min", "random_median"):
        place = int(figures[name]["reward_model"].rsplit(".", 1)[1])
        found = win_rate(r["pref_vs_ref"][place] for r in rows)
        assert found == pytest.approx(figures[name]["win_rate"], abs=1e-6)
        assert len(rows) == figures[name]["n_total"]


@pytest.mark.shared
def test_published_picks_of_reward_models_where_they_are_judged():
    # Picks among samples 11 to 15, the longest, have no judgement here; what is judged must lie
    # where the published rate allows it: the rest can be anything from all lost to all won.
    rows, figures = published()
    for name in rows[0]["rm_pick"]:
        picked = [r["pref_vs_ref"][r["rm_pick"][name]] for r in rows]
        judged = [p for p in picked if p is not None]
        lowest = 100 * sum(p - 1 for p in judged) / len(rows)
        highest = lowest + 100 * (len(rows) - len(judged)) / len(rows)
        assert len(judged) > 100
        assert lowest <= figures[name]["win_rate"] <= highest


@pytest.mark.shared
def test_published_lengths_of_picks():
    rows, figures = published()
    for name in rows[0]["rm_pick"]:
        lengths = [len(r["outputs"][r["rm_pick"][name]]) for r in rows]
        assert int(statistics.fmean(lengths)) == pytest.approx(figures[name]["avg_length"], abs=1)


@pytest.mark.shared
def test_best_of_n_by_the_judge_and_by_length():
    rows, figures = published()
    judged = [[p - 1 for p in r["pref_vs_ref"] if p is not None] for r in rows]
    assert {len(p) for p in judged} == {11}
    lengths = [[len(o) for o in r["outputs"][:11]] for r in rows]

    def rate(rewards, n):
        return 100 * statistics.fmean(
            expected_best(r, p, n) for r, p in zip(rewards, judged, strict=True)
        )

    own = [rate(judged, n) for n in range(1, 12)]
    assert own == sorted(own)
    assert own[0] == pytest.approx(100 * statistics.fmean(map(statistics.fmean, judged)))
    assert own[-1] == pytest.approx(100 * statistics.fmean(map(max, judged)))
    assert own[-1] > figures["openbmb/UltraRM-13b"]["win_rate"]
    # By length in characters; the file orders samples by their mean length, not prompt by prompt.
    assert own[0] < rate(lengths, 2) < rate(lengths, 11) < own[1]


@pytest.mark.shared
def test_rejection_by_the_judge_goes_from_the_mean_to_the_best():
    rows, _ = published()
    judged = [[p - 1 for p in r["pref_vs_ref"] if p is not None] for r in rows]

    def rate(beta):
        taken = [
            p[accept(p, 1, beta, seeds.generator("bon", i)).indices[0]]
            for i, p in enumerate(judged)
        ]
        return 100 * statistics.fmean(taken)

    mean = 100 * statistics.fmean(map(statistics.fmean, judged))
    best = 100 * statistics.fmean(map(max, judged))
    assert rate(1e-6) == pytest.approx(best, abs=1e-5)
    assert rate(1e6) == pytest.approx(mean, abs=5)
    assert mean < rate(0.2) < best
