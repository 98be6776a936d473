from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignlab.errors import BadInput
from alignlab.models.adapters import LoraConfig, adapter_off, attach, is_adapted, merged
from alignlab.models.load import fingerprint, load, save
from tests.models.helpers import TEMPLATE, tiny_lm, tiny_tokenizer

IDS = torch.tensor([[5, 6, 7, 8]])


def saved(tmp_path, **options):
    lm = tiny_lm()
    return lm, save(lm, tmp_path / "m", **options)


@pytest.mark.parametrize(("name", "expected"), [("llama", "sdpa"), ("gemma2", "eager")])
def test_capped_scores_are_never_left_to_an_attention_without_a_cap(tmp_path, name, expected):
    path = save(tiny_lm(name), tmp_path / "m")
    assert load(path).model.config._attn_implementation == expected


def test_round_trip(tmp_path):
    lm, path = saved(tmp_path)
    again = load(path)
    assert torch.equal(again.model(IDS).logits, lm.model(IDS).logits)
    assert again.tokenizer.chat_template == TEMPLATE
    assert (again.name, again.path) == ("m", str(path))
    assert again.fingerprint == fingerprint(path)
    assert not list(tmp_path.glob("*.tmp"))


def test_transformers_alone_loads_what_was_saved(tmp_path):
    lm, path = saved(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(path)
    assert torch.equal(model.eval()(IDS).logits, lm.model(IDS).logits)
    assert AutoTokenizer.from_pretrained(path).chat_template == TEMPLATE


def test_saving_in_bfloat16_leaves_the_model_as_it_is(tmp_path):
    lm, path = saved(tmp_path, dtype="bfloat16")
    assert lm.model.dtype == torch.float32
    assert load(path).model.dtype == torch.bfloat16
    assert load(path, dtype="float32").model.dtype == torch.float32


def test_saving_replaces_the_folder(tmp_path):
    _, path = saved(tmp_path)
    (path / "stray").write_text("x")
    saved(tmp_path)
    assert not (path / "stray").exists()


def test_fingerprint_follows_the_content(tmp_path):
    first = fingerprint(save(tiny_lm(), tmp_path / "a"))
    assert fingerprint(save(tiny_lm(), tmp_path / "b")) == first
    assert fingerprint(save(tiny_lm(seed=1), tmp_path / "c")) != first
    other = load(tmp_path / "a", chat_template=TEMPLATE + " ")
    assert other.fingerprint != first


def test_a_missing_chat_template_names_the_option(tmp_path):
    _, path = saved(tmp_path)
    tiny_tokenizer(template=None).save_pretrained(path)
    (path / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(BadInput, match="chat_template=FILE"):
        load(path)
    file = tmp_path / "t.jinja"
    file.write_text(TEMPLATE)
    assert load(path, chat_template=file).tokenizer.chat_template == TEMPLATE


@pytest.mark.parametrize("spec", ["empty", "nowhere/at/all", "./nowhere"])
def test_what_is_no_model_is_one_clear_line(tmp_path, spec):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="expected a model folder") as caught:
        load(tmp_path / spec if spec == "empty" else spec)
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_refused(tmp_path):
    lm, path = saved(tmp_path)
    (path / "model.safetensors").unlink()
    torch.save(lm.model.state_dict(), path / "pytorch_model.bin")
    with pytest.raises(BadInput, match="safetensors"):
        load(path)


def test_unknown_dtype(tmp_path):
    with pytest.raises(BadInput, match="dtype: expected one of float32"):
        save(tiny_lm(), tmp_path / "x", dtype="int3")


@pytest.mark.parametrize("dora", [False, True])
def test_adapter_saved_loaded_and_merged(tmp_path, dora):
    base = save(tiny_lm(), tmp_path / "base")
    lm = attach(load(base), LoraConfig(r=2, dora=dora), seed=1)
    plain = load(base).model(IDS).logits
    torch.testing.assert_close(lm.model(IDS).logits, plain)
    for name, parameter in lm.model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.05)
    with_adapter = lm.model(IDS).logits
    assert not torch.allclose(with_adapter, plain)
    with adapter_off(lm.model):
        torch.testing.assert_close(lm.model(IDS).logits, plain)
    folder = save(lm, tmp_path / "adapter", adapter_only=True)
    again = load(base, adapter=folder)
    torch.testing.assert_close(again.model(IDS).logits, with_adapter)
    assert again.fingerprint != load(base).fingerprint
    whole = load(save(lm, tmp_path / "whole"))
    assert not is_adapted(whole.model)
    torch.testing.assert_close(whole.model(IDS).logits, with_adapter, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(lm.model(IDS).logits, with_adapter, rtol=1e-4, atol=1e-4)
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert "peft" not in json.dumps(config).lower()
    torch.testing.assert_close(merged(lm).model(IDS).logits, with_adapter, rtol=1e-4, atol=1e-4)


def test_adapters_first_weights_follow_the_seed(tmp_path):
    def first(seed):
        lm = attach(tiny_lm(), LoraConfig(r=2), seed=seed)
        return torch.cat([p.flatten() for n, p in lm.model.named_parameters() if "lora_A" in n])

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_adapter_errors(tmp_path):
    with pytest.raises(BadInput, match="has no adapter"):
        save(tiny_lm(), tmp_path / "x", adapter_only=True)
    with pytest.raises(BadInput, match="lora: "):
        attach(tiny_lm(), LoraConfig(targets=("nothing",)), seed=0)
    lm = attach(tiny_lm(), LoraConfig(r=2), seed=0)
    with pytest.raises(BadInput, match="already has an adapter"):
        attach(lm, LoraConfig(), seed=0)
