from __future__ import annotations

import gc
import json
import shutil
import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from alignlab.errors import BadInput
from alignlab.machine import file_mapped
from alignlab.models.adapters import LoraConfig, adapter_off, attach, is_adapted, merged
from alignlab.models.chat_template import encode_prompt, end_of_turn
from alignlab.models.dtypes import stored_parameters
from alignlab.models.facts import model_facts
from alignlab.models.load import device_of, fingerprint, load, save
from alignlab.models.tokenizer import plain_tokenizer, read_tokenizer
from alignlab.types import Message
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
    with pytest.raises(BadInput, match="dtype: expected one of auto, float32"):
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
    with pytest.raises(BadInput, match="lora: Target module LlamaRMSNorm"):
        attach(tiny_lm(), LoraConfig(targets=("input_layernorm",)), seed=0)
    with pytest.raises(BadInput, match="has no layer 'nothing'"):
        attach(tiny_lm(), LoraConfig(targets=("q_proj", "nothing")), seed=0)
    lm = attach(tiny_lm(), LoraConfig(r=2), seed=0)
    with pytest.raises(BadInput, match="already has an adapter"):
        attach(lm, LoraConfig(), seed=0)


def tied_lm():
    lm = tiny_lm()
    lm.model.config.tie_word_embeddings = True
    lm.model.tie_weights()
    assert lm.model.lm_head.weight is lm.model.model.embed_tokens.weight
    return lm


