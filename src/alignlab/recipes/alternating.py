"""Take turns of RL on rewards by sentence and SFT on corrections (ARES, arXiv 2407.00087).

M1 is tuned on demonstrations. A turn: policy gradients with a judge's value of each sentence, less
the neutral one, as the reward at its end; then SFT on the teacher's corrections, sentence by
sentence, of the policy's own answers, from which repeated sentences were dropped. Controls: the
same rewards summed at the end of the response; random values; corrections of M1's answers without
RL; SFT on the demonstrations for as many trained responses; SFT on the references, the positive
control. Departures: text alone, no answer head, and the last sentence's reward lies on the
end-of-turn token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import reduce

from alignlab.answers.libraries import key_of
from alignlab.configs import PositiveInt
from alignlab.context import RunContext
from alignlab.errors import BadInput, RunFailed, refuse_unknown
from alignlab.feedback.prompts import judge_prompt
from alignlab.feedback.steps import StepOptions
from alignlab.feedback.teachers import Criticised, Refiner
from alignlab.measuring.measure import BranchResult, StudyMeasurements
from alignlab.measuring.overoptimization import watched_rollout
from alignlab.measuring.sentence_values import sentence_values
from alignlab.objectives.rollout_batch import is_policy_gradient
from alignlab.parallel import Branch
from alignlab.recipes.branches import run_all
from alignlab.recipes.contrasts import score_changes
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE
from alignlab.recipes.study import (
    ObjectiveSettings,
    Recipe,
    Study,
    StudyConfig,
    answer_held_out,
    answers_of,
    finish,
    first_answers,
    imitation_start,
    sft,
)
from alignlab.registry import get, register
from alignlab.stages.clean import drop_repeated
from alignlab.stages.teach import refine
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import Checkpoint, Demonstration, Prompt, Response, SampledBy, Sampling


@dataclass(frozen=True)
class AlternatingConfig(StudyConfig):
    """Settings of turns of RL and corrections."""

    sentences: str = "sandbox:sentences?noise=0.3"
    """Judge of sentences that rewards: sentences:ENGINE, graded:ENGINE, sandbox:sentences."""
    steps: StepOptions = field(default_factory=StepOptions)
    """Rewards made of its values; branches set `values` and `at`."""
    gold_sentences: str = ""
    """Judge of sentences that measures the models; empty measures no sentences."""
    teacher: str = "sandbox:strong"
    """Model that corrects answers sentence by sentence."""
    correct_prompt: str = "correct"
    """Prompt template for a correction: name of a file in feedback/prompts, or a path."""
    correct_tokens: PositiveInt = 256
    """Maximum number of tokens of a correction."""
    corrections: PositiveInt = 400
    """Number of prompts whose answers are corrected in each turn; fewer if there are fewer."""
    gradient: ObjectiveSettings = field(default_factory=lambda: ObjectiveSettings("ppo"))
    """Policy gradient that maximises the rewards."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """Settings of policy gradients."""
    branches: tuple[str, ...] = ()
    """Branches to run, by name; empty runs all."""
    iterations: int = 1
    """Number of turns of RL and corrections."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unknown("branch", self.branches, BRANCHES)
        if self.select.prompts:
            raise BadInput("setting select.prompts: has no effect in alternating; leave it out")
        if (self.steps.values, self.steps.at) != ("judged", "sentence"):
            raise BadInput(
                "settings steps.values and steps.at: are set by the branches of alternating "
                "(random, response); leave them out"
            )
        if not is_policy_gradient(get("objective", self.gradient.name)):
            raise BadInput(
                f"setting gradient.name: expected a policy gradient (ppo, rloo), found "
                f"{self.gradient.name}"
            )
        if not self.sentences:
            raise BadInput("setting sentences: expected a judge of sentences, found none")
        judge_prompt(self.correct_prompt)

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return the judge of sentences and the teacher by their settings."""
        return {"sentences": self.sentences, "teacher": self.teacher}

    def trained_responses(self, prompts: int) -> int:
        """Return the responses that RL and corrections of all turns train on, counting passes.

        Args:
            prompts: number of training prompts.
        """
        loop = self.rollout
        steps = loop.steps or math.ceil(prompts / loop.batch_size) * loop.epochs
        drawn = steps * loop.batch_size * loop.responses * loop.updates
        return self.iterations * (drawn + min(self.corrections, prompts) * self.sft.epochs)


def study(context: RunContext, config: AlternatingConfig) -> StudyMeasurements:
    """Train M1's branches, and measure their answers, whole and by sentence."""
    begun = imitation_start(context, config)
    start = begun.start
    asked = start.feedback_prompts
    begun = replace(begun, start=replace(start, prompts=asked[: config.most_prompts or None]))
    names = [n for n in BRANCHES if n in (config.branches or BRANCHES)]
    branches = [Branch(n, BRANCHES[n], (begun.scope(n),)) for n in names]
    result = reduce(BranchResult.__add__, run_all(begun, branches), first_answers(begun))
    if config.gold_sentences:
        source = context.judge(config.gold_sentences, begun.start.m1)
        tests = start.corpus.test_prompts
        result += BranchResult(
            values=tuple(sentence_values(context, source, tests, result.answers))
        )
    measured = finish(begun, result, context.judge(config.measuring_judge, begun.start.m1))
    changes = score_changes(measured, _contrasts(measured, config.iterations))
    return replace(measured, values=(*measured.values, *changes))


