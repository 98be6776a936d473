"""Find the query types of a study's prompts once, and count prompts without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignlab.context import RunContext
from alignlab.feedback.query_types import query_types
from alignlab.types import Count, Prompt, QueryType, Unscored

TypesById = Mapping[str, QueryType | Unscored]
"""Prompt id -> its query type, or the reason why none is known."""


@dataclass(frozen=True)
class PromptType:
    """Query type of one prompt."""

    id: str
    """Id of the prompt."""
    kind: QueryType | None
    reason: str = ""
    """Reason for no type."""


class KnownTypes:
    """Query types found before, by prompt id."""

    def __init__(self, kinds: TypesById) -> None:
        self._kinds = kinds

    def of(self, prompts: Sequence[Prompt], seed: int) -> list[QueryType | Unscored]:
        """Return one type per prompt; nothing is sampled."""
        return [self._kinds[p.id] for p in prompts]


def prompt_types(
    context: RunContext, spec: str, prompts: Sequence[Prompt], *, name: str = "types"
) -> dict[str, QueryType | Unscored]:
    """Ask a source of query types about every prompt.

    Args:
        spec: label, random, llm:ENGINE, or a trained classifier's folder.

    Raises:
        BadInput: there is no classifier in the folder.
    """
    source = query_types(spec, context.completer)

    def ask() -> list[PromptType]:
        found = source.of(prompts, context.seed_for("query types"))
        return [
            PromptType(p.id, None, kind.reason)
            if isinstance(kind, Unscored)
            else PromptType(p.id, kind)
            for p, kind in zip(prompts, found, strict=True)
        ]

    with context.run.stage(name, inputs={"by": spec}) as stage:
        kinds = stage.once("types", PromptType, ask, title=context.title("types of the prompts"))
        if not stage.done:
            lost = Counter(one.reason for one in kinds if one.kind is None)
            stage.count([Count(stage.name, "prompts", len(kinds) - lost.total(), dict(lost))])
    return {one.id: one.kind or Unscored(one.reason) for one in kinds}
