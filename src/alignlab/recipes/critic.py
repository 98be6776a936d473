"""Define what studies share in which one critic scores M1's answers once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar

from alignlab.configs import NonNegativeInt
from alignlab.errors import RunFailed
from alignlab.feedback.specs import refuse_without_references
from alignlab.recipes.judging import engine_of
from alignlab.recipes.study import Answered, Study, StudyConfig, answers_of
from alignlab.stages.eft import EFTSettings
from alignlab.stages.judge import judge
from alignlab.types import Feedback, Unscored


@dataclass(frozen=True)
class CriticConfig(StudyConfig):
    """Settings of a study in which a critic scores M1's answers once."""

    feedback: str = "llm:self"
    """Critic of M1's answers, a feedback source: llm:openai:MODEL@URL, reward_model:FOLDER, ..."""
    prompts: NonNegativeInt | str | tuple[str, ...] = 400
    """Prompts that M1 answers: a source or several, as in `data`, or a number of the seed data's
    own (of its demonstrations if there are no others); 0 is all."""
    iterations: int = 1
    """Number of rounds: one."""
    eft: EFTSettings = field(default_factory=lambda: EFTSettings(targets="human"))
    """Without effect: M1 is not trained on judgements here."""

    @property
    def asks_critic(self) -> bool:
        """Return whether the critic is asked."""
        return True

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return the critic, if it is asked and a model other than M1."""
        is_teacher = self.asks_critic and ":" in engine_of(self.feedback)
        return {"feedback": self.feedback} if is_teacher else {}

    @property
    def measuring_judge(self) -> str:
        """Return the judge of answers; without one the critic, if it is asked."""
        return super().measuring_judge or (self.feedback if self.asks_critic else "")


C = TypeVar("C", bound=CriticConfig)


def scored_answers(study: Study[C]) -> tuple[Answered, tuple[Feedback, ...]]:
    """Sample M1's answers, and score them with the critic.

    Raises:
        BadInput: the critic compares with references, and no prompt has one.
        RunFailed: no answer could be scored.
    """
    context, config, start = study.context, study.config, study.start
    asked = start.feedback_prompts[: config.most_prompts or None]
    refuse_without_references("feedback", config.feedback, asked)
    answered = answers_of(study, start.m1, asked)
    critic = context.judge(config.feedback, start.m1)
    feedback = judge(context, critic, answered.prompts, answered.responses)
    unscored = [f.verdict.reason for f in feedback if isinstance(f.verdict, Unscored)]
    if feedback and len(unscored) == len(feedback):
        why, n = Counter(unscored).most_common(1)[0]
        raise RunFailed(
            f"feedback={config.feedback}: expected scores of M1's {len(feedback)} answers, found "
            f"none: {why} ({n})"
        )
    return answered, tuple(feedback)
