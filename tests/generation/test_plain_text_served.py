"""Plain text over HTTP: continued by a server that can, said of one that cannot, and proposals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlab.errors import RunFailed
from alignlab.generation.openai import OpenAIConfig, OpenAIEngine
from alignlab.meter import metered
from alignlab.stages.propose import propose
from alignlab.types import CompletionRequest, Message, Sampling
from tests.generation.stub_server import Reply, completion, serve
from tests.stages.making import context
from tests.stages.test_propose import MATERIAL, settings

REQUEST = CompletionRequest("r", (), Sampling(0.5, 0.9, 7, n=2, stop=("\n",)), 0, prefix="1, 2,")
QUICK = OpenAIConfig(attempts=1, token_limit_field="max_completion_tokens")


def continued(*texts: str) -> Reply:
    choices = [{"index": k, "finish_reason": "stop", "text": t} for k, t in enumerate(texts)]
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    return Reply(body={"object": "text_completion", "choices": choices, "usage": usage})


def refused(status: int) -> Reply:
    return Reply(status, {"error": {"message": "not here"}})


def both(body: dict, number: int) -> Reply:
    """A server of both kinds: every new question is of its own number."""
    text = f"Who lives in house {number}?"
    if "prompt" in body:
        return continued(*[f" {text}"] * body["n"])
    return completion(*[f"Question: {text}"] * body["n"])


def test_a_request_without_messages_is_continued() -> None:
    with serve(lambda body, number: continued(" 3", " 4")) as seen:
        ((first, second),) = OpenAIEngine("m", seen.url, config=QUICK).complete([REQUEST])
    assert (first.text, second.text) == (" 3", " 4")
    assert (first.tokens, first.prompt_tokens, first.finish) == (2, 3, "stop")
    (body,) = seen.bodies
    assert body["prompt"] == "1, 2,"
    assert (body["max_tokens"], body["stop"], body["n"]) == (7, ["\n"], 2)
    assert not {"messages", "max_completion_tokens"} & body.keys()


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_an_endpoint_that_only_chats_says_so(status: int) -> None:
    with serve(lambda body, number: refused(status)) as seen:
        assert not OpenAIEngine("m", seen.url, config=QUICK).continues_text()
        assert len(seen.bodies) == 1
    with serve(both) as seen:
        assert metered(OpenAIEngine("m", seen.url, config=QUICK)).continues_text()
        assert seen.bodies[0]["max_tokens"] == 1


@pytest.mark.parametrize("status", [429, 503])
def test_an_outage_is_no_answer_to_the_question(status: int) -> None:
    with (
        serve(lambda body, number: refused(status)) as seen,
        pytest.raises(RunFailed, match=str(status)),
    ):
        OpenAIEngine("m", seen.url, config=QUICK).continues_text()


def test_a_refused_key_is_no_answer_to_the_question() -> None:
    with serve(lambda body, number: refused(401)) as seen, pytest.raises(RunFailed, match="key"):
        OpenAIEngine("m", seen.url, config=QUICK).continues_text()
    asked = CompletionRequest("r", (Message("user", "?"),), Sampling(), 0)
    with serve(lambda body, number: refused(404)) as seen, pytest.raises(RunFailed, match="404"):
        OpenAIEngine("m", seen.url, config=QUICK).complete([asked])


@pytest.mark.parametrize("how", ["continuation", "chat"])
def test_a_served_model_writes_prompts(tmp_path: Path, how: str) -> None:
    def answer(body: dict, number: int) -> Reply:
        return refused(404) if how == "chat" and "prompt" in body else both(body, number)

    with serve(answer) as seen:
        engine = OpenAIEngine("m", seen.url, config=OpenAIConfig(concurrency=1, attempts=1))
        made = propose(context(tmp_path), metered(engine), MATERIAL, settings(top_up=False))
    assert [p.text for p in made] == [f"Who lives in house {k}?" for k in range(1, 7)]
    assert {p.source for p in made} == {"openai:m"}
    shown = "prompt" if how == "continuation" else "messages"
    assert all("\nQuestion 8: What is question " in str(body[shown]).replace("\\n", "\n")
               for body in seen.bodies[1:])  # fmt: skip
    (file,) = tmp_path.rglob("counts.jsonl")
    assert json.loads(file.open().readline())["what"] == f"prompts written by {how}"
