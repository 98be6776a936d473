"""Train on questions that an instructor writes from a model's errors (arXiv 2407.00497).

M1 answers the training questions, a checker finds the wrong answers, and an instructor writes new
questions with worked answers: from each error ("error", LE), from its contrast with similar
questions answered well ("contrast", LEC). M2 is M1 after SFT on them, and so on in rounds.
Controls at as many new items: questions written from the errors' questions alone ("mimic"), from
any training questions ("random"), SFT on the training questions' own references ("key"), and the
same with every answer moved to another question ("exchanged"), which must not help.
Departures: the instructor is shown the reference of an error; worked answers are checked, and
wrong ones dropped; similarity is of words, not of BERT's vectors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import reduce

from alignlab import seeds
from alignlab.answers.libraries import key_of
from alignlab.configs import PositiveInt
from alignlab.context import RunContext
from alignlab.errors import RunFailed, refuse_unknown
from alignlab.feedback.teachers import Criticised
from alignlab.measuring.measure import BranchResult, PerPromptMetric, StudyMeasurements
from alignlab.parallel import Branch
from alignlab.recipes.branches import run_all
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE
from alignlab.recipes.outcome_pairs import (
    CheckedConfig,
    Outcomes,
    accuracies,
    checked_start,
    ones_and_zeros,
    outcomes_of,
    with_questions,
)
from alignlab.recipes.study import (
    Recipe,
    Study,
    answer_held_out,
    finish,
    first_answers,
    sft,
)
from alignlab.registry import register
from alignlab.stages.instructors import (
    How,
    InstructSettings,
    Material,
    checked_answers,
    exchanged_answers,
    new_questions,
    worked_answers,
)
from alignlab.stages.judge import scores
from alignlab.stages.key_answers import key_answers
from alignlab.types import Demonstration, Prompt, Response

BENCHMARK = "instructor"
BRANCHES: Mapping[str, str] = {
    "error": "from errors",
    "contrast": "by contrast",
    "mimic": "from the questions of errors",
    "random": "from any questions",
    "key": "SFT on the key",
    "exchanged": "SFT on exchanged answers",
}
"""Branch -> end of its models' names."""
HOW: Mapping[str, How] = {
    "error": "error", "contrast": "contrast", "mimic": "mimic", "random": "mimic",
}  # fmt: skip
"""Branch -> what the instructor is shown."""


@dataclass(frozen=True)
class InstructorsConfig(CheckedConfig):
    """Settings of training on an instructor's questions."""

    instructor: str = "sandbox:strong"
    """Model that writes questions and answers: openai:MODEL@URL, local:FOLDER, sandbox:strong."""
    new: PositiveInt = 300
    """Maximum number of new questions with answers in a round of each branch (arXiv 2407.00497:
    3,000 per data set)."""
    check: str = "agreement"
    """Check of worked answers: "agreement" with further answers of the instructor, by `outcome`;
    "none"; or a feedback source that knows right answers to new questions (at least 1 is right)."""
    instruct: InstructSettings = field(default_factory=InstructSettings)
    iterations: PositiveInt = 1
    """Number of rounds; each takes the errors of the newest model."""
    branches: tuple[str, ...] = tuple(BRANCHES)
    """Branches to run: error, contrast, mimic, random, key, exchanged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unknown("branch", self.branches, BRANCHES)

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return the instructor by its setting."""
        return {"instructor": self.instructor}


Instructed = Study[InstructorsConfig]


def study(context: RunContext, config: InstructorsConfig) -> StudyMeasurements:
    """Train M1's branches on an instructor's questions, and measure them by the checker."""
    one = replace(config, sample=replace(config.sample, n=1))
    begun = with_questions(checked_start(context, one))
    m1 = begun.start.m1
    first = outcomes_of(begun, m1)
    tuned = config.start == "demonstrations"
    result = first_answers(begun) if tuned else answer_held_out(begun, m1)
    result += BranchResult(values=(first.accuracy(),))
    branches = [Branch(n, run_branch, (begun.scope(n), first, n)) for n in config.branches]
    result = reduce(BranchResult.__add__, run_all(begun, branches), result)
    measured = finish(begun, result, context.judge(config.measuring_judge, m1))
    own, *rivals = BRANCHES.values()
    return replace(
        measured,
        values=(*measured.values, *accuracies(measured, [(own, rival) for rival in rivals])),
    )


