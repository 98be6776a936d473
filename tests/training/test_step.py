"""One optimiser step: what it divides by, what it refuses, and where its noise comes from."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from alignlab.errors import RunFailed
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import EmbeddingNoise, ResponseScorer
from alignlab.objectives.base import ObjectiveOutput
from alignlab.objectives.sft import SFT
from alignlab.training.budget import Pass
from alignlab.training.collate import group_logps, group_rewards
from alignlab.training.config import TrainConfig
from alignlab.training.metrics import MetricSums
from alignlab.training.precision import Weights
from alignlab.training.schedule import derived_seed
from alignlab.training.step import StepRunner
from tests.models.helpers import random_groups, tiny_lm

CONFIG = TrainConfig(lr=0.1, batch_size=4, max_grad_norm=0, seed=3, dtype="float32")


@dataclass(frozen=True)
class Given:
    """A loss per group that a test gives."""

    make: Any
    needs_reference: ClassVar[bool] = False
    min_responses: ClassVar[int] = 1
    max_responses: ClassVar[int | None] = None
    best_only: ClassVar[bool] = False

    def __call__(self, logps):
        return self.make(logps)


def stepper(objective, config, out, *, lm=None, optimizer=torch.optim.SGD):
    lm = lm or tiny_lm()
    weights = Weights(lm.model, config.dtype)
    scorer = ResponseScorer(lm.model)
    return StepRunner(objective, config, weights, scorer, optimizer(weights.masters, lr=1.0), out)


def taken(made, groups, *, lr=0.1, number=0):
    """Do a step: the change of every weight, and the step's metrics."""
    before = [m.detach().clone() for m in made.weights.masters]
    window = MetricSums()
    made.step(number, groups, None, lr, window)
    return [m.detach() - b for m, b in zip(made.weights.masters, before, strict=True)], window


@pytest.mark.parametrize("exact", [True, False])
def test_frozen_weights_are_held_twice_only_where_a_cast_loses_digits(exact):
    lm = tiny_lm()
    if exact:
        lm.model.to(torch.bfloat16).float()
    before = {n: p.detach().clone() for n, p in lm.model.named_parameters()}
    embeddings = lm.model.get_input_embeddings().weight
    lm.model.requires_grad_(False)
    embeddings.requires_grad_(True)
    weights = Weights(lm.model, "bfloat16")
    frozen = [f for f in weights._frozen if f.parameter is not embeddings]
    # Norms are ones, exact in any type.
    kept = [f.original for f in frozen if f.original is not None]
    assert bool(kept) is not exact
    assert {p.dtype for p in lm.model.parameters()} == {torch.bfloat16}
    with weights.cast_to("float32"):
        for name, parameter in lm.model.named_parameters():
            assert torch.equal(parameter, before[name])
    weights.restore()
    for name, parameter in lm.model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, before[name])


def nll(logps):
    return -logps.policy_BK.sum(1)


@pytest.mark.parametrize("budget", [8192, 1])
def test_a_step_goes_down_the_weighted_mean_of_the_losses(tmp_path, budget):
    """Weights 1, 2, 3: the step is lr times the gradient of (l1 + 2 l2 + 3 l3) / 6."""
    groups = random_groups(3, (1,), seed=2)
    lm = tiny_lm()
    with ResponseScorer(lm.model).scored(groups) as scored:
        loss_B = nll(group_logps(scored, groups, None))
        total = (loss_B * torch.tensor([1.0, 2.0, 3.0])).sum() / 6
        expected = torch.autograd.grad(total, list(lm.model.parameters()))
    heavy = {len(g.prompt_T) * 1000 + len(g.responses[0]): i + 1.0 for i, g in enumerate(groups)}

    def weighted(logps):
        found = [
            len(g.prompt_T) * 1000 + int(n) for g, n in zip(order, logps.length_BK, strict=True)
        ]
        return ObjectiveOutput(nll(logps), {}, weight_B=torch.tensor([heavy[f] for f in found]))

    config = replace(CONFIG, token_budget=budget)
    made = stepper(Given(weighted), config, tmp_path)
    seen = made.budget.passes
    order: list[TokenGroup] = []

    def passes(all_groups, work, undo, memory):
        def remember(one):
            order[:] = [all_groups[i] for i in one.batch]
            return work(one)

        return seen(all_groups, remember, undo, memory)

    made.budget.passes = passes
    changes, window = taken(made, groups)
    for change, gradient in zip(changes, expected, strict=True):
        torch.testing.assert_close(change, -0.1 * gradient, rtol=1e-3, atol=2e-5)
    norm = torch.nn.utils.get_total_norm(expected)
    assert window.means()["grad_norm"] == pytest.approx(float(norm), rel=1e-4)
    assert window.means()["loss"] == pytest.approx(float(total.detach()), rel=1e-5)


