"""The fast paths on a GPU give what the plain ones give (`pytest -m gpu`; skipped without one)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from alignlab.generation.decode import DecodeBatch, decode
from alignlab.generation.shared import Reader
from alignlab.models import flex, kernels
from alignlab.models.adapters import LoraConfig
from alignlab.models.load import LanguageModel, load, save
from alignlab.models.quant import load_quantised
from alignlab.models.scorer import ResponseScorer
from alignlab.models.tiles import layout
from alignlab.objectives.dpo import DPO
from alignlab.training.config import TrainConfig
from alignlab.training.loop import train
from tests.models.helpers import random_groups, tiny_lm, tiny_model
from tests.models.test_packed_equals_plain import GROUPS

DEVICE = "cuda"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]
ARCHITECTURES = ["llama", "qwen2", "gemma2", "gemma3"]
"""Grouped keys, biases, soft caps, and sliding windows."""
QUICK = TrainConfig(
    lr=0.01, epochs=2, batch_size=4, token_budget=64, save_every=2, log_every=1, dtype="float32"
)


def placed() -> LanguageModel:
    lm = tiny_lm()
    return replace(lm, model=lm.model.to(DEVICE), device=torch.device(DEVICE))


def scored(scorer: ResponseScorer) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of all response tokens, and all gradients in one vector."""
    scorer.base.zero_grad()
    with scorer.scored(GROUPS) as found:
        sums = found.sequence_N()
        (sums * torch.linspace(-1, 1, len(sums), device=sums.device)).sum().backward()
    gradients = [p.grad.float().flatten() for p in scorer.base.parameters() if p.grad is not None]
    return found.logp_R.detach().float(), torch.cat(gradients)


def by_layout(model: Any, make: Any) -> ResponseScorer:
    scorer = ResponseScorer(model)
    assert scorer.padded_because is None
    scorer._layout = make
    return scorer


def assert_near(
    one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]
) -> None:
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=1e-4)
    assert (one[1] - other[1]).norm() <= 1e-4 * other[1].norm()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_packed_equals_plain(name: str) -> None:
    model = tiny_model(name).to(DEVICE)
    padded = ResponseScorer(model, padded_because="compared with")
    assert_near(scored(by_layout(model, layout)), scored(padded))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_bfloat16_is_packed(name: str) -> None:
    assert ResponseScorer(tiny_model(name).to(DEVICE, torch.bfloat16)).padded_because is None


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_flex_attention_equals_the_tiles(name: str) -> None:
    model = tiny_model(name).to(DEVICE)
    assert_near(scored(by_layout(model, flex.spans)), scored(by_layout(model, layout)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_flex_attention_is_measured(dtype: torch.dtype) -> None:
    """0 would say that it failed or gave other gradients."""
    assert kernels.compare(kernels.Shape(8, 2, 64), dtype, torch.device(DEVICE)) > 0


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_greedy_tokens_are_those_of_transformers(name: str) -> None:
    model, prompts, steps = tiny_model(name).to(DEVICE), [g.prompt_T for g in GROUPS], 12
    batch = DecodeBatch(
        prompts=tuple(prompts),
        prompt_of_B=torch.arange(len(prompts), device=DEVICE),
        uniform_BT=torch.zeros((len(prompts), steps), dtype=torch.float64, device=DEVICE),
        limit_B=torch.full((len(prompts),), steps, device=DEVICE),
        temperature=0.0,
        top_p=1.0,
    )
    reader = Reader(model)
    assert reader.fallback is None
    found = decode(reader, batch, torch.tensor([], dtype=torch.long, device=DEVICE))
    model.generation_config.eos_token_id = None
    for prompt, tokens in zip(prompts, found.tokens_BT.tolist(), strict=True):
        ids = torch.tensor([prompt], device=DEVICE)
        own = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=steps,
            pad_token_id=0,
        )
        assert own[0, len(prompt) :].tolist() == tokens


@pytest.mark.parametrize("lora", [None, LoraConfig(r=2)], ids=["all weights", "lora"])
def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path, lora: Any) -> None:
    groups, config = random_groups(16, (2,)), replace(QUICK, lora=lora)

    def kill(metrics: Any, step: int, total: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    whole = train(placed(), DPO(), groups, config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(placed(), DPO(), groups, config, tmp_path / "killed", on_step=kill)
    resumed = train(placed(), DPO(), groups, config, tmp_path / "killed")
    assert resumed.resumed_from == 4
    assert resumed.steps == whole.steps == 8
    one, other = (load_file(f"{r.lm.path}/model.safetensors") for r in (whole, resumed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("quant", ["none", "nf4"])
def test_an_adapter_learns(tmp_path: Path, quant: Any) -> None:
    if quant != "none":
        pytest.importorskip("bitsandbytes", reason="the extra [quant] is not installed")
    folder = save(tiny_lm(scale=2.0), tmp_path / "model")
    lm = (
        load(folder, device=DEVICE)
        if quant == "none"
        else load_quantised(folder, quant, compute="float32", device=DEVICE)
    )
    losses: list[float] = []
    config = replace(QUICK, epochs=10, save_every=0, lora=LoraConfig(r=4), quant=quant)
    train(
        lm, DPO(), random_groups(4, (2,)), config, tmp_path / "out",
        on_step=lambda means, step, total: losses.append(means["loss"]),
    )  # fmt: skip
    # The first loss is that of a policy that equals its reference.
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[-1] < 0.5