def _contrasts(measured: StudyMeasurements, turns: int) -> list[tuple[str, str]]:
    """Return the pairs of models that the claims compare."""
    m1 = measured.baseline
    pairs = [(model, m1) for model in measured.scored if model != m1]
    for turn in range(1, turns + 1):
        sentence, response = _named("sentence", turn), _named("response", turn)
        pairs += [
            (sentence, response),
            (sentence, _named("random values", turn)),
            (_corrected(sentence), sentence),
            (_corrected(sentence), _corrected(response)),
            (_corrected(sentence), _corrected("M1" if turn == 1 else f"M1 turn {turn}")),
        ]
    return pairs


def _named(by: str, turn: int) -> str:
    return f"RL by {by}" + (f" {turn}" if turn > 1 else "")


def _corrected(model: str) -> str:
    return f"{model}, corrected"


def by_sentence(study: Study[AlternatingConfig]) -> BranchResult:
    """Take turns of RL on the value of each sentence and SFT on corrections."""
    return _turns(study, "sentence", study.config.steps)


def by_response(study: Study[AlternatingConfig]) -> BranchResult:
    """Take the same turns with the sum of the rewards at the end of the response."""
    return _turns(study, "response", replace(study.config.steps, at="end"))


def by_random_values(study: Study[AlternatingConfig]) -> BranchResult:
    """Do RL on random values of sentences, without corrections."""
    options = replace(study.config.steps, values="random")
    return _turns(study, "random values", options, corrects=False)


def _turns(
    study: Study[AlternatingConfig], by: str, options: StepOptions, *, corrects: bool = True
) -> BranchResult:
    """Take turns of RL and corrections from M1 on."""
    model, result = study.start.m1, BranchResult()
    for turn in range(1, study.config.iterations + 1):
        step = study.scope(f"turn-{turn}")
        model = _reinforced(step, model, _named(by, turn), options)
        result += answer_held_out(step, model)
        if corrects:
            model = _imitate_corrections(step, model)
            result += answer_held_out(step, model)
    return result


def _reinforced(
    study: Study[AlternatingConfig], parent: Checkpoint, name: str, options: StepOptions
) -> Checkpoint:
    """Train a model by policy gradient on rewards by sentence."""
    context, config, m1 = study.context, study.config, study.start.m1
    chosen = ",".join(f"{key}={value}" for key, value in asdict(options).items())
    reward = context.judge(f"steps,{chosen}:{config.sentences}", m1)
    how = f"{config.gradient.name.upper()} on {name.removeprefix('RL by ')} rewards"
    return watched_rollout(
        context,
        parent,
        study.start.prompts,
        reward,
        config.rollout_spec(config.gradient.build(), config.rollout),
        name=name,
        made=f"{parent.name} after {how} of {config.sentences}",
        truth=context.judge(config.measure.truth, m1) if config.measure.truth else None,
    ).checkpoint


