"""The packed forward against single sequences, over any mixture of group shapes.

In float64, so that what differs is no rounding; but norms of transformers round to float32 inside,
and so does the head's gradient, hence bounds of 1e-6 in place of 1e-12.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alignlab.models.heads import RewardScorer, with_reward_head
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import ResponseScorer
from tests.models.helpers import tiny_lm, tiny_model
from tests.models.test_packed_equals_plain import (
    PACKED,
    PLAIN,
    assert_same,
    gradients,
    one_at_a_time,
    scored,
)

LONGEST = 33
lengths = st.integers(1, LONGEST)
shapes = st.lists(
    st.tuples(lengths, st.lists(lengths, min_size=1, max_size=8)), min_size=1, max_size=3
)
MIXED = [(1, [1] * 8), (LONGEST, [1, LONGEST]), (7, [3]), (16, [16, 15, 17])]
DRAWS = 4
SINGLE = "gemma2"
"""Its eager attention in transformers makes NaN of padding in float64, whose lowest number is no
float32."""


@cache
def model_and_scorer(name: str, dtype: torch.dtype = torch.float64):
    """A model of an architecture with its scorer; made once."""
    model = tiny_model(name, scale=3.0).to(dtype)
    return model, ResponseScorer(model)


def groups_of(shape, seed: int) -> list[TokenGroup]:
    rng = np.random.Generator(np.random.Philox(seed))

    def draw(length: int) -> tuple[int, ...]:
        return tuple(int(t) for t in rng.integers(0, 97, length))

    return [
        TokenGroup(f"g{i}", draw(prompt), tuple(map(draw, responses)))
        for i, (prompt, responses) in enumerate(shape)
    ]


def assert_equal_gradients(found, expected):
    assert found.keys() == expected.keys()
    whole = torch.cat([g.flatten() for g in expected.values()]).norm()
    for key, gradient in expected.items():
        off = (found[key] - gradient).norm()
        assert off <= 1e-6 * max(gradient.norm(), 0.1 * whole), key


@pytest.mark.parametrize("name", [name for name in PACKED if name != SINGLE])
@settings(max_examples=DRAWS, deadline=None, derandomize=True)
@given(shape=shapes, seed=st.integers(0, 1000))
@example(shape=MIXED, seed=1)
def test_values_and_gradients(name, shape, seed):
    model, scorer = model_and_scorer(name)
    assert scorer.padded_because is None
    groups = groups_of(shape, seed)
    expected, found = one_at_a_time(model, groups), scored(model, scorer, groups)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-6)
    assert_equal_gradients(found[1], expected[1])


@pytest.mark.parametrize("name", ["llama", SINGLE, *PLAIN])
@settings(max_examples=DRAWS, deadline=None, derandomize=True)
@given(shape=shapes, seed=st.integers(0, 1000))
@example(shape=MIXED, seed=1)
def test_single_precision_keeps_1e_5(name, shape, seed):
    """Models that run as padded batches of sequences keep the same bound."""
    model, scorer = model_and_scorer(name, torch.float32)
    assert (scorer.padded_because is None) == (name not in PLAIN)
    groups = groups_of(shape, seed)
    assert_same(one_at_a_time(model, groups), scored(model, scorer, groups))


@settings(max_examples=DRAWS, deadline=None, derandomize=True)
@given(shape=shapes, seed=st.integers(0, 1000))
@example(shape=MIXED, seed=1)
def test_groups_together_are_groups_alone(shape, seed):
    """The neighbours of a group in the stream change neither its values nor their order."""
    model, scorer = model_and_scorer("gemma3")
    groups = groups_of(shape, seed)
    together = scored(model, scorer, groups)[0]
    alone = torch.cat([scored(model, scorer, [group])[0] for group in groups])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    turned = scored(model, scorer, groups[::-1])[0]
    sizes = [group.response_tokens for group in groups[::-1]]
    torch.testing.assert_close(torch.cat(turned.split(sizes)[::-1]), together, rtol=0, atol=1e-6)


@cache
def reward_model_and_scorer():
    model = with_reward_head(tiny_lm("qwen2", scale=3.0), seed=3).model.double()
    return model, RewardScorer(model)


@settings(max_examples=DRAWS, deadline=None, derandomize=True)
@given(shape=shapes, seed=st.integers(0, 1000))
@example(shape=MIXED, seed=1)
def test_rewards_and_their_gradients(shape, seed):
    model, scorer = reward_model_and_scorer()
    assert scorer.padded_because is None
    groups = groups_of(shape, seed)
    sequences = [g.prompt_T + r for g in groups for r in g.responses]
    weights = torch.linspace(-1, 1, len(sequences), dtype=torch.float64)

    model.zero_grad()
    hidden = [model.base_model(torch.tensor([ids]), use_cache=False)[0][0, -1] for ids in sequences]
    plain = model.score(torch.stack(hidden))[:, 0]
    (plain * weights).sum().backward()
    expected = gradients(model)
    model.zero_grad()
    with scorer.scored(groups) as found:
        (found.reward_N * weights).sum().backward()
    torch.testing.assert_close(found.reward_N, plain, rtol=0, atol=1e-6)
    assert_equal_gradients(gradients(model), expected)
