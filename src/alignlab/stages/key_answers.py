"""Turn the reference answers of prompts into demonstrations: the key of a positive control."""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.answers.libraries import key_of
from alignlab.errors import BadInput
from alignlab.types import Demonstration, Prompt, Response, SampledBy

KEY = "key"


def key_answers(prompts: Sequence[Prompt]) -> list[Demonstration]:
    """Return the prompts whose references are answers in words, each with its reference.

    Raises:
        BadInput: no reference is an answer in words (instructions to follow).
    """
    keys = [(prompt, key_of(prompt.reference or "")) for prompt in prompts]
    found = [
        Demonstration(p, Response(f"{p.id}/{KEY}", p.id, answer, SampledBy(KEY)))
        for p, answer in keys
        if answer
    ]
    if not found:
        raise BadInput("branch key: expected references that can be imitated, found none")
    return found
