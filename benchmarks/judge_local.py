"""Speed of expected-score judging by a local model against a plain transformers loop.

    python benchmarks/judge_local.py --model FOLDER --data FILE [--dtype bfloat16] [--prompts 4]

Each of `--prompts` prompts of the data has 4 answers, each judged by the probabilities of the
scores after the additive five-point prompt. The loop makes one forward pass per answer, of the same
tokens, with the logits of all positions, as a forward pass gives. Each side is a process of its
own; they take turns, `--rounds` times after a warm-up, every time with other prompts. Ratios are of
processor seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from sides import alternated

ANSWERS = 4
"""Answers to each prompt."""


@dataclass(frozen=True)
class Work:
    """Work of both sides."""

    model: str
    """Folder of the model."""
    data: str
    dtype: str
    prompts: int
    """Prompts of a turn."""
    turns: int


def row(work: Work, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of the table."""
    pairs = list(zip(ours, theirs, strict=True))
    ratios = [b["cpu"] / a["cpu"] for a, b in pairs]
    apart = [
        abs(x - y) for a, b in pairs for x, y in zip(a["expected"], b["expected"], strict=True)
    ]
    answers = len(ours[0]["expected"])
    return {
        "model": Path(work.model).name,
        "dtype": work.dtype,
        "answers a turn": answers,
        "tokens an answer": round(statistics.mean(a["tokens"] for a in ours) / answers),
        "ours, CPU s an answer": round(statistics.median(a["cpu"] for a in ours) / answers, 3),
        "theirs": round(statistics.median(b["cpu"] for b in theirs) / answers, 3),
        "ratio": round(statistics.median(ratios), 2),
        "range": f"{min(ratios):.2f}-{max(ratios):.2f}",
        "score difference": round(max(apart), 4),
        "peak MB, ours / theirs": " / ".join(
            f"{statistics.median(t['peak_mb'] for t in side):.0f}" for side in (ours, theirs)
        ),
        "rounds": len(ratios),
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of a model with a chat template")
    parser.add_argument("--data", required=True, help="data with 4 answers or more to a prompt")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    work = Work(given.model, given.data, given.dtype, given.prompts, given.rounds + 1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "work.json"
        file.write_text(json.dumps(asdict(work)))
        names = ("alignlab", "transformers")
        found = alternated("judge_local_side.py", names, file, work.turns, title=given.model)
    ours, theirs = (found[name][1:] for name in names)
    for name, value in row(work, ours, theirs).items():
        print(f"{name:24} {value}")


if __name__ == "__main__":
    main()
