"""Write the posts of InstructGPT's TL;DR samples with their reference summaries, once each.

    python benchmarks/tldr_posts.py DATA/instructgpt_samples/tldr_samples.csv.gz tldr.jsonl

The file, CSV or CSV.gz, has a row for each of 12 models' summaries (columns `context`, `ref_text`,
`sample`); a study of summaries needs every post once. Rows without a post or without a summary are
left out and counted; a post with two summaries is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

from checked_files import one_line, refuse_place, write

from alignlab.data.read import Faults, read_table
from alignlab.errors import BadInput, bad_record


def posts(samples: Path) -> tuple[dict[str, str], int]:
    """Return the reference summary of each post, and the number of rows without one of the two.

    Posts end in `TL;DR:`.

    Raises:
        BadInput: the file cannot be read, has other columns, or gives a post two summaries.
    """
    if not samples.is_file():
        raise BadInput(f"{samples}: expected a file, found none")
    found: dict[str, tuple[str, int]] = {}
    blank = 0
    for row in read_table(str(samples), Faults(stop=True)).rows:
        post, summary = row.text("context").strip(), row.text("ref_text").strip()
        if not post or not summary:
            blank += 1
            continue
        known, line = found.setdefault(post, (summary, row.line))
        if known != summary:
            expected = f"the summary of this post at line {line}"
            raise bad_record(samples, row.line, "ref_text", expected, "another")
    return {post: summary for post, (summary, _) in found.items()}, blank


def main() -> None:
    """Write one JSON object a post: prompt, completion."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    with one_line():
        refuse_place(args.out)
        found, blank = posts(args.samples)
        if not found:
            raise BadInput(f"{args.samples}: expected posts with summaries, found none")
        lines = [json.dumps({"prompt": post, "completion": found[post]}) for post in found]
        write(args.out, "\n".join(lines) + "\n")
        print(f"{len(lines)} posts")
        if blank:
            print(f"rows without a post or a summary, left out: {blank}")


if __name__ == "__main__":
    main()
