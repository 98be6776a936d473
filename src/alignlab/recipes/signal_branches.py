"""Define the branches of `teacher_signals`: one kind of feedback of one teacher each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.feedback.at_least import AtLeast
from alignlab.feedback.model_judge import critique_judge
from alignlab.feedback.pairwise import PairwiseJudge
from alignlab.feedback.prompts import JudgePrompt, judge_prompt
from alignlab.feedback.rules import RandomJudge
from alignlab.measuring.measure import BranchResult
from alignlab.objectives.distill import Distill
from alignlab.objectives.joint_feedback import JointFeedback
from alignlab.objectives.sft import SFT
from alignlab.recipes.signals import Signal, SignalInputs, TeacherSignalsConfig
from alignlab.recipes.study import Study
from alignlab.stages.best_of import best_of
from alignlab.stages.compare import compare, pairs_of_verdicts
from alignlab.stages.demonstrate import warn_of_cut_off
from alignlab.stages.judge import judge, scores
from alignlab.stages.judges import model_judge
from alignlab.stages.pair import pair
from alignlab.stages.sample import sample
from alignlab.stages.teach import with_critiques
from alignlab.stages.teacher_budget import TeacherTexts, token_counter
from alignlab.stages.train import train
from alignlab.types import (
    CritiquedResponse,
    Demonstration,
    Feedback,
    Prompt,
    Response,
    Sampling,
    UnpairedPreference,
)

Pair = tuple[Prompt, Response, Response]


def run_signal(study: Study[TeacherSignalsConfig], given: SignalInputs, name: str) -> BranchResult:
    """Buy one kind of feedback, train M1 on it, and answer the held-out prompts."""
    return BRANCHES[name](Signal(study, given, name))


def from_scores(branch: Signal) -> BranchResult:
    """Prefer the best answer to the worst by the teacher's scores."""
    config, context = branch.study.config, branch.study.context

    def ask(here: RunContext, prompts: Sequence[Prompt]) -> list[Feedback]:
        critic = model_judge(branch.teacher(here), config.critic)
        return judge(here, critic, prompts, branch.answers(prompts))

    bought = branch.buy(ask, _judged(branch, judge_prompt(config.critic.prompt)))
    some = branch.answers(bought.prompts)
    groups = pair(context, bought.prompts, some, bought.records, config.pairs)
    learned = branch.prefer(groups, f"by scores of {config.teacher}")
    return branch.measured(learned, len(bought.prompts), bought.tokens)


def from_rankings(branch: Signal) -> BranchResult:
    """Prefer the better of two answers by the teacher's comparison in both orders."""
    config, shown = branch.study.config, judge_prompt(branch.study.config.ranking_prompt)
    sampling = Sampling(0, 1, config.critique_tokens)

    def items(prompts: Sequence[Prompt]) -> list[Pair]:
        both: dict[str, list[Response]] = {}
        for r in branch.answers(prompts):
            several = both.setdefault(r.prompt_id, [])
            if len(several) < 2 and all(r.text != other.text for other in several):
                several.append(r)
        return [(p, *both[p.id]) for p in prompts if len(both.get(p.id, ())) == 2]  # type: ignore[misc]

    def ask(here: RunContext, prompts: Sequence[Prompt]) -> list[Feedback]:
        pairwise = PairwiseJudge(branch.teacher(here), shown, sampling=sampling)
        return compare(here, pairwise, items(prompts))

    def spent(prompts: Sequence[Prompt], found: Sequence[Feedback]) -> TeacherTexts:
        asked = [
            shown.render_pair(p, x, y) for p, a, b in items(prompts) for x, y in ((a, b), (b, a))
        ]
        read = tuple(m.content for messages in asked for m in messages)
        return TeacherTexts(read, tuple(text for f in found for text in f.raw))

    bought = branch.buy(ask, spent)
    groups = pairs_of_verdicts(branch.study.context, items(bought.prompts), bought.records)
    learned = branch.prefer(groups, f"by comparisons of {config.teacher}")
    return branch.measured(learned, len(bought.prompts), bought.tokens)


