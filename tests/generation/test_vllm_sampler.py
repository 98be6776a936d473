"""A vLLM process that samples from one model after another; the process is a stand-in."""

from __future__ import annotations

import math
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignlab import engine_pool
from alignlab.commands.run import _identity
from alignlab.context import Hardware
from alignlab.engine_pool import EnginePool, PooledModel, engine_of, forget_model, stop_engines
from alignlab.errors import BadInput, EngineLost, RunFailed
from alignlab.generation import vllm_process
from alignlab.generation.local import LocalEngine
from alignlab.generation.vllm_sampler import (
    VllmSampler,
    VllmSamplerOptions,
    check_devices,
    lasting_engine,
    read_study_engine,
    weight_files,
)
from alignlab.models.adapters import LoraConfig, attach
from alignlab.models.load import load, save, save_adapter
from alignlab.recipes.study_settings import StudyConfig
from alignlab.training.conditioning import RewardBins
from tests.generation.fake_vllm import VERSION, fake_interpreter, noted
from tests.generation.tiny import ask, saved_llama
from tests.models.helpers import tiny_lm


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = fake_interpreter(tmp_path / "fake")
    monkeypatch.setenv(vllm_process.INTERPRETER, str(found))
    return found


@pytest.fixture
def sampler(python: Path, tmp_path: Path) -> Iterator[VllmSampler]:
    made = VllmSampler(VllmSamplerOptions(), device="cpu", threads=3, log=tmp_path / "logs/log")
    yield made
    made.close()


def folder_of(path: Path, scale: float = 2.0, name: str = "llama") -> str:
    return str(save(tiny_lm(name, scale=scale), path))


def take(sampler: VllmSampler, path: str, name: str = "M0", dtype: str = "float32") -> None:
    sampler.take(path, name=name, dtype=dtype, chat_template=None)


def text(sampler: VllmSampler) -> str:
    ((one,),) = sampler.complete([ask("a", "Hi", temperature=0, max_tokens=6)])
    return one.text


def test_a_model_of_the_same_shape_replaces_the_weights(
    sampler: VllmSampler, tmp_path: Path
) -> None:
    fake, first = tmp_path / "fake", folder_of(tmp_path / "m0")
    second = folder_of(tmp_path / "m1", scale=1.0)
    take(sampler, first)
    texts = [text(sampler)]
    take(sampler, first)
    assert len(noted(fake, "update")) == 1  # the weights are in place
    take(sampler, second, "M1")
    texts.append(text(sampler))
    take(sampler, first)
    assert texts[0] == text(sampler) != texts[1]
    assert sampler.name == "M0"
    (opened,) = noted(fake, "open")
    assert len(noted(fake, "update")) == 3
    assert opened["threads"] == "3"
    assert opened["gpus"] == ""  # a vLLM for GPUs takes none
    assert opened["here"] is None
    assert opened["engine"]["tensor_parallel_size"] == 1
    assert "a library prints" in (tmp_path / "logs/log").read_text()


def test_another_shape_or_type_starts_vllm_again(sampler: VllmSampler, tmp_path: Path) -> None:
    fake, first = tmp_path / "fake", folder_of(tmp_path / "m0")
    take(sampler, first)
    take(sampler, folder_of(tmp_path / "wide", name="qwen2"))
    take(sampler, first)
    take(sampler, first, dtype="bfloat16")
    opened = noted(fake, "open")
    assert len({one["pid"] for one in opened}) == len(opened) == 4
    assert opened[-1]["engine"]["dtype"] == "bfloat16"


def test_samples_have_seeds_of_their_own_and_stop_as_the_local_engine(
    sampler: VllmSampler, tmp_path: Path
) -> None:
    take(sampler, folder_of(tmp_path / "m0"))
    some = [ask("a", "Hi", n=3, seed=4, prefix="a: ", stop=("x",)), ask("b", "abc " * 300, n=2)]
    near, far = sampler.complete(some)
    (call,) = noted(tmp_path / "fake", "complete")
    assert [c.finish for c in far] == ["error", "error"]
    assert len({one["seed"] for one in call["settings"]}) == 3
    assert call["settings"][0]["stop"] == ["x"]
    assert near[0].logprob == -1.5
    assert near[0].prompt_tokens == len(call["prompts"][0])
    # Neither the chunk nor the number of samples changes a text.
    (again,) = sampler.complete([ask("a", "Hi", n=2, seed=4, prefix="a: ", stop=("x",))])
    assert again == near[:2]
    assert sampler.complete([]) == []
    scored, none = sampler.choice_logprobs([ask("c", "Hi"), ask("d", "abc " * 300)], ["a", "bc"])
    assert all(logprob <= 0 for logprob in scored)
    assert all(math.isnan(logprob) for logprob in none)