def test_without_weights_every_group_counts_once(tmp_path):
    groups = random_groups(3, (1,), seed=2)
    with ResponseScorer(tiny_lm().model).scored(groups) as scored:
        mean = float(nll(group_logps(scored, groups, None)).mean())
    made = stepper(
        Given(lambda logps: ObjectiveOutput(nll(logps), {})),
        replace(CONFIG, token_budget=1),
        tmp_path,
    )
    _, window = taken(made, groups)
    assert window.means()["loss"] == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(("most", "share"), [(0.0, 1.0), (1e9, 1.0), (0.5, None)])
def test_gradients_are_scaled_down_to_the_norm_and_never_up(tmp_path, most, share):
    groups = random_groups(2, (1,), seed=2)
    free, window = taken(stepper(SFT(), CONFIG, tmp_path / "a"), groups)
    cut, again = taken(stepper(SFT(), replace(CONFIG, max_grad_norm=most), tmp_path / "b"), groups)
    norm = window.means()["grad_norm"]
    assert norm > 0.5
    assert again.means()["grad_norm"] == pytest.approx(norm)  # before it is cut
    share = share or 0.5 / norm
    for one, other in zip(free, cut, strict=True):
        torch.testing.assert_close(other, one * share, rtol=1e-4, atol=1e-7)


def test_gradients_do_not_stay_for_the_next_step(tmp_path):
    groups = random_groups(2, (1,), seed=2)
    made = stepper(SFT(), CONFIG, tmp_path)
    taken(made, groups, lr=0.0)
    first, _ = taken(made, groups)
    alone, _ = taken(stepper(SFT(), CONFIG, tmp_path), groups)
    for one, other in zip(first, alone, strict=True):
        torch.testing.assert_close(one, other)