def from_labels(branch: Signal) -> BranchResult:
    """Learn from single answers that the teacher labels good or bad."""
    config, once = branch.study.config, replace(branch.study.config.critic, samples=1)

    def ask(here: RunContext, prompts: Sequence[Prompt]) -> list[Feedback]:
        critic = AtLeast(model_judge(branch.teacher(here), once), config.good)
        return judge(here, critic, prompts, branch.firsts(prompts), name="label")

    bought = branch.buy(ask, _judged(branch, judge_prompt(once.prompt)))
    known, asked = scores(bought.records), {p.id: p for p in bought.prompts}
    labelled = [
        UnpairedPreference(asked[r.prompt_id], r, known[r.id] > 0)
        for r in branch.firsts(bought.prompts)
        if r.id in known
    ]
    objective = config.label_objective
    good = sum(record.desirable for record in labelled)
    how = f"{objective.name.upper()} on {len(labelled)} labels of {config.teacher}, {good} good"
    learned = branch.learn(objective.build(), labelled, config.preference, how)
    return branch.measured(learned, len(bought.prompts), bought.tokens)


def from_critiques(branch: Signal) -> BranchResult:
    """Learn to predict the teacher's critiques along with the answers (joint modelling)."""
    config, shown = branch.study.config, judge_prompt(branch.study.config.critique_prompt)
    sampling = Sampling(0, 1, config.critique_tokens)

    def ask(here: RunContext, prompts: Sequence[Prompt]) -> list[Feedback]:
        critic = critique_judge(branch.teacher(here), shown, sampling=sampling)
        return judge(here, critic, prompts, branch.firsts(prompts), name="critique")

    bought = branch.buy(ask, _judged(branch, shown))
    items = with_critiques(bought.prompts, branch.firsts(bought.prompts), bought.records)
    records = [CritiquedResponse(c.prompt, c.response, c.critique) for c in items]
    how = f"joint modelling of {len(records)} answers and their critiques by {config.teacher}"
    learned = branch.learn(JointFeedback(), records, config.by_likelihood(), how)
    return branch.measured(learned, len(bought.prompts), bought.tokens)


def from_demonstrations(branch: Signal) -> BranchResult:
    """Imitate the teacher's answers."""
    config = branch.study.config
    once = replace(config.sample, n=1)

    def ask(here: RunContext, prompts: Sequence[Prompt]) -> list[Response]:
        return sample(here, branch.teacher(here), prompts, once, name="demonstrate")

    def spent(prompts: Sequence[Prompt], found: Sequence[Response]) -> TeacherTexts:
        return TeacherTexts(tuple(map(_text, prompts)), tuple(r.text for r in found))

    bought = branch.buy(ask, spent)
    asked = {p.id: p for p in bought.prompts}
    warn_of_cut_off(branch.study.context, bought.records, config.teacher)
    shown = [Demonstration(asked[r.prompt_id], r) for r in bought.records]
    how = f"SFT on {len(shown)} answers of {config.teacher}"
    learned = branch.learn(SFT(), shown, config.by_likelihood(), how)
    return branch.measured(learned, len(bought.prompts), bought.tokens)


