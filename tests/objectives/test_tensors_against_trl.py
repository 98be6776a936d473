"""KTO, ORPO, SimPO, CPO and reward models against trl's own functions, called on tensors."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch

from alignlab.objectives.base import LabelledLogps
from alignlab.objectives.cpo import CPO
from alignlab.objectives.kto import KTO
from alignlab.objectives.orpo import ORPO
from alignlab.objectives.reward_model import RewardModel
from alignlab.objectives.simpo import SimPO
from tests.objectives.test_more_objectives import rewards
from tests.objectives.test_objectives import logps

pytest.importorskip("trl")

ACCELERATOR = SimpleNamespace(
    device=torch.device("cpu"), gather_for_metrics=lambda x: x, gather=lambda x: x
)
LENGTHS = torch.tensor([[3.0, 7.0], [11.0, 2.0], [5.0, 5.0], [1.0, 9.0]], dtype=torch.float64)


def drawn(*shape):
    generator = torch.Generator().manual_seed(5)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def agree(ours, leaf, theirs, their_leaf):
    """Values to 1e-5, gradients to 1e-4 of their size."""
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5, abs=1e-5)
    (one,) = torch.autograd.grad(ours, leaf)
    (other,) = torch.autograd.grad(theirs, their_leaf)
    assert (one - other).norm() <= 1e-4 * other.norm()


def pairs():
    means_BK = -drawn(4, 2).exp()
    return logps((means_BK * LENGTHS).tolist(), length=LENGTHS.tolist())


def nll_part(weight, given):
    return weight * (-given.policy_BK[:, 0] / given.length_BK[:, 0]).mean()


def test_orpo():
    orpo = pytest.importorskip("trl.experimental.orpo.orpo_trainer")
    given = pairs()
    means_BK = given.policy_BK / given.length_BK
    trainer = SimpleNamespace(beta=0.3, accelerator=ACCELERATOR)
    rank_B = orpo.ORPOTrainer.odds_ratio_loss(trainer, means_BK[:, 0], means_BK[:, 1])[0]
    theirs = nll_part(1.0, given) - rank_B.mean()
    ours = ORPO(beta=0.3)(given).loss_B.mean()
    agree(ours, given.policy_BK, theirs, given.policy_BK)


def test_simpo_and_cpo():
    cpo = pytest.importorskip("trl.experimental.cpo.cpo_trainer")
    common = {"alpha": 0.0, "label_smoothing": 0.0, "accelerator": ACCELERATOR}

    given = pairs()
    trainer = SimpleNamespace(loss_type="simpo", beta=2.5, simpo_gamma=1.5, **common)
    means_BK = given.policy_BK / given.length_BK
    theirs = cpo.CPOTrainer.cpo_loss(trainer, means_BK[:, 0], means_BK[:, 1])[0].mean()
    ours = SimPO(beta=2.5, gamma=1.5)(given).loss_B.mean()
    agree(ours, given.policy_BK, theirs, given.policy_BK)

    given = pairs()
    trainer = SimpleNamespace(loss_type="sigmoid", beta=0.2, **common)
    ranked = cpo.CPOTrainer.cpo_loss(trainer, given.policy_BK[:, 0], given.policy_BK[:, 1])[0]
    theirs = ranked.mean() + nll_part(0.7, given)
    ours = CPO(beta=0.2, nll_weight=0.7)(given).loss_B.mean()
    agree(ours, given.policy_BK, theirs, given.policy_BK)


@pytest.mark.parametrize("centre", [0.0, 0.05])
@pytest.mark.parametrize("margin", [0.0, 0.8])
def test_reward_model(centre, margin):
    from trl import RewardTrainer

    given = rewards(drawn(4, 2).tolist())
    # trl's batch: all chosen, then all rejected.
    model = lambda **_: SimpleNamespace(logits=given.reward_BK.T.reshape(-1, 1))  # noqa: E731
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(center_rewards_coefficient=centre or None),
        accelerator=ACCELERATOR,
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
    )
    inputs = {"attention_mask": torch.ones(8, 1)}
    if margin:
        inputs["margin"] = torch.full((4,), margin, dtype=torch.float64)
    theirs = RewardTrainer.compute_loss(trainer, model, inputs)
    ours = RewardModel(margin=margin, centre=centre)(given).loss_B.mean()
    agree(ours, given.reward_BK, theirs, given.reward_BK)


@pytest.mark.parametrize("drift", [1.0, -1.0])
def test_kto(drift):
    """Policy and mismatched log-probabilities come from a model of our making."""
    from trl import KTOTrainer

    label = torch.tensor([True, False, True, True, False])
    tokens_BT = drawn(5, 6).sub(2).requires_grad_()
    reference_B, other_B = drawn(5).sub(12), drawn(5).sub(9)
    other_policy_B = other_B + drift + drawn(5)
    mask = torch.ones(5, 7, dtype=torch.long)
    mask[:, 0] = 0

    def model(**kwargs):
        zeros = torch.zeros(5, 6)
        return SimpleNamespace(log_probs=tokens_BT, entropy=zeros, mean_logits=zeros, correct=zeros)

    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False), accelerator=ACCELERATOR, aux_loss_enabled=False,
        precompute_ref_logps=True, calculate_KL=True, loss_type="kto", beta=0.4,
        desirable_weight=1.3, undesirable_weight=0.6, _metrics={"eval": defaultdict(list)},
        _compute_kl_logps=lambda model, batch: other_policy_B,
        _total_train_tokens=0, args=SimpleNamespace(),
    )  # fmt: skip
    inputs = {
        "label": label, "input_ids": torch.zeros(5, 7, dtype=torch.long), "attention_mask": mask,
        "completion_mask": mask, "ref_logps": reference_B, "ref_KL_logps": other_B,
    }  # fmt: skip
    theirs = KTOTrainer._compute_loss(trainer, model, inputs, False)
    given = LabelledLogps(tokens_BT.sum(1), reference_B, label, other_policy_B, other_B)
    objective = KTO(beta=0.4, desirable_weight=1.3, undesirable_weight=0.6)
    agree(objective(given).loss_B.mean(), tokens_BT, theirs, tokens_BT)
