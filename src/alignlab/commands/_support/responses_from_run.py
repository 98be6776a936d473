"""Read the responses stored in a run, for people to rate."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from alignlab.commands._support.prompts_and_responses import ReadResponses
from alignlab.errors import BadInput
from alignlab.integrity import refuse_damage
from alignlab.records import whole_records
from alignlab.types import Count, Example, PreferenceGroup, Prompt, Response

HELD_OUT = "answer-"
"""Prefix of the stages in which models answer held-out prompts."""
LATER_TURN = re.compile(r"answer-[^/]*-turn-\d+$")
"""Stages in which models answer a conversation's later turns, to which no single prompt belongs."""


def answers_of_run(run: Path, stages: str = "", limit: int = 0) -> ReadResponses:
    """Return every response of some stages of a run, each text to a prompt once; first turns only.

    Args:
        stages: part of the stages' names; empty selects those that answer held-out prompts, or all
            stages if there are none.
        limit: maximum number of prompts, in the order of the answers; 0 uses all.

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
    prompts = _prompts(run)
    dropped: Counter[str] = Counter()
    shown: dict[tuple[str, str], Response] = {}
    for response in (r for file in wanted or files for r in whole_records(file, Response)):
        if response.prompt_id not in prompts:
            dropped["prompt not kept in the run"] += 1
            continue
        if prompts[response.prompt_id] is None:
            dropped["prompt id of two texts"] += 1
            continue
        first = shown.setdefault((response.prompt_id, response.text), response)
        if first is not response:
            same = first.sampler.model == response.sampler.model
            dropped["repeated response" if same else "another model's text as well"] += 1
    if not shown:
        why = ", ".join(f"{reason} {n}" for reason, n in dropped.items()) or "no responses"
        raise BadInput(f"{run}: expected responses of a run, found none ({why})")
    kept = set(list(dict.fromkeys(prompt for prompt, _ in shown))[: limit or None])
    responses = [response for response in shown.values() if response.prompt_id in kept]
    tally = Count("data", "responses", len(responses), dict(dropped))
    answered = (prompts[prompt] for prompt in dict.fromkeys(r.prompt_id for r in responses))
    return ReadResponses([p for p in answered if p is not None], responses, tally)


def _prompts(run: Path) -> dict[str, Prompt | None]:
    """Return id -> prompt of a run; None for an id with several texts."""
    prompts: dict[str, Prompt | None] = {}
    for prompt in _stored_prompts(run):
        known = prompts.setdefault(prompt.id, prompt)
        if known is not None and known.messages != prompt.messages:
            prompts[prompt.id] = None
    return prompts


def _stored_prompts(run: Path) -> Iterator[Prompt]:
    """Yield every prompt stored by a stage, by itself or in another record."""
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
