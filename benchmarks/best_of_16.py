"""Write best-of-16 responses with their scores as lists that a reward model can learn from.

    python benchmarks/best_of_16.py DATA/alpacaeval_tulu2dpo13b_n16.jsonl.gz lists.jsonl

A row of the file has an `instruction`, sixteen `outputs` of one model, and `pref_vs_ref`: a judge's
preference for each output over a reference response, from 1 (the reference) to 2 (the output), or
null. The lists are of the format `alpacaeval_listwise`; outputs without a preference are left out
and counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

from checked_files import one_line, refuse_place, write

from alignlab.data.read import Faults, read_table
from alignlab.errors import BadInput


def lists(samples: Path) -> tuple[list[dict[str, Any]], int]:
    """Return a row per prompt of the format `alpacaeval_listwise`, and the number left out.

    Raises:
        BadInput: the file cannot be read, or a row lacks a field or has not one preference, from
            1 to 2 or null, for each output.
    """
    if not samples.is_file():
        raise BadInput(f"{samples}: expected a file, found none")
    found: list[dict[str, Any]] = []
    unrated = 0
    for number, row in enumerate(read_table(str(samples), Faults(stop=True)).rows):
        prompt, texts = row.text("instruction"), row.texts("outputs")
        scores = row.items("pref_vs_ref")
        if len(scores) != len(texts) or not all(map(_fits, scores)):
            raise row.bad("pref_vs_ref", f"{len(texts)} numbers from 1 to 2, or null")
        responses = [
            {"model": f"sample {i}", "text": text, "score": score}
            for i, (text, score) in enumerate(zip(texts, scores, strict=True))
            if score is not None
        ]
        unrated += len(texts) - len(responses)
        found.append(
            {"instruction_id": number, "split": "train", "prompt": prompt, "responses": responses}
        )
    return found, unrated


def _fits(score: object) -> bool:
    known = isinstance(score, int | float) and not isinstance(score, bool)
    return score is None or (known and 1 <= score <= 2)


def main() -> None:
    """Write one JSON object a prompt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    with one_line():
        refuse_place(args.out)
        rows, unrated = lists(args.samples)
        if not rows:
            raise BadInput(f"{args.samples}: expected prompts with outputs, found none")
        write(args.out, "\n".join(map(json.dumps, rows)) + "\n")
        print(f"{len(rows)} prompts, {sum(len(row['responses']) for row in rows)} responses")
        if unrated:
            print(f"outputs without a preference, left out: {unrated}")


if __name__ == "__main__":
    main()