@pytest.mark.parametrize("targets", [("lm_head",), ("embed_tokens",), ("lm_head", "embed_tokens")])
@pytest.mark.parametrize("way", ["in memory", "loaded", "merged first"])
def test_an_adapter_on_one_of_two_tied_matrices_is_saved_as_it_was_trained(tmp_path, targets, way):
    base = save(tied_lm(), tmp_path / "base")
    lm = attach(load(base), LoraConfig(r=2, targets=targets), seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for name, parameter in lm.model.named_parameters():
            if "lora_B" in name or "lora_embedding" in name:
                torch.nn.init.normal_(parameter, std=0.05)
    trained = lm.model(IDS).logits
    assert not torch.allclose(trained, load(base).model(IDS).logits, atol=0.1)
    with adapter_off(lm.model):
        torch.testing.assert_close(lm.model(IDS).logits, load(base).model(IDS).logits)
    if way == "loaded":
        lm = load(base, adapter=save(lm, tmp_path / "adapter", adapter_only=True))
    elif way == "merged first":
        lm = merged(lm)
    whole = save(lm, tmp_path / "whole")
    torch.testing.assert_close(load(whole).model(IDS).logits, trained, rtol=1e-4, atol=1e-4)
    alone = AutoModelForCausalLM.from_pretrained(whole).eval()
    torch.testing.assert_close(alone(IDS).logits, trained, rtol=1e-4, atol=1e-4)


def test_modules_that_an_adapter_keeps_whole_are_saved_with_it(tmp_path):
    """As TRL trains new tokens: embeddings and head beside the adapter (modules_to_save)."""
    from peft import LoraConfig as PeftLora
    from peft import get_peft_model

    base = save(tied_lm(), tmp_path / "base")
    settings = PeftLora(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    adapted = get_peft_model(load(base).model, settings)
    for name, parameter in adapted.named_parameters():
        if "modules_to_save" in name:
            parameter.data.mul_(0.5)
    trained = adapted(IDS).logits
    adapted.save_pretrained(tmp_path / "adapter")
    lm = load(base, adapter=tmp_path / "adapter")
    torch.testing.assert_close(lm.model(IDS).logits, trained)
    whole = save(lm, tmp_path / "whole")
    torch.testing.assert_close(load(whole).model(IDS).logits, trained)


@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_an_adapters_folder_is_its_base_with_the_adapter_merged(tmp_path, with_tokenizer):
    base = save(tiny_lm(), tmp_path / "base")
    lm = attach(load(base), LoraConfig(r=2), seed=1)
    for name, parameter in lm.model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.05)
    folder = tmp_path / "adapter"
    if with_tokenizer:
        save(lm, folder, adapter_only=True)
    else:
        lm.model.save_pretrained(folder)
    again = load(folder)
    torch.testing.assert_close(again.model(IDS).logits, lm.model(IDS).logits, rtol=1e-4, atol=1e-4)
    assert (again.name, again.path) == ("adapter", str(folder))
    assert again.fingerprint != load(base).fingerprint
    assert all(p.requires_grad for p in again.model.parameters())
    assert not is_adapted(again.model)
    facts = model_facts(folder)
    assert (facts.path, facts.parameters) == (str(folder), model_facts(base).parameters)
    with pytest.raises(BadInput, match="found an adapter"):
        load(folder, adapter=folder)


@pytest.mark.parametrize(
    ("rename", "targets", "found"),
    [
        (("model.layers", "model.language_model.layers"), None, "missing weights"),
        (("layers.1.", "layers.9."), None, "missing weights"),
        (("", ""), ["q_proj"], "further weights"),
    ],
)
def test_an_adapter_of_which_a_part_would_be_left_out_is_refused(tmp_path, rename, targets, found):
    base = save(tiny_lm(), tmp_path / "base")
    folder = save(attach(load(base), LoraConfig(r=2), seed=1), tmp_path / "a", adapter_only=True)
    file, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    weights = {name.replace(*rename): tensor for name, tensor in load_file(file).items()}
    save_file(weights, file)
    settings = json.loads(config.read_text())
    config.write_text(json.dumps(settings | ({"target_modules": targets} if targets else {})))
    with pytest.raises(BadInput, match=found):
        load(base, adapter=folder)
    with pytest.raises(BadInput, match=found):
        load(folder)


def test_an_adapter_on_another_model_than_its_own_is_named(tmp_path, caplog):
    base, other = save(tiny_lm(), tmp_path / "base"), save(tiny_lm(), tmp_path / "other")
    folder = save(attach(load(base), LoraConfig(r=2), seed=1), tmp_path / "a", adapter_only=True)
    load(base, adapter=folder)
    assert "trained on" not in caplog.text
    load(other, adapter=folder)
    assert f"trained on {base}, put on {other}" in caplog.text


def test_a_folder_of_a_model_and_an_adapter_is_refused(tmp_path):
    """transformers adds the adapter to the weights, of which it may be a part already."""
    base = save(tiny_lm(), tmp_path / "base")
    folder = save(attach(load(base), LoraConfig(r=2), seed=1), tmp_path / "a", adapter_only=True)
    shutil.copy(base / "config.json", folder)
    assert not is_adapted(load(folder).model)  # the base's settings alone are no model
    shutil.copy(base / "model.safetensors", folder)
    with pytest.raises(BadInput, match="expected a model or an adapter, found both"):
        load(folder)


@pytest.mark.parametrize("where", ["base", "adapter"])
def test_base_and_adapter_need_one_chat_template_between_them(tmp_path, where):
    """A base model without a template is tuned with one, which is saved with the adapter."""
    base = save(tiny_lm(), tmp_path / "base")
    lm = attach(load(base), LoraConfig(r=2), seed=1)
    folder = save(lm, tmp_path / "adapter", adapter_only=True)
    other = folder if where == "base" else base
    tiny_tokenizer(template=None).save_pretrained(other)
    (other / "chat_template.jinja").unlink()
    assert load(folder).tokenizer.chat_template == TEMPLATE
    assert load(folder, chat_template=TEMPLATE + " ").tokenizer.chat_template == TEMPLATE + " "


@pytest.mark.parametrize(("named", "line"), [("", "names no base model"), ("gone/m", "gone/m")])
def test_an_adapter_without_its_base_is_one_line(tmp_path, named, line):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": named}))
    with pytest.raises(BadInput, match=line) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, [4, 2]), (2, [4, 2]), (4, [4, 2]), ([2, 3], [4, 2, 3]), ([4, 2], [4, 2])],
)
def test_a_saved_model_stops_at_the_templates_end_of_turn(tmp_path, before, after):
    lm = tiny_lm()
    assert (end_of_turn(lm), lm.tokenizer.eos_token_id) == (4, 2)
    lm.model.generation_config.eos_token_id = before
    path = save(lm, tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(path)
    assert model.generation_config.eos_token_id == after
    assert lm.model.generation_config.eos_token_id == before


@pytest.mark.parametrize(
    "invalid",
    [
        {"do_sample": False, "temperature": 0.6, "top_p": 0.9},
        {"do_sample": False, "top_k": 20},
        {"num_beams": 1, "early_stopping": True, "length_penalty": 0.5},
        {"output_scores": True, "return_dict_in_generate": False},
    ],
)
def test_settings_of_generation_without_effect_do_not_stop_a_save(tmp_path, invalid):
    lm = tiny_lm()
    for name, value in invalid.items():
        setattr(lm.model.generation_config, name, value)
    path = save(lm, tmp_path / "m")
    model = AutoModelForCausalLM.from_pretrained(path)
    model.generation_config.validate(strict=True)
    ids = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "max_new_tokens": 5}
    assert torch.equal(model.generate(**ids), lm.model.generate(**ids))


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_the_type_of_the_files_is_known_whatever_is_computed_in(tmp_path, name):
    path = save(tiny_lm(), tmp_path / "m", dtype=name)
    lm = load(path, dtype="float32")
    assert (lm.model.dtype, lm.stored) == (torch.float32, getattr(torch, name))


