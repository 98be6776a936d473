"""Endpoints that refuse a field: recognised in the wordings of many servers, once, and kept."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignlab.errors import BadInput, RunFailed
from alignlab.generation.openai import (
    OpenAIConfig,
    OpenAIEngine,
    openai_engine,
    probe_endpoints,
)
from alignlab.generation.refusals import EndpointLimits, Refusal
from alignlab.types import CompletionRequest, Message, Sampling
from tests.generation.stub_server import Reply, completion, echo, serve
from tests.generation.tiny import ask

FULL: dict[str, Any] = {
    "model": "m", "temperature": 0.7, "top_p": 0.9, "max_tokens": 64, "n": 3, "seed": 1,
    "stop": ["\n"], "logprobs": True, "top_logprobs": 20,
    "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}],
}  # fmt: skip


def _without(*fields: str) -> EndpointLimits:
    return EndpointLimits(without=fields)


# (body of the error, status, changed fields of the request, what is learnt)
WORDINGS: list[tuple[Any, int, dict[str, Any], EndpointLimits | None]] = [
    # the field that is refused, not the one suggested (Groq; Databricks, Bedrock; teams' rights)
    ("'logprobs' : property 'logprobs' is unsupported, did you mean 'stop'?", 400, {},
     _without("logprobs")),
    ("seed: Extra inputs are not permitted", 400, {}, _without("seed")),
    ("Malformed input request: #: extraneous key [seed] is not permitted", 400, {},
     _without("seed")),
    ("Argument not supported on this model: stop", 400, {}, _without("stop")),
    ("Your team does not have access to logprobs", 403, {}, _without("logprobs")),
    ("You do not have access to this model", 403, {}, None),
    ("temperature: Input should be less than or equal to 1", 400, {"temperature": 1.5}, None),
    # temperature
    ("Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) "
     "value is supported.", 400, {"temperature": 0}, _without("temperature")),
    ("`temperature` is deprecated for this model.", 400, {}, _without("temperature")),
    ("reasoner does not support the parameter `temperature`", 400, {}, _without("temperature")),
    ('Invalid JSON payload received. Unknown name "temperature": Cannot find field.', 400, {},
     _without("temperature")),
    ("temperature and top_p cannot both be specified for this model. Please use only one.", 400,
     {}, _without("top_p")),
    ("Input validation error: `temperature` must be strictly positive", 422, {"temperature": 0},
     EndpointLimits(least_temperature=0.01)),
    ("Invalid params: temperature must be in range (0, +inf)", 422, {"temperature": 0.0},
     EndpointLimits(least_temperature=0.01)),
    ("temperature: range: 0..1", 400, {"temperature": 1.5}, None),
    ("参数 temperature 不支持", 400, {}, _without("temperature")),
    # top_p
    ("Unsupported parameter: 'top_p' is not supported with this model. (request id: 5)", 400, {},
     _without("top_p")),
    ("Input validation error: `top_p` must be > 0.0 and < 1.0", 422, {"top_p": 1.0},
     _without("top_p")),
    # seed
    ({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"],
                  "msg": "Extra inputs are not permitted", "input": 20}]}, 422, {},
     _without("seed")),
    ("[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs are not "
     "permitted', 'input': 3}]", 400, {}, _without("seed")),
    ([{"error": {"code": 400, "message": 'Unknown name "seed": Cannot find field.'}}], 400, {},
     _without("seed")),
    ("Unrecognized request argument supplied: seed", 400, {}, _without("seed")),
    # n
    ("'n' : number must be at most 1", 400, {}, _without("n")),
    ("Only n=1 is supported", 422, {}, _without("n")),
    ("Input validation error: `seed` must not be set when `best_of` > 1", 422, {}, _without("n")),
    ("'n' : number must be at most 1", 400, {"n": 1}, None),
    # log-probabilities
    ("You are not allowed to request logprobs from this model", 403, {}, _without("logprobs")),
    ("Logprobs is not enabled for models/some-2.5-flash", 400, {}, _without("logprobs")),
    ("Unsupported parameter: 'top_logprobs' is not supported with this model.", 400, {},
     _without("logprobs")),
    ("Requested sample logprobs of 20, which is greater than max allowed: 5", 400, {},
     EndpointLimits(top_logprobs=5)),
    ("20 is greater than the maximum of 1 - 'logprobs'", 400, {}, EndpointLimits(top_logprobs=1)),
    ("Invalid value for 'top_logprobs': must be less than or equal to 8.", 400, {},
     EndpointLimits(top_logprobs=8)),
    # stop
    ("Argument not supported on this model: stop", 400, {}, _without("stop")),
    ("Invalid 'stop': array too long. Expected an array with maximum length 4", 400, {},
     _without("stop")),
    # limit of new tokens
    ("Unsupported parameter: 'max_tokens' is not supported with this model. Use "
     "'max_completion_tokens' instead.", 400, {},
     EndpointLimits(token_limit_field="max_completion_tokens")),
    ("Unrecognized request argument supplied: max_completion_tokens", 400,
     {"max_tokens": None, "max_completion_tokens": 64},
     EndpointLimits(token_limit_field="max_tokens")),
    ("Provider returned error {'raw': \"Invalid 'max_output_tokens': integer below minimum value. "
     "Expected a value >= 16, but got 1 instead.\"}", 400, {"max_tokens": 1},
     EndpointLimits(least_tokens=16)),
    ("max_tokens is too large: 9001. This model supports at most 4096 completion tokens", 400,
     {"max_tokens": 9001}, None),
    ("Invalid 'max_tokens': integer below minimum value. Expected a value >= 1", 400, {}, None),
    # system turns
    ("System role not supported", 400, {}, _without("system")),
    ("Error: Jinja Exception: System role not supported", 500, {}, _without("system")),
    ("Conversation roles must alternate user/assistant/user/assistant/...", 400, {},
     _without("system")),
    ("Unsupported value: 'messages[0].role' does not support 'system' with this model.", 400, {},
     _without("system")),
    ("Developer instruction is not enabled for models/gemma", 400, {}, _without("system")),
    ("Only user and assistant roles are supported!", 500, {}, _without("system")),
    # of another prompt, or of nothing that can be left out
    ("This model's maximum context length is 8192 tokens. However, you requested 9001 tokens; "
     "reduce max_tokens, which is not supported", 400, {}, None),
    ("The response was filtered due to the prompt triggering our content management policy; "
     "system messages are not allowed to", 400, {}, None),
    ("The engine broke: seed", 500, {}, None),
    ("Not supported.", 400, {}, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "changed", "learnt"), WORDINGS, ids=[str(w[0])[:50] for w in WORDINGS]
)
def test_wordings(
    body: Any, status: int, changed: dict[str, Any], learnt: EndpointLimits | None
) -> None:
    sent = {name: value for name, value in (FULL | changed).items() if value is not None}
    found = EndpointLimits().learn(Refusal(status, str(body).lower()), sent)
    assert found == learnt
    if found is not None:
        assert found.apply(sent) != sent
        assert len(found.sentences()) == 1


def test_a_request_as_an_endpoint_accepts_it() -> None:
    every = EndpointLimits(
        ("n", "seed", "top_p", "stop", "logprobs", "system"), "max_completion_tokens", 5, 16, 0.01
    )
    assert every.apply({**FULL, "temperature": 0, "max_tokens": 1}) == {
        "model": "m",
        "temperature": 0.01,
        "max_completion_tokens": 16,
        "messages": [{"role": "user", "content": "S\n\nU"}],
    }
    assert EndpointLimits(top_logprobs=5).apply(FULL) == {**FULL, "top_logprobs": 5}
    assert EndpointLimits().apply(FULL) == FULL
    plain = {"prompt": "1, 2,", "max_tokens": 7}
    assert every.apply(plain) == {"prompt": "1, 2,", "max_tokens": 16}


def _engine(url: str, cache_dir: Path | None = None, **config: Any) -> OpenAIEngine:
    quick = OpenAIConfig(**{"backoff_s": 0.001, **config})
    return OpenAIEngine("m", url, config=quick, cache_dir=cache_dir)


# Servers, each with the fields that it refuses.
def _refuse(message: str, *, status: int = 400, **more: Any) -> Reply:
    return Reply(status, {"error": {"message": message, "type": "invalid_request_error", **more}})


def _reasoning_model(body: dict[str, Any]) -> Reply | None:
    for field in ("temperature", "top_p", "logprobs", "stop"):
        if body.get(field, 1) != 1 or (field in body and field == "logprobs"):
            return _refuse(f"Unsupported value: '{field}' is not supported.", param=field)
    if "max_tokens" in body:
        return _refuse("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    return None


def _strict_gateway(body: dict[str, Any]) -> Reply | None:
    unknown = [field for field in ("n", "seed", "stop") if field in body]
    detail = [
        {"loc": ["body", field], "msg": "Extra inputs are not permitted"} for field in unknown
    ]
    return Reply(422, {"detail": detail}) if unknown else None


def _no_system(body: dict[str, Any]) -> Reply | None:
    if body["messages"][0]["role"] == "system":
        return _refuse("Jinja Exception: System role not supported", status=500)
    return None


def _error_in_200(body: dict[str, Any]) -> Reply | None:
    if "seed" in body:
        return Reply(200, {"error": {"message": "seed is not supported", "code": 400}})
    return None


SERVERS: list[Callable[[dict[str, Any]], Reply | None]] = [
    _reasoning_model, _strict_gateway, _no_system, _error_in_200,
]  # fmt: skip


def _request(key: str, **sampling: Any) -> CompletionRequest:
    messages = (Message("system", "Be brief."), Message("user", f"question {key}"))
    return CompletionRequest(key, messages, Sampling(**sampling), 0)


@pytest.mark.parametrize("refuses", SERVERS)
def test_what_is_refused_is_learnt_once_and_kept(
    refuses: Callable[[dict[str, Any]], Reply | None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused: list[int] = []

    def answer(body: dict[str, Any], number: int) -> Reply:
        reply = refuses(body)
        refused.extend([number] if reply else [])
        return reply or completion(f"answer {number}\nand more")

    def engine(url: str) -> OpenAIEngine:
        return _engine(url, tmp_path, concurrency=1)

    requests = [_request(f"r{k}", n=2, stop=("\n",)) for k in range(5)]
    with serve(answer) as seen, caplog.at_level(logging.WARNING):
        found = engine(seen.url).complete(requests)
        first = len(refused)
        engine(seen.url).complete([_request("later", n=2)])
    assert 1 <= first == len(refused) <= 6
    texts = [c.text for several in found for c in several]
    assert len(set(texts)) == 10
    assert all(text.startswith("answer") and "\n" not in text for text in texts)
    assert {c.finish for several in found for c in several} == {"stop"}
    assert len(caplog.messages) == len(set(caplog.messages)) == first
    assert all("m@http" in message for message in caplog.messages)
    (written,) = json.loads((tmp_path / "spent.json").read_text()).values()
    assert len(written["limits"]) == first


def test_calls_under_way_learn_from_each_other() -> None:
    def answer(body: dict[str, Any], _: int) -> Reply:
        fault = _refuse("'n' : number must be at most 1") if body.get("n", 1) > 1 else None
        reply = fault or completion("yes")
        reply.delay_s = 0.02
        return reply

    with serve(answer) as seen:
        found = _engine(seen.url).complete([ask(f"r{k}", "q", n=2) for k in range(20)])
    assert {c.finish for several in found for c in several} == {"stop"}
    assert sum(body.get("n", 1) > 1 for body in seen.bodies) <= 16
    assert len(seen.bodies) <= 16 + 40


def test_fields_left_out_by_option() -> None:
    with serve(lambda *_: completion("yes", "no")) as seen:
        spec = f"m@{seen.url}?without=temperature,seed,system,logprobs"
        engine = openai_engine(spec)
        engine.complete([_request("a", n=2)])
        assert engine.choice_logprobs([ask("b", "q")], ["A", "B"])[0] == pytest.approx(
            (math.nan, math.nan), nan_ok=True
        )
    (body,) = seen.bodies
    assert not {"temperature", "seed"} & body.keys()
    assert body["messages"] == [{"role": "user", "content": "Be brief.\n\nquestion a"}]
    with pytest.raises(BadInput, match=r"'temprature'; did you mean 'temperature'"):
        openai_engine("m@http://localhost:1/v1?without=temprature")


def test_an_endpoint_without_log_probabilities_is_asked_for_them_once() -> None:
    with serve(lambda *_: completion("A", tokens=1, logprobs=None)) as seen:
        engine = _engine(seen.url)
        found = engine.choice_logprobs([ask(f"r{k}", "q") for k in range(9)], ["A", "B"])
        assert all(math.isnan(x) for row in found for x in row)
        assert len(seen.bodies) == 1
        assert engine.complete([ask("r", "q")])[0][0].text == "A"
    with serve(lambda body, _: _reasoning_model(body) or completion("A", tokens=1)) as seen:
        engine = _engine(seen.url)
        found = engine.choice_logprobs([ask(f"r{k}", "q") for k in range(9)], ["A", "B"])
        assert all(math.isnan(x) for row in found for x in row)
        assert sum("logprobs" in body for body in seen.bodies) <= 2
        assert engine.complete([ask("r", "q")])[0][0].text == "A"


def test_fewer_log_probabilities_where_an_endpoint_gives_fewer() -> None:
    def answer(body: dict[str, Any], _: int) -> Reply:
        if body["top_logprobs"] > 5:
            return _refuse("Cannot request more than 5 logprobs.")
        top = [{"token": "A", "logprob": -0.5}, {"token": "B", "logprob": -1.0}]
        return completion("A", logprobs={"content": [{"token": "A", "top_logprobs": top}]})

    with serve(answer) as seen:
        found = _engine(seen.url).choice_logprobs(
            [ask(f"r{k}", "q") for k in range(4)], ["A", "B", "C"]
        )
    assert found == [pytest.approx((-0.5, -1.0, -math.inf))] * 4
    assert [body["top_logprobs"] for body in seen.bodies] == [20, 5, 5, 5, 5]


def test_tokens_with_marks_of_blanks_are_the_choice() -> None:
    marked = [("\u2581A", 0.3), ("\u0120A", 0.2), ("\nA", 0.1), (" B", 0.05), ("a", 0.3)]
    top = [{"token": t, "logprob": math.log(p)} for t, p in marked]
    top += [{"token": "B", "logprob": -9999.0}, {"token": "B", "logprob": None}]
    logprobs = {"content": [{"token": "A", "logprob": -0.5, "top_logprobs": top}]}
    with serve(lambda *_: completion("A", logprobs=logprobs)) as seen:
        ((first, second),) = _engine(seen.url).choice_logprobs([ask("r", "q")], ["A", "B"])
    assert math.exp(first) == pytest.approx(0.6)
    assert math.exp(second) == pytest.approx(0.05)


def test_first_calls_refused_alike_stop_the_run() -> None:
    always = _refuse("Unsupported value: 'temperature' does not support 0.7.", param="temperature")
    with serve(lambda *_: always) as seen:
        with pytest.raises(RunFailed, match=r"first 8 calls.*without=temperature"):
            _engine(seen.url).complete([ask(f"r{k}", f"q{k}") for k in range(200)])
        assert len(seen.bodies) < 60


def test_prompts_that_are_refused_do_not_stop_it() -> None:
    """Refusals of content, of a few calls, and after an answer say nothing of the next call."""

    def answer(body: dict[str, Any], number: int) -> Reply:
        text = body["messages"][-1]["content"]
        if text.startswith("long"):
            return _refuse(f"maximum context length is 8192 tokens, you requested {9000 + number}")
        return _refuse("no such thing") if text.startswith("odd") else echo(body)

    def finishes(texts: list[str]) -> list[str]:
        engine = _engine(seen.url, concurrency=1)
        found = engine.complete([ask(f"r{k}", text) for k, text in enumerate(texts)])
        return [several[0].finish for several in found]

    with serve(answer) as seen:
        long = [f"long {k}" for k in range(12)]
        odd = [f"odd {k}" for k in range(12)]
        assert finishes([*long, "good"]) == ["error"] * 12 + ["stop"]
        assert finishes(["good", *odd]) == ["stop"] + ["error"] * 12
        assert finishes(odd[:7]) == ["error"] * 7


def test_flagged_input_is_no_refused_key() -> None:
    flagged = _refuse("Your model requires moderation and your input was flagged", status=403)
    with serve(lambda body, n: flagged if n == 0 else echo(body)) as seen:
        engine = _engine(seen.url, concurrency=1)
        found = engine.complete([ask("a", "q"), ask("b", "q2")])
    assert [several[0].finish for several in found] == ["error", "stop"]


def test_a_probe_says_what_is_refused(tmp_path: Path) -> None:
    def answer(body: dict[str, Any], _: int) -> Reply:
        return _reasoning_model(body) or completion("yes", "no")

    with serve(answer) as seen:
        engine = _engine(seen.url, tmp_path)
        report = engine.probe()
        assert report.answers
        assert len(seen.bodies) <= 7
        for name in ("temperature", "top_p", "logprobs", "stop", "max_completion_tokens"):
            assert any(name in limit for limit in report.limits), name
        assert "refuses temperature" in str(report)
        kind = json.loads(json.dumps(report.limits))
        assert len(kind) == 5
    top = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -2.0}]
    logprobs = {"content": [{"token": "yes", "logprob": -0.1, "top_logprobs": top}]}
    with serve(lambda *_: completion("yes", "no", logprobs=logprobs)) as seen:
        report = _engine(seen.url).probe()
        assert str(report) == f"m@{seen.url}: answers"
        assert len(seen.bodies) == 1
    with serve(lambda *_: _refuse("bad key", status=401)) as seen:
        report = _engine(seen.url).probe()
        assert not report.answers
        assert "the key is refused" in str(report)
    dead = OpenAIEngine("m", "http://127.0.0.1:9/v1", config=OpenAIConfig(attempts=1))
    assert "no connection" in str(dead.probe())


def test_endpoints_that_settings_name_are_probed_once() -> None:
    with serve(lambda *_: completion("yes", "no")) as seen:
        spec = f"openai:m@{seen.url}"
        settings = {"judge": {"source": f"llm,samples=1:{spec}?concurrency=2"}, "teacher": spec}
        (report,) = probe_endpoints({**settings, "model": "local:openai"})
        assert len(seen.bodies) == 1
    assert report.answers
    assert report.source == f"m@{seen.url}"
    assert report.limits == ("refuses logprobs: judges read whole verdicts",)


def test_check_asks_endpoints_one_small_question(alignlab: Any, tmp_path: Path) -> None:
    def ask_check(url: str) -> Any:
        judge = f"measure.judge=llm:openai:m@{url}?attempts=1"
        return alignlab("check", "self_rewarding", judge, f"out={tmp_path / 'r'}")

    with serve(lambda body, _: _reasoning_model(body) or completion("yes")) as seen:
        ended = ask_check(seen.url)
        assert ended.code == 0, ended.err
        assert "endpoints" in ended.out
        assert f"m@{seen.url}: answers; refuses" in ended.out
        assert len(seen.bodies) <= 8
    ended = ask_check(seen.url)
    assert ended.code == 2
    assert "does not answer (no connection" in ended.line
