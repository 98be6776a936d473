"""The child process of a rollout engine: weights through shared memory, calls over pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alignlab.errors import BadInput, RunFailed
from alignlab.generation import vllm_child, vllm_process, vllm_rollouts
from alignlab.generation.vllm_rollouts import (
    DrawnRow,
    SampleRow,
    VllmRolloutOptions,
    VllmRollouts,
    read_engine,
)
from tests.models.helpers import tiny_lm

CHILD = f"""
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("vllm_child", {vllm_child.__file__!r})
child = importlib.util.module_from_spec(spec)
sys.modules["vllm_child"] = child
spec.loader.exec_module(child)

class Server:
    '''Stands for vLLM: draws the number of its weights and a sum of them.'''
    def open(self, engine, transfer):
        import json, pathlib
        folder = pathlib.Path(engine["model"])
        assert folder.stat().st_mode & 0o777 == 0o700
        self.folder = folder
        assert json.loads((folder / "config.json").read_text())["architectures"] == [
            "LlamaForCausalLM"
        ]
        assert transfer == child.MEMORY
        self.engine = engine
        print("a library prints")
    def init_weight_transfer_engine(self, init_info):
        self.file = init_info["file"]
        assert not self.folder.exists()
    def start_weight_update(self):
        self.weights = None
    def update_weights(self, update_info):
        from safetensors.numpy import load_file
        self.weights = load_file(self.file)
    def finish_weight_update(self):
        assert self.weights
    def commit(self, version):
        self.version = version
    def sample(self, prompts, seeds, limits, end, checked):
        if prompts and prompts[0] == [666]:
            raise ValueError("bad prompt")
        if prompts and prompts[0] == [777]:
            time.sleep(1000)
        total = float(sum(w.sum() for w in self.weights.values()))
        drawn = [[[len(self.weights), seed % 7, *end][:limit], [total, -0.1, -0.2][:limit]]
                 for seed, limit in zip(seeds, limits)]
        return {{"version": self.version, "samples": drawn,
                "checked": [[-1.0] * last for _, last in checked]}}

