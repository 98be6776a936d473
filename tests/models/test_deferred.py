"""Models without their weights: rows read from files, probes on the first layers, adapters."""

from __future__ import annotations

import logging

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignlab.generation.shared import Reader
from alignlab.models.adapters import LoraConfig, attach
from alignlab.models.deferred import first_layers_read, placeholders
from alignlab.models.load import load, save
from alignlab.models.probe import set_stand_in
from alignlab.models.scorer import ResponseScorer
from alignlab.training.reference_logps import weights_hash
from tests.models.helpers import tiny_lm


@pytest.fixture(scope="module", params=["llama", "qwen2", "gemma2", "gpt2"])
def folder(request, tmp_path_factory):
    return save(tiny_lm(request.param), tmp_path_factory.mktemp("models") / request.param)


def test_rows_are_those_of_the_whole_model(folder):
    whole, bare = (load(folder, dtype="float32", deferred=d, device="cpu") for d in (False, True))
    assert whole.weights is None
    assert all(p.is_meta for p in bare.model.parameters())
    assert not any(b.is_meta for b in bare.model.buffers())
    named = dict(whole.model.named_parameters())
    assert [n for n, _ in bare.model.named_parameters()] == list(named)
    for name, parameter in named.items():
        assert torch.equal(bare.weights.rows(name).float(), parameter)
        assert torch.equal(bare.weights.rows(name, 1, 3).float(), parameter[1:3])
    for name, tensor in whole.model.state_dict().items():  # a tied weight under both names
        assert torch.equal(bare.weights.rows(name).float(), tensor)
    assert weights_hash(bare.model, bare.weights.rows) == weights_hash(whole.model)
    assert bare.model.config.to_dict() == whole.model.config.to_dict()
    assert bare.model.generation_config.to_dict() == whole.model.generation_config.to_dict()


def test_files_of_other_names_are_read_whole(tmp_path, caplog):
    folder = save(tiny_lm("llama"), tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights = {name.removeprefix("model."): value for name, value in weights.items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with caplog.at_level(logging.WARNING):
        lm = load(folder, dtype="float32", device="cpu", deferred=True)
    assert lm.weights is None
    assert not any(p.is_meta for p in lm.model.parameters())
    assert "each process reads the whole model" in caplog.text
    assert "expected model.embed_tokens.weight of shape (" in caplog.text


def test_probes_run_on_the_first_layers(folder):
    lm = load(folder, dtype="bfloat16", device="cpu", deferred=True)
    made = first_layers_read(lm.model, lm.weights, "cpu")
    assert not any(p.is_meta for p in made.parameters())
    assert all(p.is_meta for p in lm.model.parameters())
    set_stand_in(lm.model, lambda: first_layers_read(lm.model, lm.weights, "cpu"))
    whole = load(folder, dtype="bfloat16", device="cpu").model
    # A pass through the model itself would fail: it holds no numbers.
    assert ResponseScorer(lm.model).padded_because == ResponseScorer(whole).padded_because
    assert Reader(lm.model).fallback == Reader(whole).fallback


def test_an_adapter_is_the_same_on_weights_that_are_not_read(folder):
    whole, bare = (
        attach(load(folder, dtype="float32", deferred=d, device="cpu"), LoraConfig(r=2), seed=3)
        for d in (False, True)
    )
    named = dict(whole.model.named_parameters())
    for name, parameter in bare.model.named_parameters():
        assert parameter.requires_grad == named[name].requires_grad
        if "lora_" in name:
            assert torch.equal(parameter, named[name])
        else:
            assert parameter.is_meta
            assert parameter.shape == named[name].shape


def test_placeholders_take_no_memory(tmp_path):
    folder = save(tiny_lm("llama"), tmp_path / "m")
    model = load(folder, dtype="float32", device="cpu", deferred=True).model
    with placeholders(model):
        for parameter in model.parameters():
            assert parameter.untyped_storage().nbytes() == 4
        model.requires_grad_(False)
    assert all(p.is_meta and not p.requires_grad for p in model.parameters())
