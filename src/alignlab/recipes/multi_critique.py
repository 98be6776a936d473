"""Train a critic on the merged critiques of several (MultiCritique, arXiv 2410.15287).

Several models criticise M1's answers, fault by fault. A meta judge calls each fault invalid, minor
or major; the valid ones of all critics are merged into one critique, which M1 imitates: critic C1.
C1 then criticises further answers several times; of two critiques the one whose faults the meta
judge finds more severe is preferred, if revisions by it also score higher (MARV), and DPO yields
C2. Controls of C1, on the same answers: the best single critic, units kept by a coin as often as by
the meta judge, all units, units of most critics, the truth; and one critique for all answers.
Controls of C2: pairs by the meta judge alone, by coin, SFT on the better critiques at equal trained
responses, pairs by the truth. Critics are measured by the true faults of M1's held-out answers, and
by the answers as revised by them; trained critics are sampled as `sample` says, as those that write
the pairs are, since preferences change probabilities of which greedy decoding shows the mode alone.
Departures: DPO in the place of a reward model with PPO; pairs are of C1's own critiques; three
classes of units for seven; no written criteria or reference response for the critics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.feedback.critique_units import Unit
from alignlab.measuring.changes import changes
from alignlab.measuring.critique_truth import BENCHMARK, BY_RESPONSE
from alignlab.measuring.measure import BranchResult, StudyMeasurements
from alignlab.parallel import Branch
from alignlab.recipes.branches import run_all
from alignlab.recipes.contrasts import score_changes
from alignlab.recipes.controls import EQUAL_COMPUTE, NEGATIVE, POSITIVE
from alignlab.recipes.critique_branches import (
    PREFERRED,
    RULES,
    TAUGHT,
    Criticisms,
    CritiqueInputs,
    MultiCritiqueConfig,
    answered_once,
    critic_by,
    measured_units,
    meta_critic,
    model_of,
    prefer,
    teach,
)
from alignlab.recipes.critique_pairs import critique_pairs
from alignlab.recipes.study import (
    Answered,
    Recipe,
    Study,
    answer_held_out,
    finish,
    imitation_start,
)
from alignlab.registry import register
from alignlab.stages.critiques import Named, classify, commonest, criticise
from alignlab.types import Prompt

ALWAYS = "the commonest fault, always"
"""Name of the critic that reads nothing, the floor of every other."""


def study(context: RunContext, config: MultiCritiqueConfig) -> StudyMeasurements:
    """Train M1, critics by SFT on critiques, critics by pairs of critiques; measure them."""
    begun = imitation_start(context, config)
    m1 = begun.start.m1
    shown, rest = _prompts(begun)
    result = answer_held_out(begun, m1)
    tests = Answered(m1, begun.start.corpus.test_prompts, tuple(result.answers[m1.name]))
    given = CritiqueInputs(
        _criticisms(begun.scope("shown"), answered_once(begun, shown)),
        _criticisms(begun.scope("held-out"), tests),
    )
    result += _critics(begun.scope("held-out-critics"), given)
    names = config.chosen(TAUGHT)
    branches = [Branch(n, teach, (begun.scope(n), given, n)) for n in names]
    taught = dict(zip(names, run_all(begun, branches, used_later=True), strict=True))
    result = reduce(BranchResult.__add__, taught.values(), result)
    if names := config.chosen(PREFERRED):
        c1 = taught["merged"].checkpoints[-1]
        pairs = critique_pairs(begun.scope("pairs"), c1, rest)
        branches = [Branch(n, prefer, (begun.scope(n), given, c1, pairs, n)) for n in names]
        result = reduce(BranchResult.__add__, run_all(begun, branches), result)
    done = finish(begun, result, context.judge(config.measuring_judge, m1))
    claims = _claims(config)
    known = {
        v.model: dict(zip(v.prompt_ids, v.values, strict=True))
        for v in result.values
        if (v.benchmark, v.metric) == (BENCHMARK, BY_RESPONSE)
    }
    apart = changes(known, claims, BENCHMARK, "f1_change") + score_changes(done, claims)
    return replace(done, values=(*done.values, *apart))


def _prompts(study: Study[MultiCritiqueConfig]) -> tuple[Sequence[Prompt], Sequence[Prompt]]:
    """Return the prompts whose answers' critiques are imitated, and those of pairs.

    Raises:
        BadInput: none is left for pairs.
    """
    config, start = study.config, study.start
    known = start.feedback_prompts[: config.most_prompts or None]
    if config.chosen(PREFERRED) and len(known) <= config.criticised:
        raise BadInput(
            f"setting criticised: expected fewer than the {len(known)} prompts there are, so that "
            f"some are left for pairs of critiques, found {config.criticised}"
        )
    return known[: config.criticised], known[config.criticised :]


def _criticisms(study: Study[MultiCritiqueConfig], answered: Answered) -> Criticisms:
    """Let all critics criticise some answers, and the meta judge read their units."""
    context, config = study.context, study.config
    prompts, responses = answered.prompts, answered.responses

    def by(spec: str, name: str) -> Named:
        critic = critic_by(study, model_of(study, spec))
        return criticise(context, critic, prompts, responses, name=name)

    critics = tuple(by(spec, f"critic-{n}") for n, spec in enumerate(config.critics, start=1))
    judged = classify(context, meta_critic(study), prompts, responses, _together(critics))
    true = by(config.truth_critic, "truth") if config.truth_critic else {}
    return Criticisms(answered, critics, judged, true)


def _together(critiques: Sequence[Named]) -> Mapping[str, Sequence[Unit]]:
    """Return the units of all critiques by response id."""
    found: dict[str, list[Unit]] = {}
    for named in critiques:
        for key, units in named.items():
            found.setdefault(key, []).extend(units)
    return found


def _critics(study: Study[MultiCritiqueConfig], given: CritiqueInputs) -> BranchResult:
    """Measure the critics, their merged critiques and the controls on the held-out answers."""
    config, tests, seed = study.config, given.tests, study.context.seed_for("merge")
    found = [
        (spec, named, "a critic") for spec, named in zip(config.critics, tests.critics, strict=True)
    ]
    for name in config.chosen(TAUGHT):
        if name in RULES:
            merged = tests.merged(RULES[name], seed)
            found.append((_all(name), merged, f"critiques of all critics: {TAUGHT[name]}"))
    if config.truth_critic:
        found.append((_all("truth"), tests.true, f"critiques of {config.truth_critic}"))
    usual = commonest(given.shown.true or given.shown.merged("meta", seed))
    always = {response.id: usual for response in tests.answered.responses}
    words = ", ".join(unit.kind for unit in usual) or "none"
    found.append((ALWAYS, always, f"the same critique of every answer: {words}"))
    measured = (measured_units(study, tests, named, name, made) for name, named, made in found)
    return reduce(BranchResult.__add__, measured, BranchResult())


def _all(name: str) -> str:
    """Return the name of all critics' critiques merged as in a branch, or of the truth."""
    return "the truth" if name == "truth" else f"critics, {TAUGHT[name]}"


