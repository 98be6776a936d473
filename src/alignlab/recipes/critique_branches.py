"""Define settings, shared inputs and branches of `multi_critique`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from alignlab.configs import Bounded, NonNegative, NonNegativeInt, PositiveInt
from alignlab.errors import BadInput, RunFailed, refuse_unknown
from alignlab.feedback.critique_units import Form, MetaCritic, write_units
from alignlab.feedback.model_judge import ModelJudge, critique_judge
from alignlab.feedback.prompts import judge_prompt
from alignlab.feedback.teachers import Criticised, Refiner
from alignlab.measuring.critique_truth import (
    BENCHMARK,
    BY_RESPONSE,
    f1,
    f1_feedback,
    unit_figures,
)
from alignlab.measuring.measure import BranchResult, PerPromptMetric
from alignlab.protocols import Completer
from alignlab.recipes.judging import SELF, engine_of
from alignlab.recipes.study import Answered, Study, StudyConfig, preference_train, sft
from alignlab.stages.coin import by_coin
from alignlab.stages.critiques import Judged, Named, Rule, criticise, merge, severity
from alignlab.stages.pair import best_as_demonstrations
from alignlab.stages.revisions import revise
from alignlab.stages.sample import sample
from alignlab.types import (
    Checkpoint,
    Demonstration,
    PreferenceGroup,
    Prompt,
    Response,
    SampledBy,
    Sampling,
    Score,
)

TAUGHT: Mapping[str, str] = {
    "merged": "merged",
    "single": "best single critic",
    "majority": "units of most critics",
    "union": "all units",
    "coin": "units kept by coin",
    "truth": "true",
}
"""Branch of SFT -> the critiques that it imitates, the end of its models' names."""
RULES: Mapping[str, Rule] = {
    "merged": "meta", "majority": "majority", "union": "union", "coin": "coin",
}  # fmt: skip
"""Branch of SFT -> its rule of merging."""
PREFERRED: Mapping[str, str] = {
    "validated": "validated pairs",
    "judged": "judged pairs",
    "pair_coin": "validated pairs by coin",
    "imitated": "better critiques imitated",
    "pair_truth": "true pairs",
}
"""Branch of preference training -> the pairs that it learns from, the end of its model's name."""


@dataclass(frozen=True)
class CritiqueSettings(Bounded):
    """Settings of writing, judging and using critiques."""

    form: Form = "lines"
    """Form of the critiques that models imitate: "lines" with place, kind and words of each fault;
    "labels" with the kinds alone."""
    critique_prompt: str = "critique_units"
    """Prompt template for a critique: name of a file in feedback/prompts, or a path."""
    meta_prompt: str = "meta_critique"
    """Prompt template for judging units, with the place {faults}: a name or a path."""
    refine_prompt: str = "refine"
    """Prompt template for a revision: name of a file in feedback/prompts, or a path."""
    critique_tokens: PositiveInt = 256
    """Maximum number of tokens of a critique, and of the meta judge's reply."""
    refined_tokens: PositiveInt = 512
    """Maximum number of tokens of a revision."""
    revisions: PositiveInt = 2
    """Revisions by each reviser that validate a critique (arXiv 2410.15287: 8 by 4 models)."""
    temperature: NonNegative = 0.7
    """Sampling temperature of these revisions; measured ones are greedy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (self.critique_prompt, self.refine_prompt):
            judge_prompt(name)
        if not judge_prompt(self.meta_prompt).shows("faults"):
            raise BadInput(
                f"setting critiques.meta_prompt: expected a template with {{faults}}, found "
                f"{self.meta_prompt}"
            )


@dataclass(frozen=True)
class MultiCritiqueConfig(StudyConfig):
    """Settings of training a critic on merged critiques."""

    critics: tuple[str, ...] = (
        "sandbox:strong?judge_noise=2&invents=0.05",
        "sandbox:weak?judge_noise=1&invents=0.3",
        "sandbox:human?judge_noise=2.5&invents=0.2",
    )
    """Models that criticise M1's answers, two or more: local:FOLDER, openai:MODEL@URL, ..."""
    meta: str = "sandbox:strong"
    """Model that judges the units of all critiques; self is M1."""
    revisers: tuple[str, ...] = ("sandbox:strong?obeys=true",)
    """Models that rewrite answers by a critique; the first also measures critics. self is M1."""
    validator: str = "llm:self"
    """Feedback source that scores revisions, which validate pairs of critiques."""
    truth_critic: str = ""
    """Model whose critiques are the truth; empty measures no faults and has no positive control."""
    critiques: CritiqueSettings = field(default_factory=CritiqueSettings)
    prompts: NonNegativeInt | str | tuple[str, ...] = 800
    """Prompts that M1 answers: a source or several, as in `data`, or a number of the seed data's
    own (of its demonstrations if there are no others); 0 is all."""
    criticised: PositiveInt = 400
    """Number of them on whose answers critics are imitated; the others form pairs of critiques."""
    iterations: int = 1
    """Number of rounds: one."""
    branches: tuple[str, ...] = ()
    """Branches to run, by name; empty runs all that the settings allow. Branches of pairs need
    "merged", from which they start."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unknown("branch", self.branches, (*TAUGHT, *PREFERRED))
        self.refuse_rounds("multi_critique")
        if len(set(self.critics)) < max(2, len(self.critics)):
            raise BadInput(
                f"setting critics: expected two or more different models, found "
                f"{', '.join(self.critics) or 'none'}"
            )
        if not self.revisers:
            raise BadInput("setting revisers: expected one model or more, found none")
        if self.sample.n < 2:
            raise BadInput("setting sample.n: expected 2 critiques or more to compare, found 1")
        needy = {"truth", "pair_truth"} & set(self.branches)
        if needy and not self.truth_critic:
            raise BadInput(f"branch {min(needy)}: expected truth_critic, a model, found none")
        if set(PREFERRED) & set(self.branches) and "merged" not in self.branches:
            raise BadInput("setting branches: expected merged, from which critics of pairs start")

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return critics, meta judge, revisers and validator that are models other than M1."""
        asked = {
            **{f"critics[{n}]": spec for n, spec in enumerate(self.critics)},
            "meta": self.meta,
            **{f"revisers[{n}]": spec for n, spec in enumerate(self.revisers)},
            "validator": self.validator,
        }
        return {k: spec for k, spec in asked.items() if ":" in engine_of(spec)}

    def chosen(self, among: Mapping[str, str]) -> tuple[str, ...]:
        """Return the branches of one kind to run, in their order."""
        usual = [n for n in among if self.truth_critic or not n.endswith("truth")]
        return tuple(n for n in among if n in (self.branches or usual))


