"""A token budget that falls where memory runs out; parts of a step for several processes."""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from alignlab import machine
from alignlab.errors import BadInput, RunFailed
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import ResponseScorer
from alignlab.objectives.dpo import DPO
from alignlab.objectives.kto import KTO
from alignlab.training.budget import TokenBudget, out_of_memory
from alignlab.training.config import TrainConfig
from alignlab.training.distributed import DistributedContext
from alignlab.training.loop import train
from tests.models.helpers import random_groups, tiny_lm

CONFIG = TrainConfig(lr=1e-3, epochs=2, batch_size=8, token_budget=400, log_every=1, save_every=1)
CPU_MESSAGE = (
    "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
)


def group(tokens: int, name: str = "g") -> TokenGroup:
    return TokenGroup(name, (1,) * (tokens - 1), ((2,),))


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError(CPU_MESSAGE), True),
        (MemoryError(), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("CUDA out of memory."), False),
    ],
)
def test_which_errors_mean_that_memory_ran_out(error, known):
    assert out_of_memory(error) is known


def test_what_does_not_fit_is_undone_split_and_the_budget_stays_low(tmp_path):
    """By hand: 10 groups of 10 tokens, budget 60, room for 25: 60 fails, 30 fails, 15 fits."""
    groups = [group(10, f"g{i}") for i in range(10)]
    tried, undone = [], []

    def work(one):
        tokens = 10 * len(one.batch)
        tried.append(tokens)
        if tokens > 25:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return tokens

    file = tmp_path / "token_budget.json"
    budget = TokenBudget(60, file=file)
    done = list(budget.passes(groups, work, lambda: undone.append(1)))
    assert tried[:2] == [60, 30]
    assert len(undone) == 2
    assert sorted(i for one, _ in done for i in one.batch) == list(range(10))
    assert budget.tokens == budget.lowered == 15
    assert [one.number for one, _ in done] == list(range(2, 12))
    budget.agree()
    assert json.loads(file.read_text()) == {"token_budget": 15}
    assert TokenBudget(60, file=file).tokens == 15
    assert TokenBudget(12, file=file).lowered is None


def test_other_errors_are_not_touched():
    def work(one):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        list(TokenBudget(60).passes([group(10)], work))


def _room_for(tokens, monkeypatch, *, in_backward=False):
    scored = ResponseScorer.scored

    @contextmanager
    def limited(scorer, groups, noise=None):
        too_large = sum(g.tokens for g in groups) > tokens and torch.is_grad_enabled()
        if too_large and not in_backward:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        with scored(scorer, groups, noise) as found:
            if too_large:
                weight = next(scorer.base.parameters())

                def fail(gradient):
                    raise RuntimeError(CPU_MESSAGE)

                handle = weight.register_hook(fail)
                try:
                    yield found
                finally:
                    handle.remove()
            else:
                yield found

    monkeypatch.setattr(ResponseScorer, "scored", limited)


@pytest.mark.parametrize(
    ("dtype", "in_backward"), [("float32", False), ("float32", True), ("bfloat16", True)]
)
def test_a_training_goes_on_with_less_memory_and_ends_the_same(
    tmp_path, monkeypatch, dtype, in_backward
):
    config = replace(CONFIG, dtype=dtype)
    groups = random_groups(16, (2,))
    whole = train(tiny_lm(), DPO(), groups, config, tmp_path / "whole")
    # What the lowered budget would have given from the start.
    _room_for(120, monkeypatch, in_backward=in_backward)
    tight = train(tiny_lm(), DPO(), groups, config, tmp_path / "tight")
    assert whole.token_budget is None
    assert tight.token_budget is not None
    assert tight.token_budget <= 200
    lines = [json.loads(s) for s in (tmp_path / "tight" / "metrics.jsonl").open()]
    assert lines[-1]["token_budget"] == tight.token_budget
    assert tight.loss == pytest.approx(whole.loss, rel=1e-6 if dtype == "float32" else 2e-2)
    if dtype == "float32":
        one, two = (load_file(f"{r.lm.path}/model.safetensors") for r in (whole, tight))
        for name in one:
            torch.testing.assert_close(one[name], two[name], rtol=0, atol=2e-5)


