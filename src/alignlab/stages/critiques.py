"""Criticise responses with several critics, judge and merge their units (arXiv 2410.15287)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from alignlab import seeds
from alignlab.context import RunContext
from alignlab.feedback.critique_units import (
    UNREAD,
    WEIGHTS,
    MetaCritic,
    Unit,
    UnitClass,
    distinct,
    read_units,
)
from alignlab.feedback.model_judge import ModelJudge
from alignlab.runs import slug
from alignlab.stages.judge import judge
from alignlab.types import Count, Critique, Prompt, Response, Unscored

META_CHUNK = 64
"""Responses whose units are judged and written together."""
Rule = Literal["meta", "union", "majority", "coin"]
"""Rule of merging: units that the meta judge calls valid, all, those of most critics, or as many as
the meta judge keeps, drawn by a coin."""
Named = Mapping[str, tuple[Unit, ...]]
"""Response id -> the faults that a critique of it names; a response without a readable one is
absent."""
Judged = Mapping[str, Mapping[tuple[str, str], UnitClass]]
"""Response id -> place and kind of each unit on it -> its class."""


@dataclass(frozen=True)
class CritiqueUnits:
    """Units of one critique."""

    response_id: str
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class ClassifiedUnits:
    """Classes of all units that critics named in one response."""

    response_id: str
    units: tuple[Unit, ...]
    classes: tuple[UnitClass, ...]


def criticise(
    context: RunContext,
    critic: ModelJudge,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    *,
    name: str,
) -> Named:
    """Return the faults that a critic names in each response; count unreadable critiques."""
    feedback = judge(context, critic, prompts, responses, name=f"critique-{slug(name)}")
    texts = {f.response_ids[0]: f.verdict.text for f in feedback if isinstance(f.verdict, Critique)}
    return units_of(context, texts, name=name)


def units_of(context: RunContext, texts: Mapping[str, str], *, name: str) -> Named:
    """Read the units of critiques by response id; count unreadable ones.

    In a dry run each critique names one fault of its own.
    """
    with context.run.stage(f"units-{slug(name)}") as stage:
        found = stage.records("units", CritiqueUnits)
        if not stage.done:
            read: dict[str, tuple[Unit, ...]]
            if context.recorder:
                read = {key: (Unit("", f"fault {n}"),) for n, key in enumerate(texts)}
            else:
                parsed = {key: read_units(text) for key, text in texts.items()}
                read = {key: units for key, units in parsed.items() if units is not None}
            stage.write("units", CritiqueUnits, [CritiqueUnits(k, u) for k, u in read.items()])
            lost = len(texts) - len(read)
            stage.count([Count(stage.name, "critiques", len(read), {UNREAD: lost} if lost else {})])
        return {one.response_id: one.units for one in found.read()}


def classify(
    context: RunContext,
    meta: MetaCritic,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    named: Mapping[str, Sequence[Unit]],
    *,
    name: str = "meta",
) -> Judged:
    """Return the class of each unit by a meta judge; count responses without readable classes.

    Args:
        named: response id -> the units of all critiques of it.
    """
    asked = {prompt.id: prompt for prompt in prompts}
    items = [
        (asked[r.prompt_id], r, distinct(sorted(named[r.id]))) for r in responses if r.id in named
    ]
    seed = context.seed_for("meta", meta.name)

    def ask(
        some: Sequence[tuple[Prompt, Response, tuple[Unit, ...]]],
    ) -> list[ClassifiedUnits | Unscored]:
        found = meta.classify(some, seed)
        if context.recorder:  # stand-ins write no classes
            found = [tuple("minor" for _ in units) for _, _, units in some]
        return [
            one if isinstance(one, Unscored) else ClassifiedUnits(response.id, units, one)
            for (_, response, units), one in zip(some, found, strict=True)
        ]

    with context.run.stage(name, inputs={"by": meta.name}) as stage:
        made = stage.map(
            "classes",
            ClassifiedUnits,
            items,
            ask,
            chunk=META_CHUNK,
            title=context.title(f"{meta.name} judges critiques"),
        )
        if not stage.done:
            stage.count([Count(stage.name, "responses", len(made), stage.lost())])
    return {
        one.response_id: {u.key: c for u, c in zip(one.units, one.classes, strict=True)}
        for one in made
    }


def merge(critiques: Sequence[Named], judged: Judged, rule: Rule, seed: int) -> Named:
    """Merge several critics' units on each judged response into one critique.

    Units of equal place and kind are one, in the words of the first critic that named it. Rule
    "coin" keeps a unit with the share that the meta judge keeps of all units.

    Args:
        critiques: the units by each critic.
        judged: class of every unit; responses without classes are left out.
        seed: seed of the coin.
    """
    classes = [c for units in judged.values() for c in units.values()]
    share = sum(c != "invalid" for c in classes) / len(classes) if classes else 0.0

    def kept(response: str, unit: Unit) -> bool:
        if rule == "meta":
            return judged[response][unit.key] != "invalid"
        if rule == "majority":
            votes = [unit.key in {u.key for u in one.get(response, ())} for one in critiques]
            return 2 * sum(votes) > len(critiques)
        heads = seeds.generator(seed, "merge", response, *unit.key).random() < share
        return rule == "union" or bool(heads)

    found = {}
    for response in judged:
        every = distinct(unit for one in critiques for unit in one.get(response, ()))
        found[response] = tuple(unit for unit in every if kept(response, unit))
    return found


def commonest(named: Named) -> tuple[Unit, ...]:
    """Return the unit that most critiques name, without words; none if no critique names any."""
    found = Counter(unit.key for units in named.values() for unit in units)
    return tuple(Unit(*key) for key, _ in found.most_common(1))


def severity(units: Sequence[Unit], classes: Mapping[tuple[str, str], UnitClass]) -> float:
    """Return a critique's score: the sum of its units' weights, 0 for a critique without faults."""
    return sum(WEIGHTS[classes[unit.key]] for unit in units)
