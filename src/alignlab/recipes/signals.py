"""Define settings and shared parts of `teacher_signals`: what is asked, bought and learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from alignlab.configs import Fraction, NonNegative, NonNegativeInt, PositiveInt
from alignlab.context import RunContext
from alignlab.errors import BadInput, refuse_unknown
from alignlab.feedback.prompts import judge_prompt
from alignlab.measuring.measure import BranchResult, PerPromptMetric
from alignlab.protocols import Completer
from alignlab.recipes.study import (
    Answered,
    ObjectiveSettings,
    Study,
    StudyConfig,
    answer_held_out,
    preference_train,
)
from alignlab.stages.eft import EFTSettings
from alignlab.stages.pair import PairSettings
from alignlab.stages.teacher_budget import (
    Bought,
    BudgetSettings,
    TeacherTexts,
    token_counter,
    within_budget,
)
from alignlab.stages.train import train
from alignlab.training.config import TrainConfig
from alignlab.training.record_kinds import Record
from alignlab.types import (
    Checkpoint,
    PreferenceGroup,
    Prompt,
    Response,
)

T = TypeVar("T")
LOCAL = "local:"
KINDS = ("logits", "demonstrations", "critiques", "labels", "rankings", "scores")
"""Kinds of feedback, each a branch."""
MODELS = {
    **{name: f"teacher's {name}" for name in KINDS},
    "random": "random scores",
    "own": "own answers imitated",
    "truth": "best answers by the truth imitated",
}
"""Branch -> name of its model."""


@dataclass(frozen=True)
class TeacherSignalsConfig(StudyConfig):
    """Settings of the comparison of a teacher's kinds of feedback."""

    teacher: str = "sandbox:strong"
    """Teacher that scores, compares, labels, criticises and answers: openai:MODEL@URL, ..."""
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    logits_teacher: str = ""
    """Folder or hub id of a model with the student's tokenizer that gives the logits; empty is the
    teacher itself if it is local:FOLDER, else its stand-in."""
    stand_in: NonNegativeInt = 0
    """Number of prompts whose answers by the teacher train its stand-in from M0, which gives the
    logits of a teacher that has none; 0 leaves the branch of logits out."""
    good: float = 4.0
    """Lowest score, on the scale of `critic.prompt`, of a response labelled good."""
    ranking_prompt: str = "pairwise"
    """Prompt of comparisons, by its file's name in feedback/prompts or by path."""
    critique_prompt: str = "critique"
    """Prompt of critiques, by its file's name in feedback/prompts or by path."""
    critique_tokens: PositiveInt = 256
    """Maximum number of tokens of a critique or a comparison."""
    label_objective: ObjectiveSettings = field(default_factory=lambda: ObjectiveSettings("kto"))
    """Objective of labels."""
    beta: Fraction = 0.5
    """Share of the teacher in the divergence of logits: 0 forward KL, 1 reverse KL."""
    rounds: PositiveInt = 3
    """Rounds of on-policy distillation; each answers its share of the prompts with the newest
    model."""
    least: float | None = None
    """Lowest score of a best answer that branch truth imitates, such as 1 with a checker, whose
    best of all wrong answers is wrong; none imitates the best answer to every prompt."""
    imitation_lr: NonNegative = 0.0
    """Learning rate of branches trained by likelihood or logits; 0 is `sft.lr`."""
    branches: tuple[str, ...] = ()
    """Branches to run, by name; empty runs all."""
    iterations: int = 1
    """Number of rounds: one."""
    eft: EFTSettings = field(default_factory=lambda: EFTSettings(targets="human"))
    """Without effect: M1 is not trained on judgements here."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations != 1 or self.select.prompts or self.pairs != PairSettings():
            raise BadInput(
                "settings iterations, select.prompts and pairs: have no effect in "
                "teacher_signals; leave them out"
            )
        if self.sample.n < 2:
            raise BadInput("setting sample.n: expected 2 answers or more to compare, found 1")
        refuse_unknown("branch", self.branches, MODELS)
        if "logits" in self.branches and not (self.logits_of or self.stand_in):
            raise BadInput(
                f"branch logits: expected a teacher with logits, found {self.teacher}; name one "
                "with the student's tokenizer (logits_teacher=), or train a stand-in (stand_in=)"
            )
        if "truth" in self.branches and not self.measure.truth:
            raise BadInput("branch truth: expected a source of the truth: measure.truth=")
        if self.least is not None and "truth" not in self.chosen:
            raise BadInput("setting least: has no effect without branch truth; leave it out")
        self.label_objective.build()
        judge_prompt(self.ranking_prompt)
        judge_prompt(self.critique_prompt)

    @property
    def logits_of(self) -> str:
        """Return the model that gives the logits; empty if only a stand-in could."""
        is_local = self.teacher.startswith(LOCAL)
        return self.logits_teacher or (self.teacher.removeprefix(LOCAL) if is_local else "")

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return the branches to run, without those that lack logits or a truth."""
        missing = set()
        if not (self.logits_of or self.stand_in):
            missing.add("logits")
        if not self.measure.truth:
            missing.add("truth")
        return tuple(n for n in MODELS if n in (self.branches or set(MODELS) - missing))

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return the teacher by its setting."""
        return {"teacher": self.teacher}

    def by_likelihood(self, **changed: Any) -> TrainConfig:
        """Return the training loop of likelihoods and logits."""
        lr = self.imitation_lr or self.sft.lr
        return replace(self.sft, lr=lr, batch_size=self.preference.batch_size, **changed)


@dataclass(frozen=True)
class SignalInputs:
    """Answers of M1, shared by all branches, and the model that gives the logits."""

    answered: Answered
    logits: Checkpoint | None = None


class Signal(NamedTuple):
    """One branch under way: the study, the shared answers, and the branch's name."""

    study: Study[TeacherSignalsConfig]
    given: SignalInputs
    name: str

    @property
    def model(self) -> str:
        """Return the name of the branch's model."""
        return MODELS[self.name]

    def teacher(self, context: RunContext) -> Completer:
        """Return the teacher."""
        return context.completer(self.study.config.teacher)

    def answers(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Return all answers of M1 to some prompts."""
        asked = {p.id for p in prompts}
        return [r for r in self.given.answered.responses if r.prompt_id in asked]

    def firsts(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Return M1's first answer to each prompt."""
        first = {r.prompt_id: r for r in reversed(self.given.answered.responses)}
        return [first[p.id] for p in prompts if p.id in first]

    def buy(
        self,
        ask: Callable[[RunContext, Sequence[Prompt]], list[T]],
        spent: Callable[[Sequence[Prompt], Sequence[T]], TeacherTexts],
    ) -> Bought[T]:
        """Ask the teacher until the budget is spent."""
        study = self.study
        count = token_counter(study.context, study.start.m1)
        prompts = self.given.answered.prompts
        return within_budget(study.context, prompts, ask, spent, count, study.config.budget)

    def prefer(self, groups: Sequence[PreferenceGroup], how: str) -> Checkpoint:
        """Train M1 on pairs by the study's objective."""
        method = self.study.config.preference_method
        made = f"M1 after {method} on {len(groups)} pairs {how}"
        return preference_train(self.study, self.study.start.m1, groups, self.model, made)

    def learn(
        self, objective: Any, records: Sequence[Record], loop: TrainConfig, how: str
    ) -> Checkpoint:
        """Train M1 on records by an objective."""
        spec, made = self.study.config.train_spec(objective, loop), f"M1 after {how}"
        context, m1 = self.study.context, self.study.start.m1
        return train(context, m1, records, spec, name=self.model, made=made)

    def measured(self, learned: Checkpoint, prompts: int, tokens: int) -> BranchResult:
        """Answer the held-out prompts, and note what was bought."""
        figures = {"teacher_tokens": tokens, "teacher_prompts": prompts}
        values = tuple(
            PerPromptMetric(self.model, "teacher", metric, ("budget",), (float(value),))
            for metric, value in figures.items()
        )
        return answer_held_out(self.study, learned) + BranchResult(values=values)