def test_a_group_that_does_not_fit_ends_the_run_and_says_what_helps(tmp_path, monkeypatch):
    _room_for(3, monkeypatch)
    with pytest.raises(RunFailed, match="alone; gradient_checkpointing=true or shorter lengths"):
        train(tiny_lm(), DPO(), random_groups(4, (2,)), CONFIG, tmp_path)


def test_what_the_whole_step_shares_is_also_split(tmp_path, monkeypatch):
    """KTO's estimate is made without gradient, by the same budget."""
    groups = random_groups(8, (2,))
    groups = [replace(g, scores=(float(i % 2), -1.0)) for i, g in enumerate(groups)]
    scored = ResponseScorer.scored

    @contextmanager
    def limited(scorer, groups, noise=None):
        if sum(g.tokens for g in groups) > 90:
            raise MemoryError
        with scored(scorer, groups, noise) as found:
            yield found

    config = replace(CONFIG, epochs=1)
    whole = train(tiny_lm(), KTO(), groups, config, tmp_path / "whole")
    monkeypatch.setattr(ResponseScorer, "scored", limited)
    tight = train(tiny_lm(), KTO(), groups, config, tmp_path / "tight")
    assert tight.token_budget is not None
    assert tight.loss == pytest.approx(whole.loss, rel=1e-6)


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.integers(2, 400), max_size=40), st.integers(1, 9))
def test_every_group_has_one_process_and_loads_are_even(tokens, size):
    """Greedy by size: no process has more than another by more than the largest group."""
    groups = [group(n) for n in tokens]
    parts = DistributedContext(size=size).parts(groups)
    assert len(parts) == size
    assert sorted(i for part in parts for i in part) == list(range(len(groups)))
    loads = [sum(groups[i].tokens for i in part) for part in parts]
    assert max(loads) - min(loads) <= max(tokens, default=0)


def test_one_process_alone_has_everything_and_sends_nothing():
    alone = DistributedContext()
    assert alone.is_main
    assert alone.parts([group(3), group(9)]) == [[0, 1]]
    assert alone.broadcast_from_main(lambda: 7) == 7
    assert alone.all_gather("x") == ["x"]
    assert alone.all_reduce_sums({"loss": [2.0, 4.0]}) == {"loss": [2.0, 4.0]}
    assert alone.norm([torch.tensor([3.0]), torch.tensor([4.0])]) == pytest.approx(5)
    assert math.isfinite(alone.norm([torch.zeros(2)]))


def test_memory_splits_passes_before_the_first_step_and_a_resumed_run_splits_alike(
    tmp_path, monkeypatch
):
    """A quarter of the memory for a pass gives the same weights; the plan is stored."""
    groups = random_groups(8)
    plain = train(tiny_lm("llama"), DPO(), groups, CONFIG, tmp_path / "plain")
    monkeypatch.setattr(machine, "free_memory", lambda: 10**6)
    split = train(tiny_lm("llama"), DPO(), groups, CONFIG, tmp_path / "split")
    stored = json.loads((tmp_path / "split" / "token_budget.json").read_text())
    assert stored["token_budget"] == 400
    assert 0 < stored["pass_bytes"] < 10**6
    one, other = (load_file(t.lm.path + "/model.safetensors") for t in (plain, split))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-5)
    monkeypatch.setattr(machine, "free_memory", lambda: 10**12)
    again = TokenBudget(400, file=tmp_path / "split" / "token_budget.json")
    assert again._room == stored["pass_bytes"]


def test_a_group_without_memory_for_it_is_refused_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: 1000)
    with pytest.raises(BadInput, match=r"group .*: expected .* GB for a pass .* found"):
        train(tiny_lm("llama"), DPO(), random_groups(8), CONFIG, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
    assert not (tmp_path / "reference").exists()
