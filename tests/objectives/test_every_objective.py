"""All objectives: their defaults, and the numbers in their modules."""

from importlib import import_module

import pytest

from tests.defaults import defaults_of

DEFAULTS = {
    "objectives.base": {
        'Objective.needs_reference': False,
        'Objective.min_responses': 2,
        'Objective.best_only': False,
        'Objective.soft_labels': False,
    },
    "objectives.cpo": {
        'CPO.beta': 0.1,
        'CPO.nll_weight': 1.0,
        'CPO.max_responses': 2,
    },
    "objectives.credit": {
        'KLPenalty.kl_coef': 0.05,
        'KLPenalty.kl_estimator': 'k1',
        'KLPenalty.kl_horizon': 10000,
    },
    "objectives.distill": {
        'PART_ELEMENTS': 1 << 24,
        'Distill.teacher': '',
        'Distill.beta': 0.5,
        'Distill.temperature': 1.0,
        'Distill.min_responses': 1,
        'Distill.max_responses': 1,
        'Distill.best_only': True,
    },
    "objectives.dpo": {
        'DPO.beta': 0.1,
        'DPO.label_smoothing': 0.0,
        'DPO.robust': False,
        'DPO.nll_weight': 0.0,
        'DPO.needs_reference': True,
        'DPO.max_responses': 2,
        'DPO.soft_labels': True,
    },
    "objectives.dpo_pro": {
        'DPOPRO.beta': 0.1,
        'DPOPRO.needs_reference': True,
    },
    "objectives.grpo": {
        'GRPO.kl_coef': 0.0,
        'GRPO.clip': 0.2,
        'GRPO.scale': 'group',
        'GRPO.mean_over': 'tokens',
        'GRPO.group_relative': True,
    },
    "objectives.hinge": {
        'Hinge.beta': 0.1,
        'Hinge.needs_reference': True,
        'Hinge.max_responses': 2,
    },
    "objectives.ipo": {
        'IPO.beta': 0.1,
        'IPO.summed': False,
        'IPO.needs_reference': True,
        'IPO.max_responses': 2,
    },
    "objectives.joint_feedback": {
        'JointFeedback.response_weight': 1.0,
        'JointFeedback.min_responses': 1,
        'JointFeedback.max_responses': 1,
    },
    "objectives.kto": {
        'KTO.beta': 0.1,
        'KTO.desirable_weight': 1.0,
        'KTO.undesirable_weight': 1.0,
        'KTO.needs_reference': True,
        'KTO.max_responses': 2,
    },
    "objectives.ld_dpo": {
        'LDDPO.alpha': 0.5,
        'LDDPO.beta': 0.1,
        'LDDPO.label_smoothing': 0.0,
        'LDDPO.robust': False,
        'LDDPO.nll_weight': 0.0,
    },
    "objectives.orpo": {
        'ORPO.beta': 0.1,
        'ORPO.max_responses': 2,
    },
    "objectives.ppo": {
        'PPO.gamma': 1.0,
        'PPO.lam': 0.95,
        'PPO.whiten': True,
        'PPO.clip': 0.2,
        'PPO.value_clip': 0.2,
        'PPO.vf_coef': 0.1,
        'PPO.scores': 'raw',
        'PPO.score_clip': 0.0,
        'PPO.min_responses': 1,
        'PPO.kl_coef': 0.05,
        'PPO.kl_estimator': 'k1',
        'PPO.kl_horizon': 10000,
    },
    "objectives.preferred_ft": {
        'PreferredFT.best_only': True,
    },
    "objectives.pro": {
        'PRO.nll_weight': 0.05,
        'PRO.score_temperatures': False,
        'PRO.weights': 'paper',
    },
    "objectives.reinforce": {
        'Reinforce.baseline': 'batch',
        'Reinforce.min_responses': 1,
        'Reinforce.once': True,
        'Reinforce.by_response': True,
        'Reinforce.kl_coef': 0.05,
        'Reinforce.kl_estimator': 'k1',
        'Reinforce.kl_horizon': 10000,
    },
    "objectives.reward_conditioned": {
        'RewardConditioned.bins': 5,
        'RewardConditioned.min_responses': 1,
        'RewardConditioned.max_responses': 1,
    },
    "objectives.reward_model": {
        'RewardModel.margin': 0.0,
        'RewardModel.margin_per_score': 0.0,
        'RewardModel.centre': 0.0,
        'RewardModel.plackett_luce': False,
        'RewardModel.soft_labels': True,
    },
    "objectives.rloo": {
        'RLOO.clip': 0.2,
        'RLOO.normalise': False,
        'RLOO.by_response': True,
        'RLOO.group_relative': True,
        'RLOO.kl_coef': 0.05,
        'RLOO.kl_estimator': 'k1',
        'RLOO.kl_horizon': 10000,
    },
    "objectives.rollout_batch": {
        'CreditState.kl_coef': 0.0,
        'CreditState.count': 0.0,
        'CreditState.mean': 0.0,
        'CreditState.squares': 0.0,
        'PolicyGradient.needs_reference': True,
        'PolicyGradient.min_responses': 2,
        'PolicyGradient.best_only': False,
        'PolicyGradient.soft_labels': False,
        'PolicyGradient.once': False,
        'PolicyGradient.by_response': False,
        'PolicyGradient.group_relative': False,
    },
    "objectives.rrhf": {
        'RRHF.nll_weight': 1.0,
        'RRHF.weights': 'paper',
    },
    "objectives.sft": {
        'SFT.min_responses': 1,
        'SFT.max_responses': 1,
        'SFT.best_only': True,
    },
    "objectives.simpo": {
        'SimPO.beta': 2.0,
        'SimPO.gamma': 1.0,
        'SimPO.max_responses': 2,
    },
    "objectives.slic": {
        'SLiC.margin': 1.0,
        'SLiC.nll_weight': 0.1,
        'SLiC.max_responses': 2,
    },
    "objectives.wpo": {
        'WPO.beta': 0.1,
        'WPO.label_smoothing': 0.0,
        'WPO.robust': False,
        'WPO.nll_weight': 0.0,
    },
}  # fmt: skip
"""Module -> its numbers and defaults; figures depend on each, so that a change is a decision."""


@pytest.mark.parametrize("module", DEFAULTS)
def test_defaults_and_constants_stay_what_they_are(module):
    assert defaults_of(import_module(f"alignlab.{module}")) == DEFAULTS[module]
