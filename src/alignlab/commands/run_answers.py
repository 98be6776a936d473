"""The responses that a run kept, for people to rate."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from alignlab.commands.material import Answered
from alignlab.errors import BadInput
from alignlab.integrity import refuse_damage
from alignlab.records import whole_records
from alignlab.types import Count, Example, PreferenceGroup, Prompt, Response

HELD_OUT = "answer-"
"""What the stages in which models answer held-out prompts are called."""
LATER_TURN = re.compile(r"answer-[^/]*-turn-\d+$")
"""Stages in which models answer a conversation's later turns; no prompt asks for these alone."""


def is_run(path: Path) -> bool:
    """Whether a folder is a run directory."""
    return (path / "manifest.json").is_file()


def answers_of_run(run: Path, stages: str = "") -> Answered:
    """Every response of some stages of a run, each text to a prompt once; first turns alone.

    Args:
        stages: a part of their names; left out, the stages that answer held-out prompts, or all
            where there is none of these.

    Raises:
        BadInput: a damaged run, a record that cannot be read, or no response to a prompt that the
            run holds.
    """
    refuse_damage(run)
    files = [
        file
        for file in sorted((run / "stages").rglob("responses.jsonl"))
        if not LATER_TURN.search(_stage(run, file))
    ]
    wanted = [file for file in files if (stages or HELD_OUT) in _stage(run, file)]
    if stages and not wanted:
        known = ", ".join(_stage(run, file) for file in files) or "none with responses"
        raise BadInput(f"{run}: expected stages named {stages!r}, found {known}")
    prompts: dict[str, Prompt] = {}
    contradicted = set()
    for prompt in _prompts(run):
        if prompts.setdefault(prompt.id, prompt).messages != prompt.messages:
            contradicted.add(prompt.id)
    found = [r for file in wanted or files for r in whole_records(file, Response)]
    dropped: Counter[str] = Counter()
    kept: dict[tuple[str, str], Response] = {}
    for response in found:
        if response.prompt_id not in prompts:
            dropped["prompt not kept in the run"] += 1
            continue
        if response.prompt_id in contradicted:
            dropped["prompt id of two texts"] += 1
            continue
        first = kept.setdefault((response.prompt_id, response.text), response)
        if first is not response:
            same = first.sampler.model == response.sampler.model
            dropped["repeated response" if same else "another model's text as well"] += 1
    if not kept:
        why = ", ".join(f"{reason} {n}" for reason, n in dropped.items()) or "no responses"
        raise BadInput(f"{run}: expected responses of a run, found none ({why})")
    asked = dict.fromkeys(response.prompt_id for response in kept.values())
    tally = Count("data", "responses", len(kept), dict(dropped))
    return Answered([prompts[prompt_id] for prompt_id in asked], list(kept.values()), tally)


def _prompts(run: Path) -> Iterator[Prompt]:
    """Every prompt that a stage wrote down, by itself or in another record."""
    for name in ("prompts.jsonl", "test_prompts.jsonl"):
        for file in sorted((run / "stages").rglob(name)):
            yield from whole_records(file, Prompt)
    for name in ("groups.jsonl", "test_groups.jsonl"):
        for file in sorted((run / "stages").rglob(name)):
            yield from (group.prompt for group in whole_records(file, PreferenceGroup))
    for file in sorted((run / "stages").rglob("examples.jsonl")):
        yield from (example.prompt for example in whole_records(file, Example))


def _stage(run: Path, file: Path) -> str:
    return "/".join(file.parent.relative_to(run / "stages").parts)