def from_logits(branch: Signal) -> BranchResult:
    """Distil the teacher's logits on the student's own answers, round after round."""
    study, config, teacher = branch.study, branch.study.config, branch.given.logits
    assert teacher is not None
    count = token_counter(study.context, study.start.m1)
    free = config.budget.count == "written"  # the teacher writes nothing

    def cost(prompt: Prompt, response: Response) -> int:
        return 0 if free else count(_text(prompt)) + count(response.text)

    firsts = {r.prompt_id: r for r in branch.firsts(branch.given.answered.prompts)}
    prompts: list[Prompt] = []
    room = config.budget.tokens
    for prompt in branch.given.answered.prompts:
        if prompt.id in firsts:
            room -= cost(prompt, firsts[prompt.id])
            if room < 0:
                break
            prompts.append(prompt)
    if not prompts:
        raise BadInput(
            f"setting budget.tokens: expected enough for the logits on one answer, found "
            f"{config.budget.tokens}"
        )
    model, rounds = study.start.m1, min(config.rounds, len(prompts))
    spec = config.train_spec(Distill(teacher.path, config.beta), config.by_likelihood())
    tokens = 0
    for number in range(rounds):
        share, step = prompts[number::rounds], study.scope(f"round-{number + 1}")
        drawn = branch.firsts(share)
        if number:
            once, engine = replace(config.sample, n=1), step.context.engine(model)
            drawn = sample(step.context, engine, share, once)
        asked = {p.id: p for p in share}
        shown = [Demonstration(asked[r.prompt_id], r) for r in drawn]
        tokens += sum(cost(d.prompt, d.response) for d in shown)
        last = number == rounds - 1
        name = branch.model if last else f"{branch.model}, round {number + 1}"
        made = f"M1 after distillation of {teacher.name}'s logits on {len(prompts)} own answers"
        model = train(step.context, model, shown, spec, name=name, made=made)
    return branch.measured(model, len(prompts), tokens)


def from_random_scores(branch: Signal) -> BranchResult:
    """Prefer answers by random scores, the control."""
    given, config, context = branch.given.answered, branch.study.config, branch.study.context
    feedback = judge(context, RandomJudge(), given.prompts, given.responses)
    groups = pair(context, given.prompts, given.responses, feedback, config.pairs)
    return branch.measured(branch.prefer(groups, "by random scores"), 0, 0)


def from_own_answers(branch: Signal) -> BranchResult:
    """Imitate M1's own first answers, the control without a teacher."""
    asked = {p.id: p for p in branch.given.answered.prompts}
    firsts = branch.firsts(branch.given.answered.prompts)
    shown = [Demonstration(asked[r.prompt_id], r) for r in firsts]
    loop, how = branch.study.config.by_likelihood(), f"SFT on {len(shown)} of its own answers"
    return branch.measured(branch.learn(SFT(), shown, loop, how), 0, 0)


def from_truth(branch: Signal) -> BranchResult:
    """Imitate the best of M1's answers by the truth, the positive control."""
    given, config, context = branch.given.answered, branch.study.config, branch.study.context
    truth = context.judge(config.measure.truth, branch.study.start.m1)
    feedback = judge(context, truth, given.prompts, given.responses)
    best = best_of(context, given.prompts, given.responses, feedback, least=config.least)
    how = f"SFT on the best of {config.sample.n} answers to {len(best)} prompts by the truth"
    return branch.measured(branch.learn(SFT(), best, config.by_likelihood(), how), 0, 0)


def _judged(
    branch: Signal, shown: JudgePrompt
) -> Callable[[Sequence[Prompt], Sequence[Feedback]], TeacherTexts]:
    """Return a function: prompts and feedback on answers -> the texts that the teacher took."""

    def spent(prompts: Sequence[Prompt], found: Sequence[Feedback]) -> TeacherTexts:
        asked = {p.id: p for p in prompts}
        by_id = {r.id: r for r in branch.answers(prompts)}
        rated = [by_id[f.response_ids[0]] for f in found]
        asks = [shown.render(asked[r.prompt_id], r) for r in rated]
        read = tuple(m.content for messages in asks for m in messages)
        return TeacherTexts(read, tuple(text for f in found for text in f.raw))

    return spent


def _text(prompt: Prompt) -> str:
    return "\n".join(message.content for message in prompt.messages)


BRANCHES: Mapping[str, Callable[[Signal], BranchResult]] = {
    "logits": from_logits,
    "demonstrations": from_demonstrations,
    "critiques": from_critiques,
    "labels": from_labels,
    "rankings": from_rankings,
    "scores": from_scores,
    "random": from_random_scores,
    "own": from_own_answers,
    "truth": from_truth,
}
"""Name -> branch."""
