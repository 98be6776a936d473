"""Layouts: every stream position has one row, and padding stays small."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alignlab.models.packed import TokenGroup, micro_batches, pack
from alignlab.models.tiles import layout

CPU = torch.device("cpu")
groups_of_lengths = st.lists(
    st.tuples(st.integers(1, 30), st.lists(st.integers(1, 30), min_size=1, max_size=4)),
    min_size=1,
    max_size=8,
)


def make(lengths):
    return [
        TokenGroup(str(i), (5,) * prompt, tuple((6,) * r for r in responses))
        for i, (prompt, responses) in enumerate(lengths)
    ]


def test_pack_by_hand():
    batch = pack([TokenGroup("a", (1, 2), ((3,), (4, 5))), TokenGroup("b", (6,), ((7, 8),))], CPU)
    assert batch.tokens == 8
    assert batch.token_1T.shape == (1, 16)
    assert batch.token_1T[0, :8].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert batch.position_1T[0, :8].tolist() == [0, 1, 2, 2, 3, 0, 1, 2]
    # The last prompt position predicts the first token of every response.
    assert batch.row_R.tolist() == [1, 1, 3, 5, 6]
    assert batch.targets.token_R.tolist() == [3, 4, 5, 7, 8]
    assert batch.targets.sequence_R.tolist() == [0, 1, 1, 2, 2]


@settings(max_examples=60, deadline=None)
@given(groups_of_lengths)
def test_every_position_has_one_row(lengths):
    batch = pack(make(lengths), CPU)
    made = layout(batch)
    rows = torch.cat([r for tile in made.tiles for r in (tile.prompt_rows, tile.response_rows)])
    real = made.scatter_T[: batch.tokens]
    assert rows[real].tolist() == list(range(batch.tokens))
    assert len(set(real.tolist())) == batch.tokens
    assert batch.token_1T.shape[1] - batch.tokens < max(16, batch.tokens / 8)
    for i, tile in enumerate(made.tiles):
        prompt, response = made.masks(i, None, torch.float32)
        # Nobody is left without a key to see: that would be NaN.
        assert bool((prompt == 0).any(-1).all())
        assert bool((response == 0).any(-1).all())
        assert response.shape == (tile.G * tile.K, tile.R, tile.P + tile.R)


@settings(max_examples=60, deadline=None)
@given(groups_of_lengths, st.integers(1, 200))
def test_micro_batches_keep_the_budget(lengths, budget):
    groups = make(lengths)
    batches = micro_batches(groups, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(groups)))
    for batch in batches:
        assert len(batch) == 1 or sum(groups[i].tokens for i in batch) <= budget
