"""Several engines of one model: the records of one, in the same order."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignlab import engine_pool, meter
from alignlab.at_once import at_once, in_order
from alignlab.commands._support.job import open_run
from alignlab.context import Hardware
from alignlab.engine_pool import EnginePool, PooledModel, kill_engines, stop_engines
from alignlab.errors import BadInput, RunFailed
from alignlab.generation.local import LocalEngine
from alignlab.models.load import load, save
from alignlab.runs import RunIdentity
from alignlab.stages.judge import by_prompt, judge
from alignlab.types import (
    CompletionRequest,
    Message,
    Prompt,
    Response,
    SampledBy,
    Sampling,
    Usage,
)
from tests.models.helpers import tiny_lm
from tests.running import CommandLine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_lm(scale=2.0), tmp_path_factory.mktemp("model") / "tiny")


def _records(run: Path) -> list[str]:
    [file] = run.glob("stages/*/responses.jsonl")
    return file.read_text().splitlines()


@pytest.mark.parametrize("several", [2, pytest.param(4, marks=pytest.mark.heavy)])
def test_several_engines_write_what_one_writes(
    alignlab: CommandLine, folder: Path, tmp_path: Path, several: int
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "abc"[: 1 + k % 3] * (1 + k)} for k in range(14)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, records = [], []
    for engines in (1, several):
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
    assert found[1] == found[0]
    assert records[1] == records[0]
    texts = [json.loads(line)["completion"] for line in found[0].splitlines()]
    assert len(set(texts)) > 20


def _chunks(count: int) -> list[list[CompletionRequest]]:
    sampling = Sampling(0, 1, 5, 1)
    return [
        [CompletionRequest(str(k), (Message("user", "ab" * (k + 1)),), sampling, 0)]
        for k in range(count)
    ]


def test_calls_of_several_threads_have_the_answers_of_one_engine(folder: Path) -> None:
    model = PooledModel("tiny", str(folder), "float32", None, "cpu", 2, 1)
    pool, chunks = EnginePool(model), _chunks(7)
    alone = LocalEngine(load(folder, dtype="float32", device="cpu"))
    assert list(in_order(pool.complete, chunks, 2)) == [alone.complete(c) for c in chunks]
    choices = pool.choice_logprobs(chunks[0], ("a", "b"))
    assert choices == alone.choice_logprobs(chunks[0], ("a", "b"))
    (engines,) = engine_pool._here.values()
    pids = {executor.submit(os.getpid).result() for executor in engines.executors}
    assert len(pids) == 2

    # Another model is asked of the same engines; they hold that of their last call.
    other = EnginePool(replace(model, name="other"))
    assert other.complete(chunks[1]) == alone.complete(chunks[1])
    assert {executor.submit(os.getpid).result() for executor in engines.executors} == pids
    held = [executor.submit(_names_held).result() for executor in engines.executors]
    assert sorted(held) in ([["other"], ["tiny"]], [["other"], ["other"]])

    os.kill(pids.pop(), signal.SIGKILL)
    with pytest.raises(RunFailed, match="a sampling process was killed"):
        list(in_order(pool.complete, chunks * 20, 2))
    assert list(in_order(pool.complete, chunks, 2)) == [alone.complete(c) for c in chunks]
    kill_engines()
    assert not engine_pool._here


def _names_held() -> list[str]:
    return [model.name for model, _ in engine_pool._held]


@pytest.mark.parametrize("kind", ["llm,samples=2,max_tokens=6", "expected,least_mass=0"])
def test_a_models_verdicts_are_shared_by_its_engines(
    folder: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [Prompt(f"p{k}", (Message("user", "ab" * (1 + k % 7)),)) for k in range(150)]
    answers = [Response(f"{p.id}/0", p.id, "b" * (1 + k % 5), SampledBy("m")) for k, p in
               enumerate(prompts)]  # fmt: skip
    asked: list[int] = []
    call = EnginePool._call
    monkeypatch.setattr(EnginePool, "_call", lambda *a: (asked.append(len(a[2])), call(*a))[1])
    written = []
    for engines in (1, 2):
        hardware = Hardware("cpu", "float32", workers=1, threads=1, engines=engines)
        identity = RunIdentity("toy", {}, (0,))
        with open_run(tmp_path / str(engines), identity, hardware) as context:
            judge_ = context.judge(f"{kind}:local:{folder}")
            verdicts = judge(context, judge_, prompts, answers)
            # Rated in one call, its chunks are the same.
            assert context.rate(judge_, by_prompt(prompts, answers), context.seed_for(
                "judge", judge_.name)) == verdicts  # fmt: skip
            assert at_once(judge_) == engines
        (stage,) = (tmp_path / str(engines)).glob("stages/*/feedback.jsonl")
        commits = [json.loads(line) for line in (stage.parent / "commits.jsonl").open()]
        plain = [(c["unit"], c["end"], c["usage"]) for c in commits]
        written.append((stage.read_bytes(), plain))
    stop_engines()
    assert written[0] == written[1]
    assert [unit for unit, *_ in written[0][1]][:3] == ["0", "1", "2"]
    assert sorted(asked) == [22, 22, 64, 64, 64, 64]  # 150 prompts in chunks, twice, by the pool


def test_chunks_are_done_in_order_with_their_own_usage() -> None:
    ended: list[int] = []

    def work(item: int) -> int:
        time.sleep(0.2 if item == 0 else 0.01)
        meter.add(Usage(calls=item))
        ended.append(item)
        if item == 7:
            raise BadInput("seven")
        return item * item

    found, before = [], meter.mark()
    results = in_order(work, range(12), 3)
    for number in range(7):
        found.append(next(results))
        assert meter.since(before).calls == sum(range(number + 1))
    with pytest.raises(BadInput, match="seven"):
        next(results)
    assert found == [k * k for k in range(7)]
    assert ended.index(0) > ended.index(1)  # the others went on meanwhile
    assert max(ended) <= 7 + 2 * 3  # and not far ahead
    assert at_once(EnginePoolOf(3), EnginePoolOf(2)) == 2
    assert at_once(EnginePoolOf(3), object()) == at_once() == 0


class EnginePoolOf:
    def __init__(self, engines: int) -> None:
        self.at_once = engines


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
    monkeypatch.setattr("alignlab.models.dtypes.find_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Hardware(engines=2).engines == 2
    for wrong in ({"engines": 3}, {"engines": 2, "device": "cuda:1"}):
        with pytest.raises(BadInput, match=r"hardware\.engines"):
            Hardware(**wrong)
