"""The packed forward against one-sequence-at-a-time transformers forwards."""

from __future__ import annotations

import logging

import pytest
import torch

from alignlab.models import attention, head, tiles
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import ResponseScorer, padding_cost
from tests.models.helpers import random_groups, tiny_model

PACKED = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi", "phi3", "gpt_neox",
          "olmo2", "gpt2"]  # fmt: skip
PLAIN = ["gptj", "falcon", "falcon_alibi"]
GROUPS = [
    TokenGroup("k2", tuple(range(5, 25)), (tuple(range(20, 33)), tuple(range(40, 47)))),
    TokenGroup("k3", tuple(range(50, 57)), (tuple(range(7, 15)), tuple(range(60, 77)), (4,))),
    TokenGroup("k1", (9,), ((4, 5),)),
    *random_groups(5, (2, 1), seed=3),
]


def one_at_a_time(model, groups):
    """Token log-probabilities and gradients by plain forwards of single sequences."""
    model.zero_grad()
    found = []
    sums = []
    for group in groups:
        for response in group.responses:
            ids = torch.tensor([group.prompt_T + response])
            logits = model(input_ids=ids, use_cache=False).logits[0].double()
            start = len(group.prompt_T) - 1
            rows = torch.log_softmax(logits[start : start + len(response)], dim=-1)
            logps = rows.gather(1, torch.tensor(response)[:, None])[:, 0]
            found.append(logps.detach())
            sums.append(logps.sum())
    weights = torch.linspace(-1, 1, len(sums), dtype=torch.float64)
    (torch.stack(sums) * weights).sum().backward()
    return torch.cat(found), gradients(model)


def scored(model, scorer, groups):
    model.zero_grad()
    with scorer.scored(groups) as logps:
        sums = logps.sequence_N()
        (sums * torch.linspace(-1, 1, len(sums), dtype=torch.float64)).sum().backward()
    return logps.logp_R.detach().double(), gradients(model)


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(one, other):
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=1e-5)
    assert one[1].keys() == other[1].keys()
    whole = torch.cat([g.flatten() for g in one[1].values()]).norm()
    for name, gradient in one[1].items():
        off = (gradient - other[1][name]).norm()
        # A key's bias has a gradient of zero but for rounding; compare it with the whole.
        assert off <= 1e-5 * max(gradient.norm(), 1e-3 * whole), name


@pytest.mark.parametrize("name", PACKED)
def test_packed_is_exact(name):
    model = tiny_model(name)
    scorer = ResponseScorer(model)
    assert scorer.padded_because is None
    assert scorer.limit is None
    assert_same(one_at_a_time(model, GROUPS), scored(model, scorer, GROUPS))


@pytest.mark.parametrize("name", PLAIN)
def test_models_without_the_interface_run_plain(name, caplog):
    model = tiny_model(name)
    with caplog.at_level(logging.WARNING):
        scorer = ResponseScorer(model)
        assert_same(one_at_a_time(model, GROUPS), scored(model, scorer, GROUPS))
        scored(model, scorer, GROUPS)
    assert "does not use transformers' attention interface" in scorer.padded_because
    (record,) = [r for r in caplog.records if "plain per-sequence" in r.message]
    assert padding_cost(GROUPS) in record.message


def test_the_cost_of_padding_is_counted():
    """Packed: 2 + 1 + 3 and 4 + 2 tokens. Padded: three sequences of 6 positions."""
    groups = [TokenGroup("a", (5, 6), ((7,), (8, 9, 10))), TokenGroup("b", (5,) * 4, ((7, 8),))]
    assert padding_cost(groups) == (
        "the first batch reads 1.5 times the positions of a packed one, and holds the logits of "
        "3.0 times the rows"
    )


def test_blocks_chunks_tiles_and_recomputation_change_nothing(monkeypatch):
    model = tiny_model("gemma2")
    before = scored(model, ResponseScorer(model), GROUPS)
    monkeypatch.setattr(tiles, "QUERY_BLOCK", 3)
    monkeypatch.setattr(attention, "KEEP_BYTES", 0)
    monkeypatch.setattr(head, "PANEL_ELEMENTS", 97 * 7)
    monkeypatch.setattr(head, "CHUNK_ELEMENTS", 97 * 4)
    monkeypatch.setattr(head, "LEAST_ROWS", 1)
    monkeypatch.setattr(head, "KEEP_BYTES", 0)
    monkeypatch.setattr(tiles, "TILE_COST", 0)
    assert_same(before, scored(model, ResponseScorer(model), GROUPS))


def test_checkpointed_layers_keep_their_layout():
    model = tiny_model("llama")
    scorer = ResponseScorer(model)
    before = scored(model, scorer, GROUPS)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    assert_same(before, scored(model, scorer, GROUPS))


def test_attention_implementation_is_put_back():
    model = tiny_model("llama")
    before = model.config._attn_implementation
    scorer = ResponseScorer(model)
    with scorer.scored(GROUPS):
        assert model.config._attn_implementation == attention.NAME
    assert model.config._attn_implementation == before


def test_a_model_that_computes_otherwise_is_found_by_the_probe(monkeypatch):
    """Scores that are bent after the hidden state, without the configuration saying so."""
    model = tiny_model("llama")
    plain = type(model).forward

    def bent(self, *args, **kwargs):
        out = plain(self, *args, **kwargs)
        out.logits = out.logits * 0.5
        return out

    monkeypatch.setattr(type(model), "forward", bent)
    assert "other values in float32" in ResponseScorer(model).padded_because


def test_unknown_window_limits_the_packed_forward():
    """A window in the configuration that attention calls do not name."""
    model = tiny_model("llama")
    model.config.sliding_window = 16
    scorer = ResponseScorer(model)
    assert scorer.limit == 16
    with scorer.scored(GROUPS[2:3]):
        assert scorer.padded_because is None
    with scorer.scored(GROUPS[:1]):
        assert "attention window of 16" in scorer.padded_because


def test_bfloat16_is_close():
    model = tiny_model("llama", scale=2.0)
    expected, _ = one_at_a_time(model, GROUPS)
    half = model.to(torch.bfloat16)
    scorer = ResponseScorer(half)
    assert scorer.padded_because is None
    found, _ = scored(half, scorer, GROUPS)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.1)
