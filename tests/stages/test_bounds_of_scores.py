"""Scores at the bounds of a scale: humans' off the judge's, gaps of exactly the least one."""

import pytest

from alignlab.stages.eft import EFTSettings, build_eft
from alignlab.stages.pair import PairSettings
from alignlab.types import PreferenceGroup
from tests.stages.making import context
from tests.stages.test_eft import counted, group, judged_by
from tests.stages.test_pair import made


@pytest.mark.parametrize(
    ("scores", "targets", "origin"),
    [
        ((5.0, 3.0, 0.0), (5, 3, 0), "scores"),  # the bounds are on the scale
        ((5.1, 3.0, 0.0), (5, 2, 0), "ranks"),
        ((5.0, 3.0, -0.1), (5, 2, 0), "ranks"),
        ((9.0, 8.0, 7.0), (5, 2, 0), "ranks"),
    ],
)
def test_human_scores_off_the_scale_give_ranks(tmp_path, scores, targets, origin):
    asked = group(0, "a", "b", "c")
    scored = PreferenceGroup(asked.prompt, asked.responses, scores, "humans")
    settings = EFTSettings(targets="human", balance=100.0)
    found = build_eft(context(tmp_path), judged_by({}), [scored], settings)
    by_response = {d.id.partition("/")[2]: d.response.text for d in found}
    assert sorted(by_response.values()) == sorted(f"Score: {score}" for score in targets)
    assert counted(tmp_path)["changed"] == {f"target from human {origin}": 3}


@pytest.mark.parametrize(("gap", "pairs"), [(1.9, 1), (2.0, 1), (2.1, 0)])
def test_a_gap_of_exactly_the_least_one_makes_a_pair(tmp_path, gap, pairs):
    groups, _ = made(tmp_path, [[("a", 1), ("b", 3)]], PairSettings(min_gap=gap))
    assert len(groups) == pairs
