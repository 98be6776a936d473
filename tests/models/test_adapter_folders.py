"""An adapter saved alone is, on its base, the model that was trained: chains, other places, other
bases, other readers.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from peft.tuners.lora.layer import Linear

from alignlab.errors import BadInput
from alignlab.generation import vllm
from alignlab.models import adapter_folders
from alignlab.models.adapter_folders import base_of_adapter, chain_of, decoder_folder
from alignlab.models.adapters import LoraConfig, attach, merged
from alignlab.models.dtypes import stored_parameters
from alignlab.models.facts import model_facts
from alignlab.models.heads import load_reward_model, rewards, with_reward_head
from alignlab.models.load import fingerprint, load, merged_folder, save, save_adapter
from tests.models.helpers import TEMPLATE, random_groups, tiny_lm, tiny_tokenizer

IDS = torch.tensor([[5, 6, 7, 8]])


def trained(lm, seed, **settings):
    """The model with an adapter of random weights."""
    lm = attach(lm, LoraConfig(r=2, **settings), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in lm.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05, generator=generator)
    return lm


@pytest.fixture
def base(tmp_path):
    return save(tiny_lm(), tmp_path / "base", dtype="bfloat16")


@pytest.fixture
def chain(tmp_path, base):
    """Two adapters, the second on the first, and the merged models after each."""
    wholes = []
    for name in ("first", "second"):
        lm = trained(load(base if not wholes else tmp_path / "first", dtype="float32"), len(name))
        save_adapter(lm, tmp_path / name)
        wholes.append(save(merged(lm), tmp_path / f"{name}-whole", dtype="float32"))
    return wholes


def same_weights(one, other):
    states = one.model.state_dict(), other.model.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(weight, states[1][name]) for name, weight in states[0].items()
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "place"), [("first", 0), ("second", 1)])
def test_a_chain_is_the_merged_model_bit_for_bit(tmp_path, chain, name, place, dtype):
    found, whole = load(tmp_path / name, dtype=dtype), load(chain[place], dtype=dtype)
    assert {p.dtype for p in found.model.parameters()} == {getattr(torch, dtype)}
    assert (chain_of(tmp_path / name) or [])[-1:] == [tmp_path / name]
    assert same_weights(found, whole)
    assert torch.equal(found.model(IDS).logits, whole.model(IDS).logits)


def test_of_a_chain_one_matrix_at_a_time_is_held_in_float32(tmp_path, chain, monkeypatch):
    held = []
    merge = Linear.merge

    def merging(layer, *arguments, **options):
        weights = [m.base_layer.weight for m in model[0].modules() if isinstance(m, Linear)]
        held.append(sum(weight.dtype == torch.float32 for weight in weights))
        merge(layer, *arguments, **options)

    def put_on(under, *rest):
        model[:] = [put(under, *rest)]
        return model[0]

    model, put = [], adapter_folders.put_on
    monkeypatch.setattr(adapter_folders, "put_on", put_on)
    monkeypatch.setattr(Linear, "merge", merging)
    load(tmp_path / "second", dtype="bfloat16")
    assert held == [1] * 14  # seven matrices of each of two layers


def test_weights_are_summed_in_float32_and_rounded_once(tmp_path, base):
    """By hand: W + alpha / r * B A."""
    lm = trained(load(base, dtype="float32"), 3, targets=("q_proj",), alpha=4.0)
    layer = lm.model.get_base_model().model.layers[1].self_attn.q_proj
    factors = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    expected = layer.base_layer.weight + 2 * factors
    save_adapter(lm, tmp_path / "a")
    for dtype in (torch.float32, torch.bfloat16):
        found = load(tmp_path / "a", dtype=dtype).model.model.layers[1].self_attn.q_proj.weight
        torch.testing.assert_close(found, expected.to(dtype), rtol=0, atol=1e-6)
    rounded = layer.base_layer.weight.bfloat16() + (2 * factors).bfloat16()
    assert not torch.equal(found, rounded)


@pytest.mark.parametrize(
    "settings", [{"dora": True}, {"targets": ("q_proj", "lm_head")}, {"targets": ("embed_tokens",)}]
)
def test_what_is_no_sum_of_matrices_is_merged_whole(tmp_path, base, settings):
    lm = trained(load(base, dtype="float32"), 3, **settings)
    save_adapter(lm, tmp_path / "first")
    further = trained(load(tmp_path / "first"), 4)
    save_adapter(further, tmp_path / "second")
    assert chain_of(tmp_path / "first") is chain_of(tmp_path / "second") is None
    whole = save(merged(further), tmp_path / "whole")
    for dtype in ("float32", "bfloat16"):
        assert same_weights(load(tmp_path / "second", dtype=dtype), load(whole, dtype=dtype))


def test_an_adapter_without_a_type_is_merged_in_float32(tmp_path, chain):
    lm = load(tmp_path / "second")
    assert (lm.model.dtype, lm.stored, lm.path) == (
        torch.float32,
        torch.float32,
        str(tmp_path / "second"),
    )
    assert all(p.requires_grad for p in lm.model.parameters())


def test_peft_loads_an_adapter_and_refuses_a_chain_of_which_it_would_lose_a_part(tmp_path, chain):
    found = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "first").float().eval()
    assert torch.allclose(found(IDS).logits, load(chain[0]).model(IDS).logits, atol=1e-4)
    with pytest.raises((OSError, ValueError)):
        AutoPeftModelForCausalLM.from_pretrained(tmp_path / "second")
    # The name that the refusal shows is where the first may be put, merged.
    save(load(tmp_path / "first"), tmp_path / "first/merged")
    found = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "second").eval()
    assert torch.allclose(found(IDS).logits, load(chain[1]).model(IDS).logits, atol=1e-4)


def test_another_base_is_refused_in_one_line(tmp_path, base, chain):
    save(tiny_lm(seed=1), base, dtype="bfloat16")
    for name in ("first", "second"):
        with pytest.raises(BadInput, match=r"trained on \(\w{16}\), found other files") as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    shutil.rmtree(base)
    with pytest.raises(BadInput, match="expected a model folder"):
        load(tmp_path / "second")


def test_a_run_may_move_and_keeps_its_hashes(tmp_path, base):
    run = tmp_path / "run"
    (run / "stages").mkdir(parents=True)
    for name in ("manifest.json", "config.yaml", "events.jsonl"):
        (run / name).touch()
    places = [run / "stages/01-m1/model", run / "stages/a/01-m2/model"]
    parents = (base, places[0])
    for parent, place in zip(parents, places, strict=True):
        place.parent.mkdir(parents=True)
        save_adapter(trained(load(parent, dtype="float32"), 1), place)
    whole, hashes = load(places[1]), [fingerprint(place) for place in places]
    assert str(tmp_path) not in (places[1] / "adapter_base.json").read_text()
    assert str(tmp_path) not in (places[1] / "adapter_config.json").read_text()
    run.rename(tmp_path / "moved")
    moved = tmp_path / "moved/stages/a/01-m2/model"
    assert same_weights(load(moved), whole)
    assert fingerprint(moved) == hashes[1]
    assert base_of_adapter(moved) == str(tmp_path / "moved/stages/01-m1/model")


def test_a_hash_covers_the_base_wherever_it_lies(tmp_path, base, chain):
    first = fingerprint(tmp_path / "first")
    other = tmp_path / "elsewhere"
    base.rename(other)
    for file in ("adapter_base.json", "adapter_config.json"):
        path = tmp_path / "first" / file
        path.write_text(path.read_text().replace(str(base), str(other)))
    assert fingerprint(tmp_path / "first") == first
    record = json.loads((tmp_path / "first/adapter_base.json").read_text())
    record["fingerprint"] = "0" * 16
    (tmp_path / "first/adapter_base.json").write_text(json.dumps(record))
    assert fingerprint(tmp_path / "first") != first


def test_a_file_that_changed_is_hashed_again(base):
    before = fingerprint(base)
    assert fingerprint(base) == before
    save(tiny_lm(seed=2), base, dtype="bfloat16")
    assert fingerprint(base) != before


def test_settings_are_written_in_one_order(tmp_path, chain):
    """peft writes a set of names, in an order that changes from process to process."""
    targets = json.loads((tmp_path / "first/adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets)
    assert not (tmp_path / "first/README.md").exists()


def test_size_and_shape_are_those_of_the_base(tmp_path, base, chain):
    assert stored_parameters(tmp_path / "second") == stored_parameters(base)
    facts, plain = model_facts(tmp_path / "second"), model_facts(base)
    assert (facts.parameters, facts.layers) == (plain.parameters, plain.layers)
    assert (facts.stored, plain.stored) == ("float32", "bfloat16")
    assert decoder_folder(tmp_path / "second") == base
    size = sum(file.stat().st_size for file in (tmp_path / "second").glob("*.safetensors"))
    whole = sum(file.stat().st_size for file in chain[1].glob("*.safetensors"))
    assert size < whole / 4


def test_tokens_that_a_template_added_are_part_of_the_chain(tmp_path):
    folder = save(tiny_lm(), tmp_path / "base")
    tiny_tokenizer(template=None).save_pretrained(folder)
    (folder / "chat_template.jinja").unlink()
    lm = trained(load(folder, chat_template="chatml"), 1)
    for name, parameter in lm.model.named_parameters():
        if "trainable_tokens_delta" in name:
            parameter.data.add_(0.5)
    save_adapter(lm, tmp_path / "first")
    first = load(tmp_path / "first")
    assert same_weights(first, merged(lm))
    again = trained(load(tmp_path / "first", chat_template="chatml"), 2)
    assert not again.added
    save_adapter(again, tmp_path / "second")
    expected = merged(again)
    for template in (None, "chatml"):
        found = load(tmp_path / "second", chat_template=template)
        assert same_weights(found, expected)
        assert found.tokenizer.chat_template == first.tokenizer.chat_template


def test_reward_models_are_chains_too(tmp_path, chain):
    groups = random_groups(3, (2,), seed=8)
    under = load(tmp_path / "second")
    lm = trained(with_reward_head(under, seed=5), 4)
    lm.model.base_model.model.score.modules_to_save["default"].weight.data.add_(0.1)
    save_adapter(lm, tmp_path / "reward")
    further = trained(load_reward_model(tmp_path / "reward", dtype="float32"), 6)
    save_adapter(further, tmp_path / "more")
    for name, made in (("reward", lm), ("more", further)):
        expected = rewards(merged(made), groups)
        assert rewards(load_reward_model(tmp_path / name, dtype="float32"), groups) == expected
        with pytest.raises(BadInput, match="expected a decoder, found a reward model"):
            load(tmp_path / name)
    with pytest.raises(BadInput, match="expected a reward model, found an adapter of a decoder"):
        load_reward_model(tmp_path / "second")


def test_readers_of_whole_models_get_one_for_a_while(tmp_path, base, chain):
    with merged_folder(tmp_path / "second") as folder:
        assert same_weights(load(folder), load(chain[1]))
        assert load(folder).tokenizer.chat_template == TEMPLATE
    assert not folder.exists()
    with merged_folder(base) as folder:
        assert folder == base


def test_vllm_reads_a_whole_model_of_the_adapters_name(tmp_path, chain, monkeypatch):
    seen = []

    class Engine:
        class llm_engine:  # noqa: N801 - vLLM's name
            class model_config:  # noqa: N801
                max_model_len = 64

    def start(folder, options):
        seen.append((folder, load(folder)))
        return Engine()

    monkeypatch.setattr(vllm, "require_vllm", lambda: None)
    monkeypatch.setattr(vllm, "_start", start)
    engine = vllm.VllmEngine(tmp_path / "second")
    ((folder, lm),) = seen
    assert same_weights(lm, load(chain[1]))
    assert engine.name == f"vllm:second@{fingerprint(tmp_path / 'second')[:8]}"
    assert not Path(folder).exists()


def test_an_adapter_brings_the_template_that_its_base_lacks(tmp_path, base):
    lm = trained(load(base, dtype="float32"), 1)
    save_adapter(lm, tmp_path / "a")
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        file = base / name
        if file.is_file() and name.endswith("json"):
            plain = json.loads(file.read_text())
            plain.pop("chat_template", None)
            file.write_text(json.dumps(plain))
        else:
            file.unlink(missing_ok=True)
    with pytest.raises(BadInput, match="no chat template"):
        model_facts(base)
    assert model_facts(tmp_path / "a").path == str(tmp_path / "a")


@pytest.mark.parametrize("name", ["first", "second"])
def test_weights_that_a_run_has_deleted_are_missed_by_name(tmp_path, chain, name):
    (tmp_path / "first" / "adapter_model.safetensors").unlink()
    says = "first: expected weights in safetensors files, found none"
    for read in (model_facts, load):
        with pytest.raises(BadInput, match=says):
            read(tmp_path / name)
