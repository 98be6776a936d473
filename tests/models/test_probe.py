"""Probes refuse a wrong path and accept one that only rounds otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from alignlab.generation import one_query
from alignlab.generation.one_query import OneQueryCache
from alignlab.generation.shared import Reader, SharedReading
from alignlab.models import attention, probe, scorer, tile_attention, tiles
from alignlab.models.packed import pack
from alignlab.models.scorer import ResponseScorer
from tests.models.helpers import tiny_model, tiny_tokenizer

DTYPES = [torch.float32, torch.bfloat16]
REAL_WINDOW = 512
"""Longer than the probe's text, as in Gemma 3."""


def windowed(dtype: torch.dtype):
    """A Gemma 3 whose window no short text passes over."""
    model = tiny_model("gemma3")
    for owner in (model.config, *model.modules()):
        if getattr(owner, "sliding_window", None) == 6:
            owner.sliding_window = REAL_WINDOW
    return model.to(dtype)


def broken(fault, faults, dtype, monkeypatch):
    """A model of the fault's architecture; the path to it is broken."""
    name, break_it = faults[fault]
    model = tiny_model(name) if name != "gemma3" else windowed(dtype)
    if name == "gemma2":
        model.set_attn_implementation("eager")
        for layer in model.model.layers:
            layer.self_attn.attn_logit_softcapping = 5.0
    break_it(monkeypatch)
    return model.to(dtype)


@pytest.fixture(params=DTYPES, ids=["float32", "bfloat16"])
def dtype(request):
    return request.param


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma2", "gemma3"])
def test_right_paths_pass(name, dtype):
    model = tiny_model(name).to(dtype)
    tokenizer = tiny_tokenizer()
    assert ResponseScorer(model, tokenizer=tokenizer).padded_because is None
    assert Reader(model, tokenizer).fallback is None


def test_a_model_is_left_as_it_was():
    model = windowed(torch.bfloat16).train()
    layers, before = model.model.layers, {n: p.data for n, p in model.named_parameters()}
    ResponseScorer(model)
    Reader(model)
    assert model.training
    assert model.model.layers is layers
    assert model.config.sliding_window == REAL_WINDOW
    assert {layer.self_attn.sliding_window for layer in layers} == {REAL_WINDOW}
    assert all(p.data.data_ptr() == before[n].data_ptr() for n, p in model.named_parameters())


def _other_options(monkeypatch, **changed):
    """Let the packed attention compute with other options than the model asked for."""
    plain = attention.AttentionOptions
    monkeypatch.setattr(
        attention, "AttentionOptions", lambda *args: replace(plain(*args), **changed)
    )


def _no_causal_mask(monkeypatch):
    whole = tiles._masks

    def wrong(*args):
        found = whole(*args)
        return found._replace(causal_QQ=torch.zeros_like(found.causal_QQ))

    monkeypatch.setattr(tiles, "_masks", wrong)


def _positions_run_on(monkeypatch):
    """Let the second response's positions follow the first one's."""

    def wrong(groups, device, root):
        made = pack(groups, device, root)
        return replace(made, position_1T=torch.arange(made.token_1T.shape[1])[None])

    monkeypatch.setattr(scorer, "pack", wrong)


def _prompt_row_for_none(monkeypatch):
    """Let the previous response predict a response's first token."""

    def wrong(groups, device, root):
        made = pack(groups, device, root)
        row_R = made.row_R.clone()
        row_R[len(groups[0].responses[0])] += len(groups[0].responses[0])
        return replace(made, row_R=row_R)

    monkeypatch.setattr(scorer, "pack", wrong)


def _no_final_cap(monkeypatch):
    whole = scorer.row_logps
    monkeypatch.setattr(scorer, "row_logps", lambda *args, softcap: whole(*args, softcap=None))


PACKED_FAULTS = {
    "final soft cap lost": ("gemma2", _no_final_cap),
    "window ignored": ("gemma3", lambda m: _other_options(m, window=None)),
    "window one too long": ("gemma3", lambda m: _other_options(m, window=5)),
    "soft cap lost": ("gemma2", lambda m: _other_options(m, softcap=None)),
    "scale": ("llama", lambda m: _other_options(m, scale=0.34)),
    "no causal mask": ("llama", _no_causal_mask),
    "positions": ("qwen2", _positions_run_on),
    "first token": ("llama", _prompt_row_for_none),
}


@pytest.mark.parametrize("fault", PACKED_FAULTS)
def test_wrong_packed_paths_are_refused(fault, dtype, monkeypatch):
    model = broken(fault, PACKED_FAULTS, dtype, monkeypatch)
    assert "other values in float32" in ResponseScorer(model).padded_because


def _other_call(monkeypatch, **changed):
    plain = one_query.AttentionCall
    monkeypatch.setattr(one_query, "AttentionCall", lambda *a: plain(*a)._replace(**changed))


def _padding_seen(monkeypatch):
    whole = one_query.bucket
    monkeypatch.setattr(
        "alignlab.generation.shared.bucket",
        lambda layers, real_GP, *args, **kw: whole(layers, torch.ones_like(real_GP), *args, **kw),
    )


def _own_token_unseen(monkeypatch):
    whole = OneQueryCache._mask

    def wrong(self, b, window, places, like):
        mask_L1S = whole(self, b, window, places, like)
        mask_L1S[..., b.real_GP.shape[1]] = -torch.inf if self.step else 0
        return mask_L1S

    monkeypatch.setattr(OneQueryCache, "_mask", wrong)


