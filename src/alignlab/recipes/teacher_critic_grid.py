"""Run a grid of teachers and critics: does RLAIF beat SFT on a strong teacher? (arXiv 2402.12366)

M0 is tuned on a teacher's answers, then trained by DPO on a critic's judgements of its own
answers, for every teacher, critic and base model. The paper's explanation is checked too: how
much better than the student's own samples the teacher's answers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

from alignlab.context import RunContext, resolve_model
from alignlab.measuring.measure import BranchResult, StudyMeasurements
from alignlab.parallel import Branch
from alignlab.recipes.branches import run_all
from alignlab.recipes.study import (
    Recipe,
    Study,
    StudyConfig,
    answers_of,
    finish,
    first_answers,
    own_prompts,
    warm_start,
)
from alignlab.recipes.teacher import reward, sft_on_teacher
from alignlab.registry import register
from alignlab.runs import slug
from alignlab.stages.propose import ProposeSettings
from alignlab.stages.sample import answer
from alignlab.text import without_folders
from alignlab.types import Checkpoint, Prompt


@dataclass(frozen=True)
class GridConfig(StudyConfig):
    """Settings of the grid."""

    teachers: tuple[str, ...] = ("sandbox:weak", "sandbox:strong")
    """Demonstrators: completer specs."""
    critics: tuple[str, ...] = ("sandbox:strong?judge_noise=1.5", "sandbox:strong")
    """Judges: completer specs."""
    models: tuple[str, ...] = ()
    """Base models; empty is only `model`."""
    iterations: int = 1
    """Number of rounds of preference training: one."""
    propose: ProposeSettings = field(default_factory=ProposeSettings)

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return teachers and critics, each by its setting and place in it."""
        roles = {"teachers": self.teachers, "critics": self.critics}
        return {f"{role}[{i}]": s for role, specs in roles.items() for i, s in enumerate(specs)}

    @property
    def labels(self) -> dict[str, str]:
        """Return the name of each teacher, critic and base model: its spec without folders.

        Specs stay whole where two of them would have one name.
        """
        specs = dict.fromkeys((self.model, *self.models, *self.teachers, *self.critics))
        short = {spec: without_folders(spec) for spec in specs}
        return short if len(set(short.values())) == len(short) else {s: s for s in specs}


def study(context: RunContext, config: GridConfig) -> StudyMeasurements:
    """Train M1, then every base model on every teacher (SFT), then by every critic (DPO)."""
    begun = warm_start(context, config)
    prompts = own_prompts(begun, begun.start.m1)
    labels = config.labels
    cells = {
        f"{labels[m]} {labels[t]}": (m, t)
        for m in (config.models or (config.model,))
        for t in config.teachers
    }
    branches = [
        Branch(name, _cell, (begun.scope(slug(name)), prompts, *cell))
        for name, cell in cells.items()
    ]
    results = run_all(begun, branches)
    base = first_answers(begun)
    for teacher in config.teachers:
        base += _teacher_answers(begun, teacher)
    return finish(begun, reduce(BranchResult.__add__, results, base))


def _cell(
    study: Study[GridConfig], prompts: Sequence[Prompt], model: str, teacher: str
) -> BranchResult:
    """Train one base model by SFT on one teacher, then by DPO with every critic."""
    config, labels = study.config, study.config.labels
    base = Checkpoint("M0", resolve_model(model).path)
    # A tuned student is named after its base model where there are several.
    name = f"{labels[model]}: " * (len(config.models) > 1) + f"SFT on {labels[teacher]}"
    result = sft_on_teacher(study, base, prompts, teacher, name)
    given = answers_of(study, result.checkpoints[-1], prompts)
    for critic in config.critics:
        label = f"{name} -> {config.objective.name.upper()} by {labels[critic]}"
        result += reward(study.scope(slug(labels[critic])), given, critic, label)
    return result


def _teacher_answers(study: Study[GridConfig], teacher: str) -> BranchResult:
    """Sample a teacher's answers to the held-out prompts, to compare it with the students."""
    context, once = study.context, replace(study.config.sample, n=1)
    completer = context.completer(teacher)
    answers = answer(context, completer, study.start.corpus.test_prompts, once)
    name = f"teacher {study.config.labels[teacher]}"
    return BranchResult(answers={name: answers}, made={name: "the teacher's own answers"})


register("recipe", "teacher_critic_grid")(
    Recipe(
        name="teacher_critic_grid",
        config=GridConfig,
        question="Does reinforcement from AI feedback add anything once the SFT teacher is as "
        "strong as the critic?",
        study=study,
    )
)
