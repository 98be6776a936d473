"""Section of `gpu.py`: the fast paths on this device give what the plain ones and the CPU give."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from gpu_common import DEVICE, Row, Sizes, apart, relative
from random_pairs import random_groups

from alignlab.generation.decode import DecodeBatch, decode
from alignlab.generation.shared import Reader
from alignlab.models import flex
from alignlab.models.load import LanguageModel, load
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import ResponseScorer
from alignlab.models.tiles import layout
from alignlab.objectives.dpo import DPO
from alignlab.objectives.sft import SFT
from alignlab.training.config import TrainConfig
from alignlab.training.loop import train

TOLERANCE = 1e-4
"""Largest accepted difference in float32: nats of a token, share of a gradient's norm."""


def right(sizes: Sizes) -> list[Row]:
    """Packed against padded, greedy against transformers, two steps against the CPU's."""
    groups = random_groups(sizes.lengths, 6, 2, sizes.vocabularies["right"], seed=sizes.seed)
    truth = load(f"{sizes.folder}/right", dtype="float32", device=DEVICE)
    exact = _scored(_padded(truth), groups)
    packed = _scored(_by(layout, truth), groups)
    rows = [
        _held("packed log-probabilities in float32, nats", apart(packed[0], exact[0])),
        _held("packed gradients in float32, relative", relative(packed[1], exact[1])),
    ]
    if DEVICE.type == "cuda":
        found = _scored(_by(flex.spans, truth), groups)
        rows += [
            _held("FlexAttention, log-probabilities in float32, nats", apart(found[0], exact[0])),
            _held("FlexAttention, gradients in float32, relative", relative(found[1], exact[1])),
        ]
    half = load(f"{sizes.folder}/right", dtype="bfloat16", device=DEVICE)
    ours, theirs = (
        float((_scored(s, groups)[0] - exact[0]).abs().mean())
        for s in (_by(layout, half), _padded(half))
    )
    rows.append(
        {
            "what": "bfloat16 from float32, mean nats: packed, padded",
            "ours": ours,
            "theirs": theirs,
            "ratio": ours / theirs,
            "n": sum(g.response_tokens for g in groups),
            "bar": "<= 1.5 + 0.01 nats",
            "held": ours <= 1.5 * theirs + 0.01,
        }
    )
    rows.append(_greedy(truth, [g.prompt_T for g in groups]))
    return [*rows, *_like_the_cpu(sizes, groups)]


def _padded(lm: LanguageModel) -> ResponseScorer:
    return ResponseScorer(lm.model, padded_because="compared with")


def _by(make: Any, lm: LanguageModel) -> ResponseScorer:
    """Score packed groups by tiles or FlexAttention, whichever this machine would choose."""
    scorer = ResponseScorer(lm.model)
    scorer._layout = make
    return scorer


def _scored(
    scorer: ResponseScorer, groups: Sequence[TokenGroup]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of all tokens, and the gradient of a weighted sum, in one vector."""
    scorer.base.zero_grad()
    with scorer.scored(groups) as found:
        sums = found.sequence_N()
        (sums * torch.linspace(-1, 1, len(sums), device=sums.device)).sum().backward()
    gradients = [p.grad.float().flatten() for p in scorer.base.parameters() if p.grad is not None]
    return found.logp_R.detach().float(), torch.cat(gradients)


def _held(what: str, difference: float, most: float = TOLERANCE) -> Row:
    held = difference <= most
    return {"what": what, "difference": difference, "bar": f"<= {most:g}", "held": held}


def _greedy(lm: LanguageModel, prompts: Sequence[tuple[int, ...]], steps: int = 16) -> Row:
    """How many prompts get transformers' tokens at temperature 0."""
    device = lm.model.device
    batch = DecodeBatch(
        prompts=tuple(prompts),
        prompt_of_B=torch.arange(len(prompts), device=device),
        uniform_BT=torch.zeros((len(prompts), steps), dtype=torch.float64, device=device),
        limit_B=torch.full((len(prompts),), steps, device=device),
        temperature=0.0,
        top_p=1.0,
    )
    ours = decode(Reader(lm.model), batch, torch.tensor([], dtype=torch.long, device=device))
    lm.model.generation_config.eos_token_id = None
    equal = 0
    for prompt, own in zip(prompts, ours.tokens_BT.tolist(), strict=True):
        ids = torch.tensor([prompt], device=device)
        found = lm.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=steps,
            pad_token_id=0,
        )
        equal += found[0, len(prompt) :].tolist() == own
    return {
        "what": "greedy answers equal to transformers', of n",
        "ours": equal,
        "n": len(prompts),
        "bar": "all",
        "held": equal == len(prompts),
    }


def _like_the_cpu(sizes: Sizes, groups: Sequence[TokenGroup]) -> Iterator[Row]:
    """Losses of two steps on this device and on the CPU."""
    config = TrainConfig(lr=1e-4, batch_size=3, dtype="float32", save_every=0, log_every=1)
    for name, objective in (("SFT", SFT()), ("DPO", DPO())):
        losses: dict[str, list[float]] = {}
        for device in ("cpu", DEVICE.type):
            found = losses[device] = []
            lm = load(f"{sizes.folder}/right", dtype="float32", device=device)

            def on_step(means: Mapping[str, float], step: int, total: int, found=found) -> None:  # type: ignore[no-untyped-def]
                found.append(means["loss"])

            given = [replace(g, responses=g.responses[: 1 if name == "SFT" else 2]) for g in groups]
            with tempfile.TemporaryDirectory() as out:
                train(lm, objective, given, config, out, on_step=on_step)
        both = zip(losses["cpu"], losses[DEVICE.type], strict=True)
        worst = max(abs(a - b) for a, b in both)
        yield _held(f"{name}, losses of two steps from the CPU's", worst, 1e-3)