def _imitate_corrections(study: Study[AlternatingConfig], parent: Checkpoint) -> Checkpoint:
    """Train a model on the teacher's corrections of its own answers.

    Raises:
        RunFailed: the teacher corrected none.
    """
    context, config = study.context, study.config
    one = study.using(sample=replace(config.sample, n=1))
    answered = answers_of(one, parent, study.start.prompts[: config.corrections])
    cleaned = drop_repeated(context, answered.responses)
    asked = {p.id: p for p in answered.prompts}
    teacher = Refiner(
        context.completer(config.teacher),
        judge_prompt(config.correct_prompt),
        sampling=Sampling(0.0, 1.0, config.correct_tokens),
    )
    given = [Criticised(asked[r.prompt_id], r, "") for r in cleaned]
    shown = [
        Demonstration(asked[r.prompt_id], r, "refine")
        for r in refine(context, teacher, given, name="correct")
    ]
    if not shown:
        raise RunFailed(f"{config.teacher} corrected none of {len(given)} answers of {parent.name}")
    made = f"{parent.name} after SFT on {len(shown)} corrections of its answers by {config.teacher}"
    return sft(study, parent, shown, _corrected(parent.name), made)


def corrections_alone(study: Study[AlternatingConfig]) -> BranchResult:
    """Imitate corrections of M1's answers, without RL."""
    model, result = study.start.m1, BranchResult()
    for turn in range(1, study.config.iterations + 1):
        step = study.scope(f"turn-{turn}")
        parent = model if turn == 1 else replace(model, name=f"M1 turn {turn}")
        model = _imitate_corrections(step, parent)
        result += answer_held_out(step, model)
    return result


def more_imitation(study: Study[AlternatingConfig]) -> BranchResult:
    """Imitate the demonstrations further, for as many trained responses as ARES takes."""
    config, shown = study.config, study.start.corpus.demonstrations
    trained = config.trained_responses(len(study.start.prompts))
    epochs = max(1, math.ceil(trained / len(shown)))
    longer = study.using(sft=replace(config.sft, epochs=epochs))
    made = f"M1 after {epochs} more epochs of SFT on {len(shown)} demonstrations"
    return answer_held_out(study, sft(longer, study.start.m1, shown, "more SFT", made))


def imitate_references(study: Study[AlternatingConfig]) -> BranchResult:
    """Imitate the references of the prompts; without references the branch is left out."""
    prompts: Sequence[Prompt] = study.start.prompts[: study.config.corrections]
    keys = [(p, key_of(p.reference)) for p in prompts if p.reference]
    shown = [
        Demonstration(p, Response(f"{p.id}/key", p.id, key, SampledBy("reference")))
        for p, key in keys
        if key
    ]
    if not shown:
        return BranchResult()
    made = f"M1 after SFT on {len(shown)} references"
    return answer_held_out(study, sft(study, study.start.m1, shown, "SFT on references", made))


BRANCHES: Mapping[str, Callable[[Study[AlternatingConfig]], BranchResult]] = {
    "sentences": by_sentence,
    "response": by_response,
    "random": by_random_values,
    "corrections": corrections_alone,
    "sft": more_imitation,
    "references": imitate_references,
}
"""Name -> training and answers of its models."""


register("recipe", "alternating")(
    Recipe(
        name="alternating",
        config=AlternatingConfig,
        question="Does a reward for each sentence teach more than the same rewards summed at the "
        "end of the response, and do corrections mend what RL broke?",
        study=study,
        controls={
            "by random values": NEGATIVE,
            "more SFT": EQUAL_COMPUTE,
            "SFT on references": POSITIVE,
        },
        idle=("eft", "propose", "objective", "preference"),
        options={"By sentence": ("RL by sentence",), "By response": ("RL by response",)},
    )
)
