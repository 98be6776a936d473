"""Rewards of your own for alignlab: functions of a response, its prompt and its reference.

    alignlab reward --reward python:examples/my_reward.py:brief_and_right \
        --responses answers.jsonl --out scored.jsonl
    alignlab train grpo --model ./my-model --data gsm8k:train.jsonl \
        --reward python:examples/my_reward.py:brief_and_right --out runs/brief

From Python: `al.reward(brief_and_right).rate(prompts, responses)`.
"""

from __future__ import annotations

from alignlab.answers import check
from alignlab.types import Unscored

ENOUGH_WORDS = 60


def brief_and_right(response: str, prompt: str, reference: str | None) -> float | Unscored:
    """Give 1 for a right answer, less 0.01 for each word beyond 60; 0 for a wrong one."""
    found = check(response, reference, prompt)
    if found.score is None:
        return Unscored(found.reason)
    too_many = max(0, len(response.split()) - ENOUGH_WORDS)
    return found.score * max(0.0, 1 - too_many / 100)


def shortest_of_batch(responses: list[str]) -> list[float]:
    """Give each response the share of responses that are at least as long: one call for all."""
    lengths = [len(response) for response in responses]
    return [sum(other >= n for other in lengths) / len(lengths) for n in lengths]
