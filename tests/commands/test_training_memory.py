"""Memory of a training from shape and settings: what the pass holds, and what the type changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alignlab.commands._support.training_memory import training_memory
from alignlab.models.adapters import LoraConfig
from alignlab.models.facts import ModelFacts
from alignlab.models.memory import training_bytes
from alignlab.training.config import TrainConfig

FACTS = ModelFacts(
    path="m", kind="llama", parameters=1_000_000, layers=2, hidden=64, kv_width=32,
    vocabulary=1000, context=512, intermediate=128, query_width=64,
)  # fmt: skip
CONFIG = TrainConfig(batch_size=4, token_budget=2048)


@pytest.mark.parametrize(("group", "positions"), [(100, 400), (1000, 2048), (0, 2048)])
def test_a_pass_holds_a_step_or_the_token_budget(group: int, positions: int) -> None:
    found = training_memory(FACTS, CONFIG, half=False, group=group, what="sft")
    expected = training_bytes(
        FACTS, weights=6, trainable=1_000_000, positions=positions, width=4, layers=2
    )
    assert found.gigabytes == expected / 1e9
    assert f"{positions:,} tokens a pass" in found.of


def test_an_adapter_trains_two_thin_matrices_of_seven_in_each_layer() -> None:
    config = replace(CONFIG, lora=LoraConfig(r=8))
    found = training_memory(FACTS, config, half=True, group=0, what="dpo")
    trainable = 2 * 7 * (64 * 8 + 8 * 64)
    expected = training_bytes(
        FACTS, weights=8, trainable=trainable, positions=2048, width=2, layers=2
    )
    assert found.gigabytes == expected / 1e9
