"""Self-refinement tuning (SRT, arXiv 2406.07168).

M1 answers prompts, a teacher criticises and rewrites the answers, and M1 learns both from that
trace: R1. R1 then answers new prompts, criticises and rewrites its own answers; the refined answer
preferred over the first, by DPO, makes R2, and so on. Departures: critique and refinement are two
turns of their own, not one, and without the paper's template of weaknesses, score and suggestions;
the instruction data is imitated along with the trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from alignlab.errors import BadInput
from alignlab.feedback.prompts import judge_prompt
from alignlab.recipes.rounds import Round
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Start,
    answers_of,
    finish,
    imitate,
    own_prompts,
    prefer,
    trace,
    tune,
)
from alignlab.recipes.taught import TaughtConfig
from alignlab.registry import register
from alignlab.stages.lab import Lab
from alignlab.stages.limits import at_least
from alignlab.stages.measure import BranchResult, Measured
from alignlab.stages.pair import demonstration_pairs
from alignlab.stages.self_refine import Refined, RefineSettings, gain, refine_by
from alignlab.types import Prompt

SELF = "self"


@dataclass(frozen=True)
class SelfRefineConfig(TaughtConfig):
    """Settings of self-refinement tuning."""

    traces: int = 500
    """Prompts whose answers the teacher criticises and refines, apart from those of the rounds."""
    refine: RefineSettings = field(default_factory=RefineSettings)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("", self, traces=1)
        if self.pairs.keep == "all" or self.pairs.min_gap:
            raise BadInput(
                "settings pairs.keep=all and pairs.min_gap: have no effect in self_refine: the "
                "refined answer is preferred to the first"
            )
        for name in (self.refine.critique_prompt, self.refine.refine_prompt):
            judge_prompt(name)


def study(lab: Lab, config: SelfRefineConfig) -> Measured:
    """M0 -> M1 -> R1 by the teacher's trace -> R2, ... by its own refinements."""
    start = tune(lab, config)
    shown, *rounds = _prompts(lab, config, start)
    result = trace(lab, config, start, start.m0) + trace(lab, config, start, start.m1)
    step, once = lab.scope("trace"), replace(config, sample=replace(config.sample, n=1))
    given = answers_of(step, once, start.m1, shown)
    taught, better = _refined(step, config, start, given, config.teacher)
    lessons = [*start.corpus.demonstrations, *taught.lessons]
    student = imitate(step, config, start.m1, lessons, "R1")
    result += better + trace(step, config, start, student)
    for iteration, prompts in enumerate(rounds, start=1):
        step = lab.scope(f"iteration-{iteration}")
        given = answers_of(step, once, student, prompts)
        own, better = _refined(step, config, start, given, SELF)
        pairs = demonstration_pairs(
            step, given.prompts, own.responses, given.responses, source="refinement"
        )
        student = prefer(step, config, start, student, pairs, f"R{iteration + 1}")
        result += better + trace(step, config, start, student)
    return finish(lab, config, start, result)


def _prompts(lab: Lab, config: SelfRefineConfig, start: Start) -> list[Sequence[Prompt]]:
    """The prompts that the teacher shows refinement on, then those of each round.

    Raises:
        BadInput: there are too few for every round to have one.
    """
    n, rounds = config.propose.n, config.iterations
    total = replace(config.propose, n=n and config.traces + n * rounds)
    found = own_prompts(lab, replace(config, propose=total), start, start.m1, ())
    size = (len(found) - config.traces) // rounds
    if size < 1:
        raise BadInput(
            f"setting traces: expected fewer than the {len(found)} prompts there are, so that "
            f"each of {rounds} rounds has some, found {config.traces}"
        )
    left = found[config.traces :]
    return [found[: config.traces], *(left[i * size : (i + 1) * size] for i in range(rounds))]


def _refined(
    lab: Lab, config: SelfRefineConfig, start: Start, given: Answered, by: str
) -> tuple[Refined, BranchResult]:
    """The answers refined by a teacher, or by the student itself, and how much that gained."""
    student = given.student
    completer = lab.engine(student) if by == SELF else lab.completer(by)
    made = refine_by(lab, completer, given.prompts, given.responses, config.refine)
    source = lab.judge(config.measure.truth or config.measure.judge, start.m1)
    name = student.name if by == SELF else f"{by} on {student.name}"
    found = gain(lab, source, given.prompts, given.responses, made.responses, model=name)
    return made, BranchResult(values=(found,))


def _models(config: SelfRefineConfig) -> dict[str, str]:
    named = {
        "M0": "the base model",
        "M1": "M0 tuned on human answers and judgements (IFT + EFT)",
        "R1": f"M1 after SFT on human answers and on critiques and refinements of {config.teacher}",
    }
    won = "SFT on" if config.pairs.keep == "winners" else f"{config.objective.name.upper()} for"
    for t in range(1, config.iterations + 1):
        named[f"R{t + 1}"] = f"R{t} after {won} its own refinements over its first answers"
    return named


def _rounds(config: SelfRefineConfig) -> tuple[Round, ...]:
    # Of every answer there is a critique and a refinement: two completions.
    n, rounds = config.propose.n, config.iterations
    return (
        Round(config.traces, writes=n > 0, samples=1),
        Round(2 * config.traces, teacher=config.teacher),
        Round(n, rounds if n else 1, writes=n > 0, samples=3),  # rounds share the data's prompts
    )


register("recipe", "self_refine")(
    Recipe(
        name="self_refine",
        config=SelfRefineConfig,
        question="Does a model get better by preferring its own refined answers to its first ones?",
        study=study,
        models=_models,
        rounds=_rounds,
    )
)