def test_devices_by_name():
    chosen = "cuda" if torch.cuda.is_available() else "cpu"
    assert device_of("auto") == device_of(None) == torch.device(chosen)
    assert device_of("cpu") == torch.device("cpu")


def test_weights_in_their_stored_type_are_shared_by_processes(tmp_path):
    """Mapped pages are one copy for all branches; a change is the process's own."""
    lm = tiny_lm("llama")
    folder = save(lm, tmp_path / "model", dtype="bfloat16")
    shared = load(folder, dtype="bfloat16", device="cpu")
    addresses = [p.data_ptr() for p in shared.model.parameters()]
    assert all(file_mapped(addresses))
    before = (folder / "model.safetensors").read_bytes()
    with torch.no_grad():
        next(shared.model.parameters()).zero_()
    assert (folder / "model.safetensors").read_bytes() == before
    converted = load(folder, dtype="float32", device="cpu")
    assert not any(file_mapped([p.data_ptr() for p in converted.model.parameters()]))


def test_parameters_are_counted_from_the_files(tmp_path):
    lm = tiny_lm("llama")
    folder = save(lm, tmp_path / "model")
    assert stored_parameters(folder) == lm.model.num_parameters()
    config = json.loads((folder / "config.json").read_text())
    head = lm.model.get_output_embeddings().weight.numel()
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    assert stored_parameters(folder) == lm.model.num_parameters() - head


def test_the_type_auto_of_a_small_model_is_float32(tmp_path):
    folder = save(tiny_lm("llama"), tmp_path / "model", dtype="bfloat16")
    assert load(folder, dtype="auto", device="cpu").model.dtype == torch.float32
    assert load(folder, device="cpu").model.dtype == torch.bfloat16


def test_a_folder_without_a_tokenizer_is_told_in_one_whole_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match=r"expected a tokenizer, found no tokenizer\.json and noth"):
        plain_tokenizer(tmp_path)


def test_tokenizers_of_equal_files_share_their_vocabulary_and_nothing_else(tmp_path):
    _, folder = saved(tmp_path)
    copied = tmp_path / "two"
    shutil.copytree(folder, copied)
    first, second = plain_tokenizer(folder), plain_tokenizer(copied)
    assert first._tokenizer is second._tokenizer
    before = second.chat_template, second.pad_token, len(second)
    first.chat_template, first.pad_token = "other", first.eos_token
    first.model_max_length = 7
    third = plain_tokenizer(folder)
    for one in (second, third):
        assert (one.chat_template, one.pad_token, len(one)) == before
        assert one.model_max_length != 7
    (copied / "tokenizer_config.json").write_text(
        json.dumps({**json.loads((copied / "tokenizer_config.json").read_text()), "x": 1})
    )
    assert plain_tokenizer(copied)._tokenizer is not third._tokenizer


def test_tokens_of_a_template_reach_no_other_tokenizer(tmp_path):
    _, folder = saved(tmp_path)
    before = plain_tokenizer(folder)
    size = len(before)
    added = read_tokenizer(folder, "chatml")
    if added.added:
        assert len(added.tokenizer) > size
    assert len(before) == len(plain_tokenizer(folder)) == size


def test_a_tokenizer_is_not_kept_by_what_is_known_of_it(tmp_path):
    lm = tiny_lm()
    encode_prompt(lm, [Message("user", "Hello")])
    kept = weakref.ref(lm.tokenizer)
    del lm
    gc.collect()
    assert kept() is None
