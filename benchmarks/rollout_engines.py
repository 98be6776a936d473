"""Time per step of rollout training by sampler: local, vLLM, and vLLM one step ahead.

    ALIGNLAB_VLLM_PYTHON=PATH python benchmarks/rollout_engines.py MODEL [--steps 6] [--prompts 4]
        [--responses 4] [--max-tokens 64] [--dtype bfloat16] [--threads 1]

RLOO on a real model with a reward that costs nothing (the share of vowels). The first step of each
run warms up and is left out; the seconds of the others are medians. Sampling, update of the
engine's weights and learning are apart; "waiting" is what sampling one step ahead adds to a step.
vLLM's start is not counted. The samplers' own draws differ, so that tokens per step differ too.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

WORDS = ("rain", "bread", "a cat", "the sea", "winter", "a train", "music", "an egg")
SAMPLERS = {
    "local": {},
    "vLLM": {"engine": "vllm"},
    "vLLM, one step ahead": {"engine": "vllm", "ahead": 1},
}
PARTS = ("sampling", "syncing", "waiting", "rewarding", "learning")


def vowels(response: str) -> float:
    """Return the share of vowels, a reward that costs nothing."""
    return sum(c in "aeiou" for c in response) / max(1, len(response))


def timed(asked: argparse.Namespace, out: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Train a few steps; return medians over steps of seconds, tokens and mismatch."""
    import alignlab as al

    count = asked.prompts * 4
    prompts = [f"Write about {WORDS[i % len(WORDS)]}, version {i}." for i in range(count)]
    data = out / "prompts.jsonl"
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in prompts), encoding="utf-8")
    al.train(
        "rloo", asked.model, str(data), reward=vowels, out=out / "run", lr=1e-6, steps=asked.steps,
        batch_size=asked.prompts, responses=asked.responses, max_tokens=asked.max_tokens,
        max_prompt_tokens=128, dtype=asked.dtype, save_every=0, save_dtype="bfloat16", seed=1,
        threads=asked.threads,
        **settings,
    )  # fmt: skip
    (file,) = (out / "run").rglob("metrics.jsonl")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()][1:]

    def median(name: str) -> float:
        return statistics.median(line.get(name, 0.0) for line in lines)

    found = {part: median(f"time/{part}") for part in PARTS}
    found["sampling"] -= found["syncing"]  # which is part of it
    found["step"] = median("time/seconds_per_step")
    length = "completions/mean_length"
    shutil.rmtree(out)  # models fill a disk
    found["tokens"] = asked.prompts * asked.responses * median(length)
    found["mismatch"] = median("sampler/mismatch")
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    for name, value in (("steps", 6), ("prompts", 4), ("responses", 4), ("max-tokens", 64),
                        ("threads", 1)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--samplers", nargs="*", default=list(SAMPLERS), choices=SAMPLERS)
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(asked.threads))
    columns = ("step", *PARTS, "tokens", "mismatch")
    table = Table("sampler", *columns, title=f"Seconds per step, {Path(asked.model).name}")
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.samplers:
            found = timed(asked, Path(folder) / name.replace(" ", ""), SAMPLERS[name])
            table.add_row(name, *(f"{found[column]:.3g}" for column in columns))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
