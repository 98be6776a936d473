"""Asking a model and reading its replies: failed calls, cut-off numbers, nothing to ask."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from alignlab.ask_model import Ask, Reply, ask_model
from alignlab.feedback.model_judge import mean_score
from alignlab.feedback.query_types import query_types
from alignlab.feedback.specs import judge, pair_judge
from alignlab.feedback.teachers import Criticised, Instructor, Refiner
from alignlab.protocols import Completer
from alignlab.types import (
    Completion,
    CompletionRequest,
    Finish,
    Message,
    Sampling,
    Score,
    Unscored,
)
from alignlab.verdicts import parse_score
from tests.feedback.worlds import prompt, response

EVERY_VERDICT = "Score: 4\nBetter: A\nRelevant: yes\nType: open\nQuestion: Why?"
FAILED = Unscored("the judge's call failed: lost")
ERROR = Criticised(prompt(), response("a", "x"), "Bad.")


class Says:
    """A model with one reply."""

    name = "m"

    def __init__(self, text: str, finish: Finish = "stop") -> None:
        self.completion = Completion(text, finish, 1, 1, error="lost" if finish == "error" else "")

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        assert requests
        return [(self.completion,) * request.sampling.n for request in requests]


def scored(engine: Completer, *, high: float = 10, n: int = 1) -> list[float | Unscored]:
    (replies,) = ask_model(
        engine,
        [Ask("r", (Message("user", "Rate it."),))],
        lambda text: parse_score(text, low=1, high=high),
        sampling=Sampling(n=n),
        seed=0,
        unread="unread",
    )
    return [reply.value for reply in replies]


def test_replies_are_read_each() -> None:
    assert scored(Says("Score: 7"), n=2) == [7.0, 7.0]
    assert scored(Says("Hm.")) == [Unscored("unread")]


def test_nothing_to_ask_is_no_call() -> None:
    assert ask_model(Says("x"), [], str.strip, sampling=Sampling(), seed=0) == []


@pytest.mark.parametrize(
    ("text", "high", "value"),
    [
        ("Score: 1", 10, Unscored("unread")),  # could have become 10
        ("Score: 2", 10, 2.0),  # 20 is off the scale
        ("Score: 1", 5, 1.0),
        ("Score: 10", 10, 10.0),
        ("Score: 3.5", 10, 3.5),
        ("Score: 1, as", 10, 1.0),
    ],
)
def test_a_number_at_the_end_of_a_reply_that_was_cut_off(
    text: str, high: float, value: float | Unscored
) -> None:
    assert scored(Says(text, "length"), high=high) == [value]
    assert isinstance(scored(Says(text), high=high)[0], float)


@pytest.mark.parametrize(
    "spec", ["llm:m", "reference:m", "criteria:m", "sentences:m", "critique:m"]
)
def test_the_text_of_a_failed_call_is_never_a_verdict(spec: str) -> None:
    asked = prompt("p")
    items = [(asked.__class__(asked.id, asked.messages, reference="Lima."), [response("a", "x.")])]
    (read,) = judge(spec, make_completer=lambda s: Says(EVERY_VERDICT)).rate(items, 0)
    (failed,) = judge(spec, make_completer=lambda s: Says(EVERY_VERDICT, "error")).rate(items, 0)
    assert not isinstance(read.verdict, Unscored)
    assert isinstance(failed.verdict, Unscored)
    assert failed.raw[0] == EVERY_VERDICT


def test_failed_calls_of_other_questions() -> None:
    broken = Says(EVERY_VERDICT, "error")
    pair = [(prompt(), response("a", "x"), response("b", "y"))]
    (found,) = pair_judge("pairwise:m", make_completer=lambda s: broken).compare(pair, 0)
    assert found.verdict == FAILED
    assert query_types("llm:m", lambda s: broken).of([prompt()], 0) == [FAILED]
    lost = [Unscored("the teacher's call failed: lost")]
    assert Refiner(broken).refine([ERROR], 0) == lost
    assert Instructor(broken).from_errors([ERROR], 0) == lost


def test_one_failed_order_leaves_a_pair_without_a_verdict() -> None:
    class Half(Says):
        def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
            good = Completion("Better: A", "stop", 1, 1)
            return [(good if i % 2 else self.completion,) for i, _ in enumerate(requests)]

    pair = [(prompt(), response("a", "x"), response("b", "y"))]
    half = pair_judge("pairwise:m", make_completer=lambda s: Half("Better: B", "error"))
    assert half.compare(pair, 0)[0].verdict == FAILED


def test_some_failed_samples_are_missing() -> None:
    class Third(Says):
        def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
            good = Completion("Score: 2", "stop", 1, 1)
            return [(self.completion, good, self.completion) for _ in requests]

    third = judge("llm:m", make_completer=lambda s: Third("Score: 5", "error"))
    (found,) = third.rate([(prompt(), [response("a", "x")])], 0)
    assert found.verdict == Score(2.0, (None, 2.0, None))
    assert found.rationale == "Score: 2"


def test_of_several_reasons_the_first_in_the_alphabet_is_named() -> None:
    replies = [Reply(Unscored(why), Completion("", "stop", 1, 1)) for why in ("no b", "no a")]
    assert mean_score(replies) == Unscored("no a")
    failed = [*replies, Reply(FAILED, Completion("", "error", 1, 1))]
    assert mean_score(failed) == FAILED
