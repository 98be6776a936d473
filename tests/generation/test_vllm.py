"""The vLLM engine: refused where vLLM is absent, equal to the local engine where it is at hand."""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alignlab.errors import BadInput
from alignlab.generation import vllm
from alignlab.generation.engines import completer
from alignlab.generation.local import LocalEngine
from alignlab.generation.vllm import VllmEngine
from alignlab.models.load import load
from alignlab.protocols import ChoiceScorer, Completer
from alignlab.recording import Recorder
from tests.conftest import ROOT
from tests.generation.tiny import ask, saved_llama, tokenizer

CHOICES = ["1", "5", "10", "the cat"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved_llama(tmp_path / "model", 3)


def test_refused_with_a_hint_where_vllm_is_absent(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install 'alignlab\[vllm\]'"):
        completer(f"vllm:{folder}")


def test_told_before_a_study_starts_without_starting_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vllm, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="expected the package vllm"):
        Recorder().completer(f"vllm:{folder}")
    monkeypatch.setattr(vllm, "find_spec", lambda name: True)
    monkeypatch.setattr(vllm, "_start", lambda folder, options: pytest.fail("started"))
    assert isinstance(Recorder().completer(f"vllm:{folder}"), ChoiceScorer)


def test_started_once_per_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "find_spec", lambda name: True)
    monkeypatch.setattr(vllm, "_start", lambda folder, options: _FakeLLM())
    one, again = completer(f"vllm:{folder}"), completer(f"vllm:{folder}")
    assert one is again
    assert completer(f"vllm:{folder}?context=32") is not one


class _FakeLLM:
    """Stands for vLLM's engine: says what it was asked, one letter per request."""

    def __init__(self) -> None:
        tok = tokenizer()
        self.end = tok.eos_token_id
        self.words = tok.convert_tokens_to_ids(["a", "b", "c"])
        self.asked: list[tuple[list[int], dict[str, Any]]] = []
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=64))

    def generate(self, prompts: list[Any], settings: list[Any], use_tqdm: bool) -> list[Any]:
        found = []
        for prompt, params in zip(prompts, settings, strict=True):
            ids = prompt["prompt_token_ids"]
            self.asked.append((ids, params))
            drawn = SimpleNamespace(
                token_ids=[self.words[len(self.asked) % 3], self.end], finish_reason="stop",
                cumulative_logprob=-0.5,
            )  # fmt: skip
            told = [{t: SimpleNamespace(logprob=-0.25)} for t in ids]
            found.append(
                SimpleNamespace(outputs=[drawn], prompt_token_ids=ids, prompt_logprobs=told)
            )
        return found


@pytest.fixture
def engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> VllmEngine:
    fake = _FakeLLM()
    monkeypatch.setattr(vllm, "find_spec", lambda name: True)
    monkeypatch.setattr(vllm, "_start", lambda folder, options: fake)
    monkeypatch.setattr(VllmEngine, "_params", lambda self, **settings: settings)
    return VllmEngine(folder)


def test_every_sample_is_a_request_with_a_seed_of_its_own(engine: VllmEngine) -> None:
    assert isinstance(engine, Completer)
    assert isinstance(engine, ChoiceScorer)
    short, far = engine.complete(
        [ask("a", "Hi", n=3, prefix="Score: ", stop=("x",)), ask("b", "cat " * 300, n=2)]
    )
    asked = engine._engine.asked
    assert [c.text for c in short] == ["b", "c", "a"]
    assert {(c.finish, c.tokens, c.logprob) for c in short} == {("stop", 2, -0.5)}
    assert short[0].prompt_tokens == len(asked[0][0])
    assert [c.finish for c in far] == ["error", "error"]
    assert "64" in far[0].error
    settings = [params for _, params in asked]
    assert len({s["seed"] for s in settings}) == 3
    assert settings[0]["stop"] == ["x"]
    assert settings[0]["max_tokens"] == 64 - len(asked[0][0])
    engine.complete([ask("a", "Hi", n=1, prefix="Score: ")])
    assert asked[-1][1]["seed"] == settings[0]["seed"]


def test_choices_are_summed_over_their_own_tokens(engine: VllmEngine) -> None:
    near, far = engine.choice_logprobs(
        [ask("a", "Hi", prefix="Score: "), ask("b", "cat " * 300)], CHOICES
    )
    lengths = [len(ids) for ids, _ in engine._engine.asked]
    shared = min(lengths) - 1
    assert near[1] == pytest.approx(-0.25)
    assert sorted(round(-x / 0.25) for x in near[1:]) == sorted(n - shared for n in lengths)[1:]
    assert all(math.isnan(x) for x in far)
    assert all(params["prompt_logprobs"] == 0 for _, params in engine._engine.asked)


@pytest.mark.heavy
def test_equals_the_local_engine(folder: Path) -> None:
    """In an interpreter with vLLM, named by ALIGNLAB_VLLM_PYTHON (half a minute to start)."""
    python = os.environ.get("ALIGNLAB_VLLM_PYTHON")
    if not python:
        pytest.skip("no interpreter with vLLM (set ALIGNLAB_VLLM_PYTHON)")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    ran = subprocess.run(
        [python, "-m", "tests.generation.vllm_side", str(folder)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout)  # vLLM itself prints nothing there

    local = LocalEngine(load(folder, dtype="float32", device="cpu"))
    requests = [ask(t, t, temperature=0, max_tokens=12) for t in ("Hi", "The mat")]
    assert found["name"] == f"vllm:model@{local.lm.fingerprint[:8]}"
    for got, (want,) in zip(found["greedy"], local.complete(requests), strict=False):
        assert (got[0]["text"], got[0]["tokens"], got[0]["finish"], got[0]["prompt_tokens"]) == (
            want.text, want.tokens, want.finish, want.prompt_tokens
        )  # fmt: skip
        assert got[0]["logprob"] == pytest.approx(want.logprob, abs=1e-2)
    assert found["greedy"][2][0]["finish"] == "error"
    assert found["sampled"][:2] == found["alone"]
    assert len(set(found["sampled"] + found["other"])) == 5
    assert len(found["crowd"]) == 40
    assert set(found["crowd"]) <= {"stop", "length"}
    (scored,) = local.choice_logprobs([ask("c", "Hi", prefix="Score: ")], CHOICES)
    assert found["choices"][0] == pytest.approx(scored, abs=1e-2)
    assert all(math.isnan(x) for x in found["choices"][1])
