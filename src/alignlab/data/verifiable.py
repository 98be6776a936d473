"""Layouts of prompts with checkable answers: GSM8K and IFEval.

GSM8K (arXiv 2110.14168): `question` and `answer`, a worked solution that ends in `#### n`. The
whole solution is the reference, and the demonstration to imitate; the verifier reads its last line.
IFEval (arXiv 2311.07911) and IFBench: `prompt`, `instruction_id_list` and `kwargs`; the reference
is these instructions in JSON.
"""

from __future__ import annotations

import json
import re

from alignlab.data.build_records import (
    BuildResult,
    Origin,
    ResponseDraft,
    demonstration,
    prompt,
    user,
    with_changes,
)
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row

ANNOTATED = "calculator annotations <<...>> left out"
_FINAL = re.compile(r"^#### *\S", re.MULTILINE)
_CALCULATION = re.compile(r"<<[^<>\n]*>>")


def _is_worked(row: Row) -> bool:
    return isinstance(answer := row.peek("answer"), str) and bool(_FINAL.search(answer))


@row_format("gsm8k", columns=[("question", "answer")], looks=_is_worked)
def gsm8k(row: Row, options: Options) -> list[BuildResult]:
    """Questions with a worked solution that ends in `#### n`: the reference and target."""
    answer = row.text("answer")
    if not _FINAL.search(answer):
        raise row.bad("answer", "a solution that ends in a line '#### answer'")
    # <<3+4=7>> calls a calculator while the paper's models generate; others would print it.
    solution = _CALCULATION.sub("", answer)
    origin = Origin("gsm8k", solution, "closed")
    made = demonstration(user(row.text("question")), ResponseDraft(solution), origin)
    return [with_changes(made, ANNOTATED) if solution != answer else made]


@row_format("ifeval", columns=[("prompt", "instruction_id_list", "kwargs")])
def ifeval(row: Row, options: Options) -> list[BuildResult]:
    """Prompts with instructions that a program can check (IFEval, IFBench)."""
    names, arguments = row.texts("instruction_id_list"), row.items("kwargs")
    if not names:
        raise row.bad("instruction_id_list", "a list of instructions")
    if len(arguments) != len(names):
        raise row.bad("kwargs", f"a list of {len(names)} objects, as instructions")
    if not all(given is None or isinstance(given, dict) for given in arguments):
        raise row.bad("kwargs", "a list of objects")
    kept = [
        {k: v for k, v in (given or {}).items() if v is not None and v == v}  # NaN, as of pandas
        for given in arguments
    ]
    row.get("key")
    reference = json.dumps({"instruction_id_list": names, "kwargs": kept})
    return [prompt(user(row.text("prompt")), Origin("ifeval", reference))]