def _positions_late(monkeypatch):
    whole = SharedReading.start

    def wrong(self, prompt_of_L, steps):
        found = whole(self, prompt_of_L, steps)
        self._position_L1 = self._position_L1 + 1
        return found

    monkeypatch.setattr(SharedReading, "start", wrong)


SHARED_FAULTS = {
    "window ignored": ("gemma3", lambda m: _other_call(m, window=None)),
    "window one too long": ("gemma3", lambda m: _other_call(m, window=5)),
    "soft cap lost": ("gemma2", lambda m: _other_call(m, softcap=None)),
    "padding seen": ("llama", _padding_seen),
    "own token unseen": ("qwen2", _own_token_unseen),
    "positions": ("llama", _positions_late),
}


@pytest.mark.parametrize("fault", SHARED_FAULTS)
def test_wrong_shared_paths_are_refused(fault, dtype, monkeypatch):
    model = broken(fault, SHARED_FAULTS, dtype, monkeypatch)
    assert "other values in float32" in Reader(model).fallback


def test_a_fault_of_half_precision_alone_is_refused(monkeypatch):
    """Probabilities of bfloat16 scores that are cut to three digits."""
    whole = attention.probabilities

    def coarse(*args):
        return [
            replace(b, probability=(b.probability * 8).round() / 8)
            if b.probability.dtype == torch.bfloat16
            else b
            for b in whole(*args)
        ]

    monkeypatch.setattr(attention, "probabilities", coarse)
    model = tiny_model("llama")
    assert ResponseScorer(model).padded_because is None
    reason = ResponseScorer(model.bfloat16()).padded_because
    assert "nats from float32, the model's own" in reason


def test_rounding_alone_is_no_fault():
    """Log-probabilities that bfloat16 moves by more than a quarter of a nat, on both paths."""
    model = tiny_model("qwen2")
    model.lm_head.weight.data *= 30
    groups = probe.probe_groups(97)
    own = ResponseScorer(model, padded_because="asked for")
    with torch.no_grad(), own.scored(groups) as found:
        exact = found.logp_R
    model.bfloat16()
    with torch.no_grad(), own.scored(groups) as found:
        assert (found.logp_R - exact).abs().max() > probe.HALF_TOLERANCE
    assert ResponseScorer(model).padded_because is None
    assert Reader(model).fallback is None


def test_a_large_model_is_compared_on_its_first_layers(monkeypatch):
    model = tiny_model("gemma2")  # layers: sliding, full
    assert model.config.layer_types == ["sliding_attention", "full_attention"]
    layers = model.model.layers
    size = sum(p.numel() for p in layers[0].parameters())
    count = probe._layers_compared
    monkeypatch.setattr(probe, "LAYER_PARAMETERS", size)
    assert count(layers, None) == 1
    assert count(layers, model.config.layer_types) == 2
    assert count([*layers] * 4, ["sliding"] * 5 + ["full"] * 3) == 6
    monkeypatch.setattr(probe, "LAYER_PARAMETERS", 5 * size)
    assert count([*layers] * 4, None) == 5
    seen = []
    hooks = [layer.register_forward_hook(lambda m, i, o: seen.append(m)) for layer in layers]
    monkeypatch.setattr(probe, "LAYER_PARAMETERS", 1)
    model.config.layer_types = ["sliding_attention"] * 2
    assert ResponseScorer(model).padded_because is None
    assert {id(m) for m in seen} == {id(layers[0])}
    for hook in hooks:
        hook.remove()


def test_a_model_is_probed_once(monkeypatch):
    model = tiny_model("llama")
    ResponseScorer(model)
    monkeypatch.setattr(ResponseScorer, "_probe", lambda self: pytest.fail("probed again"))
    assert ResponseScorer(model).padded_because is None
    with pytest.raises(pytest.fail.Exception):
        ResponseScorer(model.bfloat16())


def test_text_is_the_tokenizers_where_the_model_knows_it():
    tokenizer = tiny_tokenizer()
    groups = probe.probe_groups(97, tokenizer)
    assert tokenizer.decode(groups[0].prompt_T) == "Hello"
    assert [len(g.responses) for g in groups] == [2, 2, 2]
    lengths = [len(g.prompt_T) for g in groups]
    assert lengths == sorted(lengths)
    tokens = [t for g in probe.probe_groups(20, tokenizer) for t in g.prompt_T]
    assert max(tokens) < 20
    assert {t for g in probe.probe_groups(50_000) for t in g.prompt_T} <= set(range(300, 3000))


def test_large_keys_need_scores_in_float32(monkeypatch):
    # Biases as large as Qwen 2's: a constant part of the scores, which no probability sees.
    model = tiny_model("qwen2")
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.k_proj.bias.copy_(torch.randn_like(layer.self_attn.k_proj.bias) * 40)
            layer.self_attn.q_proj.bias.copy_(torch.randn_like(layer.self_attn.q_proj.bias) * 10)
    model = model.to(torch.bfloat16)
    # The tiny model's values hardly depend on its attention: a tenth more error decides here.
    monkeypatch.setattr(probe, "ERROR_RATIO", 1.1)
    monkeypatch.setattr(probe, "ERROR_MARGIN", 0.001)
    assert ResponseScorer(model).padded_because is None
    probe._found.clear()
    monkeypatch.setattr(tile_attention, "at_least_float32", lambda tensor: tensor)
    assert "nats from float32" in str(ResponseScorer(model).padded_because)
