"""What people tied has no better answer: training leaves it out, counted; lists are drawn."""

from __future__ import annotations

import json

import pytest

from alignlab.commands.train import records_for
from alignlab.data import load
from alignlab.objectives.dpo import DPO
from alignlab.objectives.dpo_pro import DPOPRO
from alignlab.objectives.pro import PRO
from alignlab.objectives.reward_conditioned import RewardConditioned
from alignlab.objectives.reward_model import RewardModel
from alignlab.objectives.rrhf import RRHF
from alignlab.types import PreferenceGroup


def corpus(tmp_path, *labels):  # type: ignore[no-untyped-def]
    rows = [
        {"prompt": f"p{i}", "response 1": "a", "response 2": "b", "label": label}
        for i, label in enumerate(labels)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(f"autoj:{path}")


def test_ties_are_left_out_and_counted(tmp_path) -> None:  # type: ignore[no-untyped-def]
    taken = records_for(DPO(), corpus(tmp_path, 0, 2, 1, 2), "")
    assert [r.responses[0].text for r in taken.records if isinstance(r, PreferenceGroup)] == [
        "a",
        "b",
    ]
    assert (taken.tally.kept, taken.tally.dropped) == (2, {"all scores equal": 2})


def rated(tmp_path, *scores):  # type: ignore[no-untyped-def]
    """Groups of responses a, b, c, d with these scores."""
    rows = [
        {
            "prompt": f"p{i}",
            "responses": [{"text": t, "score": s} for t, s in zip("abcd", some, strict=True)],
        }
        for i, some in enumerate(scores)
    ]
    path = tmp_path / "groups.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load(str(path))


def orders(taken) -> list[str]:  # type: ignore[no-untyped-def]
    return ["".join(r.text for r in g.responses) for g in taken.records]


@pytest.mark.parametrize("objective", [DPOPRO(), PRO(), RRHF(), RewardModel(plackett_luce=True)])
def test_lists_without_any_order_are_left_out(tmp_path, objective) -> None:  # type: ignore[no-untyped-def]
    taken = records_for(objective, rated(tmp_path, [4, 3, 2, 1], [2, 2, 2, 2]), "")
    assert orders(taken) == ["abcd"]
    assert (taken.tally.kept, taken.tally.dropped) == (1, {"all scores equal": 1})


def test_ties_within_a_list_are_drawn_by_the_seed(tmp_path) -> None:  # type: ignore[no-untyped-def]
    data = rated(tmp_path, *[[5, 3, 3, 1]] * 40)
    taken = orders(records_for(DPOPRO(), data, "", seed=1))
    assert set(taken) == {"abcd", "acbd"}  # the data's own order would be the first alone
    assert 8 <= taken.count("abcd") <= 32
    assert orders(records_for(DPOPRO(), data, "", seed=1)) == taken
    assert orders(records_for(DPOPRO(), data, "", seed=2)) != taken


def test_what_learns_from_scores_keeps_equal_ones(tmp_path) -> None:  # type: ignore[no-untyped-def]
    taken = records_for(RewardConditioned(), rated(tmp_path, [2, 2, 2, 2]), "")
    assert (taken.tally.kept, taken.tally.dropped) == (1, {})