def test_an_adapter_is_merged(sampler: VllmSampler, tmp_path: Path) -> None:
    base = folder_of(tmp_path / "m0")
    lm = attach(load(base, dtype="float32", device="cpu"), LoraConfig(r=2), seed=1)
    with torch.no_grad():
        for name, weight in lm.model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    adapter = str(tmp_path / "adapter")
    save_adapter(lm, Path(adapter))
    take(sampler, base)
    take(sampler, adapter, "M1")
    (opened,) = noted(tmp_path / "fake", "open")
    first, second = noted(tmp_path / "fake", "update")
    assert first["weights"] != second["weights"]
    assert opened["engine"]["model"] == base


def test_a_killed_process_is_one_line_and_then_another_one(
    sampler: VllmSampler, tmp_path: Path
) -> None:
    model = folder_of(tmp_path / "m0")
    take(sampler, model)
    (tmp_path / "fake/die").touch()
    with pytest.raises(EngineLost, match=r"^engine vllm: it has ended \(its log: .*log\)$"):
        text(sampler)
    take(sampler, model)
    assert text(sampler)
    assert len(noted(tmp_path / "fake", "open")) == 2
    pid = noted(tmp_path / "fake", "open")[-1]["pid"]
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RunFailed, match="it has ended"):
        text(sampler)


def test_a_pool_samples_with_its_processes(python: Path, tmp_path: Path) -> None:
    fake, first = tmp_path / "fake", folder_of(tmp_path / "m0")
    options = VllmSamplerOptions()
    model = PooledModel(
        "M0", first, "float32", None, "cpu", 1, 1, vllm=options, logs=str(tmp_path / "logs")
    )
    try:
        alone = engine_of(model, "cpu").complete([ask("a", "Hi", n=2), ask("b", "abc")])
        forget_model()
        pool = EnginePool(model)
        assert pool.complete([ask("a", "Hi", n=2), ask("b", "abc")]) == alone
        second = replace(model, name="M1", path=folder_of(tmp_path / "m1", scale=1.0))
        assert EnginePool(second).complete([ask("b", "abc")])[0] != alone[1]
        assert len(pool.choice_logprobs([ask("c", "Hi")], ["a", "b"])[0]) == 2
        assert len(noted(fake, "open")) == 2  # one here, and one of the pool for both models
        assert list((tmp_path / "logs").glob("vllm.*.log"))
        (tmp_path / "fake/die").touch()
        with pytest.raises(RunFailed, match="engine vllm: it has ended"):
            pool.complete([ask("b", "abc")])
        assert pool.complete([ask("b", "abc")])[0] == alone[1]
        pid = noted(fake, "open")[-1]["pid"]
        stop_engines()
        assert not Path(f"/proc/{pid}").exists()
        # vLLM ends with a process that is killed.
        assert pool.complete([ask("b", "abc")])[0] == alone[1]
        pid = noted(fake, "open")[-1]["pid"]
        engine_pool.kill_engines()
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not Path(f"/proc/{pid}").exists()
    finally:
        forget_model()
        stop_engines()


