"""What the recipes with one teacher share: settings, and the rounds from M1 on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from alignlab.recipes.study import (
    Answered,
    Start,
    StudyConfig,
    answers_of,
    finish,
    own_prompts,
    trace,
    tune,
)
from alignlab.stages.lab import Lab
from alignlab.stages.measure import BranchResult, Measured
from alignlab.types import Prompt

Learn = Callable[[Lab, Start, Answered, str], BranchResult]
"""(lab, start, the student's answers, the next model's name) -> what was learned."""


@dataclass(frozen=True)
class TaughtConfig(StudyConfig):
    """Settings of training with a teacher."""

    teacher: str = "sandbox:strong"
    """Who judges or demonstrates: local:FOLDER, openai:MODEL@URL, sandbox:strong, ..."""
    iterations: int = 1
    """Rounds of feedback and preference training."""


def rounds_with_teacher(
    lab: Lab, config: TaughtConfig, label: str, learn: Learn, *, answers: int
) -> Measured:
    """M0 -> M1 -> rounds: the student writes prompts, answers them, and learns.

    Args:
        label: what the study calls the models it makes: "M2 LABEL", "M3 LABEL", ...
        answers: the student's answers per prompt.
    """
    start = tune(lab, config)
    result = trace(lab, config, start, start.m0) + trace(lab, config, start, start.m1)
    asked = replace(config, sample=replace(config.sample, n=answers))
    student = start.m1
    earlier: list[Prompt] = []
    for iteration in range(1, config.iterations + 1):
        step = lab.scope(f"iteration-{iteration}")
        prompts = own_prompts(step, config, start, student, earlier)
        earlier.extend(prompts)
        given = answers_of(step, asked, student, prompts)
        learned = learn(step, start, given, f"M{iteration + 1} {label}")
        student, result = learned.checkpoints[-1], result + learned
    return finish(lab, config, start, result)


def models_with_teacher(config: TaughtConfig, label: str, how: str) -> dict[str, str]:
    """The models compared, the same `how` for every round."""
    named = {"M0": "the base model", "M1": "M0 tuned on human answers and judgements"}
    return named | {f"M{t + 2} {label}": how for t in range(config.iterations)}
