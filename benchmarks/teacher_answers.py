"""Check a teacher's own answers, which a run imitated or preferred, against the references.

    python benchmarks/teacher_answers.py runs/feedback_real

prints the share of right answers of every teacher over all seeds and branches, each answer once
(`stages/**/*-demonstrate`), as the verifier reads them.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

from checked_files import one_line

from alignlab.answers import check
from alignlab.errors import BadInput
from alignlab.records import read_records
from alignlab.types import Prompt, Response


def right_answers(run: Path) -> dict[str, list[bool]]:
    """Return each teacher's answers, right or not, by prompt of the run.

    Raises:
        BadInput: the run keeps none, as folders of `docs/runs`.
    """
    stages = run / "stages"
    prompts = {
        p.id: p for file in stages.rglob("prompts.jsonl") for p in read_records(file, Prompt)
    }
    responses = {
        r.id: r
        for file in stages.glob("**/*-demonstrate/responses.jsonl")
        for r in read_records(file, Response)
        if r.prompt_id in prompts
    }
    found: dict[str, list[bool]] = defaultdict(list)
    for response in responses.values():
        asked = prompts[response.prompt_id]
        checked = check(response.text, asked.reference, asked.text, finish=response.finish)
        found[response.sampler.model].append(checked.score == 1)
    if not found:
        raise BadInput(f"{run}: expected a run with answers of a teacher, found none")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    with one_line():
        for teacher, right in sorted(right_answers(parser.parse_args().run).items()):
            print(f"{teacher}: {sum(right)} of {len(right)} right ({sum(right) / len(right):.3f})")
