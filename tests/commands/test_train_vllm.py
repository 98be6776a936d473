"""RLOO on SmolLM2 with a vLLM engine whose weights follow: mismatch, alarm, kill and resume.

ALIGNLAB_MODELS=FOLDER ALIGNLAB_VLLM_PYTHON=PATH pytest -m heavy tests/commands/test_train_vllm.py
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import alignlab as al
from alignlab.generation.vllm_rollouts import VllmRollouts
from tests.conftest import ROOT

pytestmark = pytest.mark.heavy

STEPS = 10
SETTINGS = {
    "lr": 2e-5, "steps": STEPS, "batch_size": 4, "responses": 2, "max_tokens": 32,
    "max_prompt_tokens": 128, "save_every": 2, "keep_checkpoints": 1, "seed": 1,
    "dtype": "bfloat16", "device": "cpu",
    "engine": "vllm?cache_gib=0.5",
}  # fmt: skip
QUESTIONS = (
    "Name a colour.", "What do bees make?", "How do I boil an egg?", "Write a line about rain.",
    "Who needs sleep?", "What is seven plus five?", "Describe a mountain.", "Say hello politely.",
)  # fmt: skip


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    """A model, prompts and a reward; skips where there is no model or no vLLM."""
    models, python = os.environ.get("ALIGNLAB_MODELS"), os.environ.get("ALIGNLAB_VLLM_PYTHON")
    if not models or not python:
        pytest.skip("needs ALIGNLAB_MODELS and ALIGNLAB_VLLM_PYTHON")
    data, reward = tmp_path / "prompts.jsonl", tmp_path / "reward.py"
    data.write_text("".join(json.dumps({"prompt": q}) + "\n" for q in QUESTIONS))
    reward.write_text(
        "def vowels(response):\n    return float(sum(c in 'aeiou' for c in response))\n"
    )
    return {
        "model": f"{models}/smollm2-135m-instruct",
        "data": str(data),
        "reward": f"python:{reward}:vowels",
    }


def lines_of(out: Path) -> list[dict[str, Any]]:
    (file,) = out.rglob("metrics.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def rollouts_of(out: Path) -> bytes:
    found = list(out.rglob("drawn_rollouts.jsonl"))
    return found[0].read_bytes() if found else b""


def command(given: dict[str, str], out: Path, **settings: Any) -> list[str]:
    chosen = {**SETTINGS, **settings}
    return [
        sys.executable, "-m", "alignlab", "train", "rloo", "--model", given["model"], "--data",
        given["data"], "--reward", given["reward"], "--out", str(out),
        *(f"{key}={value}" for key, value in chosen.items()),
    ]  # fmt: skip


def finish(asked: list[str]) -> str:
    ran = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stderr


def kill_when(asked: list[str], ready: Any) -> None:
    with subprocess.Popen(asked, cwd=ROOT, stderr=subprocess.DEVNULL) as running:
        for _ in range(6000):
            if ready() or running.poll() is not None:
                break
            time.sleep(0.1)
        assert running.poll() is None
        running.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    ("ahead", "more"), [(0, {}), (1, {"lora.r": 8, "lr": 5e-4})], ids=["at once", "ahead, LoRA"]
)
def test_the_engine_follows_through_a_kill(
    given: dict[str, str], tmp_path: Path, ahead: int, more: dict[str, Any]
) -> None:
    out = tmp_path / "run"
    asked = command(given, out, ahead=ahead, **more)
    kill_when(asked, lambda: b'"step": 5,' in rollouts_of(out))
    before = rollouts_of(out)
    printed = finish(asked)

    lines = lines_of(out)
    for line in lines:
        print({k: line.get(f"sampler/{k}") for k in ("mismatch", "mismatch_max", "bound")})
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    for line in lines[: STEPS - ahead]:
        assert line["sampler/mismatch"] <= line["sampler/bound"], line
    assert [line["sampler/staleness"] for line in lines] == [0, *[ahead] * (STEPS - 1)]
    assert "samples from another model" not in printed

    after = rollouts_of(out)
    assert after.startswith(before[: before.rindex(b"\n") + 1].rpartition(b'{"step": 5')[0])
    rollouts = [r for r in map(json.loads, after.splitlines()) if "version" in r]
    places = Counter((r["step"], r["prompt_id"]) for r in rollouts)
    assert len(places) == STEPS * 4
    assert set(places.values()) == {1}
    assert all(len(s["tokens"]) == len(s["logprobs"]) <= 32 for r in rollouts for s in r["samples"])


def test_without_sync_the_alarm_rings(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = VllmRollouts.update

    def once(self: VllmRollouts, version: int, lm: Any) -> None:
        if version:
            self.call("commit", version=version)
        else:
            send(self, version, lm)

    monkeypatch.setattr(VllmRollouts, "update", once)
    al.train("rloo", given["model"], given["data"], reward=given["reward"], out=tmp_path / "run",
             **{**SETTINGS, "steps": 6, "lr": 1e-4})  # fmt: skip
    lines = lines_of(tmp_path / "run")
    print([(line["sampler/mismatch"], line["sampler/bound"]) for line in lines])
    assert [line["sampler/alarm"] for line in lines] == [0, 1, 1, 1, 1, 1]
