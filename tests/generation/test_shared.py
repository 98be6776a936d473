"""Samples that share their prompt's attention, against a copy of the prompt for every sample."""

from __future__ import annotations

import logging

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from alignlab.generation import shared
from alignlab.generation.decode import DecodeBatch, Decoded, decode
from alignlab.generation.forward import PlainReading
from alignlab.generation.one_query import CHUNK
from alignlab.generation.shared import Reader, SharedReading
from alignlab.models.adapters import LoraConfig, attach
from tests.generation.tiny import tiny
from tests.models.helpers import tiny_model

SERVED = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "phi",
    "phi3",
    "gpt_neox",
    "olmo2",
    "gpt2",
]
PLAIN = ["gptj", "falcon", "falcon_alibi"]
END = torch.tensor([2])


def _batch(rows_of: tuple[int, ...], steps: int, *, top_p: float = 0.9) -> DecodeBatch:
    """Prompts of rising and falling length with so many rows each, the rows shuffled."""
    rng = torch.Generator().manual_seed(5)
    prompts = [
        tuple(torch.randint(3, 97, (3 + 17 * (k % 3) + k,), generator=rng).tolist())
        for k in range(len(rows_of))
    ]
    prompt_of = torch.arange(len(rows_of)).repeat_interleave(torch.tensor(rows_of))
    prompt_of = prompt_of[torch.randperm(len(prompt_of), generator=rng)]
    return DecodeBatch(
        prompts=tuple(prompts),
        prompt_of_B=prompt_of,
        uniform_BT=torch.rand((len(prompt_of), steps), dtype=torch.float64, generator=rng),
        limit_B=torch.randint(1, steps + 1, (len(prompt_of),), generator=rng),
        temperature=1.0,
        top_p=top_p,
    )


def _plainly(model, batch: DecodeBatch) -> Decoded:
    return decode(lambda prompts, steps: PlainReading(model, prompts), batch, END)


def _assert_equal(found: Decoded, expected: Decoded) -> None:
    assert found.length_B.tolist() == expected.length_B.tolist()
    for row, length in enumerate(expected.length_B.tolist()):
        assert found.tokens_BT[row, :length].tolist() == expected.tokens_BT[row, :length].tolist()
        torch.testing.assert_close(
            found.logprobs_BT[row, :length], expected.logprobs_BT[row, :length], atol=1e-3, rtol=0
        )


@pytest.mark.parametrize("reading", ["shared", "plain"])
def test_a_frozen_head_is_multiplied_once_for_all_prompts(reading: str) -> None:
    # torch copies a frozen weight once per prompt for states that are a view with gaps.
    model = tiny("qwen2").model.requires_grad_(False)
    gaps: list[bool] = []
    head = model.get_output_embeddings()
    head.register_forward_pre_hook(lambda _, inputs: gaps.append(not inputs[0].is_contiguous()))
    batch = _batch((2, 1, 3), steps=3)
    if reading == "plain":
        _plainly(model, batch)
    else:
        decode(Reader(model), batch, END)
    assert len(gaps) >= 3
    assert not any(gaps)


@pytest.mark.parametrize("kind", SERVED)
def test_equals_plain(kind: str) -> None:
    """Unequal numbers of rows, rows and prompts that end early, more tokens than one chunk."""
    model = tiny_model(kind)
    reader = Reader(model)
    assert reader.fallback is None
    batch = _batch((4, 1, 3, 5, 2, 1), CHUNK + 9)
    assert isinstance(reader(sorted(batch.prompts, key=len), CHUNK + 9), SharedReading)
    _assert_equal(decode(reader, batch, END), _plainly(model, batch))


@pytest.mark.parametrize("kind", PLAIN)
def test_others_decode_plainly_with_a_reason(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "alignlab"):
        reader = Reader(tiny_model(kind))
        assert isinstance(reader([(3, 4)], 5), PlainReading)
        reader([(3, 4)], 5)
    assert "attention interface" in (reader.fallback or "")
    assert [r.message for r in caplog.records] == [
        f"samples do not share their prompt's attention: {reader.fallback}; {shared.COST}"
    ]


