"""Benchmarks of judges: rewards in order, agreement with people, and relevance."""

import json
import math
from dataclasses import replace

import pytest

from alignlab.data.sources import load
from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.judge_quality import PairJudgeQuality
from alignlab.evaluation.benchmarks.reward_accuracy import RewardAccuracy
from alignlab.evaluation.benchmarks.synrel import SynRel
from alignlab.types import (
    Corpus,
    Feedback,
    Message,
    Preference,
    PreferenceGroup,
    Prompt,
    Response,
    SampledBy,
)
from tests.conftest import shared_path
from tests.evaluation.asking import Pairs, Scores, asked, figures, jsonl, said


def group(name, section, *texts, scores=(1.0, 0.0), by=("own", "other")):
    prompt = Prompt(name, (Message("user", f"{name}?"),), source=f"bench/{section}")
    responses = tuple(
        Response(f"{name}/{i}", name, text, SampledBy(by[i % len(by)]))
        for i, text in enumerate(texts)
    )
    return PreferenceGroup(prompt, responses, tuple(scores), "people")


def of(judge, *groups):
    return replace(asked([], judge=judge), corpus=Corpus("made", groups=groups))


def test_reward_accuracy_by_section():
    groups = (
        group("a", "chat", "333", "1"),
        group("b", "chat", "1", "22"),
        group("c", "code", "22", "33"),
        group("d", "code", "?", "1"),
    )
    scores = Scores(lambda text: None if text == "?" else float(len(text)))
    found = RewardAccuracy().measure(of(scores, *groups))
    got = figures(found.rows, "scores")
    assert got["accuracy"] == pytest.approx(1 / 3)
    assert (got["accuracy family:chat"], got["accuracy family:code"]) == (0.5, 0.0)
    assert got["section_mean"] == 0.25
    mean = next(row for row in found.rows if row.metric == "section_mean")
    assert (mean.n, mean.unscored) == (3, 1)
    assert 0 <= mean.low < 0.25 < mean.high <= 1
    assert got["accuracy_ties_half"] == pytest.approx(0.5)
    assert found.rows[0].unscored == 1
    longer = figures(found.rows, "longer wins")
    assert longer["accuracy"] == 0.25


def test_a_mean_of_sections_that_are_all_right_is_not_certain():
    groups = [group(f"{s}-{n}", s, "22", "1") for s in ("chat", "code") for n in range(3)]
    rows = RewardAccuracy().measure(of(Scores(lambda text: float(len(text))), *groups)).rows
    mean = next(row for row in rows if row.metric == "section_mean")
    assert (mean.value, mean.high) == (1, 1)
    assert mean.low == pytest.approx(6 / (6 + 1.959964**2))


@pytest.mark.parametrize(("prompts", "width"), [(20, 0.480), (40, 0.324)])
def test_a_prompt_of_two_sections_is_one_prompt(prompts, width):
    """Half of the prompts are right in both sections: Student's interval of so many prompts."""
    groups = [
        replace(one, prompt=replace(one.prompt, messages=(Message("user", f"{number}?"),)))
        for number in range(prompts)
        for section in ("chat", "code")
        for texts in [("22", "1") if number % 2 else ("1", "22")]
        for one in [group(f"{section}-{number}", section, *texts)]
    ]
    rows = RewardAccuracy().measure(of(Scores(lambda text: float(len(text))), *groups)).rows
    mean = next(row for row in rows if row.metric == "section_mean")
    assert mean.value == 0.5
    assert mean.high - mean.low == pytest.approx(width, rel=0.1)


def test_reward_accuracy_counts_every_pair_with_an_order():
    ranked = group("a", "chat", "333", "22", "1", scores=(2.0, 1.0, 1.0))
    found = RewardAccuracy().measure(of(Scores(len), ranked))
    assert (found.rows[0].value, found.rows[0].n) == (1.0, 2)
    with pytest.raises(BadInput, match="expected ranked responses"):
        RewardAccuracy().measure(of(Scores(len)))


def test_calibration_of_log_odds():
    # sigmoid(log 3) = 0.75: right in three pairs of four, so calibrated, with Brier 0.1875.
    groups = [
        group(f"g{i}", "x", *(("good", "bad") if i % 4 else ("bad", "good"))) for i in range(400)
    ]
    sure = Scores(lambda text: math.log(3) if text == "good" else 0.0)
    got = figures(RewardAccuracy(log_odds=True).measure(of(sure, *groups)).rows, "scores")
    assert got["brier"] == pytest.approx(0.75 * 0.0625 + 0.25 * 0.5625)
    plain = figures(RewardAccuracy().measure(of(sure, *groups)).rows, "scores")
    assert "brier" not in plain
    assert got["accuracy"] == plain["accuracy"] == 0.75
    assert got["calibration_error"] < 0.05
    boasting = Scores(lambda text: 50.0 if text == "good" else 0.0)
    worse = figures(RewardAccuracy(log_odds=True).measure(of(boasting, *groups)).rows, "scores")
    assert worse["brier"] == pytest.approx(0.25)
    assert worse["calibration_error"] == pytest.approx(0.25)
    blind = Scores(lambda text: None)
    rows = {r.metric: r for r in RewardAccuracy(log_odds=True).measure(of(blind, *groups)).rows}
    assert (rows["brier"].value, rows["brier"].unscored) == (None, 400)


