"""How many facts a model knows: it completes a statement, and the value must be the true one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from alignlab.sandbox.world import BY_NAME, NAMES, Fact, world


def all_facts(towns: Sequence[str]) -> list[Fact]:
    """Every true fact of some towns."""
    return [world().fact(town, name) for town in towns for name in NAMES]


@torch.inference_mode()
def knows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact]
) -> list[bool]:
    """For each fact, whether greedy decoding completes its plainest statement with the value."""
    starts, values = [], []
    for fact in facts:
        before, _ = BY_NAME[fact.attribute].named[0].format(e=fact.entity, v="|").split("|")
        starts.append([tokenizer.eos_token_id, *_encode(tokenizer, before.rstrip())])
        gap = before[len(before.rstrip()) :]
        values.append(_encode(tokenizer, gap + fact.value))
    longest = max(len(s) + len(v) for s, v in zip(starts, values, strict=True))
    rows = [
        (s + v + [tokenizer.eos_token_id] * longest)[:longest]
        for s, v in zip(starts, values, strict=True)
    ]
    best_BT = model(input_ids=torch.tensor(rows)).logits.argmax(-1)
    return [
        best_BT[i, len(s) - 1 : len(s) + len(v) - 1].tolist() == v
        for i, (s, v) in enumerate(zip(starts, values, strict=True))
    ]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
