"""Train self-rewarding language models (arXiv 2401.10020).

Seed tuning yields M1, which writes prompts, answers them and judges its answers; the best and the
worst answer form a pair, DPO on the pairs yields M2, and so on. Departure: the paper's prompts are
always written by one fixed model, which `propose.by=` names; by default each M(t) writes its own
(`propose.n=0` takes the data's prompts).
"""

from __future__ import annotations

from collections.abc import Callable

from alignlab.context import RunContext
from alignlab.measuring.measure import BranchResult, Judgement, StudyMeasurements
from alignlab.measuring.self_rewards import round_metrics
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Study,
    StudyConfig,
    answer_held_out,
    answers_of,
    finish,
    judge_held_out,
    judge_label,
    own_prompts,
    preference_train,
    warm_start,
)
from alignlab.registry import register
from alignlab.stages.judge import judge
from alignlab.stages.judges import JudgeSettings, model_judge
from alignlab.stages.pair import pair
from alignlab.types import Checkpoint, Prompt

AnswersOf = Callable[[Study[StudyConfig], Checkpoint, int], Answered]
"""Function (study, model, iteration) -> the model's answers to that iteration's prompts."""


def study(context: RunContext, config: StudyConfig) -> StudyMeasurements:
    """Train M1, M2, ... each on its parent's own judgements, and measure them."""
    begun = warm_start(context, config)
    start = begun.start
    result = BranchResult()
    for model in (start.m0, start.baseline, start.m1):
        result += answer_held_out(begun, model)
    improved = improve(begun, answers_to_own_prompts(), config.judge)
    judges = [start.m1.name, *(made.name for made in improved.checkpoints[:-1])]
    rounds = BranchResult(values=round_metrics(judges, improved.judgements))
    return finish(begun, result + improved + rounds)


def answers_to_own_prompts() -> AnswersOf:
    """Sample answers, in every round, to prompts that the round's model writes.

    Without any to be written (`propose.n=0`), the rounds share the data's own prompts.
    """
    earlier: list[Prompt] = []

    def answers(step: Study[StudyConfig], model: Checkpoint, iteration: int) -> Answered:
        left = step.config.iterations - iteration + 1
        new = own_prompts(step, model, earlier, rounds=left)
        earlier.extend(new)
        return answers_of(step, model, new)

    return answers


def improve(
    study: Study[StudyConfig], answers: AnswersOf, judging: JudgeSettings, label: str = ""
) -> BranchResult:
    """Run the self-rewarding loop from M1; each model is its own judge."""
    config, model, result = study.config, study.start.m1, BranchResult()
    for iteration in range(1, config.iterations + 1):
        step = study.scope(f"iteration-{iteration}")
        given = answers(step, model, iteration)
        own_judge = model_judge(step.context.engine(model), judging)
        feedback = judge(step.context, own_judge, given.prompts, given.responses)
        groups = pair(step.context, given.prompts, given.responses, feedback, config.pairs)
        own_label = judge_label(model, judging)
        own = Judgement(own_label, "own", given.responses, tuple(feedback))
        held_out = judge_held_out(step, model, judging)
        result += BranchResult(judgements=(own, held_out), prompts=given.prompts)
        how = f"{config.preference_method} on its own answers, judged by {own_label}"
        name, made = f"M{iteration + 1}{label}", f"{model.name} after {how}"
        model = preference_train(step, model, groups, name, made)
        result += answer_held_out(step, model)
    return result


register("recipe", "self_rewarding")(
    Recipe(
        name="self_rewarding",
        config=StudyConfig,
        question="Does a model get better by training on its own judgements of its own answers?",
        study=study,
    )
)
