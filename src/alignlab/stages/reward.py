"""Reward: a reward model that was trained in a run, as a source of feedback in it."""

from __future__ import annotations

from alignlab.feedback.reward_model import RewardSource
from alignlab.models.heads import load_reward_model
from alignlab.models.rewarders import ChatRewarder
from alignlab.protocols import FeedbackSource
from alignlab.stages.lab import Lab
from alignlab.types import Checkpoint


def learned_reward(lab: Lab, model: Checkpoint) -> FeedbackSource:
    """The rewards of a checkpoint with a scalar head, under the checkpoint's name."""
    lm = load_reward_model(model.path, device=lab.hardware.device, chat_template=lab.chat_template)
    return RewardSource(ChatRewarder(lm), model.name)
