"""Agreement of the verifier with labels given by hand to sampled answers.

    for M in qwen2.5-coder-0.5b-instruct smollm2-135m-instruct; do
        alignlab generate --model MODELS/$M --prompts prompts.jsonl --out $M.jsonl \\
            temperature=0.7 top_p=0.95 max_tokens=256
    done
    python benchmarks/verifier_agreement.py --questions gsm8k/test.jsonl M1.jsonl M2.jsonl ...

`verifier_labels.jsonl` holds, for each answer's hash, whether a reader found its final answer
right, and the number that the reader took for it (null for none). Answers without a label are
counted; with `--unlabelled` they are printed for labelling, without the verifier's verdict.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from alignlab.answers import check
from alignlab.answers.numbers import whole_number
from alignlab.data import load
from alignlab.evaluation.metrics.intervals import wilson

LABELS = Path(__file__).with_name("verifier_labels.jsonl")


def key(question: str, answer: str) -> str:
    """Return the hash that labels are kept under."""
    return hashlib.sha256(json.dumps([question.strip(), answer]).encode()).hexdigest()[:16]


def same(read: str | None, by_hand: str | None) -> bool:
    """Compare the answer that was read with the one a reader took."""
    if read is None or by_hand is None:
        return read is by_hand
    a, b = whole_number(read), whole_number(by_hand)
    return a is not None and b is not None and a.equals(b)


def main() -> None:
    """Print the agreement, with Wilson's interval, and every disagreement's hash."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", nargs="+", type=Path)
    parser.add_argument("--questions", required=True)
    parser.add_argument("--unlabelled", action="store_true")
    given = parser.parse_args()
    asked = load(f"gsm8k:{given.questions}").demonstrations
    references = {one.prompt.text.strip(): one.prompt.reference for one in asked}
    labels = {one["id"]: one for one in map(json.loads, LABELS.read_text().splitlines())}
    counts: Counter[str] = Counter()
    for file in given.answers:
        for line in file.read_text().splitlines():
            counts += one_answer(json.loads(line), references, labels, show=given.unlabelled)
    n = counts["labelled"]
    for what in ("right or wrong", "the answer itself"):
        found = wilson(counts[what], n)
        between = "-" if found.low is None else f"{found.low:.3f} to {found.high:.3f}"
        print(f"agreement on {what}: {counts[what]} of {n} ({between})")
    print(f"right by hand {counts['right']}, cut off {counts['cut off']}, "
          f"without a label {counts['unlabelled']}")  # fmt: skip


def one_answer(
    row: dict[str, Any], references: dict[str, Any], labels: dict[str, Any], *, show: bool
) -> Counter[str]:
    """Compare one answer with its label."""
    question, text = row["prompt"], row["completion"]
    place = key(question, text)
    if place not in labels:
        if show:
            reference = references[question.strip()].rpartition("#### ")[2]
            print(f"{place} reference {reference}, {row['finish']}\n...{text[-400:]}\n")
        return Counter(unlabelled=1)
    label = labels[place]
    found = check(text, references[question.strip()], question, finish=row["finish"])
    agree = {
        "right or wrong": (found.score == 1) == label["right"],
        "the answer itself": same(found.answer, label["answer"]),
    }
    for what, yes in agree.items():
        if not yes:
            print(f"{place}: {what}: by hand {label}, verifier {found.score} {found.answer}")
    return Counter(
        labelled=1,
        right=int(label["right"]),
        **{"cut off": int(row["finish"] == "length")},
        **{what: int(yes) for what, yes in agree.items()},
    )


if __name__ == "__main__":
    main()