def test_prompts_in_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "WORTH_SPLITTING", 8)
    model = tiny_model("gemma2")
    batch = _batch((4, 1, 3, 5, 2, 1), 12)
    reading = SharedReading(Reader(model)._forward, [model.config], sorted(batch.prompts, key=len))
    reading.start(torch.arange(6), 12)
    assert [len(b.real_GP) for b in reading.cache.buckets] == [2, 2, 2]
    _assert_equal(decode(Reader(model), batch, END), _plainly(model, batch))


def test_spans_save_padding_where_it_is_much() -> None:
    assert shared._spans([10, 10, 12]) == [(0, 3)]
    # 40 prompts of 10 beside one of 500: 40 * 490 positions saved.
    assert shared._spans([10] * 40 + [500]) == [(0, 40), (40, 41)]
    assert len(shared._spans([10] * 40 + [200] * 40 + [900] * 9 + [3000] * 9 + [9000])) == 4


def test_a_half_precision_model_is_served() -> None:
    model = tiny_model(scale=1.0).bfloat16()
    reader = Reader(model)
    assert reader.fallback is None
    batch = _batch((3, 2), 6, top_p=1.0)
    found, expected = decode(reader, batch, END), _plainly(model, batch)
    assert (found.tokens_BT[:, 0] == expected.tokens_BT[:, 0]).all()
    assert (found.logprobs_BT[:, 0] - expected.logprobs_BT[:, 0]).abs().max() < 0.1


def test_a_window_that_attention_is_not_told_of_is_not_exceeded() -> None:
    model = tiny_model()
    model.config.sliding_window = 24
    reader = Reader(model)
    assert reader.fallback is None
    assert isinstance(reader([(3, 4)], 22), SharedReading)
    assert isinstance(reader([(3, 4)], 23), PlainReading)
    assert "window of 24" in (reader.fallback or "")


class _Sinks(LlamaForCausalLM):
    """A Llama whose attention is told of something that changes its result."""

    def forward(self, *args, **kwargs):
        return super().forward(*args, s_aux=torch.ones(4), **kwargs)


def test_attention_of_another_kind_is_noticed() -> None:
    config = LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=4,
    )  # fmt: skip
    model = _Sinks(config).eval()
    before = model.config._attn_implementation
    assert "s_aux" in (Reader(model).fallback or "")
    assert model.config._attn_implementation == before


def test_wrong_values_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    whole = SharedReading.step
    monkeypatch.setattr(SharedReading, "step", lambda self, token_L: 1.01 * whole(self, token_L))
    assert "other values" in (Reader(model).fallback or "")


def test_training_goes_on_with_the_attention_it_had() -> None:
    model = tiny_model()
    before = model.config._attn_implementation
    model.train()
    decode(Reader(model), _batch((2, 1), 4), END)
    assert model.training
    assert model.config._attn_implementation == before


def test_with_an_adapter() -> None:
    lm = attach(tiny("llama"), LoraConfig(r=2), seed=1)
    with torch.no_grad():
        for name, weight in lm.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(1))
    lm.model.eval()
    reader = Reader(lm.model)
    assert reader.fallback is None
    batch = _batch((3, 1), 8)
    _assert_equal(decode(reader, batch, END), _plainly(lm.model, batch))


def test_a_seeded_run_repeats_exactly() -> None:
    reader = Reader(tiny_model("qwen3"))
    batch = _batch((4, 2, 1), 20)
    first, second = decode(reader, batch, END), decode(reader, batch, END)
    assert torch.equal(first.tokens_BT, second.tokens_BT)
    assert torch.equal(first.logprobs_BT, second.logprobs_BT)


def test_soft_cap() -> None:
    """A cap low enough to matter, against transformers' eager attention, which knows it."""
    model = tiny_model("gemma2")
    model.set_attn_implementation("eager")
    uncapped = _plainly(model, _batch((2, 3), 10))
    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = 0.5
    reader = Reader(model)
    assert reader.fallback is None
    batch = _batch((2, 3), 10)
    expected = _plainly(model, batch)
    assert not torch.equal(expected.tokens_BT, uncapped.tokens_BT)
    _assert_equal(decode(reader, batch, END), expected)
