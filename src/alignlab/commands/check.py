"""Check: everything that can be wrong with a run is looked at, and nothing is run."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from alignlab import registry
from alignlab.commands.early import make_parts
from alignlab.commands.estimate import Calls, Memory, calls, memory
from alignlab.commands.run import assemble
from alignlab.data import sources as data_specs
from alignlab.errors import BadInput
from alignlab.generation.openai import probe_endpoints
from alignlab.models.facts import ModelFacts, model_facts
from alignlab.recipes.study import Recipe, StudyConfig
from alignlab.records import to_dict
from alignlab.stages.lab import resolve_model
from alignlab.types import Corpus


@dataclass(frozen=True)
class Used:
    """How much of one kind of record a run uses of what the data holds."""

    what: str
    used: int
    found: int

    def __str__(self) -> str:
        return f"{self.used:,} of {self.found:,} {self.what}"


@dataclass(frozen=True)
class Plan:
    """What a run would take; everything that it names is there."""

    recipe: str
    preset: str
    seeds: int
    out: str
    """Run directory; it can be written."""
    resumes: bool
    """A run is in it already and would be gone on with."""
    model: ModelFacts
    data: tuple[Used, ...]
    models: tuple[str, ...]
    """The models that are compared."""
    memory: tuple[Memory, ...]
    calls: tuple[Calls, ...]
    endpoints: tuple[str, ...]
    """Endpoints that are asked, with the fields that they refuse."""

    def __str__(self) -> str:
        does, model = "goes on with" if self.resumes else "writes", self.model
        size = f"{model.parameters:,} parameters, context of {model.context:,} tokens"
        return "\n".join(
            [
                *_listed("run", [f"{self.recipe}, preset {self.preset}, {self.seeds} seed(s)"]),
                *_listed("folder", [f"{does} {self.out}"]),
                *_listed("model", [f"{model.path}: {model.kind}, {size}"]),
                *_listed("data", self.data),
                *_listed("compares", self.models),
                *_listed("memory", self.memory),
                *_listed("asks for", self.calls),
                *_listed("endpoints", self.endpoints),
            ]
        )


def check(recipe: str, *overrides: str, config: str | Path | None = None) -> Plan:
    """Look at settings, data, model, objective, teachers, judges and output folder; run nothing.

    Endpoints are asked one small question each.

    Args:
        recipe: a name from `alignlab list recipes`.
        overrides: "key=value" strings, as on the command line.
        config: a YAML file of settings, under the overrides.

    Raises:
        BadInput: what a run of these settings would stop at.
    """
    known: Recipe = registry.get("recipe", recipe)
    chosen = assemble(known, config, overrides, {})
    rounds = make_parts(known, chosen)
    out = Path(chosen.out or f"runs/{recipe}")
    _refuse_unwritable(out)
    path = resolve_model(chosen.model).path
    facts = model_facts(path, chat_template=chosen.chat_template or None)
    corpus = data_specs.load(chosen.data)
    if not corpus.demonstrations and chosen.needs_demonstrations:
        raise BadInput(f"{chosen.data}: expected examples with a prompt and an answer, found none")
    models = tuple(known.models(chosen))
    endpoints = probe_endpoints(to_dict(chosen))
    for endpoint in endpoints:
        if not endpoint.answers:
            raise BadInput(str(endpoint))
    return Plan(
        recipe=recipe,
        preset=chosen.preset,
        seeds=chosen.seeds,
        out=str(out),
        resumes=(out / "config.yaml").exists(),
        model=facts,
        data=_used(chosen, corpus),
        models=models,
        memory=memory(facts, chosen),
        calls=calls(chosen, corpus, rounds, len(models)),
        endpoints=tuple(map(str, endpoints)),
    )


def _used(config: StudyConfig, corpus: Corpus) -> tuple[Used, ...]:
    limits = config.corpus
    return tuple(
        Used(what, min(most or len(records), len(records)), len(records))
        for what, records, most in (
            ("demonstrations", corpus.demonstrations, limits.demonstrations),
            ("ranked groups", corpus.groups, limits.groups),
            ("prompts", corpus.prompts, 0),
            ("held-out prompts", corpus.test_prompts, limits.test_prompts),
            ("held-out ranked groups", corpus.test_groups, limits.test_groups),
        )
    )


def _refuse_unwritable(out: Path) -> None:
    """Make sure of the nearest folder that is there, and make none."""
    folder = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    if not folder.is_dir():
        raise BadInput(f"{folder}: expected a folder, found a file")
    if not os.access(folder, os.W_OK):
        raise BadInput(f"{folder}: expected a folder that can be written, found one that cannot")


def _listed(title: str, items: Iterable[object]) -> list[str]:
    """Lines with the title before the first."""
    return [f"{title if i == 0 else '':10}{item}" for i, item in enumerate(items)]
