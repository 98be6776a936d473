"""Differences of two models prompt by prompt, by hand."""

from alignlab.measuring.changes import changes, values_by_prompt
from alignlab.measuring.measure import PerPromptMetric
from alignlab.types import Feedback, Score, Unscored


def scored(*values: float | None) -> list[Feedback]:
    return [
        Feedback(f"p{i}", (f"r{i}",), "j", Unscored("lost") if v is None else Score(v))
        for i, v in enumerate(values)
    ]


def test_only_prompts_that_both_have_are_compared():
    values = values_by_prompt({"a": scored(3, None, 1), "b": scored(1, 2, 4)})
    assert values == {"a": {"p0": 3, "p2": 1}, "b": {"p0": 1, "p1": 2, "p2": 4}}
    assert changes(values, [("a", "b"), ("a", "nobody"), ("c", "a")], "score", "change") == [
        PerPromptMetric("a", "score", "change", ("p0", "p2"), (2, -3), "b")
    ]
