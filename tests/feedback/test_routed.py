"""Routed feedback: the source of each kind of prompt, and prompts without a route."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from alignlab.errors import BadInput
from alignlab.feedback.routed import Routed, read_routes
from alignlab.feedback.specs import judge, pair_judge, rater
from alignlab.types import Message, Preference, Prompt, Response, SampledBy, Score, Unscored
from tests.feedback.worlds import says

SUM = Prompt("sum", (Message("user", "3 + 4?"),), "gsm8k/easy", "7", "closed")
TALE = Prompt("tale", (Message("user", "Tell me a tale."),), "oasst", None, "open")
UNKNOWN = Prompt("odd", (Message("user", "Hm?"),), "oasst")


def answers(of: Prompt, *texts: str) -> list[Response]:
    return [Response(f"{of.id}/{i}", of.id, text, SampledBy("m")) for i, text in enumerate(texts)]


ITEMS = [
    (TALE, answers(TALE, "Once upon a time.", "No.")),
    (SUM, answers(SUM, "It is 7.", "It is 8, surely it is 8.")),
    (UNKNOWN, answers(UNKNOWN, "What?")),
]


def make(spec: str, how: Any = judge, completer: Any = None) -> Any:
    return how(spec, make_completer=lambda spec: completer)


def verdicts(spec: str) -> dict[str, Any]:
    return {f.response_ids[0]: f.verdict for f in make(spec).rate(ITEMS, 0)}


def test_each_type_has_its_source_and_the_order_stays():
    found = make("routed:closed=verifier|open=longer").rate(ITEMS, 0)
    assert [f.response_ids[0] for f in found] == ["tale/0", "tale/1", "sum/0", "sum/1", "odd/0"]
    assert [f.verdict for f in found] == [
        Score(4.0, (4.0,)), Score(1.0, (1.0,)), Score(1.0, (1.0,)), Score(0.0, (0.0,)),
        Unscored("the prompt's query type is not known"),
    ]  # fmt: skip
    assert found[2].rationale == "answer: 7"
    assert {f.source for f in found} == {"routed (closed: verifier | open: longer)"}


def test_a_prompt_without_a_route_is_unscored_and_other_takes_it():
    found = verdicts("routed:closed=verifier")
    assert found["tale/0"] == Unscored("no route for open-ended prompts")
    found = verdicts("routed:closed=verifier|other=longer")
    assert (found["tale/0"], found["odd/0"]) == (Score(4.0, (4.0,)), Score(1.0, (1.0,)))


def test_routes_by_source_take_the_whole_name_before_its_first_part():
    found = verdicts("routed,by=source:gsm8k=verifier|oasst=longer")
    assert (found["sum/1"], found["odd/0"]) == (Score(0.0, (0.0,)), Score(1.0, (1.0,)))
    found = verdicts("routed,by=source:gsm8k=verifier|gsm8k/easy=longer")
    assert found["sum/0"] == Score(3.0, (3.0,))
    assert found["tale/0"] == Unscored("no route for prompts of oasst")


def test_specs_keep_their_bars_options_and_engines():
    assert read_routes("closed=verifier,strict=true|open=ensemble,how=minimum:longer|2*random") == {
        "closed": "verifier,strict=true",
        "open": "ensemble,how=minimum:longer|2*random",
    }
    assert read_routes("open=llm,samples=3:openai:m@http://h/v1?budget_usd=5") == {
        "open": "llm,samples=3:openai:m@http://h/v1?budget_usd=5"
    }


def test_pairs_are_compared_by_the_routes_scores():
    source = make("routed:closed=verifier|open=longer", pair_judge)
    pairs = [(p, several[0], several[1]) for p, several in ITEMS[:2]]
    assert [f.verdict for f in source.compare(pairs, 0)] == [Preference(0), Preference(0)]


def test_a_source_that_compares_gives_shares_won():
    source = make("routed:open=pairwise:x", rater, says("Better: A", "Better: B"))
    found = [f.verdict for f in source.rate(ITEMS[:1], 0)]
    assert all(isinstance(v, Score) for v in found)
    assert sum(v.value for v in found) == 1


def test_random_types_send_prompts_by_their_id_alone():
    source = make("routed,types=random:closed=verifier|open=longer")
    many = [replace(SUM, id=f"q{i}") for i in range(400)]
    taken = source.routes_of(many, 0)
    assert taken == source.routes_of(many[::-1], 7)[::-1]
    assert abs(taken.count("open") - 200) < 3.3 * 10  # the deviation of 400 fair draws is 10


def test_an_unrouted_prompt_asks_no_source():
    class Refuses:
        name = "refuses"

        def rate(self, items: Any, seed: int) -> Any:
            raise AssertionError

    found = Routed({"closed": Refuses()}).rate([ITEMS[0]], 0)
    assert all(isinstance(f.verdict, Unscored) for f in found)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("routed", "expected routed:ENGINE"),
        ("routed:longer", "expected KIND=SPEC"),
        ("routed:longer|open=longer", "expected KIND=SPEC"),
        ("routed:open=", "open: expected one source, found none"),
        ("routed:open=longer|open=random", "open: expected one source, found random"),
        ("routed:opne=longer", "type 'opne'; did you mean 'open'"),
        ("routed:open=nobody", "nobody"),
        ("routed,by=kind:open=longer", "by"),
        ("routed,by=source,types=random:open=longer", "types: has no effect"),
        ("routed,types=/nowhere:open=longer", "expected a query-type classifier"),
    ],
)
def test_refusals(spec: str, message: str):
    with pytest.raises(BadInput, match=message):
        make(spec)
