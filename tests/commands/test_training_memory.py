"""Memory of a training from shape and settings: what the pass holds, and what the type changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alignlab.commands._support.training_memory import process_memory, training_memory
from alignlab.models.adapters import LoraConfig
from alignlab.models.facts import ModelFacts
from alignlab.models.memory import training_bytes
from alignlab.training.config import TrainConfig

FACTS = ModelFacts(
    path="m", kind="llama", parameters=1_000_000, layers=2, hidden=64, kv_width=32,
    vocabulary=1000, context=512, intermediate=128, query_width=64,
)  # fmt: skip
CONFIG = TrainConfig(batch_size=4, token_budget=2048)


@pytest.mark.parametrize(("step", "positions"), [(400, 400), (4000, 2048), (0, 2048)])
def test_a_pass_holds_a_step_or_the_token_budget(step: int, positions: int) -> None:
    found = training_memory(FACTS, CONFIG, half=False, step=step, group=100, what="sft")
    expected = training_bytes(
        FACTS, weights=6, trainable=1_000_000, positions=positions, width=4, layers=2, span=100
    )
    assert found.gigabytes == expected / 1e9
    assert f"{positions:,} tokens a pass" in found.of


@pytest.mark.parametrize(
    ("stored", "half", "weights"),
    [("float32", True, 8), ("bfloat16", True, 6), ("float32", False, 6), ("bfloat16", False, 4)],
)
def test_pages_of_a_file_count_where_they_are_the_masters(
    stored: str, half: bool, weights: int
) -> None:
    facts = replace(FACTS, stored=stored)
    found = training_memory(facts, CONFIG, half=half, step=0, group=100, what="sft")
    expected = training_bytes(
        facts, weights=weights, trainable=1_000_000, positions=2048, width=4 - 2 * half, layers=2,
        span=100,
    )  # fmt: skip
    assert found.gigabytes == expected / 1e9


@pytest.mark.parametrize(("stored", "weights"), [("float32", 8), ("bfloat16", 2), ("", 8)])
def test_an_adapter_trains_thin_matrices_over_weights_held_once(stored: str, weights: int) -> None:
    config = replace(CONFIG, lora=LoraConfig(r=8))
    facts = replace(FACTS, stored=stored)
    found = training_memory(facts, config, half=True, step=0, group=0, what="dpo")
    # Rank 8: 8 * (64 + 64) of queries and of the output, (64 + 32) of keys and of values, and
    # 3 * (64 + 128) of the network.
    trainable = 2 * 8 * (2 * 128 + 2 * 96 + 3 * 192)
    expected = training_bytes(
        facts, weights=weights, trainable=trainable, positions=2048, width=2, layers=2
    )
    assert found.gigabytes == expected / 1e9
    one = process_memory(facts, config, half=True, processes=1)
    assert len(one) == 1 + (weights == 2)
    if weights == 2:
        held = 2 * facts.parameters + 6 * trainable
        assert f"weights {held / 1e9:.3g}" in one[0].of
