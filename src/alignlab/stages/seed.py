"""Read the data of a study once into the run, with its files' hashes in the manifest."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from alignlab.configs import Bounded, NonNegativeInt
from alignlab.context import RunContext
from alignlab.data.roles import DataRoles, OverlapRule, drawn, load_roles
from alignlab.errors import BadInput
from alignlab.files import read_json, write_json
from alignlab.stages.pair import best_as_demonstrations
from alignlab.types import Corpus, Count, Demonstration, PreferenceGroup, Prompt

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SeedSettings(Bounded):
    """Limits on the number of records used, where 0 uses all, and the treatment of overlap."""

    demonstrations: NonNegativeInt = 3200
    """Maximum number of instruction examples (IFT)."""
    groups: NonNegativeInt = 0
    """Maximum number of groups of ranked responses (the source of EFT examples)."""
    test_prompts: NonNegativeInt = 400
    """Maximum number of held-out prompts."""
    test_groups: NonNegativeInt = 300
    """Maximum number of held-out groups of ranked responses, on which judges are measured."""
    overlap: OverlapRule = "remove"
    """Training records whose prompt overlaps a held-out prompt of another source (equal, 8-grams,
    nearly equal): "remove" and count them, "refuse" the data, or "keep" and count them."""


def seed(
    context: RunContext,
    roles: DataRoles,
    settings: SeedSettings,
    *,
    from_groups: bool = False,
    needs_demonstrations: bool = True,
) -> Corpus:
    """Read the data and select the records of the study.

    Args:
        roles: specs of the data by role.
        from_groups: if the data holds only groups, their best responses are the instruction
            examples, and the held-out groups' prompts the test prompts.
        needs_demonstrations: refuse data without instruction examples.

    Raises:
        BadInput: bad data, or data without instruction examples or without held-out records.
    """
    specs = {"data": roles.seed, "prompts": roles.prompts, "test": roles.test}
    inputs = {k: v if isinstance(v, str) else " + ".join(v) for k, v in specs.items() if v}
    with context.run.stage("seed", config=settings, inputs=inputs) as stage:
        if not stage.done:
            asked = roles, settings.overlap
            recorder = context.recorder
            corpus = recorder.cached(load_roles, *asked) if recorder else load_roles(*asked)
            context.run.add_inputs(corpus.files)
            if from_groups:
                corpus = _from_groups(corpus)
            if needs_demonstrations and not corpus.demonstrations:
                raise BadInput(
                    f"{roles.name}: expected examples with a prompt and an answer, found none"
                    + _removed(corpus)
                )
            if not (corpus.test_prompts or corpus.test_groups):
                raise BadInput(
                    f"{roles.name}: expected held-out prompts to measure on, found none; give "
                    "them with test=SOURCE, or hold out a share: data='SOURCE?test_share=0.2'"
                )
            if not context.recorder:
                _log_overlap(corpus)
            _write(stage, corpus, settings, sampled=bool(roles.test))
            write_json(stage.path / "reserved.json", list(corpus.reserved))
        return Corpus(
            name=roles.name,
            demonstrations=tuple(stage.records("demonstrations", Demonstration).read()),
            groups=tuple(stage.records("groups", PreferenceGroup).read()),
            prompts=tuple(stage.records("prompts", Prompt).read()),
            test_prompts=tuple(stage.records("test_prompts", Prompt).read()),
            test_groups=tuple(stage.records("test_groups", PreferenceGroup).read()),
            counts=tuple(stage.records("counts", Count).read()),
            reserved=tuple(read_json(stage.path / "reserved.json")),
        )


def _from_groups(corpus: Corpus) -> Corpus:
    shown = corpus.demonstrations or tuple(best_as_demonstrations(corpus.groups))
    asked = {g.prompt.id: g.prompt for g in corpus.test_groups}
    tests = corpus.test_prompts or tuple(asked.values())
    return replace(corpus, demonstrations=shown, test_prompts=tests)


def _removed(corpus: Corpus) -> str:
    """Return how many examples were removed for their overlap, to end a message."""
    removed = sum(
        n
        for count in corpus.counts
        for why, n in count.dropped.items()
        if count.what.startswith("demonstrations of ") and "held-out prompt" in why
    )
    return f" ({removed} removed, as their prompts overlap held-out ones)" if removed else ""


def _log_overlap(corpus: Corpus) -> None:
    """Log the overlap of every source with held-out prompts of others."""
    for count in corpus.counts:
        found = {
            why: n
            for why, n in (*count.dropped.items(), *count.changed.items())
            if "held-out prompt" in why
        }
        if found:
            reasons = ", ".join(f"{why} {n:,}" for why, n in found.items())
            log.warning("overlap of %s: %s", count.what, reasons)


def _write(  # type: ignore[no-untyped-def]
    stage, corpus: Corpus, settings: SeedSettings, *, sampled: bool
) -> None:
    """Write the records of the study.

    Args:
        sampled: draw the held-out prompts over the limit, instead of taking the first.
    """
    counts = [replace(count, stage=stage.name) for count in corpus.counts]
    for name, cls, records, most in (
        ("demonstrations", Demonstration, corpus.demonstrations, settings.demonstrations),
        ("groups", PreferenceGroup, corpus.groups, settings.groups),
        ("prompts", Prompt, corpus.prompts, 0),
        ("test_prompts", Prompt, corpus.test_prompts, settings.test_prompts),
        ("test_groups", PreferenceGroup, corpus.test_groups, settings.test_groups),
    ):
        kept = records[: most or None]
        if name == "test_prompts" and sampled:
            kept = tuple(drawn(corpus.test_prompts, most))
        over = len(records) - len(kept)
        counts.append(
            Count(stage.name, name, len(kept), {f"over the limit of {most}": over} if over else {})
        )
        stage.write(name, cls, kept)
    stage.count(counts)
