"""Compare the kinds of feedback of one teacher at equal teacher tokens: which serves best?

M1 answers prompts. A teacher then gives scores, rankings, labels, critiques, demonstrations or
logits, each kind for as many prompts as a budget of its tokens allows, and M1 is trained on each by
the objective that fits it: DPO on scores and rankings, KTO on labels, joint modelling of answers
and critiques, SFT on demonstrations, on-policy distillation of logits by the generalised
Jensen-Shannon divergence (GKD, arXiv 2306.13649). Controls: random scores, M1's own answers
imitated (SFT without a teacher), and the best answers by the truth imitated. Departures: rollouts
of the distillation are renewed in rounds, not at every step; a teacher without logits is
represented by a stand-in that was trained on its answers, whose training is not counted.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

from alignlab.context import RunContext, resolve_model
from alignlab.measuring.changes import changes, values_by_prompt
from alignlab.measuring.measure import BranchResult, StudyMeasurements
from alignlab.models.locate import HUB_SMALL_FILES, locate
from alignlab.models.tokenizer import plain_tokenizer
from alignlab.parallel import Branch
from alignlab.recipes.branches import run_all
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE
from alignlab.recipes.signal_branches import run_signal
from alignlab.recipes.signals import MODELS, SignalInputs, TeacherSignalsConfig
from alignlab.recipes.study import (
    Recipe,
    Study,
    answer_held_out,
    answers_of,
    finish,
    imitation_start,
    sft,
)
from alignlab.registry import register
from alignlab.stages.demonstrate import warn_of_cut_off
from alignlab.stages.sample import sample
from alignlab.training.teacher import refuse_other_tokenizer
from alignlab.types import Demonstration


def study(context: RunContext, config: TeacherSignalsConfig) -> StudyMeasurements:
    """Train M1, buy every kind of feedback, train M1 on each, and measure the models."""
    _refuse_other_tokenizer(config)
    begun = imitation_start(context, config)
    start = begun.start
    asked = start.feedback_prompts[: config.most_prompts or None]
    answered = answers_of(begun, start.m1, asked)
    given, result = SignalInputs(answered), answer_held_out(begun, start.m1)
    if "logits" in config.chosen:
        given, more = _with_logits(begun, given)
        result += more
    branches = [Branch(n, run_signal, (begun.scope(n), given, n)) for n in config.chosen]
    result = reduce(BranchResult.__add__, run_all(begun, branches), result)
    measured = finish(begun, result, context.judge(config.measuring_judge, start.m1))
    twins = [(model, MODELS["own"]) for name, model in MODELS.items() if name != "own"]
    apart = changes(values_by_prompt(measured.scored), twins, "score", "score_change")
    return replace(measured, values=(*measured.values, *apart))


def _refuse_other_tokenizer(config: TeacherSignalsConfig) -> None:
    """Refuse a teacher of logits with another tokenizer, before anything is trained."""
    if "logits" not in config.chosen or not config.logits_of:
        return
    own, other = (
        plain_tokenizer(locate(resolve_model(spec).path, HUB_SMALL_FILES))
        for spec in (config.model, config.logits_of)
    )
    refuse_other_tokenizer(own, other, config.logits_of)


def _with_logits(
    study: Study[TeacherSignalsConfig], given: SignalInputs
) -> tuple[SignalInputs, BranchResult]:
    """Return the inputs with the model that gives the logits, and its held-out answers."""
    context, config, start = study.context, study.config, study.start
    if config.logits_of:
        made = f"the teacher of logits: {config.logits_of}"
        teacher = replace(resolve_model(config.logits_of, "teacher of logits"), made=made)
    else:
        prompts = given.answered.prompts[: config.stand_in]
        once = replace(config.sample, n=1)
        answers = sample(
            context, context.completer(config.teacher), prompts, once, name="stand-in-answers"
        )
        warn_of_cut_off(context, answers, config.teacher)
        asked = {p.id: p for p in prompts}
        shown = [Demonstration(asked[r.prompt_id], r) for r in answers]
        made = f"M0 after SFT on {len(shown)} answers of {config.teacher}, which has no logits"
        teacher = sft(study, start.m0, shown, "teacher's stand-in", made)
    return replace(given, logits=teacher), answer_held_out(study, teacher)


register("recipe", "teacher_signals")(
    Recipe(
        name="teacher_signals",
        config=TeacherSignalsConfig,
        question="Which kind of a teacher's feedback serves best at equal teacher tokens: scores, "
        "rankings, labels, critiques, demonstrations or logits?",
        study=study,
        controls={
            "random scores": NEGATIVE,
            "own answers imitated": EQUAL_COMPUTE,
            "by the truth imitated": POSITIVE,
        },
        idle=("eft", "propose"),
        options={
            "Judgements": tuple(MODELS[n] for n in ("scores", "rankings", "labels")),
            "Words": (MODELS["critiques"], MODELS["demonstrations"]),
            "Logits": (MODELS["logits"],),
        },
    )
)
