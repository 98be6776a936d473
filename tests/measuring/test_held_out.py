"""The guesses beside which a trained model's held-out preferences are put."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean

import pytest

from alignlab.data.sources import load as load_data
from alignlab.evaluation.metrics.intervals import wilson
from alignlab.measuring.held_out import (
    _guesses,
    _margins,
    _outcomes,
    _pairs,
    _rows,
    _win_shares,
)
from alignlab.models.packed import TokenGroup
from alignlab.objectives.dpo import DPO
from alignlab.objectives.ld_dpo import LDDPO
from alignlab.objectives.wpo import WPO
from alignlab.types import Message, PreferenceGroup, Prompt, Response, SampledBy
from tests.conftest import shared_path


def group(name: str, *answers: tuple[str, float]) -> PreferenceGroup:
    """A group of (writer, score)."""
    responses = tuple(
        Response(f"{name}{k}", name, f"text {k}", SampledBy(writer))
        for k, (writer, _) in enumerate(answers)
    )
    asked = Prompt(name, (Message("user", name),))
    return PreferenceGroup(asked, responses, tuple(score for _, score in answers), "human")


def test_every_pair_of_different_scores_is_a_comparison() -> None:
    one = group("a", ("x", 3), ("y", 2), ("z", 2))
    assert _pairs(one.scores) == [(0, 1), (0, 2)]
    assert _pairs((1.0, 1.0)) == []
    assert _outcomes([[3, 1, 3]], [one]) == [1.0, 0.5]
    assert _outcomes([[1, 3, 1]], [one]) == [0.0, 0.5]


def test_an_accuracy_of_all_has_wilsons_interval() -> None:
    several = [group(name, ("x", 2), ("y", 1)) for name in "abcd"]
    ours = _rows({"model": [1.0] * 4}, several, [], seed=0)[0]
    assert (ours.value, ours.high) == (1, 1)
    assert ours.low == pytest.approx(wilson(4, 4).low)


def test_win_shares_count_comparisons_between_models() -> None:
    shares = _win_shares([group("a", ("x", 3), ("y", 2), ("y", 2)), group("b", ("y", 1), ("x", 0))])
    # x won two of three against y; y against itself, and equal scores, are no comparison.
    assert shares == pytest.approx({"x": 2 / 3, "y": 1 / 3})


def test_identity_is_a_guess_only_where_writers_are_known() -> None:
    known = [group("k", ("x", 1), ("y", 0))]
    tested = [group("a", ("x", 1), ("y", 0)), group("b", ("y", 1), ("x", 0))]
    rows = _rows({"m": [1.0, 1.0], "m0": [1.0, 0.0]}, tested, known, 0)
    found = {(r.model, r.metric, r.against): r.value for r in rows}
    assert found == {
        ("m", "accuracy", None): 1.0,
        ("m0", "accuracy", None): 0.5,
        ("longer wins", "accuracy", None): 0.5,
        ("model identity", "accuracy", None): 0.5,
        ("m", "accuracy_difference", "m0"): 0.5,
        ("m", "accuracy_difference", "longer wins"): 0.5,
        ("m", "accuracy_difference", "model identity"): 0.5,
    }
    nameless = [group("a", ("unknown", 1), ("unknown", 0)), group("b", ("u", 1), ("u", 0))]
    rows = _rows({"m": [1.0, 1.0]}, nameless, known[:0], 0)
    assert {r.model for r in rows} == {"m", "longer wins"}
    assert _rows({}, tested, known, 0) == []


def test_the_longer_guess_sees_whole_texts() -> None:
    short, long = (Response(t, "p", t, SampledBy("x")) for t in ("a", "b" * 99))
    asked = Prompt("p", (Message("user", "p"),))
    tested = [PreferenceGroup(asked, (long, short), (1.0, 0.0), "human")]
    assert _guesses(tested, []) == {"longer wins": [1.0]}


@pytest.mark.parametrize("objective", [LDDPO(beta=0.3), WPO(beta=0.3)], ids=repr)
def test_variants_of_dpo_prefer_by_whole_log_ratios(objective: DPO) -> None:
    groups = [TokenGroup("a", (5,), ((6,), (7, 8)), (1.0, 0.0))] * 2
    policy, reference = [(-1.0, -4.0), (-5.0, -1.0)], [(-2.0, -3.0), (-2.0, -3.0)]
    found = _margins(objective, groups, policy, reference)
    assert found == [2.0, -5.0]
    assert _margins(DPO(beta=0.3), groups, policy, reference) == pytest.approx([0.6, -1.5])


@pytest.mark.shared
def test_both_guesses_reach_the_published_shares() -> None:
    """77% and 84% of the comparisons of 200 held-out instructions, as the data's notes say."""
    corpus = load_data(str(shared_path("data/alpacaeval/alpacaeval_listwise.jsonl.gz")))
    made = _guesses(corpus.test_groups, corpus.groups)
    assert len(made["longer wins"]) == 5564
    assert mean(made["longer wins"]) == pytest.approx(0.77, abs=0.01)
    assert mean(made["model identity"]) == pytest.approx(0.84, abs=0.01)


def test_groups_of_one_prompt_are_one_cluster() -> None:
    def widths(copies: int) -> dict[tuple[str, str, str | None], float]:
        tested = [
            replace(one, prompt=replace(one.prompt, messages=(Message("user", f"{i}?"),)))
            for i in range(6)
            for one in [group(f"{i}/{k}", ("x", 1), ("y", 0)) for k in range(copies)]
        ]
        won = [float(i < 4) for i in range(6) for _ in range(copies)]
        rows = _rows({"m": won, "m0": [0.5] * len(won)}, tested, tested[:0], 0)
        assert {r.n for r in rows} == {6 * copies}
        return {(r.model, r.metric, r.against): (r.high or 0) - (r.low or 0) for r in rows}

    assert widths(10) == pytest.approx(widths(1))
    assert widths(1)["m", "accuracy", None] > 0
