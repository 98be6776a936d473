"""The guesses beside which a trained model's held-out preferences are put."""

from __future__ import annotations

import pytest

from alignlab.models.packed import TokenGroup
from alignlab.stages.held_out import _guessed, _rows, _strictly_ordered, _win_shares
from alignlab.types import Message, PreferenceGroup, Prompt, Response, SampledBy


def group(name: str, *answers: tuple[str, float]) -> PreferenceGroup:
    """A group of (writer, score)."""
    responses = tuple(
        Response(f"{name}{k}", name, f"text {k}", SampledBy(writer))
        for k, (writer, _) in enumerate(answers)
    )
    asked = Prompt(name, (Message("user", name),))
    return PreferenceGroup(asked, responses, tuple(score for _, score in answers), "human")


def test_guesses_by_hand() -> None:
    assert _guessed([3, 1, 3, 5]) == pytest.approx((1 + 0.5 + 0) / 3)
    assert _guessed([1, 2]) + _guessed([2, 1]) == 1


def test_win_shares_count_comparisons_between_models() -> None:
    shares = _win_shares([group("a", ("x", 3), ("y", 2), ("y", 2)), group("b", ("y", 1), ("x", 0))])
    # x won two of three against y; y against itself, and equal scores, are no comparison.
    assert shares == pytest.approx({"x": 2 / 3, "y": 1 / 3})


def test_ties_with_the_best_are_left_out() -> None:
    kept = _strictly_ordered(group("a", ("x", 3), ("y", 3), ("z", 1)))
    assert kept is not None
    assert [r.sampler.model for r in kept.responses] == ["x", "z"]
    assert _strictly_ordered(group("a", ("x", 3), ("y", 3))) is None


def test_identity_is_a_guess_only_where_writers_are_known() -> None:
    tokens = [TokenGroup("a", (1,), ((1, 2), (1,))), TokenGroup("b", (1,), ((1,), (1, 2)))]
    known = [group("k", ("x", 1), ("y", 0))]
    tested = [group("a", ("x", 1), ("y", 0)), group("b", ("y", 1), ("x", 0))]
    rows = _rows("m", [1.0, 1.0], tokens, tested, known, 0)
    found = {(r.model, r.metric, r.against): r.value for r in rows}
    assert found == {
        ("m", "accuracy", None): 1.0,
        ("longer wins", "accuracy", None): 0.5,
        ("model identity", "accuracy", None): 0.5,
        ("m", "accuracy_difference", "longer wins"): 0.5,
        ("m", "accuracy_difference", "model identity"): 0.5,
    }
    nameless = [group("a", ("unknown", 1), ("unknown", 0)), group("b", ("u", 1), ("u", 0))]
    rows = _rows("m", [1.0, 1.0], tokens, nameless, known[:0], 0)
    assert {r.model for r in rows} == {"m", "longer wins"}
