"""Peak memory of trainings of real models against what `alignlab check` predicts.

    python benchmarks/memory.py --pairs DATA FOLDER ... [--lora FOLDER ...] [key=value ...] [--json]

DATA is a data spec of preference pairs with a limit, such as "ultrafeedback:FILE?limit=96"; of each
FOLDER all weights are trained, of each FOLDER after --lora an adapter of rank 8. One process, one
thread; `key=value` are settings of every training. The peak is that of the training's process, as
the system counts it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from alignlab.commands._support.outcome import UNIT

SETTINGS = (
    "token_budget=2048",
    "lengths.max_prompt_tokens=320",
    "lengths.max_response_tokens=320",
    "batch_size=8",
    "save_every=0",
    "threads=1",
)


def predicted(words: list[str]) -> dict[str, Any]:
    """Return the memory that `alignlab check` predicts for a training."""
    command = [sys.executable, "-m", "alignlab", "check", *words, "--sample", "48", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    memory: dict[str, Any] = json.loads(done.stdout)["memory"]
    return memory


def measured(words: list[str], out: str) -> float:
    """Return the peak memory of a training in GB."""
    command = [sys.executable, "-m", "alignlab", "train", *words, "--out", out, "--quiet"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return usage.ru_maxrss * UNIT / 1e9


def row(folder: str, pairs: str, given: list[str], *, lora: bool) -> dict[str, Any]:
    """Train a model for a few steps; return its predicted and its measured peak."""
    chosen = [*SETTINGS, *(["lora.r=8", "lr=1e-4"] if lora else []), *given]
    words = ["dpo", "--model", folder, "--data", pairs, *chosen]
    plan = predicted(words)
    with tempfile.TemporaryDirectory() as out:
        peak = measured(words, f"{out}/run")
    return {
        "model": Path(folder).name,
        "trained": "LoRA of rank 8" if lora else "all weights",
        "predicted": round(plan["gigabytes"], 2),
        "measured": round(peak, 2),
        "error": round(plan["gigabytes"] / peak - 1, 3),
    }


def main() -> None:
    """Print a table with one row per model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="*")
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--lora", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    given = [word for word in asked.words if "=" in word]
    jobs = [(word, False) for word in asked.words if "=" not in word]
    rows = [
        row(folder, asked.pairs, given, lora=lora)
        for folder, lora in [*jobs, *((folder, True) for folder in asked.lora)]
    ]
    if asked.json:
        print(json.dumps({"rows": rows}, indent=1))
        return
    print("| model | trained | predicted, GB | measured, GB | error |\n|---|---|---|---|---|")
    for one in rows:
        figures = f"{one['predicted']:.2f} | {one['measured']:.2f} | {one['error']:+.0%}"
        print(f"| {one['model']} | {one['trained']} | {figures} |")


if __name__ == "__main__":
    main()
