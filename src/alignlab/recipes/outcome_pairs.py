"""Train on a model's own answers, paired by a checkable outcome (arXiv 2404.19733, 2410.16198).

M1 answers questions with reference answers several times; a checker splits the answers into right
and wrong; right over wrong forms pairs, and DPO with the negative log-likelihood of the right
answer yields M2, whose fresh answers to the same questions yield M3, and so on (IRPO). Controls:
the same pairs without the likelihood term, as many pairs of answers drawn by chance, SFT on the
right answers of the same pairs at equal trained responses (RFT, arXiv 2308.01825), and SFT on the
key as the positive control. Models are measured by the checker on held-out questions; no model
judges. Departures: M1 may be the base model as it is; RFT here sees the right answers of the pairs
alone and starts each round from the last model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from typing import Literal, TypeVar

from alignlab import registry
from alignlab.configs import NonNegative
from alignlab.context import RunContext, resolve_model
from alignlab.errors import BadInput, NothingToLearn, refuse_unknown
from alignlab.measuring.changes import changes, values_by_prompt
from alignlab.measuring.measure import BranchResult, PerPromptMetric, StudyMeasurements
from alignlab.parallel import Branch
from alignlab.recipes.branches import run_all
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE
from alignlab.recipes.judging import AUTO
from alignlab.recipes.study import (
    Answered,
    ObjectiveSettings,
    Recipe,
    Study,
    StudyConfig,
    WarmStart,
    answer_held_out,
    answers_of,
    finish,
    first_answers,
    imitation_start,
    sft,
)
from alignlab.registry import register
from alignlab.stages.judge import by_prompt, judge, scores
from alignlab.stages.key_answers import key_answers
from alignlab.stages.outcome import OutcomeSettings, outcome_pairs
from alignlab.stages.pair import PairSettings, best_as_demonstrations
from alignlab.stages.seed import seed
from alignlab.stages.train import train
from alignlab.types import (
    Checkpoint,
    Corpus,
    Count,
    Feedback,
    PreferenceGroup,
    Prompt,
)

K = TypeVar("K", bound="CheckedConfig")

NO_REFERENCE, OPEN_ENDED = "no reference answer", "open-ended question"


@dataclass(frozen=True)
class CheckedConfig(StudyConfig):
    """Settings of studies whose answers are right or wrong by a checker."""

    start: Literal["base", "demonstrations"] = "base"
    """M1: the base model as it is, or tuned on the data's demonstrations first."""
    outcome: str = "verifier"
    """Feedback source that tells right (a score of at least 1) from wrong, in training and
    measuring: verifier; verifier,strict=true, by which responses without a readable answer form no
    pairs; python:FILE:FUNCTION; at_least,score=4:SPEC for another threshold."""

    def __post_init__(self) -> None:
        super().__post_init__()
        # A preset may name the source of the truth as the judge.
        if self.measure.judge not in (AUTO, self.outcome, self.measure.truth):
            raise BadInput(
                f"setting measure.judge: expected none in a study by outcome, which measures by "
                f"outcome={self.outcome}, found {self.measure.judge}"
            )
        if self.pairs != PairSettings() or self.select.prompts or self.measure.pair_judge:
            raise BadInput(
                "settings pairs, select.prompts and measure.pair_judge: have no effect in a study "
                "by outcome, which measures by outcome; leave them out"
            )

    @property
    def measuring_judge(self) -> str:
        """Return the feedback source that tells right from wrong."""
        return ones_and_zeros(self.outcome)

    @property
    def measures_truth(self) -> bool:
        """Return True: a checker measures the study."""
        return True


@dataclass(frozen=True)
class OutcomePairsConfig(CheckedConfig):
    """Settings of training on pairs by outcome."""

    nll_weight: NonNegative = 1.0
    """Weight of the right response's token-mean negative log-likelihood in the loss."""
    by_outcome: OutcomeSettings = field(default_factory=OutcomeSettings)
    branches: tuple[str, ...] = ()
    """Branches to run, by name; empty runs all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unknown("branch", self.branches, BRANCHES)
        if "nll_weight" in self.objective.options:
            raise BadInput("setting objective.options.nll_weight: set nll_weight instead")
        self.paired_objective(self.nll_weight).build()

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return the branches to run, in the order of `BRANCHES`."""
        usual = [n for n in BRANCHES if self.nll_weight or n != "without_nll"]
        return tuple(n for n in BRANCHES if n in (self.branches or usual))

    def paired_objective(self, nll_weight: float) -> ObjectiveSettings:
        """Return the objective on pairs, with a weight of the likelihood term."""
        known = {f.name for f in fields(registry.get("objective", self.objective.name))}
        weight = {"nll_weight": nll_weight} if nll_weight or "nll_weight" in known else {}
        return replace(self.objective, options={**self.objective.options, **weight})


