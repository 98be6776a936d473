"""Several servers of one model: calls by load, a server that dies, the same answers and records."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignlab.errors import BadInput, RunFailed
from alignlab.generation.openai import OpenAIConfig, OpenAIEngine, openai_engine
from alignlab.seeds import generator
from tests.generation.stub_server import Reply, completion, echo, serve
from tests.generation.tiny import ask
from tests.running import CommandLine

ASKED = [ask(f"r{k}", f"q{k}", n=2) for k in range(40)]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")


def _after(delay_s: float) -> Callable[[dict[str, Any], int], Reply]:
    return lambda body, _: Reply(**{**vars(echo(body)), "delay_s": delay_s})


def _dying(body: dict[str, Any], number: int) -> Reply:
    """Answer four calls, then break every connection."""
    return echo(body) if number < 4 else Reply(raw=b"", hang_up=True)


def _engine(*urls: str, cache_dir: Path | None = None, **options: Any) -> OpenAIEngine:
    quick = {"backoff_s": 0.05, "timeout_s": 5.0, "concurrency": 8}
    config = OpenAIConfig(**{**quick, **options})
    return OpenAIEngine("m", ",".join(urls), config=config, cache_dir=cache_dir)


def _servers(folder: Path, engine: OpenAIEngine) -> dict[str, dict[str, int]]:
    found: dict[str, Any] = json.loads((folder / "spent.json").read_text())
    return found[f"m@{engine.url}"]["servers"]


def test_two_servers_share_the_calls_of_one(tmp_path: Path) -> None:
    with serve(_after(0.01)) as one, serve(_after(0.01)) as two, serve(_after(0)) as alone:
        engine = _engine(one.url, two.url, cache_dir=tmp_path)
        answers = engine.complete(ASKED)
        assert answers == _engine(alone.url).complete(ASKED)
    counts = [len(one.bodies), len(two.bodies)]
    assert sum(counts) == len(alone.bodies) == len(ASKED)
    assert min(counts) >= 15
    assert max(one.most_at_once, two.most_at_once) <= 5
    assert _servers(tmp_path, engine) == {
        seen.url: {"answered": len(seen.bodies), "handed_over": 0} for seen in (one, two)
    }


def test_the_faster_server_gets_more() -> None:
    with serve(_after(0.2)) as slow, serve(_after(0.01)) as fast:
        _engine(slow.url, fast.url, concurrency=4).complete(ASKED)
    assert len(slow.bodies) + len(fast.bodies) == len(ASKED)
    assert len(fast.bodies) > 2 * len(slow.bodies)


def test_a_server_that_dies_hands_its_calls_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(_after(0.01)) as lives, serve(_dying) as dies, caplog.at_level(logging.WARNING):
        engine = _engine(dies.url, lives.url, cache_dir=tmp_path)
        answers = engine.complete(ASKED)
    with serve(_after(0)) as alone:
        assert answers == _engine(alone.url).complete(ASKED)
    found = _servers(tmp_path, engine)
    assert found[dies.url]["answered"] == 4
    assert found[dies.url]["handed_over"] == len(dies.bodies) - 4 >= 1
    assert found[lives.url] == {"answered": 36, "handed_over": 0}
    shown = [m for m in caplog.messages if m.startswith("calls handed over after a failure: ")]
    assert shown == [
        f"calls handed over after a failure: {found[dies.url]['handed_over']} of {dies.url}; "
        f"{dies.url} answered 4, {lives.url} answered 36"
    ]


def test_a_pool_of_dead_servers_ends_the_run() -> None:
    with serve(_after(0)) as gone, serve(_after(0)) as too:
        urls = gone.url, too.url
    engine = _engine(*urls, backoff_s=0.001, attempts=3, give_up_after=2)
    with pytest.raises(RunFailed, match="calls in a row failed after 3 attempts each"):
        engine.complete(ASKED)


def test_a_refused_request_is_asked_once() -> None:
    refused = Reply(status=400, body={"error": {"message": "this content is filtered"}})
    with serve(lambda *_: refused) as one, serve(lambda *_: refused) as two:
        ((answer,),) = _engine(one.url, two.url).complete([ask("r", "q")])
    assert answer.finish == "error"
    assert len(one.bodies) + len(two.bodies) == 1


def test_addresses() -> None:
    engine = openai_engine("m@http://a/v1/,https://b:1/v1?concurrency=3")
    assert engine.url == "http://a/v1"
    assert [server.url for server in engine._endpoint.pool.servers] == [
        "http://a/v1", "https://b:1/v1",
    ]  # fmt: skip
    for wrong in ("m@http://a/v1,b/v1", "m@http://a/v1,http://a/v1/", "m@http://a,http://u:p@b"):
        with pytest.raises(BadInput):
            openai_engine(wrong)


def _scores(body: dict[str, Any], _: int) -> Reply:
    rng = generator(body["seed"], body["messages"][-1]["content"])
    return Reply(**{**vars(completion(f"Score: {rng.integers(6)}")), "delay_s": 0.01})


def test_a_pool_judges_as_one_server_does(alignlab: CommandLine, tmp_path: Path) -> None:
    rows = [{"prompt": f"question {k}", "response": f"answer {k}"} for k in range(24)]
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def judged(name: str, *urls: str) -> list[Any]:
        out = tmp_path / f"{name}.jsonl"
        spec = f"llm:openai:m@{','.join(urls)}?concurrency=4"
        found = alignlab("judge", "--judge", spec, "--responses", str(asked), "--out", str(out))
        assert found.code == 0, found.err
        return [json.loads(line) for line in out.read_text().splitlines()]

    with serve(_scores) as one, serve(_scores) as two, serve(_scores) as alone:
        pooled = judged("pooled", one.url, two.url)
        assert pooled == judged("alone", alone.url)
    assert len({row["score"] for row in pooled}) > 2
    # Three samples of each, which the servers give one by one.
    assert len(one.bodies) + len(two.bodies) == len(alone.bodies) == 72
    assert min(len(one.bodies), len(two.bodies)) >= 20
