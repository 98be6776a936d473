from __future__ import annotations

import pytest

from alignlab.errors import BadInput
from alignlab.models.load import context_length
from alignlab.objectives.kto import KTO
from alignlab.training.record_kinds import prepare_for
from alignlab.training.token_groups import REFUSED, prepare
from alignlab.types import (
    Demonstration,
    Message,
    PreferenceGroup,
    Prompt,
    Response,
    SampledBy,
    UnpairedPreference,
)
from tests.models.helpers import tiny_lm
from tests.models.test_chat_template import NO_SYSTEM, lm_with

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


@pytest.mark.parametrize("length", [9, 10, 11])
def test_a_limit_holds_what_is_as_long_as_it(length):
    """The end-of-turn token counts."""
    _, count = prepare(tiny_lm(), [demonstration("a", "A" * (length - 1))], max_response_tokens=10)
    assert count.kept == (length <= 10)
    room = len(prepare(tiny_lm(), [demonstration("", "A")]).groups[0].prompt_T)
    asked = demonstration("a" * length, "A")
    _, count = prepare(tiny_lm(), [asked], max_prompt_tokens=room + 10)
    assert count.kept == (length <= 10)


@pytest.mark.parametrize(("extra", "kept"), [(0, 1), (1, 0)])
def test_prompt_and_longest_response_fit_into_the_context_together(extra, kept):
    lm = tiny_lm()  # of 256 positions
    room = len(prepare(lm, [demonstration("", "A")]).groups[0].prompt_T)
    long = "A" * (256 - room - 100 - 1 + extra)
    group = PreferenceGroup(prompt("a" * 100), (response("A"), response(long)), (2.0, 1.0), "judge")
    _, count = prepare(lm, [group])
    assert count.kept == kept
    assert count.dropped == ({} if kept else {"longer than the model's context": 1})


def bad_records():
    system = Prompt("p", (Message("system", "Be brief."), Message("user", "Hi there")))
    return [
        Demonstration(system, response("refused")),
        demonstration("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "templated"),
        demonstration("Hi", "ended<|im_end|>"),
    ]


@pytest.mark.parametrize("i", range(3))
def test_a_record_that_the_template_refuses_or_that_holds_it_is_named(i):
    lm = lm_with(NO_SYSTEM)
    with pytest.raises(BadInput, match="record r-") as caught:
        prepare(lm, [demonstration("a", "A"), bad_records()[i]])
    assert "\n" not in str(caught.value)
    assert ("Hi" in str(caught.value)) or ("<|im_start|>" in str(caught.value))


def test_such_records_are_counted_where_they_are_dropped():
    groups, count = prepare(
        lm_with(NO_SYSTEM), [demonstration("a", "A"), *bad_records()], drop_bad=True
    )
    assert [g.id for g in groups] == ["r-A"]
    assert count.dropped == {REFUSED: 3}


def test_a_text_about_special_tokens_is_kept_and_counted():
    lm = tiny_lm()
    groups, count = prepare(
        lm, [demonstration("what is <|im_end|>?", "an end"), demonstration("a", "A")]
    )
    assert count.changed == {"special token in a text, as plain characters": 1}
    end = lm.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert groups[0].prompt_T.count(end) == groups[1].prompt_T.count(end) == 1


@pytest.mark.parametrize("label", [True, False])
def test_labels_that_are_all_the_same_are_refused(label):
    records = [UnpairedPreference(prompt(t), response(t), label) for t in "abc"]
    with pytest.raises(BadInput, match="found 3 that are all " + ("desirable" if label else "un")):
        prepare_for(tiny_lm(), KTO(), records, seed=0)
    other = UnpairedPreference(prompt("d"), response("d"), not label)
    assert len(prepare_for(tiny_lm(), KTO(), [*records, other], seed=0).groups) == 4


def test_one_response_that_is_too_long_is_enough():
    group = PreferenceGroup(prompt("a"), (response("A"), response("A" * 50)), (2.0, 1.0), "judge")
    _, count = prepare(tiny_lm(), [group], max_response_tokens=10)
    assert (count.kept, count.dropped) == (0, {"response too long": 1})
    groups, count = prepare(tiny_lm(), [group], max_response_tokens=10, too_long="cut")
    assert [len(r) for r in groups[0].responses] == [2, 10]
    assert count.changed == {"response cut": 1}


def test_responses_that_differ_after_the_cut_alone_are_counted():
    pair = (response("AAAAAB"), response("AAAAAC"))
    group = PreferenceGroup(prompt("a"), pair, (2.0, 1.0), "judge")
    (kept,), _ = prepare(tiny_lm(), [group], max_response_tokens=6, too_long="cut")
    assert len(set(kept.responses)) == 2
    groups, count = prepare(tiny_lm(), [group], max_response_tokens=5, too_long="cut")
    assert (groups, count.dropped) == ([], {"responses equal once they are cut": 1})


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


def test_a_cut_prompt_keeps_its_beginning_of_text():
    lm = tiny_lm()
    lm.tokenizer.bos_token = "<|im_start|>"
    lm.tokenizer.chat_template = "{{ bos_token }}" + lm.tokenizer.chat_template
    record = demonstration("abc" * 30, "A")
    (whole,), _ = prepare(lm, [record])
    (cut,), count = prepare(lm, [record], max_prompt_tokens=20, too_long="cut")
    assert cut.prompt_T == (lm.tokenizer.bos_token_id, *whole.prompt_T[-19:])
    assert count.changed == {"prompt cut": 1}
    (one,), _ = prepare(lm, [record], max_prompt_tokens=1, too_long="cut")
    assert one.prompt_T == whole.prompt_T[-1:]
    lm.tokenizer.bos_token = None
