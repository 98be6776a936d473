"""Define the branches of `teacher_signals`: one kind of feedback of one teacher each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from alignlab.configs import Fraction, NonNegative, NonNegativeInt, PositiveInt
from alignlab.context import RunContext
from alignlab.errors import BadInput, unknown_name
from alignlab.feedback.at_least import AtLeast
from alignlab.feedback.model_judge import critique_judge
from alignlab.feedback.pairwise import PairwiseJudge
from alignlab.feedback.prompts import JudgePrompt, judge_prompt
from alignlab.feedback.rules import RandomJudge
from alignlab.measuring.measure import BranchResult, PerPromptMetric
from alignlab.objectives.distill import Distill
from alignlab.objectives.joint_feedback import JointFeedback
from alignlab.objectives.sft import SFT
from alignlab.protocols import Completer
from alignlab.recipes.study import (
    Answered,
    ObjectiveSettings,
    Study,
    StudyConfig,
    answer_held_out,
    preference_train,
)
from alignlab.stages.best_of import best_of
from alignlab.stages.compare import compare, pairs_of_verdicts
from alignlab.stages.eft import EFTSettings
from alignlab.stages.judge import judge, scores
from alignlab.stages.judges import sampled_judge
from alignlab.stages.pair import PairSettings, pair
from alignlab.stages.sample import sample
from alignlab.stages.teach import with_critiques
from alignlab.stages.teacher_budget import (
    Bought,
    BudgetSettings,
    Spent,
    token_counter,
    within_budget,
)
from alignlab.stages.train import train
from alignlab.training.config import TrainConfig
from alignlab.training.record_kinds import Record
from alignlab.types import (
    Checkpoint,
    CritiquedResponse,
    Demonstration,
    Feedback,
    PreferenceGroup,
    Prompt,
    Response,
    Sampling,
    UnpairedPreference,
)

T = TypeVar("T")
LOCAL = "local:"
Pair = tuple[Prompt, Response, Response]


@dataclass(frozen=True)
class TeacherSignalsConfig(StudyConfig):
    """Settings of the comparison of a teacher's kinds of feedback."""

    teacher: str = "sandbox:strong"
    """Teacher that scores, compares, labels, criticises and answers: openai:MODEL@URL, ..."""
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    logits_teacher: str = ""
    """Folder or hub id of a model with the student's tokenizer that gives the logits; empty is the
    teacher itself if it is local:FOLDER, else its stand-in."""
    stand_in: NonNegativeInt = 0
    """Number of prompts whose answers by the teacher train its stand-in from M0, which gives the
    logits of a teacher that has none; 0 leaves the branch of logits out."""
    good: float = 4.0
    """Lowest score, on the scale of `critic.prompt`, of a response labelled good."""
    ranking_prompt: str = "pairwise"
    """Prompt of comparisons, by its file's name in feedback/prompts or by path."""
    critique_prompt: str = "critique"
    """Prompt of critiques, by its file's name in feedback/prompts or by path."""
    critique_tokens: PositiveInt = 256
    """Maximum number of tokens of a critique or a comparison."""
    label_objective: ObjectiveSettings = field(default_factory=lambda: ObjectiveSettings("kto"))
    """Objective of labels."""
    beta: Fraction = 0.5
    """Share of the teacher in the divergence of logits: 0 forward KL, 1 reverse KL."""
    rounds: PositiveInt = 3
    """Rounds of on-policy distillation; each answers its share of the prompts with the newest
    model."""
    imitation_lr: NonNegative = 0.0
    """Learning rate of branches trained by likelihood or logits; 0 is `sft.lr`."""
    branches: tuple[str, ...] = ()
    """Branches to run, by name; empty runs all."""
    iterations: int = 1
    """Number of rounds: one."""
    eft: EFTSettings = field(default_factory=lambda: EFTSettings(targets="human"))
    """Without effect: M1 is not trained on judgements here."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations != 1 or self.select.prompts or self.pairs != PairSettings():
            raise BadInput(
                "settings iterations, select.prompts and pairs: have no effect in "
                "teacher_signals; leave them out"
            )
        for name in self.branches:
            if name not in BRANCHES:
                raise unknown_name("branch", name, BRANCHES)
        if "logits" in self.branches and not (self.logits_of or self.stand_in):
            raise BadInput(
                f"branch logits: expected a teacher with logits, found {self.teacher}; name one "
                "with the student's tokenizer (logits_teacher=), or train a stand-in (stand_in=)"
            )
        if "truth" in self.branches and not self.measure.truth:
            raise BadInput("branch truth: expected a source of the truth: measure.truth=")
        self.label_objective.build()
        judge_prompt(self.ranking_prompt)
        judge_prompt(self.critique_prompt)

    @property
    def logits_of(self) -> str:
        """Return the model that gives the logits; empty if only a stand-in could."""
        is_local = self.teacher.startswith(LOCAL)
        return self.logits_teacher or (self.teacher.removeprefix(LOCAL) if is_local else "")

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return the branches to run, without those that lack logits or a truth."""
        missing = set()
        if not (self.logits_of or self.stand_in):
            missing.add("logits")
        if not self.measure.truth:
            missing.add("truth")
        return tuple(n for n in BRANCHES if n in (self.branches or set(BRANCHES) - missing))

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return the teacher by its setting."""
        return {"teacher": self.teacher}

    def by_likelihood(self, **changed: Any) -> TrainConfig:
        """Return the training loop of likelihoods and logits."""
        lr = self.imitation_lr or self.sft.lr
        return replace(self.sft, lr=lr, batch_size=self.preference.batch_size, **changed)


@dataclass(frozen=True)
class SignalInputs:
    """Answers of M1, shared by all branches, and the model that gives the logits."""

    answered: Answered
    logits: Checkpoint | None = None


class Signal(NamedTuple):
    """One branch under way: the study, the shared answers, and the branch's name."""

    study: Study[TeacherSignalsConfig]
    given: SignalInputs
    name: str

    @property
    def model(self) -> str:
        """Return the name of the branch's model."""
        return MODELS[self.name]

    def teacher(self, context: RunContext) -> Completer:
        """Return the teacher."""
        return context.completer(self.study.config.teacher)

    def answers(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Return all answers of M1 to some prompts."""
        asked = {p.id for p in prompts}
        return [r for r in self.given.answered.responses if r.prompt_id in asked]

    def firsts(self, prompts: Sequence[Prompt]) -> list[Response]:
        """Return M1's first answer to each prompt."""
        first = {r.prompt_id: r for r in reversed(self.given.answered.responses)}
        return [first[p.id] for p in prompts if p.id in first]

    def buy(
        self,
        ask: Callable[[RunContext, Sequence[Prompt]], list[T]],
        spent: Callable[[Sequence[Prompt], Sequence[T]], Spent],
    ) -> Bought[T]:
        """Ask the teacher until the budget is spent."""
        study = self.study
        count = token_counter(study.context, study.start.m1)
        prompts = self.given.answered.prompts
        return within_budget(study.context, prompts, ask, spent, count, study.config.budget)

    def prefer(self, groups: Sequence[PreferenceGroup], how: str) -> Checkpoint:
        """Train M1 on pairs by the study's objective."""
        method = self.study.config.preference_method
        made = f"M1 after {method} on {len(groups)} pairs {how}"
        return preference_train(self.study, self.study.start.m1, groups, self.model, made)

    def learn(
        self, objective: Any, records: Sequence[Record], loop: TrainConfig, how: str
    ) -> Checkpoint:
        """Train M1 on records by an objective."""
        spec, made = self.study.config.train_spec(objective, loop), f"M1 after {how}"
        context, m1 = self.study.context, self.study.start.m1
        return train(context, m1, records, spec, name=self.model, made=made)

    def measured(self, learned: Checkpoint, prompts: int, tokens: int) -> BranchResult:
        """Answer the held-out prompts, and note what was bought."""
        figures = {"teacher_tokens": tokens, "teacher_prompts": prompts}
        values = tuple(
            PerPromptMetric(self.model, "teacher", metric, ("budget",), (float(value),))
            for metric, value in figures.items()
        )
        return answer_held_out(self.study, learned) + BranchResult(values=values)


def run_signal(study: Study[TeacherSignalsConfig], given: SignalInputs, name: str) -> BranchResult:
    """Buy one kind of feedback, train M1 on it, and answer the held-out prompts."""
    return BRANCHES[name](Signal(study, given, name))


def from_scores(branch: Signal) -> BranchResult:
    """Prefer the best answer to the worst by the teacher's scores."""
    config, context = branch.study.config, branch.study.context

    def ask(here: RunContext, prompts: Sequence[Prompt]) -> list[Feedback]:
        critic = sampled_judge(branch.teacher(here), config.critic)
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

    def spent(prompts: Sequence[Prompt], found: Sequence[Feedback]) -> Spent:
        asked = [
            shown.render_pair(p, x, y) for p, a, b in items(prompts) for x, y in ((a, b), (b, a))
        ]
        read = tuple(m.content for messages in asked for m in messages)
        return Spent(read, tuple(text for f in found for text in f.raw))

    bought = branch.buy(ask, spent)
    groups = pairs_of_verdicts(branch.study.context, items(bought.prompts), bought.records)
    learned = branch.prefer(groups, f"by comparisons of {config.teacher}")
    return branch.measured(learned, len(bought.prompts), bought.tokens)


def from_labels(branch: Signal) -> BranchResult:
    """Learn from single answers that the teacher labels good or bad."""
    config, once = branch.study.config, replace(branch.study.config.critic, samples=1)

    def ask(here: RunContext, prompts: Sequence[Prompt]) -> list[Feedback]:
        critic = AtLeast(sampled_judge(branch.teacher(here), once), config.good)
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

    def spent(prompts: Sequence[Prompt], found: Sequence[Response]) -> Spent:
        return Spent(tuple(map(_text, prompts)), tuple(r.text for r in found))

    bought = branch.buy(ask, spent)
    asked = {p.id: p for p in bought.prompts}
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

    prompts: list[Prompt] = []
    room = config.budget.tokens
    for prompt in branch.given.answered.prompts:
        (first,) = branch.firsts([prompt]) or (None,)
        room -= cost(prompt, first) if first is not None else 0
        if room < 0:
            break
        prompts.append(prompt)
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
    best = best_of(context, given.prompts, given.responses, feedback)
    how = f"SFT on the best of {config.sample.n} answers to {len(best)} prompts by the truth"
    return branch.measured(branch.learn(SFT(), best, config.by_likelihood(), how), 0, 0)


def _judged(
    branch: Signal, shown: JudgePrompt
) -> Callable[[Sequence[Prompt], Sequence[Feedback]], Spent]:
    """Return a function: prompts and feedback on answers -> the texts that the teacher took."""

    def spent(prompts: Sequence[Prompt], found: Sequence[Feedback]) -> Spent:
        asked = {p.id: p for p in prompts}
        by_id = {r.id: r for r in branch.answers(prompts)}
        rated = [by_id[f.response_ids[0]] for f in found]
        asks = [shown.render(asked[r.prompt_id], r) for r in rated]
        read = tuple(m.content for messages in asks for m in messages)
        return Spent(read, tuple(text for f in found for text in f.raw))

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
MODELS = {
    **{name: f"teacher's {name}" for name in BRANCHES},
    "random": "random scores",
    "own": "own answers imitated",
    "truth": "best answers by the truth imitated",
}
"""Branch -> name of its model."""