@dataclass(frozen=True)
class Outcomes:
    """Answers to the training questions, each right or wrong."""

    answered: Answered
    feedback: tuple[Feedback, ...]

    def pairs(
        self, study: Study[OutcomePairsConfig], labels: Literal["outcome", "coin"]
    ) -> list[PreferenceGroup]:
        """Pair right answers with wrong ones.

        Raises:
            NothingToLearn: no question has both.
        """
        asked, settings = self.answered, study.config.by_outcome
        groups = outcome_pairs(
            study.context, asked.prompts, asked.responses, self.feedback, settings, labels=labels
        )
        if not groups:
            raise NothingToLearn(
                f"no question has a right and a wrong answer of {asked.student.name} (see "
                "counts.jsonl of the pair stage): take easier or harder questions, or raise "
                "sample.n or sample.temperature"
            )
        return groups

    def accuracy(self) -> PerPromptMetric:
        """Return the share of right answers to every training question."""
        known = scores(self.feedback)
        marks = {
            prompt.id: [known[r.id] for r in several if r.id in known]
            for prompt, several in by_prompt(self.answered.prompts, self.answered.responses)
        }
        read = {key: sum(some) / len(some) for key, some in marks.items() if some}
        lost = len(self.feedback) - sum(map(len, marks.values()))
        ids, values = tuple(read), tuple(read.values())
        return PerPromptMetric(
            self.answered.student.name, "training_questions", "accuracy", ids, values, unscored=lost
        )


Learn = Callable[[Study[OutcomePairsConfig], Checkpoint, Outcomes, str], Checkpoint]
"""Function (study, parent, its outcomes, the next model's name) -> the next model."""


def study(context: RunContext, config: OutcomePairsConfig) -> StudyMeasurements:
    """Train M1's branches by the outcome of their own answers, and measure them."""
    begun = with_questions(checked_start(context, config))
    start = begun.start
    first = outcomes_of(begun, start.m1)
    tuned = config.start == "demonstrations"
    result = first_answers(begun) if tuned else answer_held_out(begun, start.m1)
    branches = [Branch(n, _run, (begun.scope(n), first, n)) for n in config.chosen]
    result = reduce(BranchResult.__add__, run_all(begun, branches), result)
    result += BranchResult(values=(first.accuracy(),))
    source = context.judge(config.measuring_judge, start.m1)
    measured = finish(begun, result, source)
    twins = [(BRANCHES["pairs"][1], BRANCHES[twin][1]) for twin in ("sft", "coin")]
    return replace(measured, values=(*measured.values, *accuracies(measured, twins)))


def checked_start(context: RunContext, config: K) -> Study[K]:
    """Return the study with its data and M1."""
    if config.start == "demonstrations":
        return imitation_start(context, config)
    corpus = seed(context, config.roles, config.corpus, needs_demonstrations=False)
    m0 = replace(resolve_model(config.model), made="the base model")
    m1 = replace(m0, name="M1", made="the base model as it is")
    return Study(context, config, WarmStart(corpus, m0, m1, m1, corpus.prompts))


def with_questions(study: Study[K]) -> Study[K]:
    """Keep questions with a reference answer, for training and for testing; count the others.

    Raises:
        BadInput: none is left of either.
    """
    start, config = study.start, study.config
    known = start.feedback_prompts
    parts = {"questions": known, "held-out questions": start.corpus.test_prompts}
    kept: dict[str, tuple[Prompt, ...]] = {}
    counts: list[Count] = []
    with study.context.run.stage("questions") as stage:
        for what, prompts in parts.items():
            reasons = {p.id: _refused(p) for p in prompts}
            kept[what] = tuple(p for p in prompts if not reasons[p.id])
            if not kept[what]:
                raise BadInput(
                    f"{start.corpus.name}: expected {what} with reference answers, found none of "
                    f"{len(prompts)} prompts; name others: prompts=, test=, or ?test_share=0.2"
                )
            lost = dict(Counter(reason for reason in reasons.values() if reason))
            counts.append(Count(stage.name, what, len(kept[what]), lost))
        if not stage.done:
            stage.count(counts)
    corpus: Corpus = replace(start.corpus, test_prompts=kept["held-out questions"])
    asked = kept["questions"][: config.most_prompts or None]
    return replace(study, start=replace(start, corpus=corpus, prompts=asked))


def _refused(prompt: Prompt) -> str:
    """Return why a prompt's answers cannot be checked; empty if they can."""
    if not prompt.reference:
        return NO_REFERENCE
    return OPEN_ENDED if prompt.query_type == "open" else ""


def outcomes_of(study: Study[CheckedConfig], model: Checkpoint) -> Outcomes:
    """Sample a model's answers to the training questions, and check them."""
    source = study.context.judge(study.config.measuring_judge, study.start.m1)
    answered = answers_of(study, model, study.start.prompts)
    feedback = judge(study.context, source, answered.prompts, answered.responses)
    return Outcomes(answered, tuple(feedback))


def _run(study: Study[OutcomePairsConfig], first: Outcomes, name: str) -> BranchResult:
    """Run the rounds of a branch; only its first round shares M1's answers."""
    learn, title = BRANCHES[name]
    if learn is imitate_key:
        return answer_held_out(study, imitate_key(study, study.start.m1, first, title))
    model, result = study.start.m1, BranchResult()
    for iteration in range(1, study.config.iterations + 1):
        step = study.scope(f"iteration-{iteration}")
        given = first
        if iteration > 1:
            given = outcomes_of(step, model)
            result += BranchResult(values=(given.accuracy(),))
        model = learn(step, model, given, f"M{iteration + 1} {title}")
        result += answer_held_out(step, model)
    return result


