"""Write sums with their steps, and value each step of an answer.

    python benchmarks/worked_sums.py worked_sums.jsonl --sums 2000 --terms 4 --most 30 --seed 1

A row is a question and a worked solution in the layout of GSM8K (a step a line, then `#### n`).
`worth` is the judge of sentences for `alternating`, as `python:benchmarks/worked_sums.py:worth`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from random import Random

STEP = re.compile(r"(-?\d+) *\+ *(-?\d+) *= *(-?\d+)\.?")
RIGHT, NEUTRAL, WRONG = 1.0, 0.5, 0.0


def row(numbers: Sequence[int]) -> dict[str, str]:
    """Return a question about the sum of numbers with its worked solution."""
    totals = list(accumulate(numbers))
    steps = [
        f"{so_far} + {number} = {total}"
        for so_far, number, total in zip(totals, numbers[1:], totals[1:], strict=False)
    ]
    asked = " + ".join(map(str, numbers))
    return {
        "question": f"Add step by step: {asked} = ?",
        "answer": "\n".join([*steps, f"#### {totals[-1]}"]),
    }


def worth(sentences: list[str], reference: str) -> list[float]:
    """Return the value of each sentence (a line) of an answer.

    1 for a line of the worked solution, the first time; 0 for a repeated line, a false sum or a
    false total; 0.5 for other sums that hold and for other text.
    """
    solution, seen, values = reference.splitlines(), set[str](), []
    for sentence in sentences:
        line = " ".join(sentence.split())
        values.append(WRONG if line in seen else _worth(line, solution))
        seen.add(line)
    return values


def _worth(line: str, solution: Sequence[str]) -> float:
    if line in solution:
        return RIGHT
    if line.startswith("####"):
        return WRONG
    step = STEP.fullmatch(line)
    if step is None:
        return NEUTRAL
    first, second, total = map(int, step.groups())
    return NEUTRAL if first + second == total else WRONG


def main() -> None:
    """Write the rows, each question once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sums", type=int, default=2000, help="number of questions")
    parser.add_argument("--terms", type=int, default=4, help="numbers of a sum")
    parser.add_argument("--most", type=int, default=30, help="largest number")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw, found = Random(args.seed), dict[str, dict[str, str]]()
    while len(found) < args.sums:
        made = row([draw.randint(1, args.most) for _ in range(args.terms)])
        found[made["question"]] = made
    lines = [json.dumps(made) for made in found.values()]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} sums")


if __name__ == "__main__":
    main()
