"""Teacher x critic grid: is RLAIF worth it once the SFT teacher is strong? (arXiv 2402.12366)

M0 is tuned on a teacher's answers, then trained by DPO on a critic's judgements of its own
answers, for every teacher, critic and base model. The paper's explanation is checked too: how
much better than the student's own samples the teacher's answers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from alignlab.parallel import Branch, run_branches
from alignlab.recipes.rounds import Round
from alignlab.recipes.study import (
    Recipe,
    Start,
    StudyConfig,
    answers_of,
    finish,
    own_prompts,
    trace,
    tune,
)
from alignlab.recipes.teacher_demonstration import imitate_teacher
from alignlab.recipes.teacher_reward import reward
from alignlab.registry import register
from alignlab.stages.answer import answer
from alignlab.stages.lab import Lab, resolve_model
from alignlab.stages.measure import BranchResult, Measured
from alignlab.stages.propose import ProposeSettings
from alignlab.stages.train import slug
from alignlab.types import Checkpoint, Prompt


@dataclass(frozen=True)
class GridConfig(StudyConfig):
    """Settings of the grid."""

    teachers: tuple[str, ...] = ("sandbox:weak", "sandbox:strong")
    """Who demonstrates: completer specs."""
    critics: tuple[str, ...] = ("sandbox:strong?judge_noise=1.5", "sandbox:strong")
    """Who judges: completer specs."""
    models: tuple[str, ...] = ()
    """Base models; empty is `model` alone."""
    iterations: int = 1
    """Rounds of preference training; the grid has one."""
    propose: ProposeSettings = field(default_factory=ProposeSettings)


def study(lab: Lab, config: GridConfig) -> Measured:
    """M1, then every base model x teacher (SFT), then every critic (DPO)."""
    start = tune(lab, config)
    prompts = own_prompts(lab, config, start, start.m1, ())
    cells = [(m, t) for m in (config.models or (config.model,)) for t in config.teachers]
    branches = [
        Branch(f"{m} {t}", _cell, (lab.scope(slug(f"{m} {t}")), config, start, prompts, m, t))
        for m, t in cells
    ]
    results = run_branches(branches, lab.workers, lab.threads)
    base = trace(lab, config, start, start.m0) + trace(lab, config, start, start.m1)
    for teacher in config.teachers:
        base += _teacher_answers(lab, config, start, teacher)
    return finish(lab, config, start, reduce(BranchResult.__add__, results, base))


def _cell(
    lab: Lab,
    config: GridConfig,
    start: Start,
    prompts: Sequence[Prompt],
    model: str,
    teacher: str,
) -> BranchResult:
    """One base model and teacher: SFT, then DPO by every critic."""
    base = Checkpoint("M0", resolve_model(model).path)
    name = sft_name(config, model, teacher)
    tuned = imitate_teacher(lab, config, start, base, list(prompts), teacher, name)
    given, result = answers_of(lab, config, tuned.checkpoints[-1], prompts), tuned
    for critic in config.critics:
        step = lab.scope(slug(critic))
        label = f"{name} -> {config.objective.name.upper()} by {critic}"
        result += reward(step, config, start, given, critic, label)
    return result


def _teacher_answers(lab: Lab, config: GridConfig, start: Start, teacher: str) -> BranchResult:
    """The teacher's own held-out answers: how much better than the students' are they?"""
    completer = lab.completer(teacher)
    answers = answer(lab, completer, start.corpus.test_prompts, replace(config.sample, n=1))
    return BranchResult(answers={f"teacher {teacher}": answers})


def sft_name(config: GridConfig, model: str, teacher: str) -> str:
    """A tuned student's name; the base model is named where there are several."""
    which = f"{model}: " if len(config.models) > 1 else ""
    return f"{which}SFT on {teacher}"


def _models(config: GridConfig) -> dict[str, str]:
    named = {"M0": "the base model", "M1": "M0 tuned on human answers and judgements (IFT + EFT)"}
    for teacher in config.teachers:
        named[f"teacher {teacher}"] = "the teacher's own answers"
    for model in config.models or (config.model,):
        for teacher in config.teachers:
            name = sft_name(config, model, teacher)
            named[name] = f"{model} after SFT on answers of {teacher}"
            for critic in config.critics:
                how = config.objective.name.upper()
                named[f"{name} -> {how} by {critic}"] = f"then {how}, judged by {critic}"
    return named


def _rounds(config: GridConfig) -> tuple[Round, ...]:
    n, bases = config.propose.n, len(config.models or (config.model,))
    taught = [Round(n, bases, teacher=teacher) for teacher in config.teachers]
    judged = [
        Round(
            n,
            bases * len(config.teachers),
            samples=config.sample.n,
            critic=critic,
            judging=config.critic,
        )
        for critic in config.critics
    ]
    return (Round(n, writes=n > 0), *taught, *judged)


register("recipe", "teacher_critic_grid")(
    Recipe(
        name="teacher_critic_grid",
        config=GridConfig,
        question="Does reinforcement from AI feedback add anything once the SFT teacher is as "
        "strong as the critic?",
        study=study,
        models=_models,
        rounds=_rounds,
    )
)
