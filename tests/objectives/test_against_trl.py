"""Pairwise objectives through the packed forward, against trl's trainer on the same pairs."""

from __future__ import annotations

import copy

import pytest
import torch

from alignlab.models.scorer import ResponseScorer
from alignlab.objectives.dpo import DPO
from alignlab.objectives.hinge import Hinge
from alignlab.objectives.ipo import IPO
from alignlab.training.collate import group_logps
from tests.models.helpers import random_groups, tiny_model, tiny_tokenizer

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

CASES = [
    ({"loss_type": ["sigmoid"], "beta": 0.3}, DPO(beta=0.3)),
    (
        {"loss_type": ["robust"], "beta": 0.3, "label_smoothing": 0.2},
        DPO(beta=0.3, label_smoothing=0.2, robust=True),
    ),
    ({"loss_type": ["ipo"], "beta": 0.3}, IPO(beta=0.3)),
    ({"loss_type": ["hinge"], "beta": 0.3}, Hinge(beta=0.3)),
]


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("settings", "objective"), CASES, ids=lambda c: str(c)[:24])
def test_loss_and_gradients_equal_trls(settings, objective, tmp_path):
    groups = random_groups(6, (2,), seed=11)
    model, reference = tiny_model(seed=0, scale=2.0), tiny_model(seed=1, scale=2.0)
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}]
    trainer = trl.DPOTrainer(
        model=copy.deepcopy(model),
        ref_model=copy.deepcopy(reference),
        args=trl.DPOConfig(
            output_dir=str(tmp_path), report_to="none", use_cpu=True, bf16=False,
            gradient_checkpointing=False, **settings,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
    )  # fmt: skip
    batch = trainer.data_collator(
        [
            {
                "prompt_ids": list(g.prompt_T),
                "chosen_ids": list(g.responses[0]),
                "rejected_ids": list(g.responses[1]),
            }
            for g in groups
        ]
    )
    theirs = trainer.model.eval()
    their_loss = trainer.compute_loss(theirs, dict(batch))
    their_loss.backward()

    with torch.no_grad(), ResponseScorer(reference).scored(groups) as scored:
        known = scored.sequence_N().view(-1, 2).tolist()
    with ResponseScorer(model).scored(groups) as scored:
        our_loss = objective(group_logps(scored, groups, known)).loss_B.mean()
        our_loss.backward()
    assert our_loss.item() == pytest.approx(their_loss.item(), rel=1e-5, abs=1e-5)
    ours, expected = gradients(model), gradients(theirs)
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, name
