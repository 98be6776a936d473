from __future__ import annotations

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
