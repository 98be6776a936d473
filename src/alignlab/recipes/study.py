"""What all studies share: settings, presets, the way from base model to M1, and the ending."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from alignlab import registry
from alignlab.errors import BadInput, RunFailed
from alignlab.recipes.rounds import Round
from alignlab.stages.answer import answer
from alignlab.stages.eft import EFTSettings, build_eft
from alignlab.stages.judge import judge
from alignlab.stages.judges import JudgeSettings, model_judge, sampled_judge
from alignlab.stages.lab import Hardware, Lab, resolve_model
from alignlab.stages.limits import at_least
from alignlab.stages.measure import (
    BranchResult,
    HeldOut,
    Judgement,
    Measured,
    MeasureSettings,
    measure,
)
from alignlab.stages.pair import PairSettings, best_as_demonstrations
from alignlab.stages.propose import Material, ProposeSettings, propose
from alignlab.stages.sample import SampleSettings, sample
from alignlab.stages.seed import SeedSettings, seed
from alignlab.stages.select import SelectSettings, mean_score
from alignlab.stages.train import LengthSettings, TrainSpec, train
from alignlab.training.config import TrainConfig
from alignlab.training.tracking import Track, require_tracker
from alignlab.types import (
    Checkpoint,
    Corpus,
    Demonstration,
    PreferenceGroup,
    Prompt,
    Response,
)


@dataclass(frozen=True)
class ObjectiveSettings:
    """What preference training minimises."""

    name: str = "dpo"
    """An objective, as `alignlab list objectives` names it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Its options, e.g. objective.options.beta=0.3."""

    def build(self) -> Any:
        """The objective with its options; unknown ones are refused."""
        from alignlab.configs import build

        return build(registry.get("objective", self.name), self.options)


@dataclass(frozen=True)
class StudyConfig:
    """Settings that every study has."""

    model: str = "sandbox:knows_all"
    """Base model M0: hub id, local folder, or sandbox:NAME."""
    data: str = "sandbox"
    """Seed data: FORMAT:PATH, PATH, or sandbox; `alignlab list data` names the formats."""
    out: str = ""
    """Run directory; empty is runs/RECIPE."""
    preset: Literal["auto", "sandbox", "small", "paper", "poster", "r3"] = "auto"
    """Defaults for a kind of model; auto: sandbox for the sandbox's models, small below a
    billion parameters, else paper (arXiv 2401.10020); poster trains LoRA adapters, r3 as
    arXiv 2402.03469 does."""
    seed: int = 0
    """Decides every random draw."""
    seeds: int = 1
    """Repetitions of the study, with seeds seed, seed+1, ..."""
    iterations: int = 2
    """Rounds of feedback and preference training; 2 ends with M3."""
    chat_template: str = ""
    """File with a chat template, for a model that comes without one."""
    track: Track = "none"
    """Where metrics of trainings go beside their files: tensorboard, wandb or trackio; needs pip
    install 'alignlab[track]'."""
    hardware: Hardware = field(default_factory=Hardware)
    corpus: SeedSettings = field(default_factory=SeedSettings)
    eft: EFTSettings = field(default_factory=EFTSettings)
    sft: TrainConfig = field(default_factory=TrainConfig)
    lengths: LengthSettings = field(default_factory=LengthSettings)
    propose: ProposeSettings = field(default_factory=ProposeSettings)
    sample: SampleSettings = field(default_factory=SampleSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    """How the study's own models are asked to judge."""
    critic: JudgeSettings = field(default_factory=JudgeSettings)
    """How teachers are asked to judge."""
    pairs: PairSettings = field(default_factory=PairSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    preference: TrainConfig = field(default_factory=TrainConfig)
    select: SelectSettings = field(default_factory=SelectSettings)
    measure: MeasureSettings = field(default_factory=MeasureSettings)

    @property
    def needs_demonstrations(self) -> bool:
        """Whether the data must hold instruction examples."""
        return True

    def __post_init__(self) -> None:
        at_least("", self, seed=0, seeds=1, iterations=1)
        require_tracker(self.track)
        if bool(self.select.prompts) != bool(self.preference.validate_every):
            raise BadInput(
                "settings select.prompts and preference.validate_every: expected both or neither, "
                f"found {self.select.prompts} and {self.preference.validate_every}"
            )


@dataclass(frozen=True)
class Recipe:
    """A study that `alignlab run` can start."""

    name: str
    config: type[StudyConfig]
    question: str
    """What the study asks, one sentence; the report's title."""
    study: Callable[[Lab, Any], Measured]
    models: Callable[[Any], dict[str, str]]
    """Config -> name of every model compared and how it is made, in the report's order."""
    rounds: Callable[[Any], tuple[Round, ...]]
    """Config -> what is asked of whom, for `alignlab check`."""
    baseline: str = "M1"


@dataclass(frozen=True)
class Start:
    """Where every branch of a study starts from."""

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
class Answered:
    """A student's answers to some prompts, to be judged."""

    student: Checkpoint
    prompts: tuple[Prompt, ...]
    responses: tuple[Response, ...]


def tune(lab: Lab, config: StudyConfig) -> Start:
    """Base model to M1: IFT makes the baseline, which judges for EFT; both together make M1."""
    corpus = seed(lab, config.data, config.corpus)
    m0 = resolve_model(config.model)
    baseline = imitate(lab, config, m0, corpus.demonstrations, "SFT baseline")
    critic = sampled_judge(lab.engine(baseline), config.judge)
    eft = build_eft(lab, critic, corpus.groups, config.eft)
    m1 = imitate(lab, config, m0, [*corpus.demonstrations, *eft], "M1")
    kept = len(corpus.prompts) - config.select.prompts
    if kept < 0:
        raise BadInput(
            f"setting select.prompts: expected at most the data's {len(corpus.prompts)} prompts, "
            f"found {config.select.prompts}"
        )
    return Start(corpus, m0, baseline, m1, corpus.prompts[:kept], corpus.prompts[kept:])


def answers_of(
    lab: Lab, config: StudyConfig, student: Checkpoint, prompts: Sequence[Prompt]
) -> Answered:
    """Several answers of the student to every prompt."""
    responses = sample(lab, lab.engine(student), prompts, config.sample)
    return Answered(student, tuple(prompts), tuple(responses))


def imitate(
    lab: Lab,
    config: StudyConfig,
    parent: Checkpoint,
    demonstrations: Sequence[Demonstration],
    name: str,
) -> Checkpoint:
    """SFT on demonstrations."""
    lesson = TrainSpec(registry.get("objective", "sft")(), config.sft, config.lengths)
    return train(lab, parent, demonstrations, lesson, name=name)


def prefer(
    lab: Lab,
    config: StudyConfig,
    start: Start,
    parent: Checkpoint,
    groups: Sequence[PreferenceGroup],
    name: str,
) -> Checkpoint:
    """Preference training by the study's objective, or SFT on the winners alone.

    Raises:
        RunFailed: the feedback left nothing to learn from.
    """
    if not groups:
        raise RunFailed(
            f"{name}: the feedback left no two responses of which one is better (see counts.jsonl "
            "of the pair stage); a model that cannot be read may give an expected score: "
            "judge.method=expected, critic.method=expected"
        )
    if config.pairs.keep == "winners":
        return imitate(lab, config, parent, best_as_demonstrations(groups), name)
    lesson = TrainSpec(config.objective.build(), config.preference, config.lengths)
    if not config.select.prompts:
        return train(lab, parent, groups, lesson, name=name)
    source = lab.judge(config.select.judge or config.measure.judge, start.m1)
    value = mean_score(lab, source, start.validation, config.sample)
    return train(lab, parent, groups, lesson, name=name, validate=value)


def own_prompts(
    lab: Lab, config: StudyConfig, start: Start, model: Checkpoint, earlier: Sequence[Prompt]
) -> list[Prompt]:
    """New prompts, by the model or by `propose.by`, after IFT examples and earlier new prompts."""
    examples = [d.prompt for d in start.corpus.demonstrations] + list(earlier)
    used = {p.id for p in earlier}
    spare = [p for p in start.prompts if p.id not in used]
    held_out = [*start.corpus.test_prompts, *(g.prompt for g in start.corpus.test_groups)]
    material = Material(examples, spare, held_out, start.corpus.reserved)
    by = config.propose.by
    writer = lab.completer(by) if by else lab.engine(model)
    return propose(lab, writer, material, config.propose)


def trace(lab: Lab, config: StudyConfig, start: Start, checkpoint: Checkpoint) -> BranchResult:
    """A checkpoint with its answers to the held-out prompts."""
    answers = answer(lab, lab.engine(checkpoint), start.corpus.test_prompts, config.sample)
    return BranchResult((checkpoint,), {checkpoint.name: answers})


def judge_held_out(
    lab: Lab, config: StudyConfig, start: Start, model: Checkpoint, settings: JudgeSettings
) -> Judgement:
    """The model's judgements of the held-out groups that humans ranked."""
    groups = start.corpus.test_groups
    responses = [r for g in groups for r in g.responses]
    feedback = judge(
        lab,
        model_judge(lab.engine(model), settings),
        list({g.prompt.id: g.prompt for g in groups}.values()),
        responses,
        name=f"judge-held-out-{settings.method}",
    )
    return Judgement(judge_label(model, settings), "held-out", tuple(responses), tuple(feedback))


def judge_label(model: Checkpoint, settings: JudgeSettings) -> str:
    """A judge's name in the report: who, and read how."""
    how = "expected score" if settings.method == "expected" else f"{settings.samples} samples"
    return f"{model.name}, {how}"


def finish(lab: Lab, config: StudyConfig, start: Start, result: BranchResult) -> Measured:
    """Measure everything that the branches left."""
    held_out = HeldOut(start.corpus.test_prompts, start.corpus.test_groups)
    own_judge = model_judge(lab.engine(start.m1), config.judge)
    return measure(lab, config.measure, held_out, result, start.m1, own_judge)