def run_branch(study: Instructed, first: Outcomes, name: str) -> BranchResult:
    """Run the rounds of a branch; each model answers the training questions after its training."""
    model, given, result = study.start.m1, first, BranchResult()
    for iteration in range(1, study.config.iterations + 1):
        step = study.scope(f"iteration-{iteration}")
        title = f"M{iteration + 1} {BRANCHES[name]}"
        shown, values = _lessons(step, given, name, title)
        if not shown:
            raise RunFailed(
                f"branch {name}: no new question with an answer is left (see counts.jsonl of its "
                f"stages); the others run without it: branches=[...]"
            )
        made = f"{model.name} after SFT on {len(shown)} items: {BRANCHES[name]}"
        model = sft(step, model, shown, title, made)
        result += answer_held_out(step, model) + BranchResult(values=values)
        given = outcomes_of(step.scope("after"), model)
        result += BranchResult(values=(given.accuracy(),))
    return result


def _lessons(
    study: Instructed, given: Outcomes, name: str, title: str
) -> tuple[list[Demonstration], tuple[PerPromptMetric, ...]]:
    """Return a round's items of a branch, with the share of right ones among those written."""
    if name in ("key", "exchanged"):
        key = _key(study, given)
        return key if name == "key" else exchanged_answers(key), ()
    context, config = study.context, study.config
    completer = context.completer(config.instructor)
    corpus = study.start.corpus
    material = Material(
        _shown(study, given, name),
        _by_outcome(study, given, right=True),
        [*given.answered.prompts, *(d.prompt for d in corpus.demonstrations)],
        corpus.test_prompts,
        corpus.reserved,
    )
    if name == "contrast" and not material.successes:
        raise RunFailed("branch contrast: expected a training question answered right, found none; "
                        "the others run without it: branches=[...]")  # fmt: skip
    questions = new_questions(context, completer, material, config.instruct, how=HOW[name])
    agreement = config.check == "agreement"
    answers = worked_answers(
        context, completer, questions, config.instruct,
        further=config.instruct.agreement if agreement else 0,
    )  # fmt: skip
    source = None
    if config.check != "none":
        spec = config.measuring_judge if agreement else ones_and_zeros(config.check)
        source = context.judge(spec, study.start.m1)
    kept = checked_answers(context, questions, answers, source, agreement=agreement)
    right = {d.prompt.id for d in kept}
    share = tuple(float(q.id in right) for q in questions)
    ids = tuple(q.cluster for q in questions)
    return kept[: config.new], (PerPromptMetric(title, BENCHMARK, "kept_answers", ids, share),)


def _shown(study: Instructed, given: Outcomes, name: str) -> list[Criticised]:
    """Return the errors to write from, each as often as new items are needed (paper: one spare).

    Raises:
        RunFailed: every training question is answered right.
    """
    wrong = _by_outcome(study, given, right=False)
    if not wrong:
        raise RunFailed("no training question is answered wrong: take harder or more questions")
    if name == "random":
        every = [
            (p, r) for right in (True, False) for p, r in _by_outcome(study, given, right=right)
        ]
        seed = study.context.seed_for("random questions")
        wrong = sorted(every, key=lambda one: seeds.derive(seed, one[0].id))[: len(wrong)]
    times = math.ceil(study.config.new / len(wrong)) + 1
    return [
        Criticised(
            prompt,
            replace(response, id=f"{response.id}/{number}"),
            f"The answer is wrong. Right: {key_of(prompt.reference or '')}",
        )
        for number in range(times)
        for prompt, response in wrong
    ]


def _by_outcome(
    study: Instructed, given: Outcomes, *, right: bool
) -> list[tuple[Prompt, Response]]:
    """Return the training questions answered right, or wrong; a dry run returns all of them."""
    known = scores(given.feedback)
    answered = {r.prompt_id: r for r in given.answered.responses}
    return [
        (prompt, answered[prompt.id])
        for prompt in given.answered.prompts
        if prompt.id in answered
        and (
            study.context.recorder is not None or known.get(answered[prompt.id].id) == float(right)
        )
    ]


def _key(study: Instructed, given: Outcomes) -> list[Demonstration]:
    """Return as many training questions with their references, drawn anew in every round.

    Raises:
        BadInput: no reference is an answer in words (instructions to follow).
    """
    seed = study.context.seed_for("key", *study.context.run.scope_names)
    prompts = sorted(given.answered.prompts, key=lambda p: seeds.derive(seed, p.id))
    return key_answers(prompts)[: study.config.new]


register("recipe", "instructors")(
    Recipe(
        name="instructors",
        config=InstructorsConfig,
        question="Does a model learn more from questions that an instructor writes from its errors "
        "than from as many others?",
        study=study,
        controls={
            "exchanged answers": NEGATIVE,
            "from any questions": EQUAL_COMPUTE,
            "SFT on the key": POSITIVE,
        },
        idle=("eft", "propose", "objective", "preference"),
        options={
            "Questions from errors": (BRANCHES["error"],),
            "Questions without errors": (BRANCHES["mimic"], BRANCHES["random"]),
        },
    )
)