class _FiniteLoss(torch.autograd.Function):
    """A loss of 1 whose gradient is what a test says."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradient: float) -> Tensor:
        ctx.gradient = gradient
        return torch.ones_like(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return torch.full_like(grad, ctx.gradient), None


@pytest.mark.parametrize(
    ("loss", "gradient"), [(1.0, math.inf), (1.0, math.nan), (math.nan, 1.0), (math.inf, 1.0)]
)
def test_a_loss_or_norm_that_is_not_finite_moves_no_weight(tmp_path, loss, gradient):
    def broken(logps):
        return ObjectiveOutput(loss * _FiniteLoss.apply(logps.policy_BK[:, 0], gradient), {})

    made = stepper(Given(broken), replace(CONFIG, max_grad_norm=1.0), tmp_path)
    before = [m.detach().clone() for m in made.weights.masters]
    with pytest.raises(RunFailed, match=r"step 8: loss .*, gradient norm .*: not finite"):
        made.step(7, random_groups(2, (1,)), None, 0.1, MetricSums())
    assert all(torch.equal(m, b) for m, b in zip(made.weights.masters, before, strict=True))
    failed = json.loads((tmp_path / "failed_batch.json").read_text())
    assert failed["step"] == 8
    assert [g["id"] for g in failed["groups"]] == ["g0", "g1"]


def test_weights_that_were_never_numbers_are_named(tmp_path):
    def broken(logps):
        return ObjectiveOutput(math.nan * logps.policy_BK[:, 0], {})

    made = stepper(Given(broken), CONFIG, tmp_path)
    with pytest.raises(RunFailed, match="a smaller learning rate may help"):
        made.step(0, random_groups(2, (1,)), None, 0.1, MetricSums())
    made.scorer.base.lm_head.weight.data[0, 0] = math.nan
    with pytest.raises(RunFailed, match=r"own weight lm_head\.weight is not finite"):
        made.step(0, random_groups(2, (1,)), None, 0.1, MetricSums())


def test_a_lower_budget_is_kept_for_the_resumed_run(tmp_path):
    made = stepper(SFT(), CONFIG, tmp_path)
    made.budget.tokens = 20
    _, window = taken(made, random_groups(2, (1,)))
    assert json.loads((tmp_path / "token_budget.json").read_text()) == {"token_budget": 20}
    assert window.means()["token_budget"] == 20
    assert stepper(SFT(), CONFIG, tmp_path).budget.tokens == 20
    _, window = taken(stepper(SFT(), CONFIG, tmp_path / "b"), random_groups(2, (1,)))
    assert "token_budget" not in window.means()


# --- noise


def drawn(made, number, micro, rank=0):
    if rank:
        made.world = replace(made.world, rank=rank, size=2)
    with made._drawn(number, micro) as noise:
        return torch.rand(4, generator=noise.generator).tolist(), torch.rand(4).tolist()


def test_noise_and_dropout_are_those_of_the_step_the_micro_batch_and_the_process(tmp_path):
    config = replace(CONFIG, neftune_alpha=5.0, dropout=0.1)
    made = stepper(SFT(), config, tmp_path)
    torch.manual_seed(99)
    found = [drawn(made, 0, 0), drawn(made, 0, 1), drawn(made, 1, 0), drawn(made, 0, 0, rank=1)]
    for which in (0, 1):  # noise, dropout
        values = [tuple(each[which]) for each in found]
        assert len(set(values)) == 4
    torch.manual_seed(1)
    assert drawn(stepper(SFT(), config, tmp_path), 0, 1) == found[1]
    other = stepper(SFT(), replace(config, seed=4), tmp_path)
    assert drawn(other, 0, 1) != found[1]
    # What is drawn elsewhere is not touched.
    torch.manual_seed(1)
    left = torch.rand(3)
    torch.manual_seed(1)
    drawn(made, 0, 0)
    assert torch.equal(torch.rand(3), left)


@pytest.mark.parametrize("plain", [None, "asked for"])
def test_neftunes_noise_has_its_size(plain):
    """uniform(-1, 1) * alpha / sqrt(L * d), L the tokens of a group's longest sequence, d 32."""
    lm = tiny_lm()
    groups = [
        TokenGroup("short", (5, 6), ((7, 8), (9,))),
        TokenGroup("long", tuple(range(5, 55)), (tuple(range(5, 19)),)),
    ]
    seen: list[Tensor] = []
    scorer = ResponseScorer(lm.model, padded_because=plain)
    embeddings = lm.model.get_input_embeddings()
    plainly: list[Tensor] = []
    first = embeddings.register_forward_hook(lambda m, i, out: plainly.append(out.detach().clone()))
    body = lm.model.model.layers[0].register_forward_pre_hook(
        lambda m, i: seen.append(i[0].detach())
    )
    with scorer.scored(groups, EmbeddingNoise(5.0, torch.Generator().manual_seed(2))):
        pass
    first.remove()
    body.remove()
    noise = seen[-1] - plainly[-1]
    unit = torch.rand(noise.shape, generator=torch.Generator().manual_seed(2)) * 2 - 1
    short, long = 5.0 / math.sqrt(4 * 32), 5.0 / math.sqrt(64 * 32)
    parts = [(0, slice(0, 5), short), (0, slice(5, 69), long)]
    if plain is not None:  # a sequence per response
        parts = [(0, slice(None), short), (1, slice(None), short), (2, slice(None), long)]
    for row, positions, size in parts:
        expected = unit[row, positions] * size
        torch.testing.assert_close(noise[row, positions], expected, rtol=1e-3, atol=1e-5)


