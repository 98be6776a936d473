"""Learn from demonstrations alone, with a reward learned along the way (arXiv 2405.17888).

M1 imitates the data's demonstrations. Each round then prefers the demonstrations to the newest
model's own answers: SPIN (arXiv 2401.01335) by DPO on all of them at once,
IRFT by DPO on one part after the other, each part answered by the newest model, RFT by a reward
model of such pairs and a policy gradient. Controls: more imitation at equal trained responses,
SPIN's pairs preferred by coin, imitation of the data's reference answers and a policy gradient on
the truth as positive controls. Departures: RFT's reward model is trained anew in each round, from
M1 on the pairs of all rounds; its KL is to the round's first model; its policy gradient is RLOO.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from alignlab import registry
from alignlab.context import RunContext
from alignlab.measuring.changes import changes, values_by_prompt
from alignlab.measuring.divergence import divergence
from alignlab.measuring.held_out import held_out_values
from alignlab.measuring.measure import BranchResult, PerPromptMetric, StudyMeasurements
from alignlab.parallel import Branch
from alignlab.recipes.branches import run_all
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE
from alignlab.recipes.demonstration_branches import (
    BRANCHES,
    DemonstrationInputs,
    DemonstrationsConfig,
    Learned,
    Round,
    once,
)
from alignlab.recipes.study import (
    Recipe,
    Study,
    answer_held_out,
    answers_of,
    finish,
    first_answers,
    imitation_start,
)
from alignlab.registry import register
from alignlab.stages.demonstrate import references_as_demonstrations, spoil
from alignlab.stages.judge import judge, scores
from alignlab.stages.pair import PairSettings, pair
from alignlab.types import Corpus, Demonstration, PreferenceGroup

THE_DATA = "the demonstrations"
"""Name of the demonstrations among the models, in tables of figures."""


def study(context: RunContext, config: DemonstrationsConfig) -> StudyMeasurements:
    """Train M1 on the demonstrations, then every branch, and measure them."""

    def prepare(corpus: Corpus) -> Corpus:
        shown: Sequence[Demonstration] = corpus.demonstrations
        if config.shown == "references":
            shown = references_as_demonstrations(shown)
        return replace(corpus, demonstrations=tuple(spoil(context, shown, config.bad)))

    begun = imitation_start(context, config, prepare=prepare)
    given, m1 = _given(begun), begun.start.m1
    chosen = [n for n in BRANCHES if n in (config.branches or _usual(begun))]
    branches = [Branch(n, _run, (begun.scope(n), given, n)) for n in chosen]
    result = reduce(BranchResult.__add__, run_all(begun, branches), first_answers(begun))
    result += BranchResult(values=(_score_of_data(begun, given),))
    # Guesses about M1's answers are the same in every branch.
    once = {(v.model, v.benchmark, v.metric, v.against): v for v in result.values}
    result = replace(result, values=tuple(once.values()))
    measured = finish(begun, result, context.judge(config.measuring_judge, m1))
    return replace(measured, values=(*measured.values, *_between_branches(measured)))


def _usual(study: Study[DemonstrationsConfig]) -> list[str]:
    """Return the branches that the data and the judges allow."""
    lacking = set() if study.config.measure.truth else {"truth"}
    shown = study.start.corpus.demonstrations
    if study.config.shown == "references" or not any(d.prompt.reference for d in shown):
        lacking.add("key")
    return [name for name in BRANCHES if name not in lacking]


def _given(study: Study[DemonstrationsConfig]) -> DemonstrationInputs:
    """Sample M1's answers to the demonstrations' prompts, and its probes."""
    config, start, context = study.config, study.start, study.context
    shown, m1 = start.corpus.demonstrations, start.m1
    first = answers_of(once(study), m1, [d.prompt for d in shown]).responses
    probed = study.scope("probes")
    answered = answers_of(probed, m1, start.corpus.test_prompts[: config.probes])
    source = context.judge(config.measure.truth or config.measuring_judge, m1)
    feedback = judge(probed.context, source, answered.prompts, answered.responses)
    groups = pair(
        probed.context, answered.prompts, answered.responses, feedback, PairSettings(keep="all")
    )
    return DemonstrationInputs(shown, first, tuple(groups))


def _run(study: Study[DemonstrationsConfig], given: DemonstrationInputs, name: str) -> BranchResult:
    """Run the rounds of a branch from M1, and measure every model."""
    learn, title = BRANCHES[name]
    model, result = study.start.m1, BranchResult()
    rounds = study.config.iterations if name != "key" else 1
    earlier: list[tuple[PreferenceGroup, ...]] = []
    for number in range(1, rounds + 1):
        step = study.scope(f"iteration-{number}")
        called = f"M{number + 1} {title}"
        learned = learn(Round(step, given, number, called, tuple(earlier)), model)
        model = learned.model
        earlier.append(learned.pairs)
        result += _measured(step, given, learned)
    return result


def _measured(
    study: Study[DemonstrationsConfig], given: DemonstrationInputs, learned: Learned
) -> BranchResult:
    """Measure held-out answers, KL from M1, and the learned reward on M1's own answers."""
    context, config, m1 = study.context, study.config, study.start.m1
    result, prompts = answer_held_out(study, learned.model), study.start.corpus.test_prompts
    if config.divergence:
        some, most = prompts[: config.divergence], config.sample.max_tokens
        far = divergence(context, learned.model, m1, some, most)
        result += BranchResult(values=(far,))
    if learned.reward is not None and given.probes:
        implicit = learned.reward == learned.model
        reward_model = registry.get("objective", "reward_model")
        objective = config.objective.build() if implicit else reward_model()
        groups = (learned.pairs, given.probes)
        found = held_out_values(context, objective, (m1, learned.reward), groups, config.lengths)
        result += BranchResult(values=found)
    return result


