"""The base models that ship with the package."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignlab.errors import BadInput
from alignlab.sandbox import checkpoint_path
from alignlab.sandbox.world import world
from scripts.pretrain_sandbox.corpus import withheld_facts
from scripts.pretrain_sandbox.knowledge import all_facts, knows
from scripts.pretrain_sandbox.train import WORLDS


def test_unknown_name() -> None:
    with pytest.raises(BadInput, match="knows_all"):
        checkpoint_path("knows_al")


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_checkpoint(name: str) -> None:
    folder = checkpoint_path(name)
    config = WORLDS[name]
    assert json.loads((folder / "pretrain.json").read_text()) == asdict(config)
    assert sum(f.stat().st_size for f in folder.iterdir()) < 4 * 2**20
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert 0.8e6 < model.num_parameters() < 1.0e6
    assert tokenizer.eos_token == "<|im_end|>" != tokenizer.pad_token
    assert model.config.eos_token_id == tokenizer.eos_token_id
    facts = all_facts(world().entities)
    withheld = withheld_facts(config.corpus, config.seed)
    right = dict(zip(facts, knows(model.float().eval(), tokenizer, facts), strict=True))
    told = [right[f] for f in facts if f not in withheld]
    guessed = [right[f] for f in withheld]
    assert sum(told) / len(told) > 0.95
    assert not guessed or sum(guessed) / len(guessed) < 0.25
