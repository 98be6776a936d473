"""An interpreter with a stand-in for vLLM, which speaks its protocol and draws from its weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from alignlab.generation import vllm_child

VERSION = "0.0-fake"
_SCRIPT = f"""
import hashlib, importlib.util, json, os, pathlib, sys, time
spec = importlib.util.spec_from_file_location("vllm_child", {vllm_child.__file__!r})
child = importlib.util.module_from_spec(spec)
sys.modules["vllm_child"] = child
spec.loader.exec_module(child)
CALLS = pathlib.Path(__file__).with_name("calls.jsonl")

def note(call, **more):
    with CALLS.open("a") as file:
        file.write(json.dumps({{"call": call, "pid": os.getpid(), **more}}) + "\\n")

def number(*parts):
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")

class Server:
    def open(self, engine, transfer):
        assert transfer == child.MEMORY and engine["skip_tokenizer_init"] is False
        config = json.loads((pathlib.Path(engine["model"]) / "config.json").read_text())
        note("open", engine=engine, gpus=os.environ.get("CUDA_VISIBLE_DEVICES"),
             threads=os.environ.get("OMP_NUM_THREADS"), here=os.environ.get("PYTHONPATH"))
        print("a library prints", flush=True)
        longest = engine["max_model_len"] or config["max_position_embeddings"]
        return {{"vllm": {VERSION!r}, "context": longest}}
    def init_weight_transfer_engine(self, init_info): pass
    def start_weight_update(self): self.weights = None
    def update_weights(self, update_info):
        whole = [hashlib.sha256(pathlib.Path(f).read_bytes()).hexdigest()
                 for f in update_info["files"]]
        self.weights = " ".join(whole)
        note("update", weights=self.weights)
    def finish_weight_update(self): assert self.weights
    def commit(self, version): self.version = version
    def complete(self, prompts, settings, end):
        note("complete", prompts=prompts, settings=settings, end=end)
        die = CALLS.with_name("die")
        if die.exists():
            die.unlink()
            os._exit(9)
        found = []
        for prompt, one in zip(prompts, settings):
            seed = one["seed"] if one["temperature"] else 0
            tokens = [40 + number(prompt, seed, self.weights, k) % 40
                      for k in range(min(one["max_tokens"], 8))]
            cut = one["max_tokens"] <= 8
            found.append([tokens if cut else [*tokens, end[0]], "length" if cut else "stop", -1.5])
        return found
    def sample(self, prompts, seeds, limits, end, checked):
        scores = [[-(number(tokens[:k], self.weights) % 100) / 25
                   for k in range(len(tokens) - last, len(tokens))] for tokens, last in checked]
        return {{"version": self.version, "samples": [], "checked": scores}}

child.main(Server())
"""


def fake_interpreter(folder: Path) -> Path:
    """Write an executable that stands for an interpreter with vLLM."""
    folder.mkdir(parents=True, exist_ok=True)
    script, python = folder / "server.py", folder / "python"
    script.write_text(_SCRIPT)
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *" -c "*) echo {VERSION};; '
        f"*) exec {sys.executable} -I {script};; esac\n"
    )
    python.chmod(0o755)
    return python


def noted(folder: Path, call: str) -> list[dict[str, Any]]:
    """Calls that the stand-ins of an interpreter got."""
    file = folder / "calls.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [one for one in map(json.loads, lines) if one["call"] == call]
