"""RLOO and GRPO through the packed forward, against trl's trainers on the same rollouts.

trl is given the drawn tokens and the scores; it computes old and reference log-probabilities,
advantages and the loss itself. The loss is taken after the policy has moved, so that clipping
and the ratios matter.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from alignlab.models.scorer import ResponseScorer
from alignlab.objectives.grpo import GRPO
from alignlab.objectives.rloo import RLOO
from alignlab.training.rollout_records import (
    as_rollouts,
    rollout_logps,
    rollout_records,
    token_scores,
)
from tests.models.helpers import random_groups, tiny_model, tiny_tokenizer

trl = pytest.importorskip("trl")
utils = pytest.importorskip("trl.trainer.utils")
datasets = pytest.importorskip("datasets")

SCORES = [3.0, 1.0, 0.0, 2.5, 2.0, 2.0, 5.0, -1.0, 0.5, 0.25, 4.0, 4.0]
CASES = [
    (RLOO(kl_coef=0.3), "RLOO", {"beta": 0.3, "normalize_advantages": False}),
    (RLOO(kl_coef=0.3, normalise=True), "RLOO", {"beta": 0.3, "normalize_advantages": True}),
    (GRPO(), "GRPO", {"loss_type": "dapo", "beta": 0.0}),
    (
        GRPO(kl_coef=0.2, clip_high=0.28, mean_over="responses"),
        "GRPO",
        {"loss_type": "grpo", "beta": 0.2, "epsilon_high": 0.28, "use_bias_correction_kl": False},
    ),
    (GRPO(scale="none", clip=0.1), "GRPO",
     {"loss_type": "dapo", "beta": 0.0, "scale_rewards": "none", "epsilon": 0.1}),
    (GRPO(scale="none", mean_over="constant", divisor=20), "GRPO",
     {"loss_type": "dr_grpo", "beta": 0.0, "scale_rewards": "none", "max_completion_length": 20}),
    (GRPO(scale="batch"), "GRPO",
     {"loss_type": "bnpo", "beta": 0.0, "scale_rewards": "batch"}),
]  # fmt: skip


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def moved(model):
    """The same small step for both sides."""
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i))
            parameter.add_(0.6 * parameter.std() * noise if parameter.ndim > 1 else 0)


def trl_trainer(kind, settings, model, reference, groups, out):
    beta = settings["beta"]
    config = getattr(trl, f"{kind}Config")(
        output_dir=str(out), report_to="none", use_cpu=True, bf16=False,
        gradient_checkpointing=False, num_generations=4, per_device_train_batch_size=12,
        num_iterations=2, **(settings | {"beta": 0.0}),
    )  # fmt: skip
    trainer = getattr(trl, f"{kind}Trainer")(
        model=copy.deepcopy(model),
        reward_funcs=lambda **_: [0.0],
        args=config,
        train_dataset=datasets.Dataset.from_list([{"prompt": "a"}] * 12),
        processing_class=tiny_tokenizer(),
    )
    # Given in the settings, trl would look for the reference on the hub.
    trainer.beta, trainer.ref_model = beta, copy.deepcopy(reference)
    utils.add_fused_lm_head(trainer.ref_model)
    prompts = [list(g.prompt_T) for g in groups for _ in g.responses]
    drawn = [list(r) for g in groups for r in g.responses]
    texts = ["x"] * len(drawn)
    more = (None, texts, None, {}, None, None) if kind == "GRPO" else (texts,)
    trainer._generate = lambda _: (prompts, drawn, *more)
    trainer._calculate_rewards = lambda *_: torch.tensor(SCORES)[:, None]
    return trainer


@pytest.mark.parametrize(("objective", "kind", "settings"), CASES, ids=lambda c: str(c)[:48])
def test_credit_loss_and_gradients_equal_trls(objective, kind, settings, tmp_path):
    model, reference = tiny_model(seed=0, scale=2.0), tiny_model(seed=1, scale=2.0)
    groups = [
        replace(g, scores=tuple(SCORES[4 * i : 4 * i + 4]))
        for i, g in enumerate(random_groups(3, (4,), seed=4))
    ]
    trainer = trl_trainer(kind, settings, model, reference, groups, tmp_path)
    trainer.model.train()
    batch = trainer._generate_and_score_completions([{"prompt": "a"}] * 12)
    trainer.current_gradient_accumulation_steps = 1
    moved(trainer.model)
    their_loss = trainer._compute_loss(trainer.model, batch)
    their_loss.backward()

    with torch.no_grad(), ResponseScorer(model).scored(groups) as scored:
        policy = token_scores(scored, groups)
    with torch.no_grad(), ResponseScorer(reference).scored(groups) as scored:
        rollouts = as_rollouts(groups, policy, token_scores(scored, groups))
    credit = objective.credit(rollouts, objective.start())
    first = credit.advantage_NT[:, 0].float()
    torch.testing.assert_close(first, batch["advantages"], rtol=1e-5, atol=1e-5)
    moved(model)
    known = rollout_records(groups, rollouts, credit)
    with ResponseScorer(model).scored(groups) as scored:
        output = objective(rollout_logps(scored, groups, known))
        loss = (output.loss_B * output.weight_B).sum() / output.weight_B.sum()
        loss.backward()
    assert 0 < output.metrics["policy/clipfrac"].mean() < 1  # clipping is tried
    assert loss.item() == pytest.approx(their_loss.item(), rel=1e-5, abs=1e-5)
    ours, expected = gradients(model), gradients(trainer.model)
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, name