def _claims(config: MultiCritiqueConfig) -> list[tuple[str, str]]:
    """Return the pairs of critics that the claims compare."""
    c1, c2 = (
        {n: f"{kind} {label}" for n, label in known.items()}
        for kind, known in (("C1", TAUGHT), ("C2", PREFERRED))
    )
    everyone = [
        *((_all("merged"), critic) for critic in config.critics),
        *((_all("merged"), _all(n)) for n in RULES if n != "merged"),
        *((c1["merged"], c1[n]) for n in TAUGHT if n not in ("merged", "truth")),
        (c1["truth"], c1["merged"]),
        (c1["truth"], c1["coin"]),
        *((c1[n], ALWAYS) for n in TAUGHT),
    ]
    everyone += [(model, c1["merged"]) for model in c2.values()]
    return everyone + [(c2["validated"], c2[n]) for n in ("judged", "pair_coin", "imitated")]


register("recipe", "multi_critique")(
    Recipe(
        name="multi_critique",
        config=MultiCritiqueConfig,
        question="Does a critic learn more from the merged critiques of several critics than from "
        "those of the best one, and from pairs that revisions validate than from judged ones?",
        study=study,
        controls={
            "by coin": NEGATIVE,
            "critiques imitated": EQUAL_COMPUTE,
            "C1 true": POSITIVE,
            "true pairs": POSITIVE,
        },
        idle=("eft", "propose"),
        options={
            "Merged critiques": (f"C1 {TAUGHT['merged']}",),
            "The best single critic": (f"C1 {TAUGHT['single']}",),
        },
    )
)
