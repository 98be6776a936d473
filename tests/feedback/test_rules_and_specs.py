"""Judges without a model, and judges by spec."""

from __future__ import annotations

import pytest

from alignlab.errors import BadInput
from alignlab.feedback.conversion import JudgeByScore
from alignlab.feedback.expected_score import ExpectedScoreJudge
from alignlab.feedback.model_judge import ModelJudge
from alignlab.feedback.pairwise import PairwiseJudge
from alignlab.feedback.rules import LengthJudge, RandomJudge
from alignlab.feedback.specs import judge, pair_judge
from alignlab.types import Preference, Score, Unscored
from tests.feedback.worlds import Chooser, prompt, response, says

ITEMS = [(prompt(), [response(f"r{k}", "word " * k) for k in range(200)])]


def test_random_scores_are_even_repeatable_and_apart() -> None:
    scores = [f.verdict.value for f in RandomJudge().rate(ITEMS, seed=1)]
    assert scores == [f.verdict.value for f in RandomJudge().rate(ITEMS, seed=1)]
    assert scores != [f.verdict.value for f in RandomJudge().rate(ITEMS, seed=2)]
    assert len(set(scores)) == 200
    assert 0 <= min(scores) < 0.3
    assert 4.7 < max(scores) <= 5
    assert sum(scores) / 200 == pytest.approx(2.5, abs=0.35)
    alone = RandomJudge().rate([(prompt(), [response("r7", "x")])], seed=1)
    assert alone[0].verdict.value == scores[7]


def test_random_pairs_do_not_depend_on_the_order() -> None:
    a, b = response("a", "x"), response("b", "y")
    for seed in range(20):
        (shown,) = RandomJudge().compare([(prompt(), a, b)], seed)
        (swapped,) = RandomJudge().compare([(prompt(), b, a)], seed)
        assert shown.verdict.winner == 1 - swapped.verdict.winner


def test_length() -> None:
    assert [f.verdict.value for f in LengthJudge().rate(ITEMS, seed=0)] == list(range(200))
    short, long = response("a", "one two"), response("b", "one two three")
    judge = LengthJudge()
    assert judge.compare([(prompt(), short, long)], 0)[0].verdict.winner == 1
    assert judge.compare([(prompt(), long, short)], 0)[0].verdict.winner == 0
    assert judge.compare([(prompt(), short, short)], 0)[0].verdict.winner is None
    assert judge.compare([(prompt(), short, long)], 0)[0].source == "longer"


def test_by_score() -> None:
    pair = [(prompt(), response("a", "x"), response("b", "y"))]
    (tie,) = JudgeByScore(ModelJudge(says("Score: 3"))).compare(pair, 0)
    assert isinstance(tie.verdict, Preference)
    assert tie.verdict.winner is None
    (none,) = JudgeByScore(ModelJudge(says("?"))).compare(pair, 0)
    assert isinstance(none.verdict, Unscored)


def _engines(spec: str):
    return {"scorer": Chooser([0.0] + [-9.0] * 5), "self": says("Score: 2")}.get(spec) or says(spec)


def test_judges_by_spec() -> None:
    made = judge("llm:Score: 3", make_completer=_engines)
    assert isinstance(made, ModelJudge)
    assert made.rate(ITEMS, 0)[0].verdict == Score(3.0, (3.0, 3.0, 3.0))
    short = judge("llm,samples=5,prompt=short_score,temperature=0:self", make_completer=_engines)
    assert isinstance(short, ModelJudge)
    assert (short.sampling.n, short.sampling.temperature) == (5, 0)
    assert short.prompt.name == "short_score"
    expected = judge("expected,least_mass=0.5,prefix=:scorer", make_completer=_engines)
    assert isinstance(expected, ExpectedScoreJudge)
    assert (expected.least_mass, expected.prefix) == (0.5, "")
    assert isinstance(judge("random", make_completer=_engines), RandomJudge)
    assert isinstance(judge("longer", make_completer=_engines), LengthJudge)


def test_pair_judges_by_spec() -> None:
    assert isinstance(pair_judge("pairwise:self", make_completer=_engines), PairwiseJudge)
    assert isinstance(pair_judge("longer", make_completer=_engines), LengthJudge)
    assert isinstance(pair_judge("llm:self", make_completer=_engines), JudgeByScore)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lllm:self", "did you mean 'llm'"),
        ("llm", "found no engine"),
        ("llm,sample=2:self", "did you mean 'samples'"),
        ("llm,samples=many:self", "samples"),
        ("llm,prompt=nonsense:self", "judge prompt"),
        ("expected:self", "no log-probabilities"),
        ("random:x", "nothing after"),
        ("random,x=1", "no options"),
        ("pairwise:self", "compares"),
    ],
)
def test_bad_specs(spec: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        judge(spec, make_completer=_engines)
