"""What people said, as scores and as records to train on."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlab.errors import BadInput
from alignlab.feedback import specs
from alignlab.feedback.human import (
    NOBODY,
    HumanFeedback,
    commented_responses,
    labelled_responses,
    preference_groups,
)
from alignlab.records import to_line
from alignlab.types import (
    Critique,
    Feedback,
    Message,
    Preference,
    Prompt,
    Ranking,
    Response,
    SampledBy,
    Score,
    Unscored,
    Verdict,
)

PROMPT = Prompt("p", (Message("user", "Why?"),))
OTHER = Prompt("q", (Message("user", "How?"),))
A, B, C = (Response(name, "p", name, SampledBy("m")) for name in "abc")
LONE = Response("d", "q", "d", SampledBy("m"))


def said(who: str, verdict: Verdict, *ids: str) -> Feedback:
    return Feedback("p", ids, f"human:{who}", verdict)


def verdicts(*feedback: Feedback) -> list[Verdict]:
    rated = HumanFeedback(feedback).rate([(PROMPT, (A, B, C))], seed=0)
    assert [(one.prompt_id, one.response_ids) for one in rated] == [("p", (n,)) for n in "abc"]
    return [one.verdict for one in rated]


def test_ratings_are_averaged_over_those_who_rated() -> None:
    found = verdicts(said("x", Score(4), "a"), said("y", Score(1), "a"), said("y", Score(3), "b"))
    assert found == [Score(2.5, (4.0, 1.0)), Score(3.0, (3.0,)), NOBODY]


def test_ranks_are_shares_of_the_others_beaten() -> None:
    # x: a, then b and c level; y: the other way round of a and c.
    found = verdicts(said("x", Ranking((0, 1, 1)), "a", "b", "c"))
    assert [v.value for v in found] == [1, 0.25, 0.25]  # type: ignore[union-attr]
    both = verdicts(
        said("x", Ranking((0, 1, 2)), "a", "b", "c"), said("y", Ranking((2, 1, 0)), "a", "b", "c")
    )
    assert [v.value for v in both] == [0.5, 0.5, 0.5]  # type: ignore[union-attr]


def test_words_are_joined_and_nothing_is_invented() -> None:
    found = verdicts(said("x", Critique("Good."), "a"), said("y", Critique("Too long."), "a"))
    assert found == [Critique("Good.\n\nToo long."), NOBODY, NOBODY]
    assert verdicts(said("x", Unscored("left out"), "a")) == [NOBODY] * 3
    with pytest.raises(BadInput, match="expected scores, ranks or words"):
        HumanFeedback([said("x", Preference(0), "a", "b")])


def test_groups_come_best_first_with_ties_kept() -> None:
    human = HumanFeedback(
        [said("x", Score(1), "a"), said("x", Score(5), "b"), said("x", Score(5), "c")]
    )
    learnt = preference_groups([PROMPT, OTHER], [A, B, C, LONE], human)
    (group,) = learnt.records
    assert [r.id for r in group.responses] == ["b", "c", "a"]  # type: ignore[union-attr]
    assert group.scores == (5, 5, 1)  # type: ignore[union-attr]
    assert learnt.dropped == {
        "response without an answer": 1,
        "prompt with fewer than two answered responses": 1,
    }


def test_level_responses_are_a_tie_whatever_the_rounding() -> None:
    names = ("a", "b", "c", "d")
    several = [Response(name, "p", name, SampledBy("m")) for name in names]
    rankings = ((0, 1, 2, 3), (0, 1, 2, 3), (2, 0, 1, 3))
    human = HumanFeedback([said(str(n), Ranking(r), *names) for n, r in enumerate(rankings)])
    (group,) = preference_groups([PROMPT], several, human).records
    assert group.scores == (7 / 9, 7 / 9, 4 / 9, 0)  # type: ignore[union-attr]
    # Two ratings of 0.1 and 0.2 are as good as two of 0.15.
    tenths = [(0.1, "a"), (0.2, "a"), (0.15, "b"), (0.15, "b")]
    a, b, _ = verdicts(*(said("x", Score(value), name) for value, name in tenths))
    assert (a.value, b.value) == (0.15, 0.15)  # type: ignore[union-attr]


def test_labels_go_by_majority() -> None:
    votes = {"a": (1, 1, 0), "b": (1, 0), "c": (0,)}
    feedback = [
        said(f"annotator {n}", Score(float(vote)), response)
        for response, several in votes.items()
        for n, vote in enumerate(several)
    ]
    learnt = labelled_responses([PROMPT, OTHER], [A, B, C, LONE], HumanFeedback(feedback))
    assert [(each.response.id, each.desirable) for each in learnt.records] == [  # type: ignore[union-attr]
        ("a", True),
        ("c", False),
    ]
    assert learnt.dropped == {"annotators evenly split": 1, "response without an answer": 1}


def test_every_comment_is_a_record() -> None:
    human = HumanFeedback([said(who, Critique(f"{who} says"), "a") for who in ("x", "y")])
    learnt = commented_responses([PROMPT], [A, B], human)
    assert [each.comment for each in learnt.records] == ["x says", "y says"]  # type: ignore[union-attr]
    assert learnt.dropped == {"response without an answer": 1}


def test_a_file_of_feedback_is_a_source(tmp_path: Path) -> None:
    path = tmp_path / "feedback.jsonl"
    path.write_text(to_line(said("x", Score(4), "a")) + to_line(said("x", Score(2), "b")))
    source = specs.judge(f"human:{path}", make_completer=lambda spec: None)  # type: ignore[arg-type, return-value]
    assert [one.verdict for one in source.rate([(PROMPT, (A, B))], 0)] == [
        Score(4.0, (4.0,)),
        Score(2.0, (2.0,)),
    ]
    pairs = specs.pair_judge(f"human:{path}", make_completer=lambda spec: None)  # type: ignore[arg-type, return-value]
    first, second = pairs.compare([(PROMPT, B, A), (PROMPT, A, C)], 0)
    assert (first.verdict, second.verdict) == (Preference(1), NOBODY)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "expected human:FILE of feedback records"),
        ("", "feedback.jsonl: expected at least one record, found an empty file"),
        (to_line(said("x", Score(4), "a")).replace("4", "NaN"), "expected a finite number"),
        ("{}\n", "line 1: expected a feedback record"),
        (to_line(said("x", Score(4), "a")) + "no\n", "line 2: expected a feedback record"),
        (
            to_line(said("x", Score(4), "a")) + to_line(said("x", Critique("w"), "a")),
            "expected feedback of one format, found Critique, Score",
        ),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str | None, says: str) -> None:
    path = tmp_path / "feedback.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BadInput, match=says):
        specs.judge(f"human:{path}", make_completer=lambda spec: None)  # type: ignore[arg-type, return-value]
