"""Packed streams and micro-batches, laid out by hand."""

from __future__ import annotations

import pytest
import torch

from alignlab.errors import BadInput
from alignlab.models.packed import TokenGroup, make_targets, micro_batches, pack, rounded_up

CPU = torch.device("cpu")
A = TokenGroup("a", (1, 2, 3), ((4, 5), (6,)))
B = TokenGroup("b", (7,), ((8, 9, 10),))


def test_a_stream_by_hand():
    batch = pack([A, B], CPU)
    assert batch.tokens == 10
    assert batch.token_1T[0, :10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    assert batch.token_1T.shape == (1, 16)
    assert batch.position_1T[0, :10].tolist() == [0, 1, 2, 3, 4, 3, 0, 1, 2, 3]
    # The last prompt position predicts the first token of every response.
    assert batch.row_R.tolist() == [2, 3, 2, 6, 7, 8]
    assert batch.prompt_start_B == (0, 6)
    targets = batch.targets
    assert targets.token_R.tolist() == [4, 5, 6, 8, 9, 10]
    assert targets.sequence_R.tolist() == [0, 0, 1, 2, 2, 2]
    assert (targets.length_N, targets.responses_B) == ((2, 1, 3), (2, 1))
    assert make_targets([B], CPU).responses_B == (1,)


def test_sizes_of_a_group():
    assert (A.tokens, A.longest, A.response_tokens) == (6, 5, 3)
    assert (B.tokens, B.longest, B.response_tokens) == (4, 4, 3)


@pytest.mark.parametrize(
    ("length", "filled"),
    [
        (1, 16),
        (16, 16),
        (17, 32),
        (65, 80),
        (500, 512),
        (511, 512),
        (512, 512),
        (513, 576),
        (577, 640),
    ],
)
def test_lengths_are_filled_up_to_16_and_long_ones_to_64(length, filled):
    assert rounded_up(length) == filled


def sized(name: str, prompt: int, *responses: int) -> TokenGroup:
    return TokenGroup(name, (1,) * prompt, tuple((2,) * n for n in responses))


def test_similar_lengths_share_a_micro_batch_within_the_budget():
    """Longest sequences 9, 3, 8, 3; tokens 9, 4, 12, 3."""
    groups = [sized("0", 4, 5), sized("1", 2, 1, 1), sized("2", 4, 4, 4), sized("3", 1, 2)]
    assert micro_batches(groups, 100) == [[1, 3, 2, 0]]
    assert micro_batches(groups, 21) == [[1, 3, 2], [0]]
    assert micro_batches(groups, 19) == [[1, 3, 2], [0]]  # 4 + 3 + 12 fill it
    assert micro_batches(groups, 18) == [[1, 3], [2], [0]]
    assert micro_batches(groups, 1) == [[1], [3], [2], [0]]
    assert micro_batches([], 10) == []


@pytest.mark.parametrize(
    ("prompt", "responses", "scores", "line"),
    [
        ((), ((1,),), (), "found an empty one"),
        ((1,), (), (), "found an empty one"),
        ((1,), ((1,), ()), (), "found an empty one"),
        ((1,), ((1,), (2,)), (1.0,), "expected 2 scores, found 1"),
        ((1,), ((1,),), (1.0, 2.0), "expected 1 scores, found 2"),
    ],
)
def test_a_group_that_holds_nothing_or_lacks_a_score_is_named(prompt, responses, scores, line):
    with pytest.raises(BadInput, match=f"group x: .*{line}"):
        TokenGroup("x", prompt, responses, scores)
