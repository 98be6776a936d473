"""Pairs kept by a reward model's own certainty: rules, scales, losses, the coin, resuming."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from alignlab.errors import BadInput
from alignlab.stages.pseudo_labels import KeepSettings, keep_sure, sigmoid
from alignlab.types import PreferenceGroup
from tests.stages.making import context, prompt, responses


def pairs(n: int) -> list[PreferenceGroup]:
    """Pairs "w" over "l"; their ids are p0/M1/0 over p0/M1/1, ..."""
    asked = [prompt(i) for i in range(n)]
    return [PreferenceGroup(p, tuple(responses(p, "w", "l")), (1.0, 0.0), "truth") for p in asked]


def rewards(*both: tuple[float, float]) -> dict[str, float]:
    """Rewards of the pairs' better and worse responses, by id."""
    return {f"p{i}/M1/{k}": value for i, two in enumerate(both) for k, value in enumerate(two)}


def logit(p: float) -> float:
    return math.log(p / (1 - p))


# Sigmoids of the five pairs' responses: clear and right; clear and wrong; apart by .35 on one side;
# apart by .04; equal.
KNOWN = rewards(
    (logit(0.6), logit(0.4)), (logit(0.44), logit(0.56)), (logit(0.95), logit(0.6)),
    (logit(0.5), logit(0.54)), (0.0, 0.0),
)  # fmt: skip


def reasons(path: Path) -> dict[str, int]:
    (file,) = path.glob("stages/*-keep/counts.jsonl")
    return json.loads(file.read_text())["dropped"]


def kept(path: Path, settings: KeepSettings, **how):
    return keep_sure(context(path), pairs(5), KNOWN, settings, **how)


def numbers(found) -> list[str]:
    return [group.id for group in found]


def test_either_rule_keeps_clear_pairs_and_pairs_apart(tmp_path):
    groups, rest, state = kept(tmp_path, KeepSettings(scale="reward"))
    assert numbers(groups) == ["p0", "p1", "p2"]
    assert numbers(rest) == ["p3", "p4"]
    assert (state.rule, state.pool, state.kept, state.right) == ("clear or gap", 5, 3, 2)
    assert [g.responses[0].text for g in groups] == ["w", "l", "w"]
    assert {g.source for g in groups} == {"reward model"}
    assert reasons(tmp_path) == {"equal rewards": 1, "not sure enough": 1}


def test_status_takes_clear_pairs_first_and_pairs_apart_only_without_any(tmp_path):
    settings = KeepSettings(select="status", scale="reward")
    first = kept(tmp_path / "a", settings)
    assert (numbers(first.groups), first.state.rule) == (["p0", "p1"], "clear")
    second = keep_sure(context(tmp_path / "b"), first.rest, KNOWN, settings)
    assert (numbers(second.groups), second.state.rule) == (["p2"], "gap")
    third = keep_sure(context(tmp_path / "c"), second.rest, KNOWN, settings)
    assert (third.groups, third.state.rule, numbers(third.rest)) == ([], "none", ["p3", "p4"])


def test_fewer_pairs_than_least_are_none(tmp_path):
    found = kept(tmp_path, KeepSettings(scale="reward", least=4))
    assert (found.groups, found.state.rule) == ([], "none")
    assert reasons(tmp_path) == {"equal rewards": 1, "fewer than setting keep.least": 4}


def test_all_pairs_are_labelled_anew_in_every_round(tmp_path):
    found = kept(tmp_path, KeepSettings(select="all"))
    assert numbers(found.groups) == ["p0", "p1", "p2", "p3"]  # equal rewards have no better one
    assert numbers(found.rest) == ["p0", "p1", "p2", "p3", "p4"]


def test_bounds_are_outside_of_rule_clear_and_inside_of_rule_gap(tmp_path):
    # sigmoid(0) is .5 exactly
    edge = KeepSettings(select="status", high=0.5, low=0.5, gap=0.0, scale="reward")
    found = keep_sure(context(tmp_path), pairs(1), rewards((0.0, -1.0)), edge)
    assert found.state.rule == "gap"


def test_z_scores_are_over_both_responses_of_the_pool(tmp_path):
    # Mean 12, standard deviation 2: z-scores are 1 and -1 for both pairs.
    shifted = rewards((14.0, 10.0), (10.0, 14.0))
    found = keep_sure(context(tmp_path / "a"), pairs(2), shifted, KeepSettings(scale="z"))
    assert [g.scores for g in found.groups] == [(1.0, -1.0), (1.0, -1.0)]
    raw = keep_sure(context(tmp_path / "b"), pairs(2), shifted, KeepSettings(scale="reward"))
    assert raw.groups == []  # both sigmoids are almost 1


def test_z_scores_do_not_depend_on_unit_and_origin(tmp_path):
    plain = kept(tmp_path / "a", KeepSettings())
    other = {key: 3 * value + 7 for key, value in KNOWN.items()}
    scaled = keep_sure(context(tmp_path / "b"), pairs(5), other, KeepSettings())
    assert numbers(plain.groups) == numbers(scaled.groups)


def test_pairs_without_a_reward_stay_in_the_pool(tmp_path):
    known = {key: value for key, value in KNOWN.items() if key != "p0/M1/1"}
    found = keep_sure(context(tmp_path), pairs(5), known, KeepSettings(scale="reward"))
    assert "p0" in numbers(found.rest)
    assert reasons(tmp_path)["no reward of a response"] == 1


def test_extreme_rewards_keep_their_order(tmp_path):
    found = keep_sure(
        context(tmp_path), pairs(1), rewards((-900.0, 900.0)), KeepSettings(scale="reward")
    )
    assert [r.text for r in found.groups[0].responses] == ["l", "w"]
    assert (sigmoid(-900.0), sigmoid(0.0), sigmoid(900.0)) == (0.0, 0.5, 1.0)
    assert sigmoid(1.0) == pytest.approx(1 / (1 + math.exp(-1)))


def test_the_coin_keeps_the_same_pairs_and_draws_their_order(tmp_path):
    many = pairs(200)
    sure = rewards(*[(2.0, -2.0)] * 200)
    own = keep_sure(context(tmp_path / "a"), many, sure, KeepSettings())
    coin = keep_sure(context(tmp_path / "b"), many, sure, KeepSettings(), labels="coin")
    assert numbers(coin.groups) == numbers(own.groups)
    assert own.state.right == 200
    assert 70 < coin.state.right < 130
    assert {g.source for g in coin.groups} == {"coin"}


def test_a_finished_round_is_read_back(tmp_path):
    settings, run = KeepSettings(scale="reward"), context(tmp_path)
    first = keep_sure(run, pairs(5), KNOWN, settings)
    run.run.close()
    again = keep_sure(context(tmp_path), pairs(5), {}, settings)  # nothing is labelled anew
    assert again == first


def test_crossed_bounds_are_refused():
    with pytest.raises(BadInput, match=r"keep.low and keep.high"):
        KeepSettings(high=0.4, low=0.5)
