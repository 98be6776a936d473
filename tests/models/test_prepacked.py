"""Weights laid out beforehand: equal products, weights of the moment, layers left as they were."""

from __future__ import annotations

import pytest
import torch

from alignlab.models import onednn
from alignlab.models.adapters import LoraConfig, attach
from alignlab.models.prepacked import FEWEST_STEPS, MOST_ROWS, copied_bytes, prepacked
from tests.generation.tiny import tiny

needs_onednn = pytest.mark.skipif(not onednn.available(), reason="no oneDNN kernels on this CPU")


def _model(dtype: torch.dtype = torch.bfloat16) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(32, 48), torch.nn.ReLU(), torch.nn.Linear(48, 16, bias=False)
    ).to(dtype)


def _changed(model: torch.nn.Module) -> list[torch.nn.Module]:
    return [m for m in model.modules() if "forward" in m.__dict__]


@needs_onednn
@pytest.mark.parametrize("rows", [1, 7, MOST_ROWS])
@torch.inference_mode()
def test_products_are_equal_up_to_rounding(rows: int) -> None:
    model = _model()
    x = torch.randn(rows, 32).bfloat16()
    expected = model.float()(x.float())
    model.bfloat16()
    context = prepacked(model, rows, FEWEST_STEPS)
    with context:
        assert len(_changed(model)) == 2
        found = model(x)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.02)


@needs_onednn
@torch.inference_mode()
def test_the_context_can_be_entered_again_and_leaves_nothing() -> None:
    model = _model()
    x = torch.randn(4, 32).bfloat16()
    context = prepacked(model, 4, FEWEST_STEPS)
    with context:
        first = model(x)
    assert not _changed(model)
    with pytest.raises(ValueError, match="within"), context:
        raise ValueError("within")
    assert not _changed(model)
    with context:
        assert torch.equal(model(x), first)


@needs_onednn
@torch.inference_mode()
def test_a_new_context_holds_the_weights_of_its_moment() -> None:
    model = _model()
    x = torch.randn(4, 32).bfloat16()
    with prepacked(model, 4, FEWEST_STEPS):
        before = model(x)
    model[0].weight.mul_(2)
    with prepacked(model, 4, FEWEST_STEPS):
        after = model(x)
    torch.testing.assert_close(after.float(), model(x).float(), atol=0.02, rtol=0.02)
    assert not torch.allclose(after, before)


@pytest.mark.parametrize(
    ("dtype", "rows", "steps"),
    [
        (torch.float32, 4, FEWEST_STEPS),
        (torch.bfloat16, MOST_ROWS + 1, FEWEST_STEPS),
        (torch.bfloat16, 4, FEWEST_STEPS - 1),
    ],
)
def test_it_changes_nothing_where_it_would_not_pay(
    dtype: torch.dtype, rows: int, steps: int
) -> None:
    model = _model(dtype)
    with prepacked(model, rows, steps):
        assert not _changed(model)


@needs_onednn
def test_large_models_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model()
    assert copied_bytes(model) == 2 * (32 * 48 + 48 * 16)
    monkeypatch.setattr("alignlab.models.prepacked.MOST_BYTES", copied_bytes(model) - 1)
    with prepacked(model, 4, FEWEST_STEPS):
        assert not _changed(model)


@needs_onednn
@torch.inference_mode()
def test_adapters_keep_their_part() -> None:
    """The frozen layer inside an adapter is copied; the adapter's own products are added to it."""
    model = attach(tiny("llama"), LoraConfig(r=2, alpha=4), seed=0).model.eval().bfloat16()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    ids = torch.tensor([[5, 6, 7]])
    expected = model(input_ids=ids).logits
    with prepacked(model, 3, FEWEST_STEPS):
        assert _changed(model)
        found = model(input_ids=ids).logits
    torch.testing.assert_close(found.float(), expected.float(), atol=0.05, rtol=0.05)