child.main(Server())
"""


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    rollouts = start(tmp_path / "log")
    yield rollouts
    rollouts.close()


def start(log: Path) -> VllmRollouts:
    return VllmRollouts(
        tiny_lm(), VllmRolloutOptions(), dtype="float32", context=64, end=[4], log=log,
        command=[sys.executable, "-c", CHILD],
    )  # fmt: skip


def test_weights_go_through_memory_and_tokens_come_back(engine: VllmRollouts, tmp_path: Path):
    lm = tiny_lm()
    named = dict(lm.model.named_parameters())
    for version in (0, 1):
        with torch.no_grad():
            named["model.norm.weight"].fill_(1 + version)
        engine.update(version, lm)
        engine.ask([SampleRow((1, 2), 9, 2), SampleRow((1,), 10, 3)], [((1, 2, 3), 2)])
        found = engine.answer()
        assert found.version == version
        first, second = found.rows
        assert (first.tokens, second.tokens) == ((len(named), 2), (len(named), 3, 4))
        total = sum(float(w.detach().sum()) for w in named.values())
        assert first.logprobs[0] == pytest.approx(total, rel=1e-4, abs=1e-2)
        assert second == DrawnRow((len(named), 3, 4), (first.logprobs[0], -0.1, -0.2))
        assert found.checked == [(-1.0, -1.0)]
    assert "a library prints" in (tmp_path / "log").read_text()


def test_no_file_has_the_weights_and_nothing_listens(engine: VllmRollouts) -> None:
    engine.update(0, tiny_lm())
    pid = engine._process.pid
    names = [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
    assert any(name.startswith("/memfd:alignlab-weights") for name in names)
    assert not any(name.startswith("socket:") for name in names)


def test_an_error_names_the_engine_and_its_log(engine: VllmRollouts, tmp_path: Path) -> None:
    engine.update(0, tiny_lm())
    engine.ask([SampleRow((666,), 1, 1)])
    with pytest.raises(RunFailed, match=r"engine vllm: ValueError: bad prompt \(its log: .*log\)"):
        engine.answer()
    engine.ask([SampleRow((1,), 1, 1)])
    assert len(engine.answer().rows) == 1


def test_a_dead_engine_ends_the_run(engine: VllmRollouts) -> None:
    engine.update(0, tiny_lm())
    engine._process.kill()
    engine._process.wait()
    with pytest.raises(RunFailed, match="it has ended"):
        engine.update(1, tiny_lm())


def test_the_engine_dies_with_the_trainer_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.generation.test_vllm_rollouts import SampleRow, start, tiny_lm\n"
        "engine = start(Path(sys.argv[1]))\n"
        "engine.update(0, tiny_lm())\n"
        "engine.ask([SampleRow((777,), 1, 1)])\n"
        "print(engine._process.pid, flush=True)\n"
        "time.sleep(100)\n"
    )
    root = Path(__file__).parents[2]
    trainer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "log")],
        cwd=root, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert trainer.stdout is not None
        child = int(trainer.stdout.readline())
        os.kill(child, 0)
        trainer.send_signal(signal.SIGKILL)
        trainer.wait()
        for _ in range(100):
            if not Path(f"/proc/{child}").exists():
                break
            time.sleep(0.1)
        assert not Path(f"/proc/{child}").exists()
    finally:
        trainer.kill()


def test_specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(vllm_process.INTERPRETER, raising=False)
    for module in (vllm_process, vllm_rollouts):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="expected local or vllm, found 'sglang'"):
        read_engine("sglang")
    with pytest.raises(BadInput, match="expected the package vllm, found none"):
        read_engine("vllm")
    with pytest.raises(BadInput, match="found no /nowhere/python"):
        read_engine("vllm?python=/nowhere/python")
    with pytest.raises(BadInput, match="memroy"):
        read_engine(f"vllm?python={sys.executable}&memroy=2")
    with pytest.raises(BadInput, match="transfer=nccl is vLLM's own, on both sides"):
        read_engine(f"vllm?python={sys.executable}&transfer=nccl")
    monkeypatch.setenv(vllm_process.INTERPRETER, sys.executable)
    assert read_engine("vllm?cache_gib=0.5").cache_gib == 0.5


class FakeVllm:
    """Stands for `vllm.LLM`: records calls, and knows the form of vLLM's answers."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def generate(self, inputs: Any, settings: Any, use_tqdm: bool) -> list[Any]:
        self.calls.append((inputs, settings))
        return [
            SimpleNamespace(
                outputs=[SimpleNamespace(token_ids=[5, 4], logprobs=[{5: at(-0.1)}, {4: at(-2)}])],
                prompt_logprobs=[None, {8: at(-0.5), 1: at(-3)}, {9: at(-0.25)}],
            )
            for _ in inputs
        ]

    def reset_prefix_cache(self) -> bool:
        self.calls.append("reset")
        return True

    def update_weight_version(self, version: str) -> None:
        self.version = version

    def get_weight_version(self) -> str:
        return self.version


def at(logprob: float) -> Any:
    return SimpleNamespace(logprob=logprob)


def test_the_child_asks_vllm_for_tokens_at_temperature_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, "vllm", SimpleNamespace(SamplingParams=lambda **settings: settings)
    )
    server = vllm_child.EngineServer()
    server.llm = llm = FakeVllm()
    server.commit(3)
    found = server.sample([[1, 2]], [7], [16], [4], [[[7, 8, 9], 2]])
    assert found == {
        "version": 3,
        "samples": [[[5, 4], [-0.1, -2.0]]],
        "checked": [[-0.5, -0.25]],
    }
    reset, (inputs, (drawing, scoring)) = llm.calls
    assert reset == "reset"
    assert inputs == [{"prompt_token_ids": [1, 2]}, {"prompt_token_ids": [7, 8, 9]}]
    assert drawing == {
        "temperature": 1.0, "max_tokens": 16, "seed": 7, "stop_token_ids": [4],
        "ignore_eos": True, "logprobs": 0, "detokenize": False,
    }  # fmt: skip
    assert scoring["prompt_logprobs"] == 0
