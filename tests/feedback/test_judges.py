"""The judges made of a model, against scripted models."""

from __future__ import annotations

import math
from typing import Any

import pytest

from alignlab.errors import BadInput
from alignlab.feedback import specs
from alignlab.feedback.expected_score import ExpectedScoreJudge
from alignlab.feedback.model_judge import ModelJudge, ModelJudgeOptions, OnceOptions, critique_judge
from alignlab.feedback.pairwise import PairwiseJudge
from alignlab.feedback.prompts import judge_prompt
from alignlab.types import Preference, Sampling, Score, Unscored
from tests.feedback.worlds import Chooser, by, prompt, response, says

ITEMS = [
    (prompt("p"), [response("a", "good"), response("b", "bad")]),
    (prompt("q"), [response("c", "fine", of="q")]),
]


def test_samples_are_averaged_and_unreadable_ones_are_missing() -> None:
    judge = ModelJudge(says("Score: 4", "no idea", "Well. Score: 1"))
    feedback = judge.rate(ITEMS, seed=0)
    assert [f.response_ids for f in feedback] == [("a",), ("b",), ("c",)]
    assert [f.prompt_id for f in feedback] == ["p", "p", "q"]
    assert feedback[0].verdict == Score(2.5, (4.0, None, 1.0))
    assert feedback[0].raw == ("Score: 4", "no idea", "Well. Score: 1")
    assert feedback[0].rationale == "Score: 4"
    assert feedback[0].source == judge.name


def test_nothing_readable_is_unscored_with_the_texts() -> None:
    feedback = ModelJudge(says("hm", "Score: 9", "")).rate(ITEMS, seed=0)[0]
    assert feedback.verdict == Unscored("no readable score in any sample")
    assert feedback.raw == ("hm", "Score: 9", "")


def test_failed_calls_are_unscored_and_never_read() -> None:
    all_failed = ModelJudge(says(None)).rate(ITEMS, seed=0)[0]
    assert isinstance(all_failed.verdict, Unscored)
    assert "call failed" in all_failed.verdict.reason
    some = ModelJudge(says("Score: 2", None, None)).rate(ITEMS, seed=0)[0]
    assert some.verdict == Score(2.0, (2.0, None, None))
    assert some.raw == ("Score: 2", "", "")


def test_requests_depend_on_the_response_alone() -> None:
    seen: list[Any] = []

    class Recorder:
        name = "r"

        def complete(self, requests: Any) -> Any:
            seen.append(list(requests))
            return says("Score: 1").complete(requests)

    judge = ModelJudge(Recorder(), judge_prompt("short_score"), samples=2)
    judge.rate(ITEMS, seed=5)
    judge.rate(ITEMS[1:], seed=5)
    assert seen[0][2] == seen[1][0]
    assert len({request.id for request in seen[0]}) == 3
    assert all(r.seed == 5 and r.sampling.n == 2 for r in seen[0])


def test_sampling_and_samples_must_agree() -> None:
    with pytest.raises(BadInput, match=r"sampling\.n"):
        ModelJudge(says("x"), samples=3, sampling=Sampling(n=2))


def test_nobody_to_judge() -> None:
    assert ModelJudge(says("x")).rate([], seed=0) == []
    assert ExpectedScoreJudge(Chooser([0.0] * 6)).rate([], seed=0) == []


def test_expected_score_by_hand() -> None:
    # Mass .8: (0*.1 + 2*.2 + 5*.5) / .8 = 2.9 / .8
    probs = [0.1, 0.0, 0.2, 0.0, 0.0, 0.5]
    chooser = Chooser([math.log(p) if p else -math.inf for p in probs])
    judge = ExpectedScoreJudge(chooser, judge_prompt("short_score"))
    feedback = judge.rate(ITEMS, seed=0)
    verdict = feedback[0].verdict
    assert isinstance(verdict, Score)
    assert verdict.value == pytest.approx(2.9 / 0.8)
    assert "together 0.800" in feedback[0].rationale
    assert chooser.choices == tuple("012345")
    assert chooser.requests[0].prefix == "Score: "


def test_expected_score_counts_from_the_lowest_score() -> None:
    # On the scale from 1 to 10, .4 on 1 and .2 on 10: (.4 + 2) / .6 = 4.
    chooser = Chooser([math.log(0.4), *[-math.inf] * 8, math.log(0.2)])
    verdict = ExpectedScoreJudge(chooser, judge_prompt("single_1_10")).rate(ITEMS, 0)[0].verdict
    assert isinstance(verdict, Score)
    assert verdict.value == pytest.approx(4.0)
    assert chooser.choices == tuple(map(str, range(1, 11)))


@pytest.mark.parametrize("least", [0.25, 0.26])
def test_expected_score_at_the_least_mass(least: float) -> None:
    chooser = Chooser([math.log(0.125), math.log(0.125), *[-math.inf] * 4])
    found = ExpectedScoreJudge(chooser, least_mass=least).rate(ITEMS, 0)[0].verdict
    assert isinstance(found, Score) == (least == 0.25)


@pytest.mark.parametrize(
    ("logprobs", "reason"),
    [
        ([math.log(0.01)] * 6, "less than 0.1"),
        ([-math.inf] * 6, "less than"),
        ([math.nan] * 6, "no probabilities"),
        ([-0.1, math.nan, -1, -1, -1, -1], "no probabilities"),
    ],
)
def test_expected_score_without_mass_is_unscored(logprobs: list[float], reason: str) -> None:
    verdict = ExpectedScoreJudge(Chooser(logprobs)).rate(ITEMS, seed=0)[0].verdict
    assert isinstance(verdict, Unscored)
    assert reason in verdict.reason


