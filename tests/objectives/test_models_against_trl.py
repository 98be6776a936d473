"""KTO, ORPO, SimPO, CPO and reward models through the packed forward, against trl's on a model.

Both sides start from the same float32 weights and the same tokens; what trl's own code pads and
runs sequence by sequence is here one packed stream.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from alignlab.models.heads import RewardScorer, with_reward_head
from alignlab.models.logprobs import score_groups
from alignlab.models.scorer import ResponseScorer
from alignlab.objectives.cpo import CPO
from alignlab.objectives.kto import KTO
from alignlab.objectives.orpo import ORPO
from alignlab.objectives.reward_model import RewardModel
from alignlab.objectives.sft import SFT
from alignlab.objectives.simpo import SimPO
from alignlab.training.collate import group_logps, group_rewards
from alignlab.training.inputs import inputs_for
from alignlab.training.token_groups import with_mismatched
from tests.models.helpers import random_groups, tiny_lm, tiny_model, tiny_tokenizer
from tests.objectives.test_against_trl import gradients

pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

ACCELERATOR = SimpleNamespace(
    device=torch.device("cpu"), gather_for_metrics=lambda x: x, gather=lambda x: x
)


def assert_same(our_loss, model, their_loss, theirs):
    """Losses to 1e-5, the gradient of every parameter to 1e-4 of its norm."""
    assert our_loss.dtype == torch.float64
    assert their_loss.dtype == torch.float32
    our_loss.backward()
    their_loss.backward()
    assert our_loss.item() == pytest.approx(their_loss.item(), rel=1e-5, abs=1e-5)
    ours, expected = gradients(model), gradients(theirs)
    assert ours.keys() == expected.keys()
    whole = torch.cat([g.flatten() for g in expected.values()]).norm()
    assert whole > 1e-3
    for name, gradient in expected.items():
        assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7 * whole, name


def padded(rows, fill):
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=fill
    )


def side(groups, k, name):
    """One side of trl's pairs: tokens, mask, and labels for the response alone."""
    rows = [g.prompt_T + g.responses[k] for g in groups]
    labels = [(-100,) * len(g.prompt_T) + g.responses[k] for g in groups]
    return {
        f"{name}_input_ids": padded(rows, 0),
        f"{name}_attention_mask": padded([(1,) * len(row) for row in rows], 0),
        f"{name}_labels": padded(labels, -100),
    }


def paired_trainer(kind, **settings):
    """A trainer of trl's for pairs, with what its loss reads and nothing else."""
    trainer = SimpleNamespace(
        accelerator=ACCELERATOR, is_encoder_decoder=False, aux_loss_enabled=False,
        padding_value=0, pad_token_id=0, label_pad_token_id=-100, **settings,
    )  # fmt: skip
    for name in ("concatenated_inputs", "get_batch_logps"):
        setattr(trainer, name, getattr(kind, name))
    for name in ("concatenated_forward", "odds_ratio_loss", "cpo_loss"):
        if hasattr(kind, name):
            setattr(trainer, name, getattr(kind, name).__get__(trainer))
    return trainer


def pairs_of_one_chosen_length(prompt_tokens=None):
    """trl averages the chosen NLL over the batch's tokens; equal lengths make that the same."""
    groups = random_groups(6, (2,), seed=11)
    return [
        replace(
            g,
            prompt_T=g.prompt_T[:prompt_tokens],
            responses=((g.responses[0] * 14)[:9], g.responses[1]),
        )
        for g in groups
    ]


def our_loss(objective, model, groups):
    with ResponseScorer(model).scored(groups) as scored:
        return objective(group_logps(scored, groups, None)).loss_B.mean()


def test_orpo():
    orpo = pytest.importorskip("trl.experimental.orpo.orpo_trainer").ORPOTrainer
    # trl's NLL is over the prompt too: of a prompt of one token nothing is predicted.
    groups = pairs_of_one_chosen_length(prompt_tokens=1)
    model = tiny_model(scale=2.0)
    theirs = copy.deepcopy(model)
    batch = {**side(groups, 0, "chosen"), **side(groups, 1, "rejected")}
    trainer = paired_trainer(orpo, beta=0.4)
    their_loss, _ = orpo.get_batch_loss_metrics(trainer, theirs, batch)
    assert_same(our_loss(ORPO(beta=0.4), model, groups), model, their_loss, theirs)


def test_orpos_imitation_is_of_the_response_alone():
    """trl's is of the prompt too: the two differ by what the prompt's tokens cost."""
    orpo = pytest.importorskip("trl.experimental.orpo.orpo_trainer").ORPOTrainer
    groups = [replace(g, prompt_T=(g.prompt_T * 9)[:9]) for g in pairs_of_one_chosen_length()]
    model = tiny_model(scale=2.0)
    batch = {**side(groups, 0, "chosen"), **side(groups, 1, "rejected")}
    theirs, _ = orpo.get_batch_loss_metrics(paired_trainer(orpo, beta=0.4), model, batch)
    ours = our_loss(ORPO(beta=0.4), model, groups)
    both = [replace(g, prompt_T=g.prompt_T[:1], responses=(g.prompt_T[1:] + g.responses[0],))
            for g in groups]  # fmt: skip
    alone = [replace(g, responses=g.responses[:1]) for g in groups]
    prompt_too, response = (our_loss(SFT(), model, each) for each in (both, alone))
    assert (theirs - ours).item() == pytest.approx((prompt_too - response).item(), abs=1e-5)
    assert abs((theirs - ours).item()) > 1e-3


