"""Addresses of endpoints as users write them: read, refused, or given a hint."""

from __future__ import annotations

import pytest

from alignlab.errors import BadInput, RunFailed
from alignlab.generation.openai import OpenAIConfig, OpenAIEngine, openai_engine
from tests.generation.stub_server import Reply, echo, serve
from tests.generation.tiny import ask


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")


def _engine(url: str) -> OpenAIEngine:
    return OpenAIEngine("m", url, config=OpenAIConfig(backoff_s=0.001, timeout_s=5.0))


@pytest.mark.parametrize("rest", ["m@localhost:8000/v1", "m@127.0.0.1:8000", "m@example.org/v1"])
def test_an_address_without_its_scheme_is_refused(rest: str) -> None:
    with pytest.raises(BadInput, match="expected an address that starts with http"):
        openai_engine(rest)


def test_a_model_is_named() -> None:
    with pytest.raises(BadInput, match="expected a model before the address"):
        openai_engine("@http://localhost/v1")
    assert openai_engine("org/model@main@http://localhost/v1").model == "org/model@main"


def test_the_full_address_of_chat_completions_is_its_api() -> None:
    with serve(lambda body, _: echo(body)) as seen:
        for end in ("", "/", "/chat/completions", "/chat/completions/"):
            engine = _engine(seen.url + end)
            assert engine.url == seen.url.rstrip("/")
            assert engine.complete([ask("r", "q")])[0][0].text


def test_an_address_without_a_path_is_given_a_hint() -> None:
    with serve(lambda body, _: Reply(404, {"detail": "Not Found"})) as seen:
        bare = seen.url.rstrip("/").removesuffix("/v1")
        with pytest.raises(RunFailed, match=r"may have to be http.*/v1"):
            _engine(bare).complete([ask("r", "q")])
        with pytest.raises(RunFailed, match=r"Not Found'}$"):
            _engine(bare + "/v1").complete([ask("r", "q")])
