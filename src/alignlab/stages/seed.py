"""Read a corpus once into the run, with its files' hashes in the manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace

from alignlab.configs import Bounded, NonNegativeInt
from alignlab.context import RunContext
from alignlab.data import sources
from alignlab.errors import BadInput
from alignlab.files import read_json, write_json
from alignlab.stages.pair import best_as_demonstrations
from alignlab.types import Corpus, Count, Demonstration, PreferenceGroup, Prompt


@dataclass(frozen=True)
class SeedSettings(Bounded):
    """Limits on the number of records used; 0 uses all."""

    demonstrations: NonNegativeInt = 3200
    """Maximum number of instruction examples (IFT)."""
    groups: NonNegativeInt = 0
    """Maximum number of groups of ranked responses (the source of EFT examples)."""
    test_prompts: NonNegativeInt = 400
    """Maximum number of held-out prompts."""
    test_groups: NonNegativeInt = 300
    """Maximum number of held-out groups of ranked responses, on which judges are measured."""


def seed(
    context: RunContext, data: str, settings: SeedSettings, *, from_groups: bool = False
) -> Corpus:
    """Read the data source and select the records of the study.

    Args:
        from_groups: if the data holds only groups, their best responses are the instruction
            examples, and the held-out groups' prompts the test prompts.

    Raises:
        BadInput: bad data, or data without instruction examples.
    """
    with context.run.stage("seed", config=settings, inputs={"data": data}) as stage:
        if not stage.done:
            corpus = sources.load(data)
            context.run.add_inputs(corpus.files)
            if from_groups:
                corpus = _from_groups(corpus)
            if not corpus.demonstrations:
                raise BadInput(f"{data}: expected examples with a prompt and an answer, found none")
            _write(stage, corpus, settings)
            write_json(stage.path / "reserved.json", list(corpus.reserved))
        return Corpus(
            name=data,
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


def _write(stage, corpus: Corpus, settings: SeedSettings) -> None:  # type: ignore[no-untyped-def]
    counts = [replace(count, stage=stage.name) for count in corpus.counts]
    for name, cls, records, most in (
        ("demonstrations", Demonstration, corpus.demonstrations, settings.demonstrations),
        ("groups", PreferenceGroup, corpus.groups, settings.groups),
        ("prompts", Prompt, corpus.prompts, 0),
        ("test_prompts", Prompt, corpus.test_prompts, settings.test_prompts),
        ("test_groups", PreferenceGroup, corpus.test_groups, settings.test_groups),
    ):
        kept = records[: most or None]
        over = len(records) - len(kept)
        counts.append(
            Count(stage.name, name, len(kept), {f"over the limit of {most}": over} if over else {})
        )
        stage.write(name, cls, kept)
    stage.count(counts)
