"""Quantised weights under an adapter: what is trained, what is merged, what is refused."""

from __future__ import annotations

import pytest
import torch

from alignlab.errors import BadInput
from alignlab.models import quant
from alignlab.models.adapters import LoraConfig, adapter_off, attach, merged
from alignlab.models.heads import with_reward_head
from alignlab.models.load import load, save, save_adapter
from alignlab.models.quant import is_quantised, load_quantised, require_bitsandbytes
from alignlab.models.scorer import ResponseScorer
from tests.models.helpers import random_groups, tiny_lm

bitsandbytes = pytest.importorskip("bitsandbytes", reason="the extra [quant] is not installed")

IDS = torch.tensor([[5, 6, 7, 8, 9]])
GROUPS = random_groups(4, (2, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tiny_lm(scale=2.0), tmp_path_factory.mktemp("quant") / "model")


def with_adapter(folder, kind, compute="float32"):
    """An adapter that has learned something, on quantised weights."""
    lm = attach(load_quantised(folder, kind, compute=compute), LoraConfig(r=4), seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in lm.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.1, generator=generator)
    return lm


@pytest.mark.parametrize(("kind", "bits", "bound"), [("nf4", 4, 0.5), ("int8", 8, 0.05)])
def test_linear_layers_are_quantised_and_little_is_lost(folder, kind, bits, bound):
    lm, plain = load_quantised(folder, kind, compute="float32"), load(folder)
    small = [p for p in lm.model.parameters() if not p.is_floating_point()]
    layers = [m for m in plain.model.model.layers.modules() if isinstance(m, torch.nn.Linear)]
    assert sum(p.numel() * p.element_size() * 8 for p in small) == bits * sum(
        m.weight.numel() for m in layers
    )
    assert lm.model.lm_head.weight.dtype == torch.float32
    off = (lm.model(IDS).logits - plain.model(IDS).logits).abs().max()
    assert 0 < off < bound
    assert lm.fingerprint != plain.fingerprint
    assert is_quantised(lm.model)
    assert not is_quantised(plain.model)


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_packed_equals_one_sequence_at_a_time(folder, kind):
    lm = with_adapter(folder, kind)
    scorer = ResponseScorer(lm.model)
    assert scorer.padded_because is None
    with torch.no_grad(), scorer.scored(GROUPS) as packed:
        found = packed.logp_R
    expected = []
    for group in GROUPS:
        for response in group.responses:
            logits = lm.model(torch.tensor([group.prompt_T + response])).logits[0].detach()
            rows = torch.log_softmax(logits, -1)[len(group.prompt_T) - 1 : -1]
            expected.append(rows.gather(1, torch.tensor(response)[:, None])[:, 0])
    # int8 products round their inputs to half precision.
    torch.testing.assert_close(
        found, torch.cat(expected), rtol=0, atol=1e-5 if kind == "nf4" else 2e-2
    )


def test_weights_are_the_same_before_and_after_an_evaluation(folder):
    lm = load_quantised(folder, "nf4", compute="float32")
    before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    with torch.no_grad():
        lm.model.eval()(IDS)
    after = lm.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(("kind", "bound"), [("nf4", 1e-5), ("int8", 2e-2)])
def test_the_merged_model_computes_what_was_trained(folder, kind, bound, tmp_path):
    lm = with_adapter(folder, kind)
    trained = lm.model(IDS).logits
    with adapter_off(lm.model):
        assert (lm.model(IDS).logits - trained).abs().max() > 0.1
    adapter = save(lm, tmp_path / "adapter", adapter_only=True)
    with pytest.raises(BadInput, match="would be rounded away"):
        save(lm, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()
    whole = load(save(merged(lm), tmp_path / "whole"))
    assert {p.dtype for p in whole.model.parameters()} == {torch.float32}
    torch.testing.assert_close(whole.model(IDS).logits, trained, rtol=0, atol=bound)
    # On the weights as they were before, the same adapter makes another model.
    other = load(folder, adapter=adapter).model(IDS).logits
    assert (other - trained).abs().max() > (0.05 if kind == "nf4" else 1e-4)


def test_bfloat16_products_are_close_after_merging(folder):
    lm = with_adapter(folder, "nf4", "bfloat16")
    trained = lm.model(IDS).logits.float()
    torch.testing.assert_close(merged(lm).model(IDS).logits, trained, rtol=0, atol=0.1)


def test_only_the_adapter_gets_gradients(folder):
    lm = with_adapter(folder, "nf4")
    with ResponseScorer(lm.model).scored(GROUPS) as scored:
        scored.sequence_N().sum().backward()
    names = [name for name, p in lm.model.named_parameters() if p.grad is not None]
    assert names
    assert all("lora_" in name for name in names)


def test_what_cannot_be_done_is_said(folder, monkeypatch):
    with pytest.raises(BadInput, match="reward model is made of plain weights"):
        with_reward_head(load_quantised(folder, "nf4", compute="float32"), seed=0)
    monkeypatch.setattr(quant.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install 'alignlab\[quant\]', or choose quant=none"):
        load_quantised(folder, "nf4", compute="float32")
    with pytest.raises(BadInput, match="int8 needs bitsandbytes"):
        require_bitsandbytes("int8")


def test_an_adapters_merged_weights_are_quantised(folder, tmp_path):
    lm = attach(load(folder), LoraConfig(r=4), seed=0)
    for name, parameter in lm.model.named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(0.1)
    save_adapter(lm, tmp_path / "adapter")
    whole = save(merged(lm), tmp_path / "whole")
    found = load_quantised(tmp_path / "adapter", "int8", compute="float32")
    expected = load_quantised(whole, "int8", compute="float32")
    assert torch.equal(found.model(IDS).logits, expected.model(IDS).logits)
    assert (found.name, found.path) == ("adapter", str(tmp_path / "adapter"))