@dataclass(frozen=True)
class Criticisms:
    """Critiques of some of M1's answers by all critics."""

    answered: Answered
    critics: tuple[Named, ...]
    """Units of each critic."""
    judged: Judged
    """Class of each unit by the meta judge."""
    true: Named
    """Faults that the answers have; empty where they are not known."""

    def merged(self, rule: Rule, seed: int) -> Named:
        """Merge all critics' units by a rule."""
        return merge(self.critics, self.judged, rule, seed)


@dataclass(frozen=True)
class CritiqueInputs:
    """Critiques that all branches share."""

    shown: Criticisms
    """Critiques of the answers whose critiques are imitated."""
    tests: Criticisms
    """Critiques of M1's answers to the held-out prompts."""


@dataclass(frozen=True)
class CritiquePairs:
    """Pairs of a critic's own critiques, by the ways to label them."""

    judged: tuple[PreferenceGroup, ...]
    validated: tuple[PreferenceGroup, ...]
    true: tuple[PreferenceGroup, ...]


def answered_once(study: Study[MultiCritiqueConfig], prompts: Sequence[Prompt]) -> Answered:
    """Sample one answer of M1 to every prompt."""
    context, m1 = study.context, study.start.m1
    once = replace(study.config.sample, n=1)
    responses = sample(context, context.engine(m1), prompts, once)
    return Answered(m1, tuple(prompts), tuple(responses))


def model_of(study: Study[MultiCritiqueConfig], spec: str) -> Completer:
    """Return a completer by spec; self is M1."""
    context, m1 = study.context, study.start.m1
    return context.engine(m1) if spec == SELF else context.completer(spec)


def critic_by(
    study: Study[MultiCritiqueConfig],
    completer: Completer,
    temperature: float = 0.0,
    top_p: float = 1.0,
) -> ModelJudge:
    """Return a model as critic, greedy by default."""
    settings = study.config.critiques
    sampling = Sampling(temperature, top_p, settings.critique_tokens)
    return critique_judge(completer, judge_prompt(settings.critique_prompt), sampling=sampling)


def meta_critic(study: Study[MultiCritiqueConfig]) -> MetaCritic:
    """Return the meta judge, greedy."""
    settings = study.config.critiques
    sampling = Sampling(0.0, 1.0, settings.critique_tokens)
    completer = model_of(study, study.config.meta)
    return MetaCritic(completer, judge_prompt(settings.meta_prompt), sampling=sampling)


def reviser(study: Study[MultiCritiqueConfig], spec: str, temperature: float = 0.0) -> Refiner:
    """Return a model that rewrites answers by a critique."""
    settings = study.config.critiques
    sampling = Sampling(temperature, 1.0, settings.refined_tokens)
    return Refiner(model_of(study, spec), judge_prompt(settings.refine_prompt), sampling=sampling)


def critique_prompt(critic: ModelJudge, prompt: Prompt, response: Response) -> Prompt:
    """Return the prompt that asks for a critique of a response, to train on."""
    return Prompt(f"{response.id}/critique", critic.messages(prompt, response))


