"""The HTTP engine against a local server that misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
import traceback
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from alignlab import meter
from alignlab.errors import BadInput, RunFailed
from alignlab.generation.openai import OpenAIConfig, OpenAIEngine, openai_engine
from alignlab.protocols import ChoiceScorer, Completer
from alignlab.specs import WITHOUT_EFFECT_ON_ANSWERS
from alignlab.types import Usage
from tests.generation.stub_server import Reply, completion, echo, serve
from tests.generation.tiny import ask

QUICK = {"backoff_s": 0.001, "timeout_s": 5.0}
KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def _engine(url: str, cache_dir: Path | None = None, **config: object) -> OpenAIEngine:
    return OpenAIEngine("m", url, config=OpenAIConfig(**{**QUICK, **config}), cache_dir=cache_dir)


def test_answers_in_order_with_bounded_concurrency() -> None:
    with serve(lambda body, _: Reply(**{**vars(echo(body)), "delay_s": 0.02})) as seen:
        engine = _engine(seen.url, concurrency=3)
        results = engine.complete([ask(f"r{k}", f"q{k}", n=2) for k in range(12)])
    assert [r[0].text.split("/")[0] for r in results] == [f"q{k}" for k in range(12)]
    assert all(len(r) == 2 and r[0].text != r[1].text for r in results)
    assert 1 < seen.most_at_once <= 3
    assert engine.spent.usage.calls == 12
    assert engine.spent.usage.prompt_tokens == 120
    assert results[0][0].tokens == 3
    assert results[0][0].prompt_tokens == 10
    assert isinstance(engine, Completer)
    assert isinstance(engine, ChoiceScorer)


def test_what_is_sent() -> None:
    with serve(lambda body, _: echo(body)) as seen:
        request = ask("r", "q", temperature=0.3, top_p=0.8, max_tokens=7, stop=("\n",), seed=4)
        _engine(seen.url).complete([request])
        _engine(seen.url, token_limit_field="max_completion_tokens").complete([request])
    first, second = seen.bodies
    assert first["temperature"] == 0.3
    assert first["top_p"] == 0.8
    assert first["stop"] == ["\n"]
    assert first["max_tokens"] == second["max_completion_tokens"] == 7
    assert 0 <= first["seed"] < 2**31
    assert seen.keys[0] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    "fault",
    [
        Reply(status=429, body={"error": {"message": "slow down"}}, headers={"retry-after": "0"}),
        Reply(status=500, body={"error": {"message": "oops"}}),
        Reply(status=503, body="no json object"),
        Reply(body={"choices": [{"message": {"content": "cut"}}]}, cut_to=20),
        Reply(body={"choices": []}),
        Reply(body=["not", "an", "object"]),
        Reply(body={"choices": [1, 2, 3]}, hang_up=True),
        Reply(raw=b""),
        Reply(raw='{"choices": [{"message": {"content": "très"}}]}'.encode("latin-1")),
        Reply(body={"choices": []}, headers={"content-encoding": "gzip"}),
        completion("", tokens=0),
        completion("", tokens=40),
        completion(None, tokens=40),
    ],
    ids=[
        "429",
        "500",
        "503",
        "cut-off",
        "empty",
        "list",
        "hang-up",
        "no-bytes",
        "latin-1",
        "no-gzip",
        "no-text",
        "lost-text",
        "null",
    ],
)
def test_faults_are_tried_again(fault: Reply) -> None:
    with serve(lambda body, number: fault if number < 2 else echo(body)) as seen:
        (answer,) = _engine(seen.url).complete([ask("r", "q")])
    assert answer[0].finish == "stop"
    assert len(seen.bodies) == 3


BUSY: list[tuple[int, Any]] = [
    (400, {"error": {"message": "The engine is currently overloaded, please try again later"}}),
    (400, {"error": {"message": "Rate limit reached for requests per minute"}}),
    (400, {"error": {"message": "Please try again in 2.5s."}}),
    (400, {"error": {"message": "Something went wrong. Please try again."}}),
    (400, {"error": {"message": "Provider returned error", "code": 502}}),
    (400, {"error": {"message": "no", "type": "x", "code": "rate_limit_exceeded"}}),
    (400, {"object": "error", "message": "busy", "code": 42903}),
    (400, {"object": "error", "message": "NETWORK ERROR", "code": 50001}),
    (400, "upstream request timed out"),
    (403, {"error": {"message": "Too many requests; you have exceeded a secondary limit"}}),
    (404, {"error": {"message": "no healthy upstream"}}),
    (404, {"error": {"message": "Model m is currently loading"}}),
    (422, {"detail": "Server is at full capacity"}),
    (200, {"error": {"message": "Overloaded", "type": "overloaded_error"}}),
    (200, {"error": {"message": "Server overloaded, try again later", "code": 400}}),
    (200, {"error": "rate limit"}),
    (200, {"object": "error", "message": "The model is overloaded", "code": 400}),
    (200, {"message": "service unavailable"}),
]


@pytest.mark.parametrize(("status", "body"), BUSY)
def test_a_busy_server_is_asked_again_whatever_its_status(status: int, body: Any) -> None:
    busy = Reply(status=status, body=body)
    with serve(lambda body, number: busy if number < 2 else echo(body)) as seen:
        (answer,) = _engine(seen.url).complete([ask("r", "q")])
    assert answer[0].finish == "stop"
    assert len(seen.bodies) == 3


def test_a_server_that_stays_busy_is_given_up_after_the_attempts(tmp_path: Path) -> None:
    busy = Reply(status=400, body={"error": {"message": "overloaded"}})
    with serve(lambda *_: busy) as seen, pytest.raises(RunFailed, match="2 calls in a row failed"):
        _engine(seen.url, tmp_path, attempts=3, give_up_after=2, concurrency=1).complete(
            [ask(f"r{k}", "q") for k in range(5)]
        )
    assert len(seen.bodies) == 6


WRONG: list[tuple[int, Any]] = [
    (400, {"error": {"message": "Invalid 'messages'. Please fix the request and try again."}}),
    (400, {"error": {"message": "Please reduce the length of the messages and try again."}}),
    (400, {"error": {"message": "You exceeded your current quota, please try again later"}}),
    (400, {"error": {"message": "Content flagged by moderation. Please try again later."}}),
    (400, {"object": "error", "message": "This model's context is 512 tokens", "code": 40303}),
    (200, {"error": {"message": "wrong field", "type": "invalid_request_error"}}),
    (200, {"object": "error", "message": "wrong", "type": "BadRequestError", "code": 400}),
]


@pytest.mark.parametrize(("status", "body"), WRONG)
def test_a_wrong_request_is_asked_once_whatever_its_status(status: int, body: Any) -> None:
    with serve(lambda *_: Reply(status=status, body=body)) as seen:
        (answer,) = _engine(seen.url).complete([ask("r", "q")])
    assert answer[0].finish == "error"
    assert len(seen.bodies) == 1


def test_timeouts_are_tried_again() -> None:
    slow = Reply(body={}, delay_s=0.4)
    with serve(lambda body, number: slow if number == 0 else echo(body)) as seen:
        (answer,) = _engine(seen.url, timeout_s=0.15).complete([ask("r", "q")])
    assert answer[0].finish == "stop"
    assert len(seen.bodies) == 2


def test_a_trickling_server_is_given_up() -> None:
    slow = Reply(body=echo({"messages": [{"content": "x"}], "seed": 1, "n": 1}).body, trickle_s=0.1)
    with serve(lambda body, number: slow if number == 0 else echo(body)) as seen:
        (answer,) = _engine(seen.url, timeout_s=0.4).complete([ask("r", "q")])
    assert answer[0].text.startswith("q/")
    assert len(seen.bodies) == 2


@pytest.mark.parametrize(
    ("reply", "stop"),
    [
        (completion("", tokens=1), ()),
        (completion("", finish_reason="length", tokens=30), ()),
        (completion("", tokens=0), ("\n",)),
    ],
    ids=["ended at once", "all spent on thinking", "stopped at once"],
)
def test_an_answer_that_is_rightly_empty_is_taken(reply: Reply, stop: tuple[str, ...]) -> None:
    with serve(lambda *_: reply) as seen:
        (answer,) = _engine(seen.url).complete([ask("r", "q", stop=stop)])
    assert answer[0].text == answer[0].error == ""
    assert len(seen.bodies) == 1


def test_exhausted_attempts_are_an_error_and_never_cached(tmp_path: Path) -> None:
    bad = Reply(status=500, body={"error": {"message": f"broken {KEY}"}})

    def answer(body: dict, _: int) -> Reply:
        return bad if body["messages"][-1]["content"] == "q1" else echo(body)

    with serve(answer) as seen:
        requests = [ask("a", "q0"), ask("b", "q1", n=2), ask("c", "q2")]
        results = _engine(seen.url, tmp_path, attempts=2).complete(requests)
        assert [r[0].finish for r in results] == ["stop", "error", "stop"]
        assert len(results[1]) == 2
        assert "500" in results[1][0].error
        assert KEY not in results[1][0].error
        assert results[1][0].text == ""
        before = len(seen.bodies)
        _engine(seen.url, tmp_path, attempts=2).complete(requests)
        assert len(seen.bodies) == before + 2


def test_a_refused_request_is_not_tried_again() -> None:
    with serve(lambda *_: Reply(status=400, body={"error": {"message": "too long"}})) as seen:
        (answer,) = _engine(seen.url).complete([ask("r", "q")])
    assert answer[0].error.startswith("status 400")
    assert len(seen.bodies) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=401, body={"error": {"message": f"bad key {KEY}"}}),
        Reply(status=404, body={"error": {"message": "no such model"}}),
        Reply(status=429, body={"error": {"message": "pay", "code": "insufficient_quota"}}),
    ],
    ids=["key", "model", "quota"],
)
def test_what_no_call_can_survive_ends_the_run(reply: Reply) -> None:
    with serve(lambda *_: reply) as seen, pytest.raises(RunFailed) as caught:
        _engine(seen.url, concurrency=1).complete([ask(f"r{k}", "q") for k in range(5)])
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert len(seen.bodies) == 1


def test_a_dead_server_ends_the_run() -> None:
    with serve(lambda body, _: echo(body)) as seen:
        url = seen.url
    engine = _engine(url, attempts=2, give_up_after=3)
    with pytest.raises(RunFailed, match="3 calls in a row"):
        engine.complete([ask(f"r{k}", "q") for k in range(50)])


def test_the_cache_answers_a_request_once(tmp_path: Path) -> None:
    requests = [ask("a", "q0", n=2), ask("b", "q1"), ask("a", "q0", n=2)]
    with serve(lambda body, _: echo(body)) as seen:
        first = _engine(seen.url, tmp_path).complete(requests)
        assert len(seen.bodies) == 2
        again = _engine(seen.url, tmp_path)
        assert again.complete(requests) == first
        assert again.spent.usage.calls == 2
        again.complete([ask("c", "q0", n=2)])
        assert len(seen.bodies) == 3
    assert KEY.encode() not in (tmp_path / "calls.sqlite").read_bytes()


def test_a_file_that_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "calls.sqlite").write_text("not a database, but long enough to be read as one" * 9)
    with pytest.raises(BadInput, match=r"calls\.sqlite"):
        OpenAIEngine("m", "http://127.0.0.1:1/v1", cache_dir=tmp_path)


def test_a_server_that_gives_one_sample_is_asked_for_the_rest() -> None:
    with serve(lambda body, number: completion(f"t{number}")) as seen:
        (answer,) = _engine(seen.url).complete([ask("r", "q", n=3)])
    assert [c.text for c in answer] == ["t0", "t1", "t2"]
    assert [b["n"] for b in seen.bodies] == [3, 2, 1]
    assert len({b["seed"] for b in seen.bodies}) == 3


def test_samples_that_came_before_a_failure_are_kept_and_paid_once(tmp_path: Path) -> None:
    broken = Reply(status=400, body={"error": {"message": "no more"}})
    with serve(lambda body, number: completion("first") if number == 0 else broken) as seen:
        (answer,) = _engine(seen.url, tmp_path).complete([ask("r", "q", n=3)])
        assert [c.finish for c in answer] == ["stop", "error", "error"]
        url = seen.url
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    with serve(lambda body, _: completion("second", "third"), port=port) as seen:
        engine = _engine(seen.url, tmp_path)
        (answer,) = engine.complete([ask("r", "q", n=3)])
        assert [c.text for c in answer] == ["first", "second", "third"]
        assert [body["n"] for body in seen.bodies] == [2]
        assert engine.spent.usage.calls == 2


def test_a_greedy_answer_is_asked_for_once() -> None:
    with serve(lambda body, _: echo(body)) as seen:
        (answer,) = _engine(seen.url).complete([ask("r", "q", n=3, temperature=0)])
    assert len(answer) == 3
    assert len(set(answer)) == 1
    assert [body["n"] for body in seen.bodies] == [1]


def test_no_text_is_an_error() -> None:
    with serve(lambda *_: completion(None, finish_reason="content_filter")) as seen:
        (answer,) = _engine(seen.url).complete([ask("r", "q")])
    assert answer[0].finish == "error"
    assert "content_filter" in answer[0].error


def test_budget_stops_cleanly_and_the_cache_counts(tmp_path: Path) -> None:
    prices = {"usd_per_million_prompt": 100.0, "usd_per_million_completion": 1000.0}
    requests = [ask(f"r{k}", f"q{k}") for k in range(10)]
    with serve(lambda body, _: echo(body)) as seen:
        # A call costs 10 * 100 / 1e6 + 6 * 1000 / 1e6 = $0.007.
        engine = _engine(seen.url, tmp_path, concurrency=1, budget_usd=0.02, **prices)
        with pytest.raises(RunFailed, match=r"\$0.02 is spent"):
            engine.complete(requests)
        assert len(seen.bodies) == 3
        assert engine.spent.usd == pytest.approx(0.021)
        with pytest.raises(RunFailed, match="is spent"):
            _engine(seen.url, tmp_path, budget_usd=0.02, **prices).complete(requests)
        assert len(seen.bodies) == 3
        richer = _engine(seen.url, tmp_path, budget_tokens=16 * 10, concurrency=1)
        assert len(richer.complete(requests)) == 10
        assert len(seen.bodies) == 10


def test_a_budget_in_dollars_counts_what_was_asked_for_before_there_was_a_price(tmp_path: Path):
    with serve(lambda body, _: echo(body)) as seen:
        _engine(seen.url, tmp_path).complete([ask("a", "q")])
        priced = _engine(seen.url, tmp_path, budget_usd=0.001, usd_per_million_prompt=100.0)
        with pytest.raises(RunFailed, match=r"\$0.001 is spent \(1 calls, 16 tokens, \$0.0010"):
            priced.complete([ask("b", "another")])


def test_a_budget_of_calls_is_exact_and_shared(tmp_path: Path) -> None:
    def slow(body: dict, _: int) -> Reply:
        return Reply(body=echo(body).body, delay_s=0.02)

    requests = [ask(f"r{k}", f"q{k}") for k in range(20)]
    with serve(slow) as seen:
        one, other = (_engine(seen.url, tmp_path, budget_calls=9) for _ in range(2))
        one.complete(requests[:4])
        with pytest.raises(RunFailed, match=r"9 calls is spent \(\d calls"):
            other.complete(requests[4:])
        assert len(seen.bodies) == 9
        with pytest.raises(RunFailed, match=r"9 calls is spent \(9 calls"):
            one.complete(requests)
        assert len(seen.bodies) == 9
        assert _engine(seen.url, tmp_path, budget_calls=20).complete(requests)
        assert len(seen.bodies) == 20
    written = json.loads((tmp_path / "spent.json").read_text())
    assert written == {
        f"m@{seen.url}": {"prompt_tokens": 200, "tokens": 120, "calls": 20, "usd": 0.0}
    }


def test_replies_of_no_use_are_counted_where_they_say_what_they_took(tmp_path: Path) -> None:
    lost = completion("", tokens=40)
    prices = {"usd_per_million_prompt": 1000.0, "usd_per_million_completion": 10000.0}
    with serve(lambda body, number: lost if number != 1 else echo(body)) as seen:
        for cache_dir in (None, tmp_path):
            seen.bodies.clear()
            engine = _engine(seen.url, cache_dir, attempts=2, **prices)
            engine.complete([ask("r", "q")])
            engine.complete([ask("s", "q")])
            # Answered at the second attempt; never.
            assert engine.spent.usage == Usage(4 * 10, 6 + 3 * 40, 4)
            assert engine.spent.usd == pytest.approx((40 * 1000 + 126 * 10000) / 1e6)


def test_the_meter_prices_the_completions_of_an_engine() -> None:
    prices = {"usd_per_million_prompt": 1000.0, "usd_per_million_completion": 10000.0}
    with serve(lambda body, _: echo(body)) as seen:
        engine = meter.metered(_engine(seen.url, None, **prices))
        before = meter.mark()
        engine.complete([ask("r", "q")])
        spent = meter.since(before)
    assert (spent.prompt_tokens, spent.tokens, spent.calls) == (10, 6, 1)
    assert spent.usd == pytest.approx((10 * 1000 + 6 * 10000) / 1e6)


def test_a_cache_without_an_account_gets_one(tmp_path: Path) -> None:
    with serve(lambda body, _: echo(body)) as seen:
        _engine(seen.url, tmp_path).complete([ask("r", "q")])
        with closing(sqlite3.connect(tmp_path / "calls.sqlite")) as db, db:
            db.execute("DROP TABLE spent")
        assert _engine(seen.url, tmp_path).spent.usage == Usage(10, 6, 1)


def test_a_cache_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    with serve(lambda body, _: echo(body)) as seen:
        engine = _engine(seen.url, tmp_path)
        with closing(sqlite3.connect(tmp_path / "calls.sqlite")) as db, db:
            db.execute("DROP TABLE spent")
        with pytest.raises(RunFailed, match=r"calls\.sqlite"):
            engine.complete([ask("r", "q")])


def test_what_may_change_while_a_run_is_under_way() -> None:
    decides = {"prefill"}
    assert {f.name for f in fields(OpenAIConfig)} - decides == WITHOUT_EFFECT_ON_ANSWERS


@pytest.mark.parametrize("key", ["sk-\x00abc", "sk-\u00e9t\u00e9", "sk\n2"])
def test_a_key_that_no_header_holds(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setattr("os.environ", {"OPENAI_API_KEY": key})
    with pytest.raises(BadInput, match="OPENAI_API_KEY") as caught:
        openai_engine("m@http://localhost:1/v1")
    assert key not in str(caught.value)


def test_secrets_in_an_address_are_refused() -> None:
    with pytest.raises(BadInput, match="without user and password") as caught:
        openai_engine("m@http://me:hunter2@localhost:1/v1")
    assert "hunter2" not in str(caught.value)


def test_choice_logprobs() -> None:
    top = [
        {"token": t, "logprob": math.log(p), "bytes": None}
        for t, p in ((" 4", 0.5), ("4", 0.2), ("5", 0.1), ("x", 0.05))
    ]
    logprobs = {"content": [{"token": "4", "logprob": 0.0, "bytes": None, "top_logprobs": top}]}

    def answer(body: dict, _: int) -> Reply:
        return completion(
            "4", logprobs=logprobs if body["messages"][-1]["content"] == "a" else None
        )

    with serve(answer) as seen:
        got = _engine(seen.url).choice_logprobs([ask("r", "a"), ask("s", "b")], ["3", "4", "5"])
    assert got[0] == pytest.approx((-math.inf, math.log(0.7), math.log(0.1)))
    assert all(math.isnan(x) for x in got[1])
    assert seen.bodies[0]["top_logprobs"] == 20
    assert seen.bodies[0]["max_tokens"] == 1


def test_prefix_only_where_the_endpoint_can() -> None:
    with serve(lambda body, _: echo(body)) as seen:
        with pytest.raises(BadInput, match="prefix"):
            _engine(seen.url).complete([ask("r", "q", prefix="Score:")])
        _engine(seen.url, prefill="vllm").complete([ask("r", "q", prefix="Score:")])
    assert seen.bodies[0]["messages"][-1] == {"role": "assistant", "content": "Score:"}
    assert seen.bodies[0]["continue_final_message"] is True


def test_inside_a_running_loop() -> None:
    async def notebook(url: str) -> str:
        return _engine(url).complete([ask("r", "q")])[0][0].text

    with serve(lambda body, _: echo(body)) as seen:
        assert asyncio.run(notebook(seen.url)).startswith("q/")


def test_spec_and_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rest = "org/m@http://host:8000/v1?concurrency=4&budget_tokens=5&prefill=vllm"
    engine = openai_engine(rest, cache_dir=tmp_path)
    assert (engine.model, engine.url) == ("org/m", "http://host:8000/v1")
    assert engine.config == OpenAIConfig(concurrency=4, budget_tokens=5, prefill="vllm")
    with pytest.raises(BadInput, match=r"concurency.*did you mean 'concurrency'"):
        openai_engine("m?concurency=4")
    with pytest.raises(BadInput, match=r"concurrency.*'many'"):
        openai_engine("m?concurrency=many")
    with pytest.raises(BadInput, match="prices"):
        openai_engine("m?budget_usd=4")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(BadInput, match="OPENAI_API_KEY"):
        openai_engine("m")
    assert openai_engine("m@http://localhost:1/v1").name == "openai:m"


def test_a_budget_needs_an_endpoint_that_states_its_tokens() -> None:
    with serve(lambda body, _: completion("a", prompt_tokens=0, tokens=0)) as seen:
        engine = _engine(seen.url, budget_tokens=1000, concurrency=1)
        with pytest.raises(RunFailed, match="found none in 1 answers; budget_calls counts calls"):
            engine.complete([ask("r", "q"), ask("s", "p")])
        assert len(_engine(seen.url, budget_calls=2).complete([ask("r", "q"), ask("s", "p")])) == 2


@pytest.mark.parametrize(
    ("asked", "named", "logged"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", False),
        ("openai/gpt-4o", "gpt-4o", False),
        ("qwen", "/models/Qwen2.5.gguf", False),
        ("gpt-4o", None, False),
        ("gpt-4o", "gpt-3.5-turbo", True),
    ],
)
def test_an_answer_of_another_model_is_logged_once(
    asked: str, named: str | None, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(body: dict, _: int) -> Reply:
        reply = echo(body)
        return Reply(body={**reply.body, "model": named})

    with serve(answer) as seen:
        engine = OpenAIEngine(asked, seen.url, config=OpenAIConfig(**QUICK))
        engine.complete([ask("r", "q"), ask("s", "p")])
    assert caplog.text.count("the answers name another model: gpt-3.5-turbo") == int(logged)
