"""Define the parts shared by studies: settings, training from M0 to M1, rounds, measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from alignlab import registry
from alignlab.configs import Bounded, NonNegativeInt, PositiveInt
from alignlab.context import Hardware, RunContext, resolve_model
from alignlab.data.roles import DataRoles
from alignlab.errors import BadInput, NothingToLearn
from alignlab.measuring.measure import (
    BranchResult,
    HeldOut,
    Judgement,
    MeasureSettings,
    StudyMeasurements,
    measure,
)
from alignlab.protocols import FeedbackSource
from alignlab.recipes.judging import AUTO, SELF, judge_note, require_named
from alignlab.specs import drops_bad
from alignlab.stages.checkpoint_selection import SelectSettings, scores_by_prompt
from alignlab.stages.eft import EFTSettings, build_eft
from alignlab.stages.judge import judge
from alignlab.stages.judges import JudgeSettings, model_judge, sampled_judge
from alignlab.stages.pair import PairSettings, best_as_demonstrations
from alignlab.stages.propose import ProposalContext, ProposeSettings, propose
from alignlab.stages.rollout import RolloutLesson
from alignlab.stages.sample import SampleSettings, answer, sample
from alignlab.stages.seed import SeedSettings, seed
from alignlab.stages.train import TrainSpec, train
from alignlab.training.config import LengthSettings, TrainConfig
from alignlab.training.rollout_config import RolloutConfig
from alignlab.training.tracking import Track, require_tracker
from alignlab.types import Checkpoint, Corpus, Demonstration, PreferenceGroup, Prompt, Response


@dataclass(frozen=True)
class ObjectiveSettings:
    """Objective of preference training."""

    name: str = "dpo"
    """Name of an objective, as `alignlab list objectives` shows it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of the objective, e.g. objective.options.beta=0.3."""

    def build(self) -> Any:
        """Build the objective with its options; refuse unknown ones."""
        from alignlab.configs import build

        return build(registry.get("objective", self.name), self.options)


@dataclass(frozen=True)
class StudyConfig(Bounded):
    """Settings of every study."""

    model: str = "sandbox:knows_all"
    """Base model M0: folder, run directory, GGUF file, package:NAME, hub id, or sandbox:NAME."""
    data: str | tuple[str, ...] = "sandbox"
    """Seed data: FORMAT:PATH, PATH, or sandbox; `alignlab list data` names the formats. A list
    mixes several, by shares with ?weight=0.3 on each."""
    prompts: NonNegativeInt | str | tuple[str, ...] = 0
    """Prompts for the rounds: a source or several, as in `data`, or a number of the seed data's own
    (0 is all)."""
    test: str | tuple[str, ...] = ""
    """Held-out prompts: a source or several, as in `data`; empty is the seed data's own."""
    out: str = ""
    """Run directory; empty is runs/RECIPE."""
    preset: Literal["auto", "sandbox", "small", "paper", "poster", "r3"] = "auto"
    """Defaults for a kind of model; auto: sandbox for the sandbox's models, small below a billion
    parameters, else paper (arXiv 2401.10020); poster trains LoRA adapters, r3 follows arXiv
    2402.03469."""
    seed: NonNegativeInt = 0
    """Seed of every random draw."""
    seeds: PositiveInt = 1
    """Repetitions of the study, with seeds seed, seed+1, ..."""
    iterations: PositiveInt = 2
    """Rounds of feedback and preference training; 2 ends with M3."""
    chat_template: str = ""
    """Chat template for models without one, or instead of their own: chatml, plain, zephyr, or a
    file."""
    track: Track = "none"
    """Tracker of metrics in addition to their files: tensorboard, wandb or trackio; needs pip
    install 'alignlab[track]'."""
    keep_weights: bool = True
    """Weights of the study's models stay in the run directory; false deletes a branch's as soon as
    it is measured, and the others at the end. Answers, scores and figures stay."""
    hardware: Hardware = field(default_factory=Hardware)
    corpus: SeedSettings = field(default_factory=SeedSettings)
    eft: EFTSettings = field(default_factory=EFTSettings)
    sft: TrainConfig = field(default_factory=TrainConfig)
    lengths: LengthSettings = field(default_factory=LengthSettings)
    propose: ProposeSettings = field(default_factory=ProposeSettings)
    sample: SampleSettings = field(default_factory=SampleSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    """Settings of judging by the study's own models."""
    critic: JudgeSettings = field(default_factory=JudgeSettings)
    """Settings of judging by teachers."""
    pairs: PairSettings = field(default_factory=PairSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    preference: TrainConfig = field(default_factory=TrainConfig)
    select: SelectSettings = field(default_factory=SelectSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)

    @property
    def roles(self) -> DataRoles:
        """Return the specs of the data by role."""
        prompts = "" if isinstance(self.prompts, int) else self.prompts
        return DataRoles(self.data, prompts, self.test)

    @property
    def most_prompts(self) -> int:
        """Return the maximum number of prompts for the rounds; 0 is all."""
        return self.prompts if isinstance(self.prompts, int) else 0

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return setting -> spec of teachers and critics other than the study's own models."""
        return {}

    @property
    def measuring_judge(self) -> str:
        """Return the feedback source that measures the study; empty if none does.

        Raises:
            BadInput: no judge is named though a teacher takes part.
        """
        if self.measure.judge != AUTO:
            return self.measure.judge
        require_named(self.teacher_specs)
        return f"expected,prompt={self.judge.prompt}:{SELF}"

    @property
    def measures_truth(self) -> bool:
        """Return whether the measuring judge gives the gold scores."""
        return self.measuring_judge == self.measure.truth

    @property
    def judge_note(self) -> str:
        """Return a sentence on the measuring judge; empty for none."""
        judge = self.measuring_judge
        if judge and self.measures_truth:
            return f"Judged by {judge}, which gives the true scores."
        return judge_note(judge, self.teacher_specs, self.model)

    @property
    def preference_method(self) -> str:
        """Return the name of the preference training: the objective's, or imitation of the best."""
        if self.pairs.keep == "winners":
            return "SFT on the winners"
        return self.objective.name.upper()

    def train_spec(self, objective: Any, config: TrainConfig) -> TrainSpec:
        """Return a training of the study; it drops bad records where the data source does."""
        return TrainSpec(objective, config, self.lengths, drops_bad(self.data))

    def rollout_spec(self, objective: Any, config: RolloutConfig) -> RolloutLesson:
        """Return a rollout training of the study; it drops bad prompts where the data does."""
        return RolloutLesson(
            objective, config, self.lengths.max_prompt_tokens, drop_bad=drops_bad(self.data)
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_tracker(self.track)
        if bool(self.select.prompts) != bool(self.preference.validate_every):
            raise BadInput(
                "settings select.prompts and preference.validate_every: expected both or neither, "
                f"found {self.select.prompts} and {self.preference.validate_every}"
            )


C = TypeVar("C", bound=StudyConfig)
C_co = TypeVar("C_co", bound=StudyConfig, covariant=True)


@dataclass(frozen=True)
class Recipe:
    """Study that `alignlab run` can start."""

    name: str
    config: type[StudyConfig]
    question: str
    """Question that the study answers, in one sentence; the report's title."""
    study: Callable[[RunContext, Any], StudyMeasurements]
    baseline: str = "M1"
    idle: tuple[str, ...] = ()
    """Settings of every study that have no effect in this one, or groups of them."""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Option that the question names -> parts of the names of the models that stand for it."""

    def options_of(self, models: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return the models of each option; options without a model are left out."""
        names = list(models)
        found = {
            option: tuple(name for name in names if any(part in name for part in parts))
            for option, parts in self.options.items()
        }
        return {option: some for option, some in found.items() if some}


@dataclass(frozen=True)
class WarmStart:
    """Models and data that all branches of a study start from."""

    corpus: Corpus
    m0: Checkpoint
    baseline: Checkpoint
    """M0 + IFT."""
    m1: Checkpoint
    """M0 + IFT + EFT."""
    prompts: tuple[Prompt, ...]
    """The data's own prompts for feedback, unused so far."""
    validation: tuple[Prompt, ...] = ()
    """Prompts on which checkpoints are compared."""


@dataclass(frozen=True)
class Study(Generic[C_co]):
    """Study under way: its context, settings, and the models and data of its branches."""

    context: RunContext
    config: C_co
    start: WarmStart

    def scope(self, name: str) -> Study[C_co]:
        """Return the study with a nested scope of the run to write into."""
        return replace(self, context=self.context.scope(name))

    def using(self, **settings: Any) -> Study[C_co]:
        """Return the study with other settings."""
        return replace(self, config=replace(self.config, **settings))


@dataclass(frozen=True)
class Answered:
    """A student's answers to some prompts, to be judged."""

    student: Checkpoint
    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]


def warm_start(context: RunContext, config: C) -> Study[C]:
    """Train M0 on human answers (the SFT baseline), and on its agreeing judgements too (M1)."""
    corpus = seed(context, config.roles, config.corpus)
    prompts = corpus.prompts[: config.most_prompts or None]
    kept = len(prompts) - config.select.prompts
    if kept < 0:
        raise BadInput(
            f"setting select.prompts: expected at most the data's {len(prompts)} prompts, "
            f"found {config.select.prompts}"
        )
    m0 = replace(resolve_model(config.model), made="the base model")
    start = WarmStart(corpus, m0, m0, m0, prompts[:kept], prompts[kept:])
    study, ift = Study(context, config, start), corpus.demonstrations
    baseline = sft(study, m0, ift, "SFT baseline", "M0 tuned on human answers (IFT)")
    critic = sampled_judge(context.engine(baseline), config.judge)
    eft = build_eft(context, critic, corpus.groups, config.eft)
    made = "M0 tuned on human answers and on judgements (IFT + EFT)"
    m1 = sft(study, m0, [*ift, *eft], "M1", made)
    return replace(study, start=replace(start, baseline=baseline, m1=m1))


def imitation_start(
    context: RunContext,
    config: C,
    *,
    from_groups: bool = False,
    prepare: Callable[[Corpus], Corpus] = lambda corpus: corpus,
) -> Study[C]:
    """Train M0 on demonstrations only: M1.

    Args:
        prepare: changes the data before M1 is trained on them.
    """
    corpus = prepare(seed(context, config.roles, config.corpus, from_groups=from_groups))
    m0 = replace(resolve_model(config.model), made="the base model")
    study = Study(context, config, WarmStart(corpus, m0, m0, m0, corpus.prompts))
    m1 = sft(study, m0, corpus.demonstrations, "M1", "M0 tuned on demonstrations")
    return replace(study, start=replace(study.start, baseline=m1, m1=m1))


def answers_of(
    study: Study[StudyConfig], student: Checkpoint, prompts: Sequence[Prompt]
) -> Answered:
    """Sample several answers of the student to every prompt."""
    context = study.context
    responses = sample(context, context.engine(student), prompts, study.config.sample)
    return Answered(student, tuple(prompts), tuple(responses))


def sft(
    study: Study[StudyConfig],
    parent: Checkpoint,
    demonstrations: Sequence[Demonstration],
    name: str,
    made: str,
) -> Checkpoint:
    """Train on demonstrations."""
    spec = study.config.train_spec(registry.get("objective", "sft")(), study.config.sft)
    return train(study.context, parent, demonstrations, spec, name=name, made=made)


def preference_train(
    study: Study[StudyConfig],
    parent: Checkpoint,
    groups: Sequence[PreferenceGroup],
    name: str,
    made: str,
) -> Checkpoint:
    """Train by the study's objective on preferences, or by SFT on the best responses only.

    Raises:
        NothingToLearn: the feedback left no records to train on.
    """
    context, config, start = study.context, study.config, study.start
    if not groups:
        raise NothingToLearn(
            f"{name}: the feedback left no two responses of which one is better (see counts.jsonl "
            "of the pair stage); a model that cannot be read may give an expected score: "
            "judge.method=expected, critic.method=expected"
        )
    if config.pairs.keep == "winners":
        return sft(study, parent, best_as_demonstrations(groups), name, made)
    spec, value = config.train_spec(config.objective.build(), config.preference), None
    if config.select.prompts:
        source = context.judge(config.select.judge or config.measuring_judge, start.m1)
        value = scores_by_prompt(context, source, start.validation, config.sample)
    return train(context, parent, groups, spec, name=name, made=made, validate=value)


def own_prompts(
    study: Study[StudyConfig],
    model: Checkpoint,
    earlier: Sequence[Prompt] = (),
    *,
    n: int | None = None,
) -> list[Prompt]:
    """Generate prompts with the model or `propose.by`, unlike IFT examples and earlier ones.

    Args:
        n: number of prompts, if not `propose.n`.

    Raises:
        BadInput: the data's own prompts are requested, but none are left.
    """
    context, config, corpus = study.context, study.config, study.start.corpus
    examples = [d.prompt for d in corpus.demonstrations] + list(earlier)
    used = {p.id for p in earlier}
    spare = [p for p in study.start.prompts if p.id not in used]
    held_out = [*corpus.test_prompts, *(g.prompt for g in corpus.test_groups)]
    by = config.propose.by
    writer = context.completer(by) if by else context.engine(model)
    settings = config.propose if n is None else replace(config.propose, n=n)
    if not settings.n and not spare:
        raise BadInput(
            f"setting propose.n: expected new prompts after the data's own {len(earlier)}, which "
            "propose.n=0 takes in the first round, found 0; raise propose.n or set iterations=1"
        )
    given = ProposalContext(examples, spare, held_out, corpus.reserved)
    return propose(context, writer, given, settings)


def prompts_of_rounds(study: Study[StudyConfig]) -> list[tuple[Prompt, ...]]:
    """Generate the prompts of all rounds with M1 at once, and split them equally."""
    rounds = study.config.iterations
    found = own_prompts(study, study.start.m1, n=study.config.propose.n * rounds)
    size = max(1, len(found) // rounds)
    return [tuple(found[i * size : (i + 1) * size]) for i in range(rounds)]


def answer_held_out(study: Study[StudyConfig], checkpoint: Checkpoint) -> BranchResult:
    """Sample a checkpoint's answers to the held-out prompts."""
    context, prompts = study.context, study.start.corpus.test_prompts
    answers = answer(context, context.engine(checkpoint), prompts, study.config.sample)
    name = checkpoint.name
    return BranchResult((checkpoint,), {name: answers}, made={name: checkpoint.made})


def first_answers(study: Study[StudyConfig]) -> BranchResult:
    """Sample M0's and M1's answers to the held-out prompts."""
    return answer_held_out(study, study.start.m0) + answer_held_out(study, study.start.m1)


def judge_held_out(
    study: Study[StudyConfig], model: Checkpoint, settings: JudgeSettings
) -> Judgement:
    """Judge the held-out groups that humans ranked."""
    context, groups = study.context, study.start.corpus.test_groups
    responses = [r for g in groups for r in g.responses]
    feedback = judge(
        context,
        model_judge(context.engine(model), settings),
        list({g.prompt.id: g.prompt for g in groups}.values()),
        responses,
        name=f"judge-held-out-{settings.method}",
    )
    return Judgement(judge_label(model, settings), "held-out", tuple(responses), tuple(feedback))


def judge_label(model: Checkpoint, settings: JudgeSettings) -> str:
    """Return a judge's name in the report: its model and its method."""
    how = "expected score" if settings.method == "expected" else f"{settings.samples} samples"
    return f"{model.name}, {how}"


def finish(
    study: Study[StudyConfig], result: BranchResult, own_judge: FeedbackSource | None = None
) -> StudyMeasurements:
    """Measure everything that the branches produced.

    Args:
        own_judge: judge whose reasons the report shows; by default M1 with the settings in `judge`.
    """
    context, config, start = study.context, study.config, study.start
    held_out = HeldOut(start.corpus.test_prompts, start.corpus.test_groups)
    judges = own_judge or model_judge(context.engine(start.m1), config.judge)
    measured = replace(config.measure, judge=config.measuring_judge)
    return measure(context, measured, held_out, result, start.m1, judges)
