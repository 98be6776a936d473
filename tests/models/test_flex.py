"""FlexAttention sees the keys that the tiles see, and gives their outputs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from alignlab.errors import BadInput
from alignlab.models import attention, flex, kernels
from alignlab.models.packed import TokenGroup, pack
from alignlab.models.scorer import ResponseScorer
from alignlab.models.tiles import Segment, layout
from tests.models.helpers import random_groups, tiny_model
from tests.models.test_packed_equals_plain import (
    GROUPS,
    PACKED,
    assert_same,
    one_at_a_time,
    scored,
)

CPU = torch.device("cpu")
SHAPE = kernels.Shape(4, 2, 16)


def test_a_response_sees_its_prompt_and_itself() -> None:
    groups = [TokenGroup("a", (5, 6), ((7, 8), (9,))), TokenGroup("b", (4,), ((3,),))]
    # Stream: prompt 0 1, responses 2 3 and 4, prompt 5, response 6, filling from 7.
    mask = flex.dense_mask(flex.spans(pack(groups, CPU)))
    seen = [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [5], [5, 6], [7], [7, 8]]
    assert [row.nonzero()[:, 0].tolist() for row in mask[:9]] == seen


def test_a_window_counts_positions_of_the_sequence() -> None:
    groups = [TokenGroup("a", (5, 6, 7), ((8, 9), (4, 3)))]
    spans = flex.spans(pack(groups, CPU))
    # Token 5 is the second response's first, at position 3: positions 1 to 3 are tokens 1, 2, 5.
    assert flex.dense_mask(spans, 3)[5].nonzero()[:, 0].tolist() == [1, 2, 5]
    assert flex.dense_mask(spans, 5)[6].nonzero()[:, 0].tolist() == [0, 1, 2, 5, 6]


def test_a_root_stands_once() -> None:
    groups = [TokenGroup("a", (5, 6, 7), ((8,),)), TokenGroup("b", (5, 6, 9, 4), ((3,),))]
    # Stream: root 0 1, prompt 2, response 3, prompt 4 5, response 6.
    mask = flex.dense_mask(flex.spans(pack(groups, CPU, root=2)))
    seen = [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [0, 1, 4, 5], [0, 1, 4, 5, 6]]
    assert [row.nonzero()[:, 0].tolist() for row in mask[:7]] == seen


def test_blocks_of_a_long_group() -> None:
    # A prompt of two blocks, then responses of one block each.
    segments = [Segment(0, 256, 0, 0), Segment(256, 128, 0, 256), Segment(384, 128, 0, 256)]
    needed, full = flex.needed_blocks(segments, 4)
    assert needed.astype(int).tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 0, 1]]
    assert full.astype(int).tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize("root", [0, 3])
@pytest.mark.parametrize("seed", range(4))
def test_blocks_cover_what_is_seen(root: int, seed: int) -> None:
    drawn = random_groups(12, (2, 3, 1), seed=seed, longest=500)
    groups = [TokenGroup(g.id, (5, 6, 7, *g.prompt_T), g.responses) for g in drawn]
    spans = flex.spans(pack(groups, CPU, root))
    count = spans.width // flex.BLOCK
    needed, full = flex.needed_blocks(spans.segments, count)
    cut = flex.dense_mask(spans).view(count, flex.BLOCK, count, flex.BLOCK).numpy()
    assert np.array_equal(needed | cut.any((1, 3)), needed)
    assert not (full & ~cut.all((1, 3))).any()
    assert full.any()


@pytest.mark.parametrize(("window", "softcap"), [(None, None), (5, None), (None, 2.0), (7, 3.0)])
@pytest.mark.parametrize("shape", [SHAPE, kernels.Shape(6, 2, 16)])
def test_outputs_are_those_of_the_tiles(shape, window, softcap) -> None:
    batch = pack(random_groups(9, (2, 3), seed=1, longest=40), CPU, 0)
    query, key, value, _ = kernels.drawn_inputs(batch.token_1T.shape[1], shape, torch.float32, CPU)
    found = []
    for one in (layout(batch), flex.spans(batch)):
        with attention.packed([], one) as active:
            out, _ = attention.attention(
                None, query, key, value, None, sliding_window=window, softcap=softcap
            )
        assert active.windows == ({window} if window else set())
        found.append(out[:, : batch.tokens])
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=2e-6)


def test_gradients_through_the_dense_mask_are_those_of_the_tiles() -> None:
    batch = pack(random_groups(9, (2, 3), seed=2, longest=40), CPU)
    given = kernels.drawn_inputs(batch.token_1T.shape[1], SHAPE, torch.float64, CPU)
    tiles = kernels.run_layout(layout(batch), given, batch.tokens)
    query, key, value = (t.detach().requires_grad_() for t in given[:3])
    length = query.shape[2]
    mask = flex.dense_mask(flex.spans(batch))[:length, :length]
    out = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, enable_gqa=True
    ).transpose(1, 2)[:, : batch.tokens]
    out.backward(given[3][:, : batch.tokens])
    torch.testing.assert_close(out, tiles[0])
    for one, other in zip((query, key, value), tiles[1:], strict=True):
        torch.testing.assert_close(one.grad, other)


@pytest.mark.parametrize("name", PACKED)
def test_a_models_log_probabilities_are_those_of_the_tiles(name: str, monkeypatch) -> None:
    monkeypatch.setattr("alignlab.models.scorer.flex_wanted", lambda base: True)
    model = tiny_model(name)
    by_flex = ResponseScorer(model)
    assert by_flex._layout is flex.spans
    by_tiles = ResponseScorer(model)
    by_tiles._layout = layout
    with torch.no_grad(), by_flex.scored(GROUPS) as one, by_tiles.scored(GROUPS) as other:
        torch.testing.assert_close(one.logp_R, other.logp_R, rtol=0, atol=1e-5)


def test_a_kernel_that_is_wrong_is_left(monkeypatch, caplog) -> None:
    monkeypatch.setattr("alignlab.models.scorer.flex_wanted", lambda base: True)
    monkeypatch.setattr(flex, "_kernel", lambda device: lambda q, k, v, **options: q * 2)
    scorer = ResponseScorer(tiny_model("llama"))
    assert scorer._layout is layout
    assert scorer.padded_because is None
    assert "FlexAttention is not used: packed groups give LlamaForCausalLM other values" in (
        caplog.text
    )


def test_the_choice(monkeypatch) -> None:
    model = tiny_model("llama")
    assert kernels.flex_wanted(model) is False
    assert kernels.attention_shape(model) == kernels.Shape(4, 2, 8)
    monkeypatch.setenv("ALIGNLAB_ATTENTION", "flash")
    with pytest.raises(BadInput, match="expected one of auto, tiles, flex, found 'flash'"):
        kernels.flex_wanted(model)
    monkeypatch.setenv("ALIGNLAB_ATTENTION", "flex")
    with pytest.raises(BadInput, match="no backward pass on a CPU; found cpu"):
        kernels.flex_wanted(model)


def dense_kernel(query, key, value, *, block_mask, scale, enable_gqa, score_mod):
    """What FlexAttention computes, with a backward pass on a CPU."""
    at_T = torch.arange(query.shape[2])
    none = at_T[:1]
    mask = block_mask.mask_mod(none, none, at_T[:, None], at_T[None, :])
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scale, enable_gqa=enable_gqa
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_right_kernel_is_measured(dtype, monkeypatch) -> None:
    monkeypatch.setattr(kernels, "GROUPS", 2)
    monkeypatch.setattr(kernels, "LENGTHS", ((30, 50), (60, 20)))
    monkeypatch.setattr(flex, "_kernel", lambda device: dense_kernel)
    with torch.inference_mode():  # as where a judge makes its scorer
        assert kernels.compare(SHAPE, dtype, CPU) > 0


def test_a_kernel_with_wrong_gradients_gains_nothing(monkeypatch, caplog) -> None:
    monkeypatch.setattr(kernels, "GROUPS", 2)

    def detached(query, key, value, **options):
        return dense_kernel(query, key, value.detach() + 0 * value, **options)

    monkeypatch.setattr(flex, "_kernel", lambda device: detached)
    assert kernels.compare(SHAPE, torch.float32, CPU) == 0.0
    assert "FlexAttention is not used: its values are 1 from the tiles', relative" in caplog.text


def test_gradients_of_a_model_pass_through_flex_attention(monkeypatch) -> None:
    monkeypatch.setattr("alignlab.models.scorer.flex_wanted", lambda base: True)
    monkeypatch.setattr(flex, "_kernel", lambda device: dense_kernel)
    model = tiny_model("qwen2")
    by_flex = ResponseScorer(model)
    assert by_flex._layout is flex.spans
    assert_same(one_at_a_time(model, GROUPS), scored(model, by_flex, GROUPS))


def test_a_kernel_that_fails_gains_nothing(caplog) -> None:
    # Without a GPU the backward pass is refused.
    assert kernels.compare(SHAPE, torch.float32, CPU) == 0.0
    assert (
        "FlexAttention is not used: FlexAttention does not support backward on CPU" in caplog.text
    )


def test_a_full_gpu_is_measured_again(monkeypatch, caplog) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a full card")
    model = SimpleNamespace(
        config=tiny_model("llama").config, dtype=torch.float32, device=torch.device("cuda")
    )

    def full(*args: object) -> float:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(kernels, "pack", lambda groups, device: None)
    monkeypatch.setattr(kernels, "_timed", full)
    assert kernels.flex_wanted(model) is False
    assert "no memory left to measure it" in caplog.text
    monkeypatch.setattr(kernels, "_timed", lambda *args: (None, 1.3))
    assert kernels.flex_wanted(model) is True


def test_the_gain_is_kept_for_the_machine(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    measured: list[float] = [1.5, 9.0]
    monkeypatch.setattr(kernels, "compare", lambda *args: measured.pop(0))
    for _ in range(2):
        assert kernels.gain(SHAPE, torch.bfloat16, CPU) == 1.5
    assert kernels.gain(SHAPE, torch.float32, CPU) == 9.0
