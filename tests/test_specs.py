"""Options behind a name or a path."""

import dataclasses

import pytest

from alignlab.errors import BadInput
from alignlab.specs import Named, Split, lasting, read_options, split


@dataclasses.dataclass(frozen=True)
class Options:
    batch_size: int = 2
    name: str = ""


@pytest.mark.parametrize(
    ("rest", "head", "options"),
    [
        ("a/b", "a/b", ()),
        ("", "", ()),
        ("a?", "a", ()),
        ("a?x=1&&y=2&", "a", ("x=1", "y=2")),
        ("a?x=1?2", "a", ("x=1?2",)),
        ("?x", "", ("x",)),
    ],
)
def test_split(rest, head, options):
    assert split(rest) == Split(head, options)


def test_read_options():
    assert read_options("a/b?batch_size=1&name=z", Options) == Named("a/b", Options(1, "z"))
    assert read_options("a", Options) == Named("a", Options())
    for bad in ("a?batch_size=one", "a?batch_size", "a?batchsize=1"):
        with pytest.raises(BadInput, match=r"batch_?size"):
            read_options(bad, Options)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "openai:m@http://h/v1?budget_usd=5&prefill=vllm&concurrency=3",
            "openai:m@http://h/v1?prefill=vllm",
        ),
        ("openai:m@http://h/v1?budget_calls=5", "openai:m@http://h/v1"),
        (
            "ensemble:llm:openai:m?timeout_s=5|local:a?batch_size=2",
            "ensemble:llm:openai:m|local:a?batch_size=2",
        ),
        ("why? because", "why? because"),
        ("plain", "plain"),
        ("?", "?"),
    ],
)
def test_what_may_change_while_a_run_is_under_way(text, kept):
    assert lasting(text) == kept


def test_an_option_given_twice_is_refused():
    with pytest.raises(BadInput, match=r"a\.jsonl: expected each option once, found 'limit' twice"):
        split("a.jsonl?limit=2&limit=3")