def prefer_right(
    study: Study[OutcomePairsConfig], parent: Checkpoint, given: Outcomes, name: str
) -> Checkpoint:
    """Train to prefer right to wrong answers, with the likelihood of the right ones."""
    return _prefer(study, parent, given.pairs(study, "outcome"), name, study.config.nll_weight)


def prefer_without_nll(
    study: Study[OutcomePairsConfig], parent: Checkpoint, given: Outcomes, name: str
) -> Checkpoint:
    """Train on the same pairs without the likelihood term."""
    return _prefer(study, parent, given.pairs(study, "outcome"), name, 0.0)


def prefer_by_coin(
    study: Study[OutcomePairsConfig], parent: Checkpoint, given: Outcomes, name: str
) -> Checkpoint:
    """Train on as many pairs of the same questions, drawn without regard to the outcome."""
    return _prefer(study, parent, given.pairs(study, "coin"), name, study.config.nll_weight)


def _prefer(
    study: Study[OutcomePairsConfig],
    parent: Checkpoint,
    groups: Sequence[PreferenceGroup],
    name: str,
    nll_weight: float,
) -> Checkpoint:
    """Train on pairs by the study's objective with a weight of the likelihood term."""
    config = study.config
    spec = config.train_spec(config.paired_objective(nll_weight).build(), config.preference)
    how = f"{config.preference_method} on {len(groups)} pairs by {groups[0].source}"
    made = f"{parent.name} after {how}, NLL weight {nll_weight:g}"
    return train(study.context, parent, groups, spec, name=name, made=made)


def imitate_right(
    study: Study[OutcomePairsConfig], parent: Checkpoint, given: Outcomes, name: str
) -> Checkpoint:
    """Imitate the right answers of the same pairs, for as many trained responses as on pairs."""
    shown = best_as_demonstrations(given.pairs(study, "outcome"))
    config = study.config
    loop = replace(
        config.sft,
        epochs=2 * config.preference.epochs,  # a pair trains two responses
        batch_size=config.preference.batch_size,
    )
    how = f"SFT on {len(shown)} right answers of the pairs, {loop.epochs} epochs"
    return sft(study.using(sft=loop), parent, shown, name, f"{parent.name} after {how}")


def imitate_key(
    study: Study[OutcomePairsConfig], parent: Checkpoint, given: Outcomes, name: str
) -> Checkpoint:
    """Imitate the reference answers of all training questions.

    Raises:
        BadInput: no reference is an answer in words (instructions to follow).
    """
    shown = key_answers(given.answered.prompts)
    return sft(study, parent, shown, name, f"{parent.name} after SFT on {len(shown)} references")


def ones_and_zeros(spec: str) -> str:
    """Return the spec of a source of 1 for scores of at least 1, or of the threshold it names."""
    return spec if spec.startswith(("at_least:", "at_least,")) else f"at_least:{spec}"


BRANCHES: Mapping[str, tuple[Learn, str]] = {
    "pairs": (prefer_right, "outcome pairs"),
    "without_nll": (prefer_without_nll, "outcome pairs without NLL"),
    "coin": (prefer_by_coin, "pairs by coin"),
    "sft": (imitate_right, "SFT on right answers"),
    "key": (imitate_key, "SFT on the key"),
}
"""Name -> training, and the end of its models' names."""


def accuracies(
    measured: StudyMeasurements, twins: Sequence[tuple[str, str]]
) -> list[PerPromptMetric]:
    """Compute accuracies, changes from M1, and changes from other models of the same round.

    Args:
        twins: end of a model's name, and that of the model that it is held against.
    """
    right = values_by_prompt(measured.scored)
    lost = {model: len(several) - len(right[model]) for model, several in measured.scored.items()}
    found = [
        PerPromptMetric(m, "qa", "accuracy", tuple(own), tuple(own.values()), unscored=lost[m])
        for m, own in right.items()
    ]
    against = [(m, measured.baseline) for m in right if m != measured.baseline]
    against += [(m, m.replace(one, two)) for one, two in twins for m in right if m.endswith(one)]
    return found + changes(right, against, "qa", "accuracy_change")


register("recipe", "outcome_pairs")(
    Recipe(
        name="outcome_pairs",
        config=OutcomePairsConfig,
        question="Does a model answer more questions right after preferring its own right answers "
        "to its wrong ones, or is imitating the right ones enough?",
        study=study,
        controls={
            "pairs by coin": NEGATIVE,
            "SFT on right answers": EQUAL_COMPUTE,
            "SFT on the key": POSITIVE,
        },
        idle=("eft", "propose"),
        options={
            "Right over wrong": (BRANCHES["pairs"][1],),
            "Right answers imitated": (BRANCHES["sft"][1],),
        },
    )
)
