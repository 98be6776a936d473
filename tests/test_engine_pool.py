"""Several engines of one model: the records of one, in the same order."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from alignlab.context import Hardware
from alignlab.engine_pool import EnginePool, PooledModel, stop_engines
from alignlab.errors import BadInput, RunFailed
from alignlab.generation.local import LocalEngine
from alignlab.models.load import load, save
from alignlab.types import CompletionRequest, Message, Sampling
from tests.models.helpers import tiny_lm
from tests.running import CommandLine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_lm(scale=2.0), tmp_path_factory.mktemp("model") / "tiny")


def _records(run: Path) -> list[str]:
    [file] = run.glob("stages/*/responses.jsonl")
    return file.read_text().splitlines()


def test_two_and_four_engines_write_what_one_writes(
    alignlab: CommandLine, folder: Path, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "abc"[: 1 + k % 3] * (1 + k)} for k in range(14)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, records = [], []
    for engines in (1, 2, 4):
        out = tmp_path / f"{engines}.jsonl"
        done = alignlab(
            "generate", "--model", str(folder), "--prompts", str(prompts), "--out", str(out),
            "n=2", "chunk=3", "max_tokens=12", "temperature=1", "threads=1",
            "device=cpu", f"engines={engines}",
        )  # fmt: skip
        stop_engines()
        assert done.code == 0, done.err
        found.append(out.read_text())
        records.append(_records(Path(f"{out}.run")))
    assert len(found[0].splitlines()) == 28
    assert found[1] == found[0] == found[2]
    assert records[1] == records[0] == records[2]
    texts = [json.loads(line)["completion"] for line in found[0].splitlines()]
    assert len(set(texts)) > 20


def test_engines_begin_what_they_have_room_for(folder: Path) -> None:
    model = PooledModel("tiny", str(folder), "float32", None, ("cpu", "cpu"), 1)
    pool, sampling = EnginePool(model), Sampling(0, 1, 5, 1)
    chunks = [
        [CompletionRequest(str(k), (Message("user", "ab" * (k + 1)),), sampling, 0)]
        for k in range(5)
    ]
    assert [pool.begin(chunk) for chunk in chunks] == [True] * 4 + [False]
    assert pool.begin(chunks[0])
    alone = LocalEngine(load(folder, dtype="float32", device="cpu"))
    for chunk in chunks[::-1]:
        assert pool.complete(chunk) == alone.complete(chunk)
    choices = pool.choice_logprobs(chunks[0], ("a", "b"))
    assert choices == alone.choice_logprobs(chunks[0], ("a", "b"))

    pid = pool._executors[0].submit(os.getpid).result()
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not pool._executors[0]._broken and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(RunFailed, match="a sampling process was killed"):
        pool.complete(chunks[0])
    stop_engines()


def test_engines_without_effect_are_refused(
    alignlab: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a"}\n')
    done = alignlab(
        "generate", "--model", "sandbox:strong", "--prompts", str(prompts),
        "--out", str(tmp_path / "o.jsonl"), "engines=2",
    )  # fmt: skip
    assert done.code == 2
    assert "setting engines: has no effect on sandbox:strong" in done.err
    monkeypatch.setattr(Hardware, "kind", "cuda")
    monkeypatch.setattr("alignlab.context._find_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Hardware(engines=2).engines == 2
    for wrong in ({"engines": 3}, {"engines": 2, "device": "cuda:1"}):
        with pytest.raises(BadInput, match=r"hardware\.engines"):
            Hardware(**wrong)
