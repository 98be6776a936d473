from __future__ import annotations

from alignlab.models.load import context_length
from alignlab.training.token_groups import prepare
from alignlab.types import (
    Demonstration,
    Message,
    PreferenceGroup,
    Prompt,
    Response,
    SampledBy,
)
from tests.models.helpers import tiny_lm

BY = SampledBy("someone")


def prompt(text):
    return Prompt(f"p-{text}", (Message("user", text),))


def response(text):
    return Response(f"r-{text}", "p", text, BY)


def demonstration(ask, answer):
    return Demonstration(prompt(ask), response(answer))


def test_records_become_groups():
    lm = tiny_lm()
    ranked = PreferenceGroup(prompt("b"), (response("yes"), response("no")), (4.0, 1.0), "judge")
    groups, count = prepare(lm, [demonstration("a", "A"), ranked])
    assert [g.id for g in groups] == ["r-A", "p-b"]
    assert groups[1].scores == (4.0, 1.0)
    decoded = lm.tokenizer.convert_ids_to_tokens(groups[1].responses[1])
    assert decoded == ["n", "o", "<|im_end|>"]
    assert (count.kept, count.dropped, count.changed) == (2, {}, {})


def test_what_is_too_long_is_dropped_or_cut_and_counted():
    lm = tiny_lm()
    records = [
        demonstration("a", "A"),
        demonstration("a" * 50, "A"),
        demonstration("a", "A" * 50),
    ]
    limits = {"max_prompt_tokens": 50, "max_response_tokens": 10}
    groups, count = prepare(lm, records, **limits)
    assert [g.id for g in groups] == ["r-A"]
    assert count.dropped == {"prompt too long": 1, "response too long": 1}
    assert count.kept + sum(count.dropped.values()) == len(records)
    groups, count = prepare(lm, records, **limits, too_long="cut")
    assert count.kept == 3
    assert count.changed == {"prompt cut": 1, "response cut": 1}
    whole = prepare(lm, records[1:2]).groups[0]
    assert groups[1].prompt_T == whole.prompt_T[-50:]
    assert len(groups[2].responses[0]) == 10


def test_the_limits_are_inclusive():
    lm = tiny_lm()
    asked = len(prepare(lm, [demonstration("abc", "A")]).groups[0].prompt_T)
    record = [demonstration("abc", "AAA")]  # four tokens with the end of turn

    def kept(prompt_tokens, response_tokens):
        limits = {"max_prompt_tokens": prompt_tokens, "max_response_tokens": response_tokens}
        return prepare(lm, record, **limits).tally.dropped

    assert kept(asked, 4) == {}
    assert kept(asked - 1, 4) == {"prompt too long": 1}
    assert kept(asked, 3) == {"response too long": 1}


def test_one_long_response_of_a_group_is_enough():
    lm = tiny_lm()
    for texts in (("yes", "n" * 30), ("y" * 30, "no")):
        pair = PreferenceGroup(prompt("b"), tuple(map(response, texts)), (1.0, 0.0), "judge")
        assert prepare(lm, [pair], max_response_tokens=20).tally.dropped == {"response too long": 1}


def test_what_fills_the_context_exactly_is_kept():
    lm = tiny_lm()
    room = context_length(lm) - len(prepare(lm, [demonstration("a", "A")]).groups[0].prompt_T)
    fits, exceeds = demonstration("a", "A" * (room - 1)), demonstration("a", "A" * room)
    groups, count = prepare(lm, [fits, exceeds])
    assert [len(g.responses[0]) for g in groups] == [room]
    assert count.dropped == {"longer than the model's context": 1}
    cut = prepare(lm, [exceeds], max_response_tokens=room, too_long="cut")
    *letters, _end = groups[0].responses[0]
    assert cut.groups[0].responses[0] == (*letters, letters[0])  # without its end of turn
    assert cut.tally.changed == {"response cut": 1}


def test_the_longest_response_of_a_group_has_to_fit():
    lm = tiny_lm()
    long = "n" * (context_length(lm) - 1)
    pair = PreferenceGroup(prompt("b"), (response("yes"), response(long)), (1.0, 0.0), "judge")
    assert prepare(lm, [pair]).tally.dropped == {"longer than the model's context": 1}