@pytest.mark.parametrize(
    ("settings", "objective"),
    [
        ({"loss_type": "simpo", "simpo_gamma": 1.5, "beta": 2.5, "cpo_alpha": 0.0},
         SimPO(beta=2.5, gamma=1.5)),
        ({"loss_type": "sigmoid", "beta": 0.2, "cpo_alpha": 0.7}, CPO(beta=0.2, nll_weight=0.7)),
    ],
    ids=["simpo", "cpo"],
)  # fmt: skip
def test_simpo_and_cpo(settings, objective):
    cpo = pytest.importorskip("trl.experimental.cpo.cpo_trainer").CPOTrainer
    groups = pairs_of_one_chosen_length()
    model = tiny_model(scale=2.0)
    theirs = copy.deepcopy(model)
    batch = {**side(groups, 0, "chosen"), **side(groups, 1, "rejected")}
    trainer = paired_trainer(cpo, alpha=0.0, label_smoothing=0.0, **settings)
    their_loss, _ = cpo.get_batch_loss_metrics(trainer, theirs, batch)
    assert_same(our_loss(objective, model, groups), model, their_loss, theirs)


@pytest.mark.parametrize("centre", [0.0, 0.05])
def test_reward_model(centre):
    from trl import RewardTrainer

    groups = random_groups(6, (2,), seed=11)
    model = with_reward_head(tiny_lm(scale=2.0), seed=3).model
    theirs = copy.deepcopy(model)
    rows = [g.prompt_T + g.responses[k] for k in (0, 1) for g in groups]
    assert all(row[-1] != model.config.pad_token_id for row in rows)
    trainer = SimpleNamespace(
        model=SimpleNamespace(training=False), accelerator=ACCELERATOR,
        args=SimpleNamespace(center_rewards_coefficient=centre or None),
        _metrics={"eval": defaultdict(list)}, _total_train_tokens=0,
    )  # fmt: skip
    inputs = {
        "input_ids": padded(rows, model.config.pad_token_id),
        "attention_mask": padded([(1,) * len(row) for row in rows], 0),
    }
    their_loss = RewardTrainer.compute_loss(trainer, theirs, inputs)
    with RewardScorer(model).scored(groups) as scored:
        given = group_rewards(scored.reward_N, groups)
        ours = RewardModel(centre=centre)(given).loss_B.mean()
    assert_same(ours, model, their_loss, theirs)


@pytest.mark.parametrize("drift", [1.0, -1.0])
def test_kto(drift, tmp_path):
    """The reference is the drifted model on one side, so that the KL estimate has both signs."""
    import trl

    singles = [
        replace(g, scores=(float(i % 3 > 0),)) for i, g in enumerate(random_groups(7, (1,), seed=2))
    ]
    groups = with_mismatched(singles, seed=0)
    model, reference = tiny_model(seed=0, scale=2.0), tiny_model(seed=1, scale=2.0)
    if drift < 0:
        model, reference = reference, model
    rows = [{"prompt": "a", "completion": c, "label": c == "b"} for c in "bc"]
    settings = {"beta": 0.3, "desirable_weight": 1.3, "undesirable_weight": 0.6}
    trainer = trl.KTOTrainer(
        model=copy.deepcopy(model),
        ref_model=copy.deepcopy(reference),
        args=trl.KTOConfig(
            output_dir=str(tmp_path), report_to="none", use_cpu=True, bf16=False,
            gradient_checkpointing=False, per_device_train_batch_size=2, **settings,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tiny_tokenizer(),
    )  # fmt: skip
    batch = trainer.data_collator(
        [
            {
                "prompt_ids": list(g.prompt_T),
                "completion_ids": list(g.responses[0]),
                "KL_completion_ids": list(g.responses[1]),
                "label": g.scores[0] > 0,
            }
            for g in groups
        ]
    )
    theirs = trainer.model.eval()
    their_loss = trainer.compute_loss(theirs, dict(batch))

    known = [found.sums for found in score_groups(ResponseScorer(reference), groups, 10_000)]
    inputs = step_inputs(ResponseScorer(model), groups, known)
    with inputs.of(range(len(groups)), None) as given:
        made = KTO(**settings)(given)
        ours = made.loss_B.mean()
    assert (made.metrics["kl"][0].item() > 0) == (drift > 0)
    assert_same(ours, model, their_loss, theirs)


def step_inputs(scorer, groups, known):
    from alignlab.training.budget import TokenBudget

    return inputs_for(KTO())(scorer, groups, known, TokenBudget(10_000))