def test_zero_mass_is_unscored_even_when_any_mass_will_do() -> None:
    judge = ExpectedScoreJudge(Chooser([-math.inf] * 6), least_mass=0)
    assert isinstance(judge.rate(ITEMS, seed=0)[0].verdict, Unscored)
    with pytest.raises(BadInput, match="least_mass"):
        ExpectedScoreJudge(Chooser([0.0]), least_mass=2)


def _prefers(text: str) -> Any:
    """A sound judge of pairs: whoever says `text` wins."""

    def answer(asked: str) -> str:
        a, b = asked.split("<answer_b>")
        return "Better: " + ("tie" if (text in a) == (text in b) else "A" if text in a else "B")

    return by(answer)


PAIR = [(prompt(), response("a", "good"), response("b", "bad"))]


def test_a_sound_judge_finds_the_winner_in_both_orders() -> None:
    judge = PairwiseJudge(_prefers("good"))
    assert judge.compare(PAIR, seed=0)[0].verdict == Preference(0, (0, 0))
    swapped = [(p, b, a) for p, a, b in PAIR]
    assert judge.compare(swapped, seed=0)[0].verdict == Preference(1, (1, 1))
    same = PairwiseJudge(_prefers("xyzzy"))
    assert same.compare(PAIR, seed=0)[0].verdict == Preference(None, (None, None))


def test_a_biased_judge_gives_ties() -> None:
    verdict = PairwiseJudge(says("Better: A")).compare(PAIR, seed=0)[0].verdict
    assert verdict == Preference(None, (0, 1))


@pytest.mark.parametrize(
    ("texts", "reason"),
    [(("?", "?"), "first and second"), (("Better: A", "?"), "second order")],
)
def test_unreadable_pairs_are_unscored(texts: tuple[str, str], reason: str) -> None:
    def answer(asked: str) -> str:
        return texts[asked.index("good") > asked.index("bad")]

    (feedback,) = PairwiseJudge(by(answer)).compare(PAIR, seed=0)
    assert isinstance(feedback.verdict, Unscored)
    assert reason in feedback.verdict.reason
    assert feedback.raw == texts


def test_failed_pairs_are_unscored_and_samples_refused() -> None:
    (feedback,) = PairwiseJudge(says(None)).compare(PAIR, seed=0)
    assert isinstance(feedback.verdict, Unscored)
    assert "call failed" in feedback.verdict.reason
    with pytest.raises(BadInput, match=r"sampling\.n"):
        PairwiseJudge(says("x"), sampling=Sampling(n=2))


def test_what_judges_do_unless_asked() -> None:
    judge = ModelJudge(says("Score: 1"))
    assert judge.sampling == Sampling(0.7, 0.9, 256, n=3)
    assert (judge.prompt.name, judge.name) == (
        "additive_five_point",
        "judge as judge (additive_five_point, 3 samples)",
    )
    assert ModelJudgeOptions().judge(says("Score: 1")).sampling == judge.sampling
    assert OnceOptions("critique").sampling() == Sampling(0.0, 1.0, 256)
    once = Sampling(temperature=0, top_p=1, max_tokens=256)
    assert critique_judge(says("Too long.")).sampling == once
    assert PairwiseJudge(says("Better: A")).sampling == once
    assert ExpectedScoreJudge(Chooser([0.0] * 6)).prompt.name == "additive_five_point"


def test_judges_are_asked_as_they_are_told() -> None:
    warm, short = Sampling(temperature=0.5, max_tokens=9), judge_prompt("short_score")
    judge = ModelJudge(says("Score: 1"), short, samples=1, sampling=warm, name="mine")
    assert (judge.sampling, judge.prompt, judge.name) == (warm, short, "mine")
    assert critique_judge(says("Too long."), sampling=warm).sampling == warm
    assert PairwiseJudge(says("Better: A"), short, sampling=warm).sampling == warm
    assert PairwiseJudge(says("Better: A"), short).prompt == short
    assert ExpectedScoreJudge(Chooser([0.0] * 6), short).prompt == short
    chooser = Chooser([0.0] * 6)
    ExpectedScoreJudge(chooser, short, prefix="So: ").rate(ITEMS, seed=3)
    request = chooser.requests[0]
    assert (request.prefix, request.seed, request.sampling) == ("So: ", 3, Sampling(max_tokens=1))


def test_a_failed_call_is_named_before_an_unreadable_reply() -> None:
    for texts in (("hm", None), (None, "hm")):
        verdict = ModelJudge(says(*texts), samples=2).rate(ITEMS, seed=0)[0].verdict
        assert isinstance(verdict, Unscored)
        assert "call failed" in verdict.reason


def test_one_unreadable_sample_has_its_reason() -> None:
    verdict = ModelJudge(says("hm"), samples=1).rate(ITEMS, seed=0)[0].verdict
    assert verdict == Unscored("no readable score in any sample")


@pytest.mark.parametrize("kind", ["llm", "reference", "critique", "pairwise"])
def test_options_of_a_spec_reach_the_sampling(kind: str) -> None:
    read = specs.pair_judge if kind == "pairwise" else specs.judge
    made: Any = read(f"{kind},temperature=0.25,max_tokens=7:m", make_completer=lambda _: says("x"))
    assert (made.sampling.temperature, made.sampling.max_tokens) == (0.25, 7)
