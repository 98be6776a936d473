"""Self-Instruct seed tasks (arXiv 2212.10560): an instruction with one or more instances."""

from __future__ import annotations

from dataclasses import replace

from alignlab.data.build_records import BuildResult, Origin, ResponseDraft, demonstration, user
from alignlab.data.conversations import instruction_of
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row


@row_format("self_instruct", columns=[("instruction", "instances")])
def self_instruct(row: Row, options: Options) -> list[BuildResult]:
    """Instructions with instances of input and output; each instance is a target."""
    instruction = row.text("instruction")
    results = []
    for instance in row.rows("instances"):
        whole = replace(instance, values={**instance.values, "instruction": instruction})
        answer = ResponseDraft(instance.text("output"), model="human")
        results.append(demonstration(user(instruction_of(whole)), answer, Origin("self_instruct")))
    return results
