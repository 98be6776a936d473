"""Replies of every shape: read, or called unreadable; and what a refusal's headers ask for."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlab.generation.http import LONGEST_REASON, retry_after
from alignlab.generation.replies import SHOWN, ChatAnswer, Unreadable, read_reply
from alignlab.types import Usage

KEY = "sk-secret-0123456789"
ASKED: dict[str, Any] = {"n": 1}


def _reply(*texts: Any, usage: Any = None, **choice: Any) -> bytes:
    choices = [{"message": {"content": t}, "finish_reason": "stop", **choice} for t in texts]
    return json.dumps({"choices": choices, "usage": usage}).encode()


def test_tokens_are_shared_out() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 7}
    answer = read_reply(_reply("a", "b", "c", usage=usage), ASKED, KEY)
    assert [c.tokens for c in answer.completions] == [3, 2, 2]
    assert {c.prompt_tokens for c in answer.completions} == {9}
    assert answer.usage == Usage(9, 7, 1)


def test_absurd_figures_are_none() -> None:
    top = [{"token": "a", "logprob": -(10**400)}, {"token": "b", "logprob": -1}]
    raw = _reply(
        "a", usage={"prompt_tokens": 10**30}, logprobs={"content": [{"top_logprobs": top}]}
    )
    answer = read_reply(raw, ASKED, KEY)
    assert answer.usage == Usage(0, 0, 1)
    assert answer.top_logprobs == (("b", -1.0),)


def test_halves_of_characters_become_whole_or_are_replaced() -> None:
    raw = rb'{"choices": [{"message": {"content": "\ud83d\ude00 \ud83d!"}}]}'
    (completion,) = read_reply(raw, ASKED, KEY).completions
    assert completion.text == "\U0001f600 \ufffd!"


def test_every_encoding_of_json_is_read() -> None:
    text = '{"choices": [{"message": {"content": "tr\u00e8s"}}]}'
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        (completion,) = read_reply(text.encode(encoding), ASKED, KEY).completions
        assert completion.text == "tr\u00e8s"
    with pytest.raises(Unreadable, match="expected JSON"):
        read_reply(text.encode("latin-1"), ASKED, KEY)


@pytest.mark.parametrize("place", range(SHOWN - len(KEY), SHOWN + 1, 4))
def test_the_key_is_struck_out_before_a_complaint_is_cut(place: int) -> None:
    for raw in ("x" * place + KEY + "y" * 99, json.dumps("x" * place + KEY)):
        with pytest.raises(Unreadable) as caught:
            read_reply(raw.encode(), ASKED, KEY)
        assert not any(KEY[:k] in str(caught.value) for k in range(4, len(KEY) + 1))
        assert len(str(caught.value)) < LONGEST_REASON


def test_a_server_that_answers_with_the_key() -> None:
    (completion,) = read_reply(_reply(f"it is {KEY}"), ASKED, KEY).completions
    assert completion.text == "it is ***"
    (word,) = read_reply(_reply("it is EMPTY"), ASKED, "EMPTY").completions
    assert word.text == "it is EMPTY"
    refused = _reply(None, finish_reason="content_filter")
    (error,) = read_reply(refused, ASKED, KEY).completions
    assert error.error == "no text (finish reason 'content_filter')"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["choices", "message", "content", "usage", "completion_tokens", "finish_reason",
             "logprobs", "top_logprobs", "token", "logprob", "refusal"]
        ),
        inner, max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@settings(deadline=None)
@given(st.binary(max_size=60) | json_values.map(lambda v: json.dumps(v).encode()) | json_values.map(
    lambda v: json.dumps({"choices": v, "usage": v}).encode()
))  # fmt: skip
def test_anything_is_an_answer_or_unreadable(raw: bytes) -> None:
    try:
        answer = read_reply(raw, ASKED, KEY)
    except Unreadable:
        return
    assert isinstance(answer, ChatAnswer)
    assert answer.completions
    for completion in answer.completions:
        completion.text.encode()
        assert (completion.finish == "error") == bool(completion.error)


def test_absurd_json_is_unreadable() -> None:
    for raw in (b"[" * 200_000, b'{"choices": ' + b"9" * 5000 + b"}"):
        with pytest.raises(Unreadable):
            read_reply(raw, ASKED, KEY)


def test_retry_after() -> None:
    assert retry_after({"retry-after": "2"}) == 2.0
    assert retry_after({"retry-after": "0.5"}) == 0.5
    assert retry_after({"retry-after": "7", "retry-after-ms": "1500"}) == 1.5
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert 25 < retry_after({"retry-after": format_datetime(soon, usegmt=True)}) <= 30
    past = soon - timedelta(days=1)
    assert retry_after({"retry-after": format_datetime(past)}) == 0.0
    for text in ("", "soon", "-3", "nan", "inf", "1e999", "Wed, 99 Foo 2026"):
        assert retry_after({"retry-after": text}) == 0.0
    assert retry_after({}) == 0.0
    junk = random.Random(0)
    for _ in range(200):
        text = "".join(chr(junk.randrange(1, 0x250)) for _ in range(junk.randrange(9)))
        assert retry_after({"retry-after": text}) >= 0.0
