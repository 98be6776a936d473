"""What training switches on in a model, and puts back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from alignlab.errors import BadInput
from alignlab.models.adapters import LoraConfig, attach
from alignlab.training.regularise import _method, training_mode
from tests.models.helpers import tiny_lm


def dropouts(model):
    return {
        name: module.p for name, module in model.named_modules()
        if isinstance(module, torch.nn.Dropout)
    }  # fmt: skip


def test_dropout_is_exactly_what_is_asked_for_and_put_back():
    model = tiny_lm("gpt2").model
    before = dropouts(model)
    assert set(before.values()) == {0.1}  # as the configuration has it
    for asked in (0.0, 0.3):
        with training_mode(model, dropout=asked, checkpointing=False):
            assert model.training
            assert set(dropouts(model).values()) == {asked}
        assert not model.training
        assert dropouts(model) == before


def test_an_adapters_dropout_is_its_own():
    model = attach(tiny_lm(), LoraConfig(r=2, dropout=0.2), seed=0).model
    with training_mode(model, dropout=0.0, checkpointing=False):
        found = {p for name, p in dropouts(model).items() if "lora_dropout" in name}
    assert found == {0.2}


def test_a_model_without_dropout_refuses_it():
    with (
        pytest.raises(BadInput, match="dropout: Linear has no dropout to set"),
        training_mode(torch.nn.Linear(2, 2), dropout=0.1, checkpointing=False),
    ):
        pass


def test_checkpointing_is_switched_by_the_new_name_where_there_is_one():
    old = SimpleNamespace(gradient_checkpointing_enable=1)
    both = SimpleNamespace(gradient_checkpointing_enable=1, activation_checkpointing_enable=2)
    assert (_method(old, "enable"), _method(both, "enable")) == (1, 2)


def test_checkpointing_is_on_for_the_time_of_training():
    model = tiny_lm().model
    with training_mode(model, dropout=0.0, checkpointing=True):
        assert model.is_gradient_checkpointing
    assert not model.is_gradient_checkpointing
    with training_mode(model, dropout=0.0, checkpointing=False):
        assert not model.is_gradient_checkpointing
