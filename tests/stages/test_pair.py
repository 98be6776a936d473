"""Pairs: best against worst, ties and unscored responses counted, nothing invented."""

from dataclasses import replace

import pytest

from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.runs import Run
from alignlab.stages.pair import (
    PairSettings,
    best_as_demonstrations,
    demonstration_pairs,
    pair,
)
from alignlab.types import Unscored
from tests.stages.making import context, prompt, rated, responses


def made(tmp_path, scored, settings=None):
    """Groups and their count from [(text, score), ...] per prompt."""
    prompts, every, feedback = [], [], []
    for n, answers in enumerate(scored):
        asked = prompt(n)
        drawn = responses(asked, *(text for text, _ in answers))
        prompts.append(asked)
        every += drawn
        feedback += [rated(r, s) for r, (_, s) in zip(drawn, answers, strict=True)]
    here = context(tmp_path)
    groups = pair(here, prompts, every, feedback, settings or PairSettings())
    (count,) = tmp_path.rglob("counts.jsonl")
    return groups, count.read_text()


def test_best_against_worst(tmp_path):
    (group,), _ = made(tmp_path, [[("a", 1), ("b", 5), ("c", 3)]])
    assert [r.text for r in group.responses] == ["b", "a"]
    assert group.scores == (5, 1)


def test_all_keeps_the_ranked_list(tmp_path):
    (group,), _ = made(tmp_path, [[("a", 1), ("b", 5), ("c", 3)]], PairSettings(keep="all"))
    assert [r.text for r in group.responses] == ["b", "c", "a"]


def test_what_makes_no_pair_is_counted_by_reason(tmp_path):
    nothing = Unscored("nonsense")
    groups, count = made(
        tmp_path,
        [
            [("a", 3), ("b", 3)],
            [("a", nothing), ("b", 4)],
            [("same", 1), ("same", 5)],
            [("a", 1), ("b", 2)],
        ],
        PairSettings(min_gap=1.5),
    )
    assert groups == []
    assert '"all scores are equal": 1' in count
    assert '"fewer than two different scored responses": 2' in count
    assert '"best and worst differ by less than 1.5": 1' in count


def test_ties_are_broken_without_favour(tmp_path):
    scored = [[("a", 5), ("b", 5), ("c", 0), ("d", 0)] for _ in range(200)]
    groups, _ = made(tmp_path, scored)
    firsts = sum(g.responses[0].text == "a" for g in groups)
    assert 70 < firsts < 130


def test_a_resumed_stage_gives_the_same_groups(tmp_path):
    scored = [[("a", 1), ("b", 5)]]
    first, _ = made(tmp_path, scored)
    asked = prompt(0)
    here = RunContext(Run(tmp_path), 0)
    again = pair(here, [asked], responses(asked, "x", "y"), [], PairSettings())
    assert again == first


def test_demonstrations_beat_the_student(tmp_path):
    asked = [prompt(0), prompt(1), prompt(2)]
    chosen = [r for p in asked[:2] for r in responses(p, "good", by="teacher")]
    rejected = [
        *responses(asked[0], "bad"),
        *responses(asked[1], "good"),
        *responses(asked[2], "x"),
    ]
    groups = demonstration_pairs(context(tmp_path), asked, chosen, rejected)
    (group,) = groups
    assert [r.text for r in group.responses] == ["good", "bad"]
    (file,) = tmp_path.rglob("counts.jsonl")
    assert '"a response is missing": 1' in file.read_text()
    assert '"both responses say the same": 1' in file.read_text()


def test_a_rejected_response_that_was_cut_off_makes_no_pair_of_whole_ones(tmp_path):
    asked = [prompt(n) for n in range(2)]
    chosen = [r for p in asked for r in responses(p, "good", by="teacher")]
    rejected = [r for p in asked for r in responses(p, "bad")]
    rejected[0] = replace(rejected[0], finish="length")
    groups = demonstration_pairs(context(tmp_path / "a"), asked, chosen, rejected, whole=True)
    assert [g.prompt.id for g in groups] == ["p1"]
    (file,) = tmp_path.rglob("counts.jsonl")
    assert '"the rejected response was cut off": 1' in file.read_text()
    assert len(demonstration_pairs(context(tmp_path / "b"), asked, chosen, rejected)) == 2


def test_the_coin_keeps_the_pairs_by_origin(tmp_path):
    asked = [prompt(n) for n in range(400)]
    chosen = [r for p in asked for r in responses(p, "good", by="teacher")]
    rejected = [r for p in asked for r in responses(p, "bad")]
    groups = demonstration_pairs(context(tmp_path), asked, chosen, rejected, labels="coin")
    assert {frozenset(r.text for r in g.responses) for g in groups} == {frozenset({"good", "bad"})}
    first = sum(g.responses[0].text == "good" for g in groups)
    assert abs(first - 200) < 3.3 * 10  # the deviation of 400 fair draws is 10


def test_positive_only_keeps_the_winners(tmp_path):
    groups, _ = made(tmp_path, [[("a", 1), ("b", 5)]])
    assert [d.response.text for d in best_as_demonstrations(groups)] == ["b"]


LENGTHS = [("aaaaaaaa", 10), ("bbb", 8), ("c", 6), ("ddd", 2), ("eeeeeee", 1), ("ffff", 0)]
"""Range of scores 10: with rho=0.25 the tiers are 7.5 to 10 and 0 to 2.5."""


@pytest.mark.parametrize(
    ("rho", "chosen", "rejected"),
    [(None, "aaaaaaaa", "ffff"), (0, "aaaaaaaa", "ffff"), (0.2, "bbb", "eeeeeee"),
     (0.25, "bbb", "eeeeeee"), (0.05, "aaaaaaaa", "ffff"), (0.1, "aaaaaaaa", "eeeeeee"),
     (0.4, "c", "eeeeeee")],
)  # fmt: skip
def test_short_ones_of_the_top_tier_beat_long_ones_of_the_bottom(tmp_path, rho, chosen, rejected):
    (group,), count = made(tmp_path, [LENGTHS], PairSettings(rho=rho))
    assert [r.text for r in group.responses] == [chosen, rejected]
    known = dict(LENGTHS)
    assert group.scores == (known[chosen], known[rejected])
    by_length = (chosen, rejected) != ("aaaaaaaa", "ffff")
    assert ('"other than best and worst, by length": 1' in count) == by_length


def test_a_width_of_zero_breaks_ties_by_length(tmp_path):
    scored = [[("long one", 5), ("short", 5), ("x", 0), ("longer", 0)] for _ in range(20)]
    groups, _ = made(tmp_path, scored, PairSettings(rho=0))
    assert {tuple(r.text for r in g.responses) for g in groups} == {("short", "longer")}


def test_the_gap_is_that_of_the_pair_by_length(tmp_path):
    scored = [[("aaa", 10), ("b", 7), ("cccc", 3), ("d", 0)]]
    settings = PairSettings(rho=0.3, min_gap=5)
    groups, count = made(tmp_path, scored, settings)
    assert groups == []
    assert '"best and worst differ by less than 5": 1' in count


def test_a_length_rule_over_lists_is_refused():
    with pytest.raises(BadInput, match=r"pairs\.rho: has no effect with pairs\.keep=all"):
        PairSettings(keep="all", rho=0.2)
    with pytest.raises(BadInput, match="rho"):
        PairSettings(rho=0.5)