def teach(study: Study[MultiCritiqueConfig], given: CritiqueInputs, name: str) -> BranchResult:
    """Imitate the critiques of one branch from M1 on, and measure the critic.

    Raises:
        RunFailed: no answer has a critique.
    """
    units = taught_units(study, given, name)
    start, form = study.start, study.config.critiques.form
    critic = critic_by(study, study.context.engine(start.m1))
    asked = {p.id: p for p in given.shown.answered.prompts}
    shown = []
    for response in given.shown.answered.responses:
        if response.id in units:
            prompt = critique_prompt(critic, asked[response.prompt_id], response)
            text = write_units(units[response.id], form)
            written = Response(f"{prompt.id}/{name}", prompt.id, text, SampledBy(TAUGHT[name]))
            shown.append(Demonstration(prompt, written, "critique"))
    title = f"C1 {TAUGHT[name]}"
    if not shown:
        raise RunFailed(f"{title}: no answer has a readable critique (see counts.jsonl of units)")
    made = f"M1 after SFT on {len(shown)} critiques: {TAUGHT[name]}"
    return measured_student(study, given, sft(study, start.m1, shown, title, made))


def taught_units(study: Study[MultiCritiqueConfig], given: CritiqueInputs, name: str) -> Named:
    """Return the units that a branch imitates, on the same answers for all branches."""
    shown = given.shown
    single = units = shown.critics[best_critic(shown)]
    if name == "truth":
        units = shown.true
    elif name in RULES:
        units = shown.merged(RULES[name], study.context.seed_for("merge"))
    return {key: found for key, found in units.items() if key in shown.judged and key in single}


def best_critic(given: Criticisms) -> int:
    """Return the place of the best critic: by F1 where the truth is known, else by severity."""

    def value(named: Named) -> float:
        if given.true:
            found = [f1(named[key], true) for key, true in given.true.items() if key in named]
        else:
            found = [severity(named[key], c) for key, c in given.judged.items() if key in named]
        return sum(found) / len(found) if found else float("-inf")

    values = [value(named) for named in given.critics]
    return values.index(max(values))


def prefer(
    study: Study[MultiCritiqueConfig],
    given: CritiqueInputs,
    start: Checkpoint,
    pairs: CritiquePairs,
    name: str,
) -> BranchResult:
    """Train the critic of merged critiques on one kind of pairs, and measure it."""
    config, title = study.config, f"C2 {PREFERRED[name]}"
    groups = list(pairs.validated)
    if name in ("judged", "pair_truth"):
        groups = list(pairs.judged if name == "judged" else pairs.true)
    if name == "pair_coin":
        groups = [by_coin(group, study.context.seed_for("coin")) for group in groups]
    if name == "imitated":
        shown = best_as_demonstrations(groups)
        # A pair trains two critiques.
        loop = replace(config.sft, epochs=2 * config.preference.epochs)
        made = f"{start.name} after SFT on {len(shown)} better critiques, {loop.epochs} epochs"
        return measured_student(study, given, sft(study.using(sft=loop), start, shown, title, made))
    made = f"{start.name} after {config.preference_method} on {len(groups)} {PREFERRED[name]}"
    return measured_student(study, given, preference_train(study, start, groups, title, made))


def measured_student(
    study: Study[MultiCritiqueConfig], given: CritiqueInputs, model: Checkpoint
) -> BranchResult:
    """Let a trained critic criticise the held-out answers, and measure its critiques.

    It is sampled as the critiques that form pairs are.
    """
    drawn, tests = study.config.sample, given.tests.answered
    critic = critic_by(study, study.context.engine(model), drawn.temperature, drawn.top_p)
    named = criticise(study.context, critic, tests.prompts, tests.responses, name=model.name)
    found = measured_units(study, given.tests, named, model.name, model.made)
    return BranchResult((model,)) + found


def measured_units(
    study: Study[MultiCritiqueConfig], tests: Criticisms, named: Named, name: str, made: str
) -> BranchResult:
    """Measure critiques of the held-out answers by the true faults and by their revisions.

    The revisions are the critic's answers to the held-out prompts; an answer in which it names no
    fault stays.
    """
    form, first = study.config.critiques.form, tests.answered.responses
    asked = {p.id: p for p in tests.answered.prompts}
    criticised = [
        Criticised(asked[r.prompt_id], r, write_units(named[r.id], form))
        for r in first
        if named.get(r.id)
    ]
    writer = reviser(study, study.config.revisers[0])
    answers = revise(study.context, writer, criticised, first, by=name)
    values = _by_truth(study, tests, named, name) if study.config.truth_critic else ()
    return BranchResult((), {name: answers}, values=values, made={name: made})


def _by_truth(
    study: Study[MultiCritiqueConfig], tests: Criticisms, named: Named, name: str
) -> tuple[PerPromptMetric, ...]:
    """Measure critiques of the held-out answers by the true faults."""
    responses = tests.answered.responses
    judged = f1_feedback(study.context, name, responses, named, tests.true)
    ids = tuple(f.prompt_id for f in judged)
    values = tuple(f.verdict.value for f in judged if isinstance(f.verdict, Score))
    by_response = PerPromptMetric(name, BENCHMARK, BY_RESPONSE, ids, values)
    return (*unit_figures(name, responses, named, tests.true), by_response)