# --- from values of sequences to groups


class Scored:
    def __init__(self, values, lengths):
        self.logp_R = torch.tensor(values)
        self.targets = type("T", (), {"length_N": lengths})

    def sequence_N(self):
        return torch.tensor([-1.0, -2.0, -3.0, -4.0, -5.0, -6.0], dtype=torch.float64)


RAGGED = [
    TokenGroup("a", (1,), ((2,), (2, 3)), (5.0, 4.0)),
    TokenGroup("b", (1, 1), ((2,), (2, 3, 4), (2,)), (3.0, 3.0, 1.0)),
    TokenGroup("c", (1,), ((2, 2),)),
]


def test_groups_of_different_sizes_are_padded_where_nothing_reads():
    scored = Scored([0.0], (1, 2, 1, 3, 1, 2))
    reference = [(-10.0, -20.0), (-30.0, -40.0, -50.0), (-60.0,)]
    made = group_logps(scored, RAGGED, reference)
    assert made.policy_BK.tolist() == [[-1, -2, 0], [-3, -4, -5], [-6, 0, 0]]
    assert made.reference_BK.tolist() == [[-10, -20, 0], [-30, -40, -50], [-60, 0, 0]]
    assert made.length_BK.tolist() == [[1, 2, 1], [1, 3, 1], [2, 1, 1]]
    assert made.score_BK.tolist() == [[5, 4, 0], [3, 3, 1], [0, 0, 0]]
    assert made.mask_BK.tolist() == [
        [True, True, False],
        [True, True, True],
        [True, False, False],
    ]
    assert made.longest_B.tolist() == [3, 5, 3]
    assert group_logps(scored, RAGGED, None).reference_BK is None
    found = group_rewards(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), RAGGED)
    assert found.reward_BK.tolist() == [[1, 2, 0], [3, 4, 5], [6, 0, 0]]
    assert found.reward_BK.dtype == torch.float64


def test_groups_without_scores_count_as_ranked():
    made = group_rewards(torch.zeros(3), [TokenGroup("a", (1,), ((2,), (3,), (4,)))])
    assert made.score_BK.tolist() == [[0, -1, -2]]


def test_a_budget_that_was_lowered_is_kept_and_shown(tmp_path):
    made = stepper(SFT(), CONFIG, tmp_path)
    made.budget.tokens = 64
    _, window = taken(made, random_groups(2, (1,), seed=2))
    assert json.loads((tmp_path / "token_budget.json").read_text()) == {"token_budget": 64}
    assert window.means()["token_budget"] == 64


def test_a_single_process_draws_from_seed_step_and_micro_batch(tmp_path):
    made = stepper(SFT(), replace(CONFIG, neftune_alpha=5.0), tmp_path)
    with made._drawn(7, 2) as noise:
        assert noise.alpha == 5.0
        assert noise.generator.initial_seed() == derived_seed("step", 3, 7, 2)


def test_a_pass_that_fills_up_for_other_processes_adds_nothing(tmp_path):
    groups = random_groups(2, (1,), seed=2)
    alone, _ = taken(stepper(SFT(), CONFIG, tmp_path), groups)
    made = stepper(SFT(), CONFIG, tmp_path)
    seen = made.budget.passes

    def passes(all_groups, work, undo, memory):
        yield from seen(all_groups, work, undo, memory)
        extra = Pass(9, [0], False)
        yield extra, work(extra)

    made.budget.passes = passes
    for one, other in zip(taken(made, groups)[0], alone, strict=True):
        torch.testing.assert_close(one, other)
