"""Prompts of a corpus that a benchmark asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignlab.types import Corpus, Prompt


def held_out_or_all(data: Corpus) -> list[Prompt]:
    """Return the held-out prompts of the data, or all its prompts if it holds none out, each once.

    Data without prompts alone has those of its other records.
    """
    held: tuple[Sequence[Any], ...] = (data.demonstrations, data.groups, data.labelled,
                                       data.commented)  # fmt: skip
    found = data.test_prompts or data.prompts or [r.prompt for some in held for r in some]
    return list({prompt.id: prompt for prompt in found}.values())