def test_a_conditioned_model_is_asked_for_its_best_bin(python: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m0")
    RewardBins((0.5,)).save(folder)
    model = PooledModel("M0", folder, "float32", None, "cpu", 1, 1, vllm=VllmSamplerOptions(),
                        logs=str(tmp_path / "logs"))  # fmt: skip
    try:
        engine_of(model, "cpu").complete([ask("a", "Hi")])
        engine_of(replace(model, conditioned=False), "cpu").complete([ask("a", "Hi")])
    finally:
        forget_model()
    wrapped, plain = [c["prompts"][0] for c in noted(tmp_path / "fake", "complete")]
    assert len(wrapped) > len(plain)


def test_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def seen(device: str) -> str | None:
        made = VllmSampler(VllmSamplerOptions(gpus=2), device=device, threads=1, log=tmp_path)
        return made._environment().get("CUDA_VISIBLE_DEVICES")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [seen(f"cuda:{k}") for k in (0, 1)] == ["0,1", "2,3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert [seen(f"cuda:{k}") for k in (0, 1)] == ["4,5", "6,7"]
    assert seen("cuda") is None  # those that Ray has given to this process


def test_weights_of_several_files(tmp_path: Path) -> None:
    lm = tiny_lm()
    lm.model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(weight_files(tmp_path)) > 1
    assert all(file.is_file() for file in weight_files(tmp_path))


def test_settings(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_study_engine("local") is None
    assert read_study_engine("vllm?gpus=2&cache_gib=0.5") == VllmSamplerOptions(
        gpus=2, cache_gib=0.5
    )
    for wrong, line in {
        "sglang": "setting hardware.engine: expected local or vllm, found 'sglang'",
        "local?gpus=2": "hardware.engine: expected no options of the local engine, found 'gpus=2'",
        "vllm?memroy=2": "setting hardware.engine: .*memroy",
        "vllm?gpus=0": "setting hardware.engine: .*gpus",
        "vllm?transfer=nccl": "setting hardware.engine: .*transfer",
        "vllm?python=/nowhere/python": "found no /nowhere/python",
        f"vllm?python={sys.executable}": "expected an interpreter with vLLM, found none in",
    }.items():
        with pytest.raises(BadInput, match=line):
            Hardware(engine=wrong, device="cpu")
    with pytest.raises(BadInput, match="gpus=2 has no effect on CPUs"):
        Hardware(engine="vllm?gpus=2", device="cpu")
    with pytest.raises(BadInput, match="gpu_memory has no effect on CPUs"):
        check_devices(VllmSamplerOptions(gpu_memory=0.5), "cpu")
    assert Hardware(engine="vllm", device="cpu").pools
    monkeypatch.delenv(vllm_process.INTERPRETER)
    monkeypatch.setattr(vllm_process, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"expected the package vllm, found none .*; set ALIGNLAB_V"):
        Hardware(engine="vllm")
    assert vllm_process.vllm_version(str(python)) == VERSION
    assert python.stat().st_mode & stat.S_IXUSR


def test_more_engines_than_gpus_are_refused(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hardware, "kind", "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert Hardware(engine="vllm?gpus=2", engines=2).vllm
    for wrong in ({"engines": 3}, {"engines": 1, "engine": "vllm?gpus=8"}):
        with pytest.raises(BadInput, match=r"hardware\.engines: expected at most 4, .* GPUs each"):
            Hardware(**{"engine": "vllm?gpus=2", **wrong})


def test_runs_by_the_local_engine_keep_their_identity(python: Path) -> None:
    assert "engine" not in _identity(StudyConfig())["hardware"]
    by_vllm = StudyConfig(hardware=Hardware(engine="vllm?cache_gib=2&context=512"))
    assert _identity(by_vllm)["hardware"]["engine"] == "vllm?context=512"
    assert lasting_engine("vllm?batch_size=3") == "vllm"  # rounding, and no more


@pytest.mark.heavy
def test_equals_the_local_engine(tmp_path: Path) -> None:
    """In a vLLM process, named by ALIGNLAB_VLLM_PYTHON (a minute to start), for two models."""
    if not os.environ.get(vllm_process.INTERPRETER):
        pytest.skip(f"no interpreter with vLLM (set {vllm_process.INTERPRETER})")
    options = VllmSamplerOptions(cache_gib=0.2, batch_size=16)
    sampler = VllmSampler(options, device="cpu", threads=1, log=tmp_path / "log")
    requests = [
        ask("a", "Hi", temperature=0, max_tokens=12),
        ask("b", "The mat", temperature=0, max_tokens=12, prefix="The "),
        ask("c", "cat " * 300),
    ]
    sampled = ask("s", "Hi", temperature=1.0, max_tokens=12, n=3, seed=4)
    pids = set()
    try:
        for seed in (3, 4):
            folder = str(saved_llama(tmp_path / f"m{seed}", seed))
            take(sampler, folder)
            assert sampler._process is not None
            pids.add(sampler._process._process.pid)
            local = LocalEngine(load(folder, dtype="float32", device="cpu"))
            found, expected = sampler.complete(requests), local.complete(requests)
            for (got,), (want,) in zip(found[:2], expected, strict=False):
                same = replace(got, logprob=want.logprob)
                assert same == want
                assert got.logprob == pytest.approx(want.logprob, abs=1e-2)
            assert found[2][0].finish == expected[2][0].finish == "error"
            (several,) = sampler.complete([sampled])
            stopped = several[0].text[4]
            two, _ = sampler.complete([replace(sampled, sampling=replace(sampled.sampling, n=2)),
                                       requests[0]])  # fmt: skip
            assert two == several[:2]
            cut = replace(sampled, sampling=replace(sampled.sampling, stop=(stopped,)))
            (short,) = sampler.complete([cut])
            assert short[0].text == several[0].text.partition(stopped)[0]
            assert short[0].tokens < several[0].tokens
            scored = [ask("c", "Hi", prefix="Score: ")]
            choices = ("1", "5", "10", "the cat")
            (near,) = sampler.choice_logprobs(scored, choices)
            assert near == pytest.approx(local.choice_logprobs(scored, choices)[0], abs=1e-2)
    finally:
        sampler.close()
    assert len(pids) == 1  # the second model's weights took the place of the first one's
