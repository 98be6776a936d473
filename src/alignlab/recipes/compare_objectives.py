"""Compare objectives on one set of groups, with and without RL, in one table.

M0 is tuned on demonstrations: M1. M1 answers prompts several times, a critic scores the answers
once, and every objective is trained on these groups. They are compared with prompting, more
imitation, and policy gradients whose reward model is trained on the groups too. With `groups=data`
the groups are the data's, and preference accuracy on held-out groups is measured for models and
simple guesses.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.measuring.best_of_n import best_of_values
from alignlab.measuring.measure import BranchResult, HeldOut, Judgement, StudyMeasurements
from alignlab.parallel import Branch
from alignlab.recipes.branches import run_all
from alignlab.recipes.controls import NEGATIVE
from alignlab.recipes.critic import scored_answers
from alignlab.recipes.objective_branches import (
    CompareObjectivesConfig,
    trains_reward,
)
from alignlab.recipes.objective_inputs import ObjectiveInputs
from alignlab.recipes.objective_runs import run_branch
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Study,
    answer_held_out,
    finish,
    imitation_start,
)
from alignlab.recipes.tuning import hold_out
from alignlab.registry import get, register
from alignlab.runs import slug
from alignlab.stages.judge import judge
from alignlab.stages.pair import pair
from alignlab.stages.train import train
from alignlab.types import Corpus, Feedback, PreferenceGroup, Prompt, Response, Score

REWARD_MODEL = "reward model"


def study(context: RunContext, config: CompareObjectivesConfig) -> StudyMeasurements:
    """Train M1, build groups, train every branch, and measure them."""
    begun = imitation_start(context, config, from_groups=config.groups == "data")
    searched = config.tune.prompts if config.tune.lrs else 0
    start, tried = hold_out(begun.start, searched, "tune.prompts")
    start, dev = hold_out(start, config.dev_prompts, "dev_prompts")
    begun = replace(begun, start=replace(start, validation=tried))
    m1 = begun.start.m1
    given = of_data(begun) if config.groups == "data" else of_samples(begun)
    given = replace(given, dev=dev)
    chosen = [n for n in config.chosen if config.branches or n != "joint_feedback" or given.words]
    if any(trains_reward(config, name) for name in chosen):
        spec = config.train_spec(get("objective", "reward_model")(), config.reward_training)
        model = train(context, m1, given.groups, spec, name=REWARD_MODEL)
        given = replace(given, reward_model=model)
    branches = [Branch(name, run_branch, (begun.scope(slug(name)), given, name)) for name in chosen]
    result = reduce(BranchResult.__add__, run_all(begun, branches), answer_held_out(begun, m1))
    # Guesses about held-out groups are the same in every branch.
    once = {(v.model, v.metric, v.against): v for v in result.values}
    return _finish(begun, given, replace(result, values=tuple(once.values())))


def of_samples(study: Study[CompareObjectivesConfig]) -> ObjectiveInputs:
    """Sample M1's answers, score them with the critic, and group them."""
    answered, feedback = scored_answers(study)
    every = replace(study.config.pairs, keep="all")
    groups = pair(study.context, answered.prompts, answered.responses, feedback, every)
    return ObjectiveInputs(answered, feedback, tuple(groups))


def of_data(study: Study[CompareObjectivesConfig]) -> ObjectiveInputs:
    """Use the data's own groups as if their responses were M1's.

    Raises:
        BadInput: the data has no groups.
    """
    corpus: Corpus = study.start.corpus
    if not corpus.groups:
        raise BadInput(f"groups=data: expected ranked responses in {corpus.name}, found none")
    feedback = [
        Feedback(g.prompt.id, (r.id,), g.source, Score(s, (s,)))
        for g in corpus.groups
        for r, s in zip(g.responses, g.scores, strict=True)
    ]
    asked, responses = _prompts(corpus.groups), _responses(corpus.groups)
    answered = Answered(study.start.m1, tuple(asked), tuple(responses))
    return ObjectiveInputs(answered, tuple(feedback), corpus.groups)


def _finish(
    study: Study[CompareObjectivesConfig], given: ObjectiveInputs, result: BranchResult
) -> StudyMeasurements:
    """Measure answers where a judge exists, the critic, and the reward model."""
    context, config, m1 = study.context, study.config, study.start.m1
    corpus, from_data = study.start.corpus, config.groups == "data"
    if not from_data:
        judgement = Judgement("critic on M1", "own", given.answered.responses, given.feedback)
        result += BranchResult(judgements=(judgement,), prompts=given.answered.prompts)
    if given.reward_model is not None and corpus.test_groups:
        result += BranchResult(judgements=(_of_held_out(study, given),))
    spec = config.measuring_judge
    if not spec:
        held_out = HeldOut(corpus.test_prompts, corpus.test_groups)
        return StudyMeasurements(
            context.seed, "M1", held_out, result.answers, {}, {}, result.judgements, {}, (), {},
            result.values, made=result.made,
        )  # fmt: skip
    judged = study.using(measure=replace(config.measure, judge=spec))
    measured = finish(judged, result, context.judge(spec, m1))
    best = () if from_data else best_of_values(given.feedback, list(measured.gold.values()))
    return replace(measured, values=(*measured.values, *best))


def _of_held_out(study: Study[CompareObjectivesConfig], given: ObjectiveInputs) -> Judgement:
    """Score the held-out groups with the reward model."""
    assert given.reward_model is not None
    context, groups = study.context, study.start.corpus.test_groups
    responses, source = _responses(groups), context.learned_reward(given.reward_model)
    feedback = judge(context, source, _prompts(groups), responses, name="judge-held-out")
    return Judgement(REWARD_MODEL, "held-out", tuple(responses), tuple(feedback))


def _prompts(groups: tuple[PreferenceGroup, ...]) -> list[Prompt]:
    return list({g.prompt.id: g.prompt for g in groups}.values())


def _responses(groups: tuple[PreferenceGroup, ...]) -> list[Response]:
    return [r for g in groups for r in g.responses]


register("recipe", "compare_objectives", old=("rl_free",))(
    Recipe(
        name="compare_objectives",
        config=CompareObjectivesConfig,
        question="Which objective makes most of the same scored answers, and does it take "
        "reinforcement learning?",
        study=study,
        controls={"random_scores": NEGATIVE},
        idle=("eft", "propose", "objective"),
    )
)