def _score_of_data(
    study: Study[DemonstrationsConfig], given: DemonstrationInputs
) -> PerPromptMetric:
    """Score the demonstrations by the judge that measures the study."""
    prompts = [d.prompt for d in given.shown]
    source = study.context.judge(study.config.measuring_judge, study.start.m1)
    responses = [d.response for d in given.shown]
    feedback = judge(study.context, source, prompts, responses, name="score-demonstrations")
    ids = {d.response.id: d.prompt.id for d in given.shown}
    known = {ids[key]: value for key, value in scores(feedback).items()}
    lost = len(feedback) - len(known)
    return PerPromptMetric(
        THE_DATA, "demonstrations", "mean", tuple(known), tuple(known.values()), unscored=lost
    )


COMPARED = {"sft": ("spin", "irft", "rft", "coin"), "spin": ("irft", "rft")}
"""Branch -> branches whose models are compared with its model of the same round."""


def _between_branches(measured: StudyMeasurements) -> list[PerPromptMetric]:
    """Compute differences of score between branches of the same round."""
    values, found = values_by_prompt(measured.scored), list[PerPromptMetric]()
    for other, several in COMPARED.items():
        base = BRANCHES[other][1]
        ends = [f" {BRANCHES[name][1]}" for name in several]
        against = [
            (m, f"{m.removesuffix(end)} {base}") for end in ends for m in values if m.endswith(end)
        ]
        found += changes(values, against, f"against {base}", "score_change")
    return found


register("recipe", "demonstrations")(
    Recipe(
        name="demonstrations",
        config=DemonstrationsConfig,
        question="Does a model get more out of demonstrations by preferring them to its own "
        "answers, or by a reward learned from both, than by imitating them longer?",
        study=study,
        controls={
            "pairs by coin": NEGATIVE,
            "longer SFT": EQUAL_COMPUTE,
            "on the truth": POSITIVE,
        },
        idle=("eft", "propose"),
        options={
            "Imitated longer": (f" {BRANCHES['sft'][1]}",),
            "Preferred to own answers (SPIN)": (f" {BRANCHES['spin'][1]}",),
            "Preferred part by part (IRFT)": (f" {BRANCHES['irft'][1]}",),
            "By a learned reward (RFT)": (f" {BRANCHES['rft'][1]}",),
        },
    )
)
