"""Trains a base model on the sandbox's text: one thread, fp32, the same on every run."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from alignlab.sandbox.world import world
from scripts.pretrain_sandbox.corpus import CorpusConfig, documents
from scripts.pretrain_sandbox.knowledge import all_facts, knows
from scripts.pretrain_sandbox.tokenizer import train_tokenizer

TOKENIZER_DOCUMENTS = 6000


@dataclass(frozen=True)
class PretrainConfig:
    """How a base model is made."""

    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    """What it reads."""
    seed: int = 0
    """Decides the corpus, the first weights and the withheld facts."""
    steps: int = 1200
    """Optimiser steps; each reads rows x length tokens that no other step reads."""
    rows: int = 8
    """Sequences per step."""
    length: int = 256
    """Tokens per sequence."""
    lr: float = 4e-3
    """Peak learning rate; warm-up over the first 5% of the steps, then a cosine to zero."""
    log_every: int = 10
    """Steps between lines of the log; the first ten steps are always logged."""


WORLDS: dict[str, PretrainConfig] = {
    "knows_all": PretrainConfig(),
    "knows_three_quarters": PretrainConfig(corpus=CorpusConfig(withheld=0.25)),
}
"""The base models that ship with the package."""


@dataclass(frozen=True)
class PretrainStep:
    """One optimiser step as logged."""

    step: int
    loss: float
    """Mean cross-entropy in nats per token."""
    lr: float
    tokens: int
    """Tokens read so far."""


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of about 0.9 million parameters with seeded weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def new_tokenizer(config: PretrainConfig) -> PreTrainedTokenizerFast:
    """The tokenizer that the configuration's corpus gives; it sees all towns alike."""
    everywhere = replace(config.corpus, focus_documents=0)
    return train_tokenizer(islice(documents(everywhere, config.seed), TOKENIZER_DOCUMENTS))


def batches(config: PretrainConfig, tokenizer: PreTrainedTokenizerFast) -> Iterator[torch.Tensor]:
    """Batches of token ids, shape (rows, length), cut from one stream of documents."""
    stream: list[int] = []
    need = config.rows * config.length
    texts = documents(config.corpus, config.seed)
    while True:
        while len(stream) < need:
            chunk = tokenizer(list(islice(texts, 256)), add_special_tokens=False)["input_ids"]
            stream += [token for ids in chunk for token in (*ids, tokenizer.eos_token_id)]
        yield torch.tensor(stream[:need]).view(config.rows, config.length)
        del stream[:need]


def learning_rate(config: PretrainConfig, step: int) -> float:
    """The learning rate of a step, counted from 0."""
    warm = max(1, config.steps // 20)
    if step < warm:
        return config.lr * (step + 1) / warm
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, config.steps - warm)))


def train_steps(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, config: PretrainConfig
) -> Iterator[PretrainStep]:
    """Train the model in place, yielding after every optimiser step."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.95), fused=True)
    for step, ids_BT in enumerate(islice(batches(config, tokenizer), config.steps)):
        lr = learning_rate(config, step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        logits_BTV = model(input_ids=ids_BT[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield PretrainStep(step, loss.item(), lr, (step + 1) * ids_BT.numel())


def pretrain(config: PretrainConfig, out: Path) -> None:
    """Make a base model under `out`: bf16 weights, tokenizer, `pretrain.json`, `log.jsonl`."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    (out / "pretrain.json").write_text(json.dumps(asdict(config), indent=2) + "\n")
    tokenizer = new_tokenizer(config)
    model = new_model(tokenizer, config.seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    started = time.monotonic()
    with (out / "log.jsonl").open("w") as log:
        for step in train_steps(model, tokenizer, config):
            if step.step < 10 or step.step % config.log_every == 0 or step.step + 1 == config.steps:
                log.write(json.dumps(asdict(step)) + "\n")
            if step.step % 50 == 0 or step.step + 1 == config.steps:
                took = time.monotonic() - started
                print(f"step {step.step} loss {step.loss:.3f} {took:.0f} s", flush=True)
    model.bfloat16().save_pretrained(out)
    model.float().eval()  # type: ignore[no-untyped-call]
    known = knows(model, tokenizer, all_facts(world().entities))
    print(f"knows {sum(known)} of {len(known)} facts", flush=True)
    tokenizer.save_pretrained(out)
