"""The trainings that one process and several must do alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from alignlab.types import CompletionRequest, Message, Sampling

FITTING = 100
"""Tokens of a micro-batch above which memory runs out, where that is tried."""


@dataclass(frozen=True)
class Training:
    objective: str
    data: str = "pairs.jsonl"
    settings: dict[str, Any] = field(default_factory=dict)
    parallel: tuple[str, ...] = ("data", "fsdp")


TRAININGS = {
    "sft": Training("sft", "demonstrations.jsonl"),
    "dpo": Training("dpo"),
    "dpo_pro": Training("dpo_pro", "groups.jsonl"),
    "kto": Training("kto"),
    "reward": Training("reward_model"),
    "lora": Training("dpo", settings={"lora": {"r": 2}}),
    "bfloat16": Training("dpo", settings={"dtype": "bfloat16", "gradient_checkpointing": True}),
}
DRAWN = {"steps": 3, "responses": 4, "max_tokens": 8, "reward": "random", "dtype": "float32"}
VALIDATED = DRAWN | {"validation": 3, "validate_every": 1}
ROLLOUTS = {
    "rloo": Training("rloo", "demonstrations.jsonl", DRAWN),
    "ppo": Training("ppo", "demonstrations.jsonl", DRAWN),
    "validated": Training("rloo", "demonstrations.jsonl", VALIDATED),
}
LONGS = {
    "dpo": Training("dpo", settings={"epochs": 12}),
    "ppo": Training("ppo", "demonstrations.jsonl", DRAWN | {"steps": 14}),
}
"""Trainings that are killed and resumed."""


def requests(count: int) -> list[CompletionRequest]:
    """Greedy requests whose prompts and answers are of unequal lengths."""
    return [
        CompletionRequest(
            str(i), (Message("user", "abc" * (i + 1)),), Sampling(0, 1, 4 + 7 * i % 19, 1), 0
        )
        for i in range(count)
    ]


def settings(training: Training) -> dict[str, Any]:
    """Several micro-batches a step, two or more steps, and a checkpoint in their midst."""
    common: dict[str, Any] = {
        "lr": 1e-3,
        "batch_size": 5,
        "token_budget": 192,
        "log_every": 1,
        "save_every": 2,
        "threads": 1,
    }
    if "reward" not in training.settings:
        common["lengths"] = {"max_prompt_tokens": 100, "max_response_tokens": 60}
    return common | training.settings
