"""Define the parts shared by studies: training from M0 to M1, rounds, measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from alignlab import registry
from alignlab.context import RunContext, resolve_model
from alignlab.data.split_dedupe import distinct_prompts
from alignlab.errors import BadInput, NothingToLearn
from alignlab.measuring.measure import BranchResult, HeldOut, Judgement, StudyMeasurements, measure
from alignlab.protocols import FeedbackSource
from alignlab.recipes.controls import with_roles
from alignlab.recipes.study_settings import ObjectiveSettings as ObjectiveSettings
from alignlab.recipes.study_settings import StudyConfig as StudyConfig
from alignlab.stages.checkpoint_selection import scores_by_prompt
from alignlab.stages.eft import build_eft
from alignlab.stages.judge import judge
from alignlab.stages.judges import JudgeSettings, model_judge, sampled_judge
from alignlab.stages.pair import best_as_demonstrations
from alignlab.stages.propose import ProposalContext, propose
from alignlab.stages.sample import answer, sample
from alignlab.stages.seed import seed
from alignlab.stages.train import train
from alignlab.types import Checkpoint, Corpus, Demonstration, PreferenceGroup, Prompt, Response

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
    controls: Mapping[str, str] = field(default_factory=dict)
    """End of the name of a control -> its role, of `controls.py`."""

    def described(self, made: Mapping[str, str]) -> dict[str, str]:
        """Return how models were made, with the role of each control in front."""
        return with_roles(made, self.controls)

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

    @property
    def feedback_prompts(self) -> tuple[Prompt, ...]:
        """Return the data's own prompts, or without any those of its demonstrations.

        The answer of a demonstration is the reference of its prompt.
        """
        return self.prompts or distinct_prompts(self.corpus.demonstrations)


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
    rounds: int = 1,
) -> list[Prompt]:
    """Generate prompts with the model or `propose.by`, unlike IFT examples and earlier ones.

    Args:
        n: number of prompts, if not `propose.n`.
        rounds: rounds to come, this one included, which share the data's prompts equally where
            none are written.

    Raises:
        BadInput: the data's own prompts are requested, but are fewer than the rounds.
    """
    context, config, corpus = study.context, study.config, study.start.corpus
    examples = [d.prompt for d in corpus.demonstrations] + list(earlier)
    used = {p.id for p in earlier}
    spare = [p for p in study.start.prompts if p.id not in used]
    held_out = [*corpus.test_prompts, *(g.prompt for g in corpus.test_groups)]
    by = config.propose.by
    writer = context.completer(by) if by else context.engine(model)
    settings = config.propose if n is None else replace(config.propose, n=n)
    if not settings.n:
        if len(spare) < rounds:
            raise BadInput(
                f"setting propose.n: expected a prompt of the data for each of {rounds} rounds, "
                f"found {len(spare)}; give more prompts, raise propose.n or lower iterations"
            )
        spare = spare[: -(-len(spare) // rounds)]
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
