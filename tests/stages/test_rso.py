"""Rejection sampling: the accepted distribution, its two limits, and the pairs made of it."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from alignlab import seeds
from alignlab.errors import BadInput
from alignlab.stages.rso import RSOSettings, accept, meetings, rso
from alignlab.types import PreferenceGroup
from tests.stages.making import context, prompt, responses

REWARDS = {"a": 0.0, "b": 0.5, "c": 1.0, "d": 1.5}
SAMPLER = {"a": 0.4, "b": 0.3, "c": 0.2, "d": 0.1}


def draw(seed: int, count: int) -> list[str]:
    """Responses of the sampler."""
    rng = seeds.generator("sampler", seed)
    return list(rng.choice(list(SAMPLER), size=count, p=list(SAMPLER.values())))


def accepted_texts(beta: float, rounds: int = 1500) -> Counter[str]:
    """The first response accepted of 40 drawn, many times."""
    found: Counter[str] = Counter()
    for seed in range(rounds):
        texts = draw(seed, 40)
        taken = accept([REWARDS[t] for t in texts], 1, beta, seeds.generator("accept", seed))
        found[texts[taken.indices[0]]] += 1
    return found


def p_value(found: Counter[str], expected: dict[str, float]) -> float:
    total = sum(expected.values())
    wanted = [found.total() * expected[t] / total for t in REWARDS]
    return float(stats.chisquare([found[t] for t in REWARDS], wanted).pvalue)


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_the_first_accepted_follows_the_optimal_policy(beta):
    optimal = {t: SAMPLER[t] * math.exp(REWARDS[t] / beta) for t in REWARDS}
    found = accepted_texts(beta)
    assert p_value(found, optimal) > 0.001
    assert p_value(found, SAMPLER) < 1e-6


def test_a_large_beta_gives_the_sampler():
    assert p_value(accepted_texts(1e6), SAMPLER) > 0.001


def test_a_small_beta_gives_the_best_of_n():
    for seed in range(50):
        rewards = list(seeds.generator("rewards", seed).normal(size=9))
        taken = accept(rewards, 3, 1e-9, seeds.generator(seed))
        assert list(taken.indices) == sorted(range(9), key=lambda i: -rewards[i])[:3]
        assert taken.passes == 3


def test_equal_rewards_are_all_accepted_in_one_pass():
    taken = accept([2.0] * 6, 6, 0.1, seeds.generator(0))
    assert sorted(taken.indices) == list(range(6))
    assert (taken.passes, taken.tried) == (1, 6)


def test_r_max_is_fresh_among_those_left():
    # Against the first maximum of 1000 the others would never be accepted.
    taken = accept([1000.0, 1.0, 0.0], 3, 0.5, seeds.generator(3))
    assert taken.indices[0] == 0
    assert set(taken.indices) == {0, 1, 2}
    assert taken.passes <= 6


def test_two_candidates_by_hand():
    # The worse of two comes first with probability 1/2 * q, q = exp(-1) its acceptance.
    q = math.exp(-1)
    first = Counter(
        accept([1.0, 0.0], 1, 1.0, seeds.generator("two", seed)).indices[0] for seed in range(4000)
    )
    share = first[1] / 4000
    assert abs(share - q / 2) < 4 * math.sqrt(q / 2 * (1 - q / 2) / 4000)


@given(
    rewards=st.lists(st.floats(-50, 50), min_size=1, max_size=12),
    quota=st.integers(1, 15),
    beta=st.floats(0.01, 100),
    seed=st.integers(0, 1000),
)
def test_it_ends_with_the_quota_or_with_everything(rewards, quota, beta, seed):
    taken = accept(rewards, quota, beta, np.random.Generator(np.random.Philox(seed)))
    assert len(taken.indices) == min(quota, len(rewards))
    assert len(set(taken.indices)) == len(taken.indices)


@pytest.mark.parametrize(("rewards", "beta"), [([math.nan], 1.0), ([math.inf], 1.0), ([1.0], 0.0)])
def test_what_has_no_probability_is_refused(rewards, beta):
    with pytest.raises(ValueError, match="finite"):
        accept(rewards, 1, beta, seeds.generator(0))


def test_first_round_pairs_neighbours_and_leaves_out_ties():
    rewards = [3.0, 1.0, 2.0, 2.0, 5.0]
    assert list(meetings((0, 1, 2, 3, 4), rewards, "first_round")) == [(0, 1)]
    assert list(meetings((1, 4, 2, 0), rewards, "first_round")) == [(4, 1), (0, 2)]


def test_tournament_winners_meet_again():
    rewards = [1.0, 4.0, 3.0, 2.0, 5.0]
    assert list(meetings((0, 1, 2, 3), rewards, "tournament")) == [(1, 0), (2, 3), (1, 2)]
    assert list(meetings((0, 1, 4), rewards, "tournament")) == [(1, 0), (4, 1)]


def group(n: int, *scores: float) -> PreferenceGroup:
    asked = prompt(n)
    return PreferenceGroup(asked, tuple(responses(asked, *map(str, scores))), scores, "judge")


def test_pairs_hold_the_better_response_first_and_are_counted(tmp_path):
    groups = [group(n, 5.0, 3.0, 1.0, 0.0) for n in range(20)] + [group(20, 1.0, 0.0)]
    pairs = rso(context(tmp_path), groups, RSOSettings(quota=4, pairs="tournament", beta=1.0))
    assert len(pairs) == 20 * 3
    assert all(p.scores[0] > p.scores[1] for p in pairs)
    assert all(p.responses[0].text == str(p.scores[0]) for p in pairs)
    (file,) = tmp_path.rglob("counts.jsonl")
    candidates, made = file.read_text().splitlines()
    assert '"kept": 82, "dropped": {}' in candidates
    assert '"kept": 60, "dropped": {"fewer than 4 candidates": 1}' in made


def test_the_draw_is_the_seeds_and_is_not_made_again(tmp_path):
    groups = [group(n, 5.0, 3.0, 1.0, 0.0) for n in range(12)]
    begun = context(tmp_path / "a", seed=1)
    first = rso(begun, groups, RSOSettings(beta=2.0))
    begun.run.close()
    again = rso(context(tmp_path / "b", seed=1), groups, RSOSettings(beta=2.0))
    other = rso(context(tmp_path / "c", seed=2), groups, RSOSettings(beta=2.0))
    assert first == again != other
    assert rso(context(tmp_path / "a", seed=1), groups, RSOSettings(beta=2.0)) == first


def test_a_quota_that_no_group_meets_is_refused(tmp_path):
    with pytest.raises(BadInput, match="fewer than 3 candidates in every one"):
        rso(context(tmp_path), [group(0, 1.0, 0.0)], RSOSettings(quota=3))


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"quota": 1}, {"pairs": "tournament"}])
def test_settings_that_say_nothing_are_refused(wrong):
    with pytest.raises(BadInput, match=r"expected above 0|2 or more|rso\.pairs"):
        RSOSettings(**wrong)
