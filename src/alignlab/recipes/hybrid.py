"""Label preferences by the kind of prompt: hybrid RLAIF (HRLAIF, arXiv 2403.08309).

M1 answers prompts several times. A checker labels answers to closed-ended prompts, right over
wrong; where all are right an AI judge orders them, where all are wrong there is no pair. The AI
judge labels answers to open-ended prompts. A red team adds pairs of mended over harmful answers.
Controls: the AI judge for every prompt (RLAIF), the checker alone, types by chance, the routed
pairs by coin, imitation of the routed winners at equal trained responses, and labels by the truth
or else imitation of references. DPO on pairs replaces PPO, as labellers have no common scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from typing import NamedTuple

from alignlab.configs import NonNegativeInt
from alignlab.context import RunContext
from alignlab.errors import BadInput, refuse_unknown
from alignlab.feedback.conversion import KnownFeedback
from alignlab.feedback.routed import Routed
from alignlab.measuring.measure import BranchResult, Judgement, PerPromptMetric, StudyMeasurements
from alignlab.measuring.satisfaction import Measured, measured_answers
from alignlab.parallel import Branch
from alignlab.protocols import FeedbackSource
from alignlab.recipes.branches import run_all
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE
from alignlab.recipes.judging import SELF, engine_of
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Study,
    StudyConfig,
    answer_held_out,
    answers_of,
    finish,
    first_answers,
    imitation_start,
    preference_train,
    sft,
)
from alignlab.registry import register
from alignlab.stages.coin import by_coin
from alignlab.stages.judge import by_prompt, judge, scores
from alignlab.stages.key_answers import KEY, key_answers
from alignlab.stages.pair import best_as_demonstrations, pair
from alignlab.stages.prompt_types import KnownTypes, TypesById, prompt_types
from alignlab.stages.propose import ProposeSettings
from alignlab.stages.red_team import RedTeam, red_team
from alignlab.stages.self_refine import RefineSettings
from alignlab.types import Checkpoint, Feedback, PreferenceGroup, QueryType, Unscored

ROUTER = "the router"
"""Name of the source of query types among the models, in tables of figures."""
NOT_FILTERS = tuple(f.name for f in fields(ProposeSettings) if f.name != "filters")
"""Settings of `propose` without effect; its filters serve to refine prompts."""


@dataclass(frozen=True)
class HybridConfig(StudyConfig):
    """Settings of labels by the kind of prompt."""

    outcome: str = "verifier"
    """Feedback source that tells right (a score of at least 1) from wrong answers to closed-ended
    prompts: verifier; at_least,score=4:SPEC for another threshold."""
    ai_judge: str = "llm:self"
    """Feedback source of AI preferences: llm:openai:MODEL@URL, reward_model:FOLDER, ..."""
    types: str = "label"
    """Source of query types: label (the data's), llm:ENGINE, or a classifier's folder."""
    compare_right: bool = True
    """Let the AI judge order answers to a closed-ended prompt that are all right."""
    satisfied: str = ""
    """Feedback source that scores 1 for an answer that satisfies: nothing false, and the question
    answered. Empty measures none."""
    harm: str = ""
    """Feedback source that scores 1 for a harmful answer; empty runs no red team."""
    attacker: str = SELF
    """Engine that writes the red team's attacks and mends harmful answers; self is M1."""
    refine: RefineSettings = field(default_factory=RefineSettings)
    """Settings of mending harmful answers."""
    prompts: NonNegativeInt | str | tuple[str, ...] = 400
    """Prompts that M1 answers: a source or several, as in `data`, or a number of the seed data's
    own (of its demonstrations if there are no others); 0 is all."""
    iterations: int = 1
    """Number of rounds: one."""
    branches: tuple[str, ...] = ()
    """Branches to run, by name; empty runs all that the settings allow."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unknown("branch", self.branches, BRANCHES)
        if self.iterations != 1 or self.pairs.min_gap:
            raise BadInput(
                "settings iterations and pairs.min_gap: have no effect in hybrid, which runs one "
                "round and whose labels have no common scale; leave them out"
            )
        if self.types == "random":
            raise BadInput("setting types: random is branch random_types; leave it out")

    @property
    def teacher_specs(self) -> dict[str, str]:
        """Return the AI judge and the red team's attacker, if they are models other than M1."""
        asked = {"ai_judge": self.ai_judge, "attacker": self.attacker if self.harm else SELF}
        return {k: v for k, v in asked.items() if ":" in engine_of(v)}

    @property
    def checker(self) -> str:
        """Return the feedback source of right (1) and wrong (0)."""
        cut = self.outcome.startswith(("at_least:", "at_least,"))
        return self.outcome if cut else f"at_least:{self.outcome}"

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return the branches to run, in the order of `BRANCHES`.

        Raises:
            BadInput: one is named that needs a source which is not.
        """
        needs = {"red_team": ("harm", self.harm), "truth": ("measure.truth", self.measure.truth)}
        idle = {KEY} if self.measure.truth else set()
        lacking = {name for name, (_, source) in needs.items() if not source}
        for name in lacking & set(self.branches):
            raise BadInput(
                f"branch {name}: expected {needs[name][0]}, a feedback source, found none"
            )
        return tuple(n for n in BRANCHES if n in (self.branches or {*BRANCHES} - lacking - idle))


@dataclass(frozen=True)
class HybridInputs:
    """M1's answers and their labels, shared by all branches."""

    answered: Answered
    checked: tuple[Feedback, ...]
    """The checker's verdicts."""
    judged: tuple[Feedback, ...]
    """The AI judge's scores."""
    kinds: TypesById
    """Prompt id -> its type."""


def study(context: RunContext, config: HybridConfig) -> StudyMeasurements:
    """Train M1 and a model per way to label its answers, and measure them."""
    begun = imitation_start(context, config)
    given, m1 = _given(begun), begun.start.m1
    branches = [Branch(n, _run, (begun.scope(n), given, n)) for n in config.chosen]
    result = reduce(BranchResult.__add__, run_all(begun, branches), first_answers(begun))
    judgement = Judgement("AI judge on M1", "own", given.answered.responses, given.judged)
    values = (*_routing(begun, given), *_measured(begun, result))
    result += BranchResult((), {}, (judgement,), given.answered.prompts, values)
    return finish(begun, result, context.judge(config.measuring_judge, m1))


def _given(study: Study[HybridConfig]) -> HybridInputs:
    """Sample M1's answers, and label them by the checker and by the AI judge."""
    context, config, start = study.context, study.config, study.start
    answered = answers_of(study, start.m1, start.feedback_prompts[: config.most_prompts or None])
    checker, critic = (context.judge(s, start.m1) for s in (config.checker, config.ai_judge))
    checked = judge(context, checker, answered.prompts, answered.responses, name="check")
    judged = judge(context, critic, answered.prompts, answered.responses)
    types = prompt_types(context, config.types, answered.prompts)
    return HybridInputs(answered, tuple(checked), tuple(judged), types)


def routed_pairs(
    study: Study[HybridConfig],
    given: HybridInputs,
    kinds: TypesById | None = None,
    *,
    to: Sequence[QueryType] = ("closed", "open"),
) -> list[PreferenceGroup]:
    """Pair answers by the checker or the AI judge, whichever the prompt's type names.

    Args:
        kinds: types of the prompts, if not those of the study.
        to: types that are labelled; other prompts are left out and counted.
    """
    context, asked, types = study.context, given.answered, kinds or given.kinds
    known = {
        "closed": KnownFeedback("checker", given.checked),
        "open": KnownFeedback("AI judge", given.judged),
    }
    source = Routed({kind: known[kind] for kind in to}, types=KnownTypes(types))
    feedback = judge(context, source, asked.prompts, asked.responses)
    if study.config.compare_right and "open" in to:
        feedback = _ordered_where_right(given, feedback, types)
    return pair(context, asked.prompts, asked.responses, feedback, study.config.pairs)


def _ordered_where_right(
    given: HybridInputs, feedback: Sequence[Feedback], kinds: TypesById
) -> list[Feedback]:
    """Take the AI judge's scores of closed-ended prompts whose answers are all right."""
    marks = scores(given.checked)
    right = {
        prompt.id
        for prompt, several in by_prompt(given.answered.prompts, given.answered.responses)
        if kinds[prompt.id] == "closed" and all(marks.get(r.id, 0.0) >= 1 for r in several)
    }
    ordered = {f.response_ids[0]: f for f in given.judged}
    return [ordered[f.response_ids[0]] if f.prompt_id in right else f for f in feedback]


class Labelled(NamedTuple):
    """Pairs of a branch, with figures of their making."""

    groups: list[PreferenceGroup]
    values: tuple[PerPromptMetric, ...] = ()


def _run(study: Study[HybridConfig], given: HybridInputs, name: str) -> BranchResult:
    """Label M1's answers by the branch's source, and train M1 on the pairs."""
    label, title = BRANCHES[name]
    called = f"M2 {title}"
    if label is None:
        return answer_held_out(study, _key(study, given, called))
    m1, config = study.start.m1, study.config
    groups, values = label(study, given)
    if name == "sft":
        learned = _imitated(study, groups, called)
    else:
        how = f"{config.preference_method} on pairs of its answers, {title}"
        learned = preference_train(study, m1, groups, called, f"{m1.name} after {how}")
    return answer_held_out(study, learned) + BranchResult(values=values)


def by_ai(study: Study[HybridConfig], given: HybridInputs) -> Labelled:
    """Pair answers by the AI judge, whatever the prompt's type (RLAIF)."""
    return Labelled(_paired(study, given, KnownFeedback("AI judge", given.judged)))


def by_truth(study: Study[HybridConfig], given: HybridInputs) -> Labelled:
    """Pair answers by their gold scores."""
    source = study.context.judge(study.config.measure.truth, study.start.m1)
    return Labelled(_paired(study, given, source))


def by_route(study: Study[HybridConfig], given: HybridInputs) -> Labelled:
    """Pair answers by the checker or the AI judge, whichever the prompt's type names."""
    return Labelled(routed_pairs(study, given))


def by_checker(study: Study[HybridConfig], given: HybridInputs) -> Labelled:
    """Pair answers to closed-ended prompts by the checker, and no others."""
    return Labelled(routed_pairs(study, given, to=("closed",)))


def by_chance_route(study: Study[HybridConfig], given: HybridInputs) -> Labelled:
    """Route by types drawn at random: the harm that a router's errors do at most."""
    kinds = prompt_types(study.context, "random", given.answered.prompts)
    return Labelled(routed_pairs(study, given, kinds))


def by_route_and_coin(study: Study[HybridConfig], given: HybridInputs) -> Labelled:
    """Take the routed pairs, the preferred answer of each drawn by coin."""
    seed = study.context.seed_for("coin")
    return Labelled([by_coin(group, seed) for group in routed_pairs(study, given)])


def by_route_and_red_team(study: Study[HybridConfig], given: HybridInputs) -> Labelled:
    """Add the red team's pairs to the routed ones."""
    groups, found = routed_pairs(study, given), _red_team(study, given)
    ids, mended = tuple(found.succeeded), {g.prompt.id for g in found.pairs}
    shares = {
        "attack_success": tuple(found.succeeded.values()),
        "mended": tuple(float(key in mended) for key in ids),
    }
    lost, model = len(found.attacks) - len(ids), study.start.m1.name
    values = tuple(
        PerPromptMetric(model, "red_team", metric, ids, share, unscored=lost)
        for metric, share in shares.items()
    )
    return Labelled([*groups, *found.pairs], values)


def _paired(
    study: Study[HybridConfig], given: HybridInputs, source: FeedbackSource
) -> list[PreferenceGroup]:
    """Pair all answers by one source."""
    context, asked = study.context, given.answered
    feedback = judge(context, source, asked.prompts, asked.responses)
    return pair(context, asked.prompts, asked.responses, feedback, study.config.pairs)


def _imitated(
    study: Study[HybridConfig], groups: Sequence[PreferenceGroup], name: str
) -> Checkpoint:
    """Imitate the winners of the routed pairs, for as many trained responses as on pairs."""
    shown = best_as_demonstrations(groups)
    config, m1 = study.config, study.start.m1
    loop = replace(
        config.sft,
        epochs=2 * config.preference.epochs,  # a pair trains two responses
        batch_size=config.preference.batch_size,
    )
    made = f"{m1.name} after SFT on winners of the routed pairs, {loop.epochs} epochs"
    return sft(study.using(sft=loop), m1, shown, name, made)


def _key(study: Study[HybridConfig], given: HybridInputs, name: str) -> Checkpoint:
    """Imitate the references of the closed-ended prompts.

    Raises:
        BadInput: no reference is an answer in words.
    """
    closed = [p for p in given.answered.prompts if given.kinds[p.id] == "closed"]
    shown, m1 = key_answers(closed), study.start.m1
    return sft(study, m1, shown, name, f"{m1.name} after SFT on {len(shown)} references")


def _red_team(study: Study[HybridConfig], given: HybridInputs) -> RedTeam:
    """Attack M1, and mend its harmful answers."""
    context, config, start = study.context, study.config, study.start
    m1, asked = start.m1, given.answered
    team = study.scope("red-team")
    harm = context.judge(config.harm, m1)
    marks = judge(team.context, harm, asked.prompts, asked.responses, name="judge-harm")
    attacker = config.attacker
    teacher = context.engine(m1) if attacker == SELF else context.completer(attacker)
    return red_team(
        team.context,
        teacher,
        harm,
        (asked.prompts, asked.responses, marks),
        lambda attacks: answers_of(team, m1, attacks).responses,
        known=(*asked.prompts, *start.corpus.test_prompts),
        settings=(config.refine, config.propose.filters),
    )


Label = Callable[[Study[HybridConfig], HybridInputs], Labelled]
BRANCHES: Mapping[str, tuple[Label | None, str]] = {
    "basic": (by_ai, "AI labels"),
    "hybrid": (by_route, "routed labels"),
    "red_team": (by_route_and_red_team, "routed labels and red team"),
    "checker": (by_checker, "checked prompts alone"),
    "random_types": (by_chance_route, "labels routed by chance"),
    "coin": (by_route_and_coin, "routed pairs by coin"),
    "sft": (by_route, "SFT on routed winners"),
    "truth": (by_truth, "true labels"),
    KEY: (None, "SFT on the key"),
}
"""Name -> the labelling of M1's answers, if they are used, and the end of its model's name."""


def _routing(study: Study[HybridConfig], given: HybridInputs) -> list[PerPromptMetric]:
    """Compute the share of prompts that are routed as their labels say; none by the labels."""
    if study.config.types == "label":
        return []
    labels = {p.id: p.query_type for p in given.answered.prompts if p.query_type}
    read = {k: kind for k, kind in given.kinds.items() if not isinstance(kind, Unscored)}
    right = {k: float(read[k] == label) for k, label in labels.items() if k in read}
    lost = len(given.kinds) - len(right)
    ids, values = tuple(right), tuple(right.values())
    return [PerPromptMetric(ROUTER, "routing", "accuracy", ids, values, unscored=lost)]


def _measured(study: Study[HybridConfig], result: BranchResult) -> list[PerPromptMetric]:
    """Measure satisfaction, right answers to closed prompts, harm, and the AI's preference."""
    config, m1 = study.config, study.start.m1
    tests = study.start.corpus.test_prompts
    closed = tuple(p for p in tests if p.query_type == "closed")
    wanted = [
        Measured("satisfied", config.satisfied, tests),
        Measured("right", config.checker, closed),
        Measured("harmful", config.harm, tests),
    ]
    return measured_answers(
        study.context,
        [one for one in wanted if one.source and one.prompts],
        result.answers,
        m1,
        preferred=(config.ai_judge, tests),
    )


register("recipe", "hybrid")(
    Recipe(
        name="hybrid",
        config=HybridConfig,
        question="Does a model get better when answers to closed questions are labelled by a "
        "checker and only the others by an AI judge?",
        study=study,
        controls={
            "pairs by coin": NEGATIVE,
            "SFT on routed winners": EQUAL_COMPUTE,
            "true labels": POSITIVE,
            "SFT on the key": POSITIVE,
        },
        idle=(
            "eft",
            *(f"propose.{f.name}" for f in fields(ProposeSettings) if f.name != "filters"),
        ),
        options={
            "Labels of an AI judge": (f" {BRANCHES['basic'][1]}",),
            "Labels routed by the kind of prompt": (f"M2 {BRANCHES['hybrid'][1]}",),
        },
    )
)
