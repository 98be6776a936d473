"""Operations and bytes that work needs at least, and the machine's rates of both.

A product of an (a, b) and a (b, c) matrix is 2abc operations. A layer's weights take 2 operations
per number and token, the head 2 d V per scored position, and attention 4 H D per query and key
that it sees (d hidden, V vocabulary, H query heads, D per head; scores and weighted sum). Keys and
values of a token are 2 J D numbers a layer (J key heads). Norms, activations, softmax, sampling and
the embeddings' rows are not counted, and every window of attention counts as unlimited.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, NamedTuple

import torch

from alignlab.models.dtypes import DTYPES, matrix_gflops
from alignlab.models.onednn import product
from alignlab.models.packed import TokenGroup


class Rates(NamedTuple):
    """Rates of one thread on this machine."""

    flops: float
    """Operations a second of large matrix products."""
    bytes: float
    """Bytes a second, read and written, of a large copy."""


class Needed(NamedTuple):
    """Operations and bytes that a piece of work needs at least."""

    flops: float
    bytes: float

    def seconds(self, rates: Rates) -> float:
        """Return the time that the slower of operations and bytes takes."""
        return max(self.flops / rates.flops, self.bytes / rates.bytes)


@dataclass(frozen=True)
class Shape:
    """Numbers of a decoder that its operations follow from."""

    layers: int
    attention: int
    """Heads times numbers per head: H D."""
    keys: int
    """Key heads times numbers per head: J D."""
    body: int
    """Numbers in the weight matrices of all layers."""
    head: int
    """Numbers in the head: d V."""

    def flops(self, tokens: float, seen: float, scored: float) -> float:
        """Count a forward pass over tokens that see so many keys in all, some of them scored."""
        return 2 * (self.body * tokens + self.head * scored) + self.layers * 4 * (
            self.attention * seen
        )

    def state_bytes(self, tokens: float, element: int) -> float:
        """Return the bytes of the keys and values of tokens."""
        return self.layers * 2 * self.keys * tokens * element

    def weight_bytes(self, element: int) -> float:
        """Return the bytes of the weights that a forward pass reads."""
        return (self.body + self.head) * element


def shape_of(config: Any) -> Shape:
    """Read a decoder's shape, with gated feed-forward layers, from its text configuration."""
    d, layers = config.hidden_size, config.num_hidden_layers
    heads = config.num_attention_heads
    wide = getattr(config, "head_dim", None) or d // heads
    keys = wide * (getattr(config, "num_key_value_heads", None) or heads)
    body = layers * (2 * d * (heads * wide + keys) + 3 * d * config.intermediate_size)
    return Shape(layers, heads * wide, keys, body, d * config.vocab_size)


def pass_flops(config: Any, groups: Sequence[TokenGroup]) -> float:
    """Count the operations of a forward pass that scores the responses of groups.

    Every prompt once, the head on response tokens alone, causal attention without padding.
    """
    tokens = sum(group.tokens for group in groups)
    scored = sum(group.response_tokens for group in groups)
    seen = 0.0
    for group in groups:
        prompt = len(group.prompt_T)
        seen += _causal(prompt)
        seen += sum(len(r) * prompt + _causal(len(r)) for r in group.responses)
    return shape_of(config).flops(tokens, seen, scored)


def step_flops(config: Any, groups: Sequence[TokenGroup]) -> float:
    """Count the operations of a training step on groups, whose backward pass is twice the forward.

    Nothing is computed twice (see `pass_flops`).
    """
    return 3 * pass_flops(config, groups)


def step_bytes(parameters: int, passes: int, element: int) -> float:
    """Count the bytes that a training step moves: weights, gradients and optimiser states.

    In each pass the weights are read in the forward and the backward pass, and their gradients
    written; the optimiser reads and writes float32 masters and two moments, and reads gradients.
    """
    return parameters * (3 * element * passes + 4 * 7.0)


def scoring(config: Any, groups: Sequence[TokenGroup], passes: int, element: int) -> Needed:
    """Count a scoring of responses without gradient: operations, and the weights in every pass."""
    return Needed(pass_flops(config, groups), passes * shape_of(config).weight_bytes(element))


def sampling(
    config: Any, drawn: Sequence[tuple[int, Sequence[int]]], element: int
) -> Mapping[str, Needed]:
    """Count the reading of prompts and the decoding of a batch of samples.

    Prompts are read once each, in one pass over the weights; the head scores the last position, and
    keys and values are written. Of a sample of n tokens n - 1 are fed, one in each decoding step:
    each goes through weights and head and sees its prompt, the sample's tokens before it, and
    itself. A step reads the weights once, the keys and values of each prompt that is continued
    once, those of the sample's own tokens, and writes the new token's.

    Args:
        config: the model's text configuration.
        drawn: tokens of each prompt, and of each sample of it.
        element: bytes of a number.
    """
    shape = shape_of(config)
    prompts = [prompt for prompt, _ in drawn]
    read = Needed(
        shape.flops(sum(prompts), sum(map(_causal, prompts)), len(prompts)),
        shape.weight_bytes(element) + shape.state_bytes(sum(prompts), element),
    )
    fed = [(prompt, [n - 1 for n in several]) for prompt, several in drawn]
    tokens = sum(sum(several) for _, several in fed)
    own = sum(_causal(n) for _, several in fed for n in several)
    seen = own + sum(prompt * sum(several) for prompt, several in fed)
    steps = max(chain.from_iterable(several for _, several in fed), default=0)
    # A sample's own tokens are read and its new one is written: together those that it sees.
    moved = own + sum(prompt * max(several, default=0) for prompt, several in fed)
    decode = Needed(
        shape.flops(tokens, seen, tokens),
        steps * shape.weight_bytes(element) + shape.state_bytes(moved, element),
    )
    return {"prompts": read, "tokens": decode}


def judging(config: Any, rows: Iterable[tuple[int, ...]], element: int) -> Needed:
    """Count the next token's distribution after each of many texts that start alike.

    A token is read once for all rows that are equal up to it, and sees those before it and itself;
    the head scores the end of each distinct row. The weights are read once.
    """
    shape = shape_of(config)
    distinct = sorted(set(rows))
    tokens = seen = 0.0
    for before, row in pairwise([(), *distinct]):
        shared = _common(before, row)
        tokens += len(row) - shared
        seen += _causal(len(row)) - _causal(shared)
    return Needed(shape.flops(tokens, seen, len(distinct)), shape.weight_bytes(element))


def rates(dtype: str) -> Rates:
    """Measure the rates of this machine for a type, on one thread."""
    gflops = max(
        matrix_gflops(DTYPES[dtype], size=size, multiply=how)
        for size in (512, 1024) for how in (torch.mm, product)
    )  # fmt: skip
    return Rates(gflops * 1e9, copy_bandwidth())


def copy_bandwidth() -> float:
    """Measure the bytes a second that one thread reads and writes in a large copy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    source, target = torch.ones(1 << 25), torch.empty(1 << 25)
    best = 1e9
    for _ in range(5):
        began = time.thread_time()
        target.copy_(source)
        best = min(best, time.thread_time() - began)
    torch.set_num_threads(threads)
    return 2 * source.nbytes / best


def _causal(tokens: int) -> float:
    """Return the keys that consecutive tokens see of each other and themselves."""
    return tokens * (tokens + 1) / 2


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens that two rows start with."""
    pairs = zip(one, other, strict=False)
    return next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
