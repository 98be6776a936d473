"""Check the settings of rollout training against its objective, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence

from alignlab.errors import BadInput
from alignlab.objectives.rollout_batch import PolicyGradient, is_policy_gradient
from alignlab.training.distributed import DistributedContext
from alignlab.training.rollout_config import RolloutConfig
from alignlab.training.trainer_state import TrainingCallbacks
from alignlab.types import Prompt


def refuse_rollouts(
    objective: PolicyGradient,
    prompts: Sequence[Prompt],
    config: RolloutConfig,
    hooks: TrainingCallbacks,
    world: DistributedContext,
) -> None:
    """Refuse settings of rollout training that cannot work or would have no effect.

    Raises:
        BadInput: such a setting.
    """
    name = type(objective).__name__
    if not is_policy_gradient(objective):
        raise BadInput(f"train: {name} learns from given responses, not from rollouts")
    if not prompts:
        raise BadInput("train: expected prompts to answer, found none")
    refuse_unfit(objective, config)
    if config.validate_every and hooks.validate is None and world.is_main:
        raise BadInput("train: validate_every: expected a validation with it, found none")
    if world.sharded and config.serves and config.mismatch_alarm is None:
        raise BadInput(
            "train: mismatch_alarm: expected a bound in nats with engine and parallel=fsdp, where "
            "the trainer's own rounding is not measured; found none"
        )


def refuse_unfit(objective: PolicyGradient, config: RolloutConfig) -> None:
    """Refuse settings of the loop that do not fit the objective.

    Raises:
        BadInput: such a setting.
    """
    name = type(objective).__name__
    if config.responses < objective.min_responses:
        raise BadInput(
            f"train: responses: {name} compares {objective.min_responses} responses or more to a "
            f"prompt, found {config.responses}"
        )
    if objective.once and (config.updates > 1 or config.minibatches > 1):
        raise BadInput(
            f"train: updates and minibatches: {name} learns from a rollout once, by the policy "
            f"that drew it; expected 1, found {config.updates} and {config.minibatches}"
        )
    if config.refills and not objective.group_relative:
        raise BadInput(
            f"train: refills: {name} learns from equal scores too; expected 0, found "
            f"{config.refills}"
        )
