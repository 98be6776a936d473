"""Right and wrong by a threshold on another source's scores."""

from __future__ import annotations

from typing import Any

import pytest

from alignlab.errors import BadInput
from alignlab.feedback.specs import judge, pair_judge
from alignlab.types import Message, Preference, Prompt, Response, SampledBy, Score, Unscored

ASKED = Prompt("p", (Message("user", "How many?"),), reference="7")


def answers(*texts: str) -> list[Response]:
    return [Response(f"r{i}", "p", text, SampledBy("m")) for i, text in enumerate(texts)]


def make(spec: str, how: Any = judge) -> Any:
    return how(spec, make_completer=lambda spec: None)


def test_scores_become_one_and_zero_and_unscored_stays():
    found = make("at_least,score=3:longer").rate([(ASKED, answers("a b", "a b c", "a b c d"))], 0)
    assert [f.verdict for f in found] == [
        Score(0.0, (0.0,)),
        Score(1.0, (1.0,)),
        Score(1.0, (1.0,)),
    ]
    assert {f.source for f in found} == {"longer >= 3"}
    (unread,) = make("at_least:verifier,strict=true").rate([(ASKED, answers("No idea"))], 0)
    assert unread.verdict == Unscored("no answer found")


def test_the_rationale_is_the_sources():
    (found,) = make("at_least:verifier").rate([(ASKED, answers("It is 7."))], 0)
    assert (found.verdict, found.rationale) == (Score(1.0, (1.0,)), "answer: 7")


def test_partial_scores_do_not_decide_pairs():
    source = make("at_least,score=4:longer", pair_judge)
    one, other, third = answers("a b", "a b c", "a b c d")
    assert source.compare([(ASKED, one, other)], 0)[0].verdict == Preference(None)
    assert source.compare([(ASKED, one, third)], 0)[0].verdict == Preference(1)


def test_a_threshold_needs_a_source_and_a_number():
    with pytest.raises(BadInput, match="expected at_least:ENGINE"):
        make("at_least")
    with pytest.raises(BadInput, match="score"):
        make("at_least,score=high:longer")