def test_judge_quality_with_human_ties():
    groups = [group(f"g{i}", "x", "22", "1") for i in range(6)]
    groups += [group("tie", "x", "1", "1", scores=(0.0, 0.0))]
    groups += [group("tied by judge", "x", "2", "1")]
    pairs = Pairs(len)
    found = PairJudgeQuality().measure(of(pairs, *groups))
    got = figures(found.rows, "pairs")
    assert (got["agreement"], got["accuracy"]) == (7 / 8, 6.5 / 7)
    assert got["consistent"] == 1
    assert figures(found.rows, "longer wins")["accuracy"] == 6.5 / 7
    # The better answer is not always the first.
    assert 0 < sum(a == "22" for a, _ in pairs.seen) < 6


@pytest.mark.shared
def test_longer_wins_on_published_pairs():
    """The share of longer chosen responses, as published for the file, on the rows read."""
    path = shared_path("data/hh_harmless/hh_harmless_test.jsonl.gz")
    expected = json.loads(shared_path("data/expected.json").read_text())["hh_harmless"]
    corpus = load(str(path))
    groups = [*corpus.groups, *corpus.test_groups]
    dropped = sum(sum(c.dropped.values()) for c in corpus.counts)
    assert len(groups) + dropped == expected["rows"]
    longer = sum(len(g.responses[0].text) > len(g.responses[1].text) for g in groups)
    published = round(expected["chosen_longer"] * expected["rows"])
    assert published - dropped <= longer <= published
    found = RewardAccuracy().measure(
        replace(asked([], judge=Scores(lambda t: float(len(t)))), corpus=corpus)
    )
    assert figures(found.rows, "scores")["accuracy"] == pytest.approx(longer / len(groups))


def entities(tmp_path, *names):
    rows = [
        {"subj": n, "prop": "p", "paragraphs": [{"title": n, "text": f"{n} is {n}."}]}
        for n in names
    ]
    return jsonl(tmp_path / "popqa.jsonl", *rows, {"subj": "none", "paragraphs": []})


def test_synrel_on_passages_and_on_a_model(tmp_path):
    task = SynRel()
    questions = task.questions(entities(tmp_path, "Ann", "Bob", "Cid"))
    assert {q.prompt.text for q in questions} == {
        f"Please tell me about {n}" for n in ("Ann", "Bob", "Cid")
    }

    class Knowing(Scores):
        def _one(self, prompt, response):
            self.rule = lambda text: float(prompt.id in text)
            return super()._one(prompt, response)

    judge = Knowing(len)
    got = figures(task.measure(asked(questions, judge=judge)).rows)
    assert got == {"accuracy": 1.0, "ties": 0.0}
    blind = task.measure(asked(questions, judge=Scores(lambda t: 1.0)))
    assert figures(blind.rows) == {"accuracy": 0.0, "ties": 1.0}
    answers = said("m", questions, *[f"About {q.id}" for q in questions])
    found = task.measure(asked(questions, answers, judge=judge))
    assert found.rows[0].model == "scores on m"
    assert figures(found.rows)["accuracy"] == 1.0
    with pytest.raises(BadInput, match="expected two entities"):
        task.questions(jsonl(tmp_path / "one.jsonl", {"subj": "x", "paragraphs": []}))


@pytest.mark.parametrize(
    ("orders", "value"),
    [
        ((0, 0), 1.0),
        ((0, None), 1.0),
        ((None, 0), 1.0),
        ((0, 1), 0.0),
        ((None, None), 0.0),
        ((None, 1), 0.0),
    ],
)
def test_the_accuracy_of_judge_bench_adds_both_orders_up(orders, value):
    """A tie in one order does not lose a pair that the other order decides rightly."""

    class Fixed(Pairs):
        def compare(self, items, seed):
            found = []
            for prompt, a, b in items:
                # The better answer is "333", wherever it stands.
                turn = (0, 1) if a.text == "333" else (1, 0)
                seen = tuple(None if o is None else turn[o] for o in orders)
                winner = seen[0] if seen[0] == seen[1] else None
                verdict = Preference(winner, seen)
                found.append(Feedback(prompt.id, (a.id, b.id), self.name, verdict))
            return found

    groups = [group(name, "chat", "333", "1") for name in "abcdef"]
    found = PairJudgeQuality().measure(of(Fixed(len), *groups))
    assert figures(found.rows, "pairs")["accuracy_both_orders"] == value


def pairs_of(copies):
    """Eight prompts, `copies` pairs each under ids of their own; the longer is better in five."""
    found = []
    for i in range(8):
        for k in range(copies):
            texts = ("long", "s") if i < 5 else ("s", "long")
            one = group(f"{i}/{k}", "part", *texts)
            found.append(
                replace(one, prompt=replace(one.prompt, messages=(Message("user", f"{i}?"),)))
            )
    return found


@pytest.mark.parametrize(
    ("benchmark", "judge", "metrics"),
    [
        (RewardAccuracy(log_odds=True), Scores(len), ("accuracy", "accuracy_ties_half", "brier")),
        (PairJudgeQuality(), Pairs(len), ("agreement", "accuracy")),
    ],
)
def test_pairs_of_one_prompt_are_no_independent_prompts(benchmark, judge, metrics):
    one = benchmark.measure(of(judge, *pairs_of(1))).rows
    ten = benchmark.measure(of(judge, *pairs_of(10))).rows
    for metric in metrics:
        a, b = (next(r for r in rows if r.metric == metric) for rows in (one, ten))
        assert (a.n, b.n) == (8, 80), metric
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high)), metric
        assert a.low is not None
    assert next(r.value for r in ten if r.metric == "prompts") == 8
    assert not any(r.metric == "prompts" for r in one)
