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


def _events(*deltas: dict[str, Any], end: Any = "stop", **more: Any) -> bytes:
    parts = [{"choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": end}], **more}
    lines = [f"data: {json.dumps(event)}" for event in (*parts, last)]
    return "\n\n".join([": keep-alive", *lines, "data: [DONE]", ""]).encode()


def test_a_stream_that_nobody_asked_for_is_joined() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 7}
    deltas = ({"role": "assistant", "content": ""}, {"content": "Score"}, {"content": ": \u00e9"})
    answer = read_reply(_events(*deltas, usage=usage, model="m"), ASKED, KEY)
    assert [(c.text, c.finish) for c in answer.completions] == [("Score: \u00e9", "stop")]
    assert (answer.usage, answer.model) == (Usage(9, 7, 1), "m")
    (cut,) = read_reply(_events({"content": "a"}, end="length"), ASKED, KEY).completions
    assert cut.finish == "length"


@pytest.mark.parametrize(
    "raw",
    [
        _events({"content": "Score: 4"}, end=None),
        b'data: {"choices": [{"delta": {"content": "Sc"}}]}\n\ndata: [DONE]\n\n',
        b'data: {"choices": [{"delta": {"content": "Sc',
        b"data: [DONE]",
        b'data: {"choices": ["x"]}',
        b'data: {"error": {"message": "overloaded", "code": 503}}',
    ],
)
def test_a_stream_without_its_end_is_unreadable(raw: bytes) -> None:
    with pytest.raises(Unreadable):
        read_reply(raw, ASKED, KEY)


def test_a_reply_of_reasoning_alone_says_so() -> None:
    message = {"content": None, "reasoning_content": "Score: 4"}
    raw = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
    with pytest.raises(
        Unreadable, match=r"empty one \(all 8 characters are in the field of the re"
    ):
        read_reply(raw, ASKED, KEY)


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
    for length, text in ((15, "it is " + "k" * 15), (16, "it is ***")):
        key = "k" * length
        assert read_reply(_reply(f"it is {key}"), ASKED, key).completions[0].text == text
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


CONTENTS: list[tuple[Any, str]] = [
    ("plain", "plain"),
    ([{"type": "text", "text": "in a part"}], "in a part"),
    ([{"type": "thinking", "thinking": [{"type": "text", "text": "Score: 1?"}]},
      {"type": "text", "text": "Score: 4"}], "Score: 4"),
    ([{"type": "text", "text": "a"}, {"type": "thinking", "thinking": []},
      {"type": "text", "text": "b"}], "ab"),
    ([{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": "out"}], "out"),
    ([{"text": "untyped"}], "untyped"),
    (["bare ", "texts"], "bare texts"),
    ({"type": "text", "text": "one part"}, "one part"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "text"), CONTENTS)
def test_content_in_parts(content: Any, text: str) -> None:
    (completion,) = read_reply(_reply(content), ASKED, KEY).completions
    assert (completion.text, completion.finish) == (text, "stop")


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "thinking", "thinking": "Score: 1"}],
        [{"type": "refusal", "refusal": "I can't."}],
        [],
        7,
    ],
)
def test_content_without_an_answer_is_no_text(content: Any) -> None:
    (completion,) = read_reply(_reply(content, finish_reason="length"), ASKED, KEY).completions
    assert completion.finish == "error"
    assert "no text" in completion.error


FINISHES = {
    "stop": "stop", "eos": "stop", None: "stop", "length": "length", "MAX_TOKENS": "length",
    "model_length": "length", "content_filter": "error", "SAFETY": "error", "sensitive": "error",
    "max_output_tokens": "length", "token_limit": "length", "incomplete": "length",
    "stop_sequence": "stop", "tool_calls": "stop",
}  # fmt: skip


@pytest.mark.parametrize(("reason", "finish"), FINISHES.items())
def test_finish_reasons(reason: str | None, finish: str) -> None:
    (completion,) = read_reply(_reply("half a", finish_reason=reason), ASKED, KEY).completions
    assert completion.finish == finish
    assert completion.text == ("" if finish == "error" else "half a")


ERRORS: list[tuple[dict[str, Any], int, str]] = [
    ({"error": {"message": f"overloaded {KEY}", "code": 502}}, 502, "overloaded ***"),
    ({"error": {"message": "seed is not supported", "code": "400"}, "choices": None}, 400, "seed"),
    ({"error": "out of memory"}, 0, "out of memory"),
    ({"choices": [{"message": {"content": "half"}, "finish_reason": "error",
                   "error": {"code": 429, "message": "slow down"}}]}, 429, "slow down"),
    ({"choices": [{"message": {"content": "half"}, "finish_reason": "network_error"}]}, 0,
     "network_error"),
    ({"choices": [{"message": {"content": "half"}, "finish_reason": "abort"}]}, 0, "abort"),
    ({"choices": [{"message": {"content": "half"}, "finish_reason": "cancelled"}]}, 0, "cancelled"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "message"), ERRORS)
def test_an_error_under_status_200_is_an_error(
    body: dict[str, Any], status: int, message: str
) -> None:
    with pytest.raises(Unreadable, match=message.replace("*", r"\*")) as caught:
        read_reply(json.dumps(body).encode(), ASKED, KEY)
    assert caught.value.status == status


def test_log_probabilities_as_a_mapping() -> None:
    raw = _reply("A", logprobs={"tokens": ["A"], "top_logprobs": [{"A": -0.5, "B": -1}, None]})
    assert read_reply(raw, ASKED, KEY).top_logprobs == (("A", -0.5), ("B", -1.0))
    for empty in (None, {}, {"content": None}, {"content": []}, {"content": [{"token": "A"}]}):
        assert read_reply(_reply("A", logprobs=empty), ASKED, KEY).top_logprobs == ()


@pytest.mark.parametrize("logprob", [0.4, float("nan"), float("inf"), float("-inf")])
def test_what_is_no_log_probability_is_not_read(logprob: float) -> None:
    top = [{"token": "a", "logprob": logprob}]
    raw = _reply("a", logprobs={"content": [{"top_logprobs": top}]})
    assert read_reply(raw, ASKED, KEY).top_logprobs == ()


def test_counts_of_tokens_as_floats_are_read() -> None:
    raw = _reply("a", usage={"prompt_tokens": 9.0, "completion_tokens": 7.0})
    assert read_reply(raw, ASKED, KEY).usage == Usage(9, 7, 1)
    total = _reply("a", usage={"prompt_tokens": 9, "total_tokens": 16})
    assert read_reply(total, ASKED, KEY).usage == Usage(9, 7, 1)
