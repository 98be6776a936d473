"""Validate pairs of critiques by the revisions that they lead to (MARV, arXiv 2410.15287)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from alignlab.context import RunContext
from alignlab.feedback.teachers import Criticised, Refiner, refined_id
from alignlab.protocols import FeedbackSource
from alignlab.runs import slug
from alignlab.stages.judge import judge, scores
from alignlab.stages.teach import refine
from alignlab.types import Count, PreferenceGroup, Response

DISAGREE = "revisions by the preferred critique score no higher"
UNSCORED = "no scored revision by one of the critiques"


def validated_pairs(
    context: RunContext,
    revisers: Sequence[Refiner],
    source: FeedbackSource,
    pairs: Sequence[PreferenceGroup],
    criticised: Mapping[str, Criticised],
    *,
    revisions: int,
) -> list[PreferenceGroup]:
    """Keep pairs whose preferred critique leads to better revisions; count the others by reason.

    Args:
        revisers: models that rewrite a response by a critique.
        source: scores revisions; the mean over all revisers and revisions decides.
        pairs: critiques, the preferred one first.
        criticised: critique id -> its response and text.
        revisions: revisions of each critique by each reviser.
    """
    wanted = [r.id for both in pairs for r in both.responses]
    items = [replace_id(criticised[key], f"{key}#{n}") for key in wanted for n in range(revisions)]
    asked = {one.prompt.id: one.prompt for one in items}
    values: dict[str, list[float]] = defaultdict(list)
    for number, reviser in enumerate(revisers, start=1):
        made = refine(context, reviser, items, name=f"revise-{number}")
        rated = judge(
            context, source, list(asked.values()), made, name=f"revisions-{slug(reviser.name)}"
        )
        known = scores(rated)
        for key in wanted:
            for n in range(revisions):
                if (score := known.get(refined_id(f"{key}#{n}"))) is not None:
                    values[key].append(score)
    with context.run.stage("validated", inputs={"by": source.name}) as stage:
        groups = stage.records("groups", PreferenceGroup)
        if not stage.done:
            lost: Counter[str] = Counter()
            kept = []
            for both in pairs:
                better, worse = (values.get(r.id, []) for r in both.responses)
                if not better or not worse:
                    lost[UNSCORED] += 1
                elif sum(better) / len(better) > sum(worse) / len(worse) or context.recorder:
                    kept.append(both)
                else:
                    lost[DISAGREE] += 1
            stage.write("groups", PreferenceGroup, kept)
            stage.count([Count(stage.name, "pairs", len(kept), dict(lost))])
        return groups.read()


def revise(
    context: RunContext,
    reviser: Refiner,
    criticised: Sequence[Criticised],
    first: Sequence[Response],
    *,
    by: str,
) -> list[Response]:
    """Rewrite responses by one critic's critiques; a response that was not rewritten stays.

    Args:
        criticised: responses in which the critic names a fault.
        first: all responses, in order.
        by: the critic's name, part of the ids of the results.
    """
    items = [replace_id(one, f"{one.response.id}|{slug(by)}") for one in criticised]
    made = refine(context, reviser, items, name=f"refine-{slug(by)}")
    better = {r.id: r for r in made}
    found = []
    for response in first:
        key = refined_id(f"{response.id}|{slug(by)}")
        found.append(better.get(key, replace(response, id=key)))
    return found


def replace_id(one: Criticised, key: str) -> Criticised:
    """Return a criticised response under another id, so that it can be rewritten repeatedly."""
    return one._replace(response=replace(one.response, id=key))
