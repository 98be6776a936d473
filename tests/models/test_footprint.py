"""Passes are planned by the memory that is free."""

from __future__ import annotations

import gc
import logging
import os
import weakref
from pathlib import Path

import pytest
import torch

from alignlab import machine
from alignlab.errors import BadInput
from alignlab.models import footprint
from alignlab.models.footprint import measure, pass_memory, refuse_training, rows_in_memory
from alignlab.models.logprobs import response_logprobs
from alignlab.models.packed import TokenGroup, micro_batches
from alignlab.models.scorer import ResponseScorer
from tests.models.helpers import random_groups, tiny_lm


def free(monkeypatch, size):
    monkeypatch.setattr(machine, "free_memory", lambda: int(size))


def group(tokens, name="g"):
    return TokenGroup(name, (1,) * (tokens - 1), ((2,),))


def test_a_batch_that_memory_does_not_hold_is_split():
    """By hand: the budget holds three groups of ten, memory two."""
    groups = [group(10, f"g{i}") for i in range(5)]
    assert [len(b) for b in micro_batches(groups, 30)] == [3, 2]
    found = micro_batches(groups, 30, lambda some: len(some) <= 2)
    assert [len(b) for b in found] == [2, 2, 1]
    assert [len(b) for b in micro_batches(groups, 30, lambda some: False)] == [1] * 5


def test_stored_bytes_are_those_of_autograd():
    """A bigger model stores more, half precision about half, checkpointing less."""
    lm = tiny_lm("llama")
    plain = measure(lm.model)
    assert plain.vocabulary == 97
    assert plain.layers == 2
    assert plain.trained_head
    # By hand: the MLP alone stores the gate, its activation, the value and their product.
    assert plain.stored > 2 * 4 * 48 * 4
    assert measure(lm.model, checkpointing=True).stored < plain.stored
    half = measure(tiny_lm("llama").model.to(torch.bfloat16))
    assert 0.4 * plain.stored < half.stored < 0.9 * plain.stored


def test_measuring_keeps_no_model_alive():
    lm = tiny_lm()
    measure(lm.model)
    weight = weakref.ref(next(lm.model.parameters()))
    del lm
    gc.collect()
    assert weight() is None


@pytest.mark.parametrize("packed", [True, False])
def test_estimates_grow_with_the_batch_and_with_gradients(packed):
    found = measure(tiny_lm("llama").model)
    few, many = [group(40)], [group(40)] * 4
    for gradient in (False, True):
        small, large = (found.bytes(g, packed=packed, gradient=gradient) for g in (few, many))
        assert small < large
    assert found.bytes(many, packed=packed, gradient=False) < found.bytes(
        many, packed=packed, gradient=True
    )


def test_with_plenty_of_memory_nothing_is_planned(monkeypatch):
    scorer = ResponseScorer(tiny_lm("llama").model)
    free(monkeypatch, 1e12)
    assert pass_memory(scorer, 8192, gradient=True) is None
    free(monkeypatch, 1e6)
    assert pass_memory(scorer, 8192, gradient=True) is not None


def test_scoring_in_little_memory_gives_the_same_and_says_so_once(monkeypatch, caplog):
    lm, groups = tiny_lm("llama"), random_groups(6)
    expected = response_logprobs(lm, groups)
    need = max(measure(lm.model).bytes([g], packed=True, gradient=False) for g in groups)
    free(monkeypatch, need / (1 - machine.RESERVED) + 10)
    with caplog.at_level(logging.WARNING):
        found = response_logprobs(lm, groups)
    assert [f.sums for f in found] == [pytest.approx(e.sums, abs=1e-4) for e in expected]
    assert sum("micro-batches are split" in r.message for r in caplog.records) == 1


def test_a_group_too_large_is_refused_in_one_line(monkeypatch):
    lm = tiny_lm("llama")
    free(monkeypatch, 1000)
    with pytest.raises(BadInput, match=r"group big: expected .* GB .* found 0\.0 GB free") as found:
        response_logprobs(lm, [group(40, "big")])
    assert "\n" not in str(found.value)


def test_a_training_too_large_is_refused_before_it_is_loaded(monkeypatch):
    """By hand: 20 bytes a parameter; 500 million take 10 GB, an adapter's 3 GB."""
    free(monkeypatch, 9 * 10**9)
    with pytest.raises(BadInput, match=r"expected 10\.0 GB .* found 8\.1 GB free"):
        refuse_training(500_000_000, 500_000_000)
    refuse_training(500_000_000, 0)
    refuse_training(400_000_000, 400_000_000)
    with pytest.raises(BadInput, match=r"expected 16\.0 GB"):
        refuse_training(2_000_000_000, 0)  # saving the merged model: 8 bytes a parameter
    refuse_training(2_000_000_000, 0, alone=True)  # 4


def test_rows_of_a_batch_follow_the_memory(monkeypatch):
    """By hand: 2 * 2 layers * 16 wide * 4 bytes a token, (10 + 2 * 20) tokens, 16 * 97 bytes."""
    model = tiny_lm("llama").model
    row = (10 + 2 * 20) * 2 * 2 * 16 * 4 + 16 * 97
    free(monkeypatch, 3.5 * row / (1 - machine.RESERVED))
    assert rows_in_memory(model, 10, 20, 256) == 3
    free(monkeypatch, 0)
    assert rows_in_memory(model, 10, 20, 256) == 1
    free(monkeypatch, 1e12)
    assert rows_in_memory(model, 10, 20, 256) == 256


@pytest.mark.slow
@pytest.mark.parametrize("packed", [True, False])
def test_estimates_hold_on_a_real_model(packed):
    """The peak of a pass of SmolLM2 stays within the estimate, and the estimate near the peak."""
    if not os.environ.get("ALIGNLAB_MODELS"):
        pytest.skip("ALIGNLAB_MODELS names no folder of real models")
    from alignlab.models.load import load

    folder = Path(os.environ["ALIGNLAB_MODELS"]) / "smollm2-135m-instruct"
    lm = load(folder, dtype="bfloat16", device="cpu")
    scorer = ResponseScorer(lm.model, padded_because=None if packed else "test")
    groups = [TokenGroup("g", tuple(range(9, 99)), (tuple(range(9, 209)),) * 2)]
    estimate = footprint.measure(lm.model).bytes(groups, packed=packed, gradient=True)
    gradients = sum(p.nbytes for p in lm.model.parameters())
    peak = _peak(scorer, groups)
    assert 0.5 * peak <= estimate + gradients
    assert peak <= estimate + gradients


def _peak(scorer, groups):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Live(TorchDispatchMode):
        """Count the bytes of the storages that live, and their peak."""

        def __init__(self):
            super().__init__()
            self.sizes, self.peak = {}, 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            import weakref

            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    key = storage._cdata
                    if key not in self.sizes:
                        self.sizes[key] = storage.nbytes()
                        weakref.finalize(storage, self.sizes.pop, key, None)
            self.peak = max(self.peak, sum(self.sizes.values()))
            return out

    own = sum(p.nbytes for p in scorer.base.parameters())
    with Live() as live, scorer.scored(groups) as found:
        found.sequence_N().sum().backward()
    return live.peak - own
