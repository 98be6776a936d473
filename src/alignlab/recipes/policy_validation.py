"""Select a policy gradient's best checkpoint by its reward on prompts used for nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alignlab.errors import BadInput
from alignlab.protocols import FeedbackSource
from alignlab.recipes.study import Study, StudyConfig
from alignlab.stages.checkpoint_selection import scores_by_prompt
from alignlab.types import Prompt

if TYPE_CHECKING:
    from alignlab.training.trainer_state import Validate


def refuse_half(dev_prompts: int, validate_every: int) -> None:
    """Check that both settings of the validation are given, or neither.

    Raises:
        BadInput: one of them is 0.
    """
    if bool(dev_prompts) != bool(validate_every):
        raise BadInput(
            "settings dev_prompts and rollout.validate_every: expected both or neither, found "
            f"{dev_prompts} and {validate_every}"
        )


def validation(
    study: Study[StudyConfig], reward: FeedbackSource, dev: Sequence[Prompt]
) -> Validate | None:
    """Return a function: policy -> rewards of its answers to the dev prompts; None without any."""
    return scores_by_prompt(study.context, reward, dev, study.config.sample) if dev else None
