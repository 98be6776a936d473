"""Write the posts of InstructGPT's TL;DR samples with their reference summaries, once each.

    python benchmarks/tldr_posts.py DATA/instructgpt_samples/tldr_samples.csv.gz tldr.jsonl

The file has a row for each of 12 models' summaries (columns `context`, `ref_text`, `sample`); a
study of summaries needs every post once.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from pathlib import Path


def posts(samples: Path) -> dict[str, str]:
    """Return the reference summary of each post; posts end in `TL;DR:`."""
    with gzip.open(samples, "rt", encoding="utf-8", newline="") as file:
        return {row["context"].strip(): row["ref_text"].strip() for row in csv.DictReader(file)}


def main() -> None:
    """Write one JSON object a post: prompt, completion."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    lines = [
        json.dumps({"prompt": post, "completion": summary})
        for post, summary in posts(args.samples).items()
    ]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} posts")


if __name__ == "__main__":
    main()
