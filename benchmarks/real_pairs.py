"""Preference groups and prompts for a real model: texts of a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer

from alignlab.commands._support.prompts_and_responses import prompts_of
from alignlab.data.sources import load as load_data
from alignlab.errors import BadInput
from alignlab.models.load import load
from alignlab.models.packed import TokenGroup
from alignlab.training.token_groups import prepare
from alignlab.types import PreferenceGroup


def write_groups(
    model: Path, template: str | None, data: str, count: int, k: int, longest: int, file: Path
) -> None:
    """Tokenise the first groups of a file that have k responses, the best first.

    Groups whose prompt or a response is longer than `longest` tokens are left out, on both sides.
    """
    lm = load(model, device="cpu", chat_template=template)
    found: list[TokenGroup] = []
    for group in load_data(data).groups:
        if len(group.responses) >= k and len(found) < count:
            cut = PreferenceGroup(group.prompt, group.responses[:k], group.scores[:k], group.source)
            try:
                found += prepare(
                    lm, [cut], max_prompt_tokens=longest, max_response_tokens=longest
                ).groups
            except BadInput:
                continue  # longer than both sides take
    if len(found) < count:
        raise BadInput(f"{data}: expected {count} groups of {k} responses, found {len(found)}")
    save_groups(found, file)


def save_groups(groups: Sequence[TokenGroup], file: Path) -> None:
    """Write tokenised groups for `read_groups`."""
    rows = [(g.id, g.prompt_T, g.responses) for g in groups]
    file.write_text(json.dumps(rows), encoding="utf-8")


def write_prompts(model: Path, data: str, count: int, file: Path, longest: int = 256) -> None:
    """Write the first single-turn prompts of a file that a model reads in few enough tokens."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    asked = [p for p in prompts_of(load_data(data)) if len(p.messages) == 1]
    texts = [p.text for p in asked if len(tokenizer(p.text)["input_ids"]) <= longest][:count]
    if len(texts) < count:
        raise BadInput(f"{data}: expected {count} prompts, found {len(texts)}")
    file.write_text(json.dumps(texts), encoding="utf-8")


def read_groups(file: Path) -> list[TokenGroup]:
    """Read what `write_groups` wrote."""
    rows = json.loads(file.read_text(encoding="utf-8"))
    return [TokenGroup(i, tuple(p), tuple(map(tuple, several))) for i, p, several in rows]
