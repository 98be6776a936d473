"""Write sums with their steps, and value each step of an answer.

    python benchmarks/worked_sums.py worked_sums.jsonl --sums 2000 --terms 4 --most 30 --seed 1

A row is a question and a worked solution in the layout of GSM8K (a step a line, then `#### n`).
`worth` is the judge of sentences for `alternating`, as `python:benchmarks/worked_sums.py:worth`.
It compares numbers: spaces, a final point and words after a total make no difference.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from random import Random

NUMBER = r"-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?"
STEP = re.compile(rf"({NUMBER})\s*\+\s*({NUMBER})\s*=\s*({NUMBER})(?![0-9])[^0-9]*")
TOTAL = "####"
Line = tuple[Fraction, ...] | str
"""Two terms and their sum, a total alone, or another text."""
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


def worth(sentences: list[str], reference: str | None) -> list[float] | None:
    """Return the value of each sentence (a line) of an answer; None without a worked solution.

    1 for a step or the total of the worked solution, the first time; 0 for a repeated line, a false
    sum or a false total; 0.5 for other sums that hold and for other text.
    """
    solution = {read(line) for line in (reference or "").splitlines()}
    if not any(isinstance(line, tuple) and len(line) == 1 for line in solution):
        return None
    seen, values = set[Line](), []
    for sentence in sentences:
        line = read(sentence)
        values.append(WRONG if line in seen else _worth(sentence, line, solution))
        seen.add(line)
    return values


def read(line: str) -> Line:
    """Return the numbers of a step or of a total, or the text of another line."""
    text = " ".join(line.split())
    if text.startswith(TOTAL):
        found = re.findall(NUMBER, text)
        return (_number(found[0]),) if len(found) == 1 else text
    step = STEP.fullmatch(text)
    return tuple(map(_number, step.groups())) if step else text


def _number(text: str) -> Fraction:
    """Return the exact number; `int` refuses texts of more than 4,300 digits."""
    return Fraction(Decimal(text.replace(",", "")))


def _worth(sentence: str, line: Line, solution: set[Line]) -> float:
    if isinstance(line, tuple) and line in solution:
        return RIGHT
    if sentence.lstrip().startswith(TOTAL):
        return WRONG
    if isinstance(line, str):
        return NEUTRAL
    first, second, total = line
    return NEUTRAL if first + second == total else WRONG


def refuse_numbers(sums: int, terms: int, most: int) -> None:
    """Refuse numbers that no rows can be drawn for.

    Raises:
        BadInput: one is too small, or there are fewer different questions than asked for.
    """
    from alignlab.errors import bad_record  # `worth` needs the standard library alone

    for name, found, least in (("--terms", terms, 2), ("--most", most, 1), ("--sums", sums, 1)):
        if found < least:
            raise bad_record(name, None, None, f"{least} or more", found)
    if sums > most**terms:
        expected = f"at most {most**terms} (--most {most}, --terms {terms})"
        raise bad_record("--sums", None, None, expected, sums)


def main() -> None:
    """Write the rows, each question once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sums", type=int, default=2000, help="number of questions")
    parser.add_argument("--terms", type=int, default=4, help="numbers of a sum")
    parser.add_argument("--most", type=int, default=30, help="largest number")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    from checked_files import one_line, refuse_place, write  # `worth` is read without its folder

    with one_line():
        refuse_place(args.out)
        refuse_numbers(args.sums, args.terms, args.most)
        draw, found = Random(args.seed), dict[str, dict[str, str]]()
        while len(found) < args.sums:
            made = row([draw.randint(1, args.most) for _ in range(args.terms)])
            found[made["question"]] = made
        lines = [json.dumps(made) for made in found.values()]
        write(args.out, "\n".join(lines) + "\n")
        print(f"{len(lines)} sums")


if __name__ == "__main__":
    main()
