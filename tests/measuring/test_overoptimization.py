"""What a policy's steps leave behind, values pooled over seeds, and demonstrations as turns."""

import math

import pytest

from alignlab.measuring.best_of_n import best_of_values
from alignlab.measuring.measure import HeldOut, PerPromptMetric, StudyMeasurements
from alignlab.measuring.overoptimization import Watched, WatchedReward
from alignlab.measuring.results import results
from alignlab.stages.few_shot import FewShot
from alignlab.types import (
    CompletionRequest,
    Demonstration,
    Feedback,
    Message,
    Sampling,
    Score,
    Unscored,
)
from tests.feedback.worlds import says
from tests.stages.making import context, prompt, rated, responses


class Scores:
    def __init__(self, name, *values):
        self.name, self.values = name, values

    def rate(self, items, seed):
        asked = [(p, r) for p, several in items for r in several]
        return [
            Feedback(p.id, (r.id,), self.name, Unscored("no") if v is None else Score(v))
            for (p, r), v in zip(asked, self.values, strict=True)
        ]


ITEMS = [(prompt(0), responses(prompt(0), "a", "b", "c"))]


def test_a_step_is_noted_once_with_reward_and_truth(tmp_path):
    with context(tmp_path).run.stage("watch") as stage:
        file = stage.records("watched", Watched)
        source = WatchedReward(Scores("r", 1.0, None, 3.0), Scores("t", 5.0, 0.0, 1.0), file)
        said = source.rate(ITEMS, seed=11)
        source.rate(ITEMS, seed=11)
        source.rate(ITEMS, seed=12)
        assert [isinstance(f.verdict, Score) for f in said] == [True, False, True]
        assert source.name == "r"
        assert file.read() == [Watched(2.0, 2.0, 2, 11), Watched(2.0, 2.0, 2, 12)]


def test_without_a_truth_there_is_none(tmp_path):
    with context(tmp_path).run.stage("watch") as stage:
        file = stage.records("watched", Watched)
        WatchedReward(Scores("r", None, None, None), None, file).rate(ITEMS, seed=1)
        assert file.read() == [Watched(None, None, 0, 1)]


def measured(seed, *values):
    found = PerPromptMetric("m", "b", "metric", ("p0", "p1"), values, against="other", unscored=1)
    return StudyMeasurements(seed, "M1", HeldOut((), ()), {}, {}, {}, (), {}, (), {}, (found,))


def test_values_are_pooled_over_seeds(tmp_path):
    (row,) = results(context(tmp_path), [measured(0, 1.0, 2.0), measured(1, 3.0, 6.0)])
    assert (row.model, row.benchmark, row.metric, row.against) == ("m", "b", "metric", "other")
    assert (row.value, row.n, row.unscored, row.seeds) == (3.0, 4, 2, (0, 1))
    assert row.low <= 3.0 <= row.high


def test_the_best_of_n_by_hand():
    asked = [prompt(n) for n in range(3)]
    drawn = [responses(p, "a", "b") for p in asked]
    said = [rated(r, s) for (a, b) in drawn[:2] for r, s in ((a, 1.0), (b, 2.0))]
    said += [rated(drawn[2][0], 1.0), rated(drawn[2][1], Unscored("no"))]
    true = [rated(r, t) for (a, b) in drawn for r, t in ((a, 4.0), (b, 0.0))]
    found = {(v.model, v.metric): v for v in best_of_values(said, true)}
    assert found["best of 1", "true score"].values == (2.0, 2.0)
    assert found["best of 2", "true score"].values == (0.0, 0.0)
    assert found["best of 2", "true score"].unscored == 1
    assert found["best of 2", "kl_bound"].values[0] == pytest.approx(math.log(2) - 0.5)
    assert best_of_values(said, []) == ()


def test_demonstrations_come_before_the_question_and_after_instructions():
    seen = []

    class Sees:
        name = "m"

        def complete(self, requests):
            seen.extend(requests)
            return says("x").complete(requests)

    shown = [Demonstration(prompt(n), responses(prompt(n), f"answer {n}")[0]) for n in range(2)]
    asked = (Message("system", "Be short."), Message("user", "Why?"))
    FewShot(Sees(), shown).complete([CompletionRequest("1", asked, Sampling(), 0, prefix="So")])
    assert [(m.role, m.content) for m in seen[0].messages] == [
        ("system", "Be short."),
        ("user", "What is question 0?"),
        ("assistant", "answer 0"),
        ("user", "What is question 1?"),
        ("assistant", "answer 1"),
        ("user", "Why?"),
    ]
    assert seen[0].prefix == "So"
    assert FewShot(Sees(), shown).name == "m, 2-shot"
