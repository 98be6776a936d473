"""Query types, open- or closed-ended (arXiv 2402.03469, section 3.2), from several sources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from alignlab import seeds
from alignlab.ask_model import Ask, Reply, ask_model
from alignlab.errors import BadInput
from alignlab.feedback.prompts import judge_prompt
from alignlab.protocols import Completer, MakeCompleter
from alignlab.types import Prompt, QueryType, Sampling, Unscored
from alignlab.verdicts import parse_choice


class QueryTypes(Protocol):
    """Source of query types."""

    def of(self, prompts: Sequence[Prompt], seed: int) -> list[QueryType | Unscored]:
        """Return one type per prompt; Unscored where none is known."""
        ...


class LabelledTypes:
    """Query types from the data's own labels."""

    def of(self, prompts: Sequence[Prompt], seed: int) -> list[QueryType | Unscored]:
        """Return each prompt's label; nothing is sampled."""
        return [p.query_type or Unscored("the prompt's query type is not known") for p in prompts]


class RandomTypes:
    """Query types drawn at random: the paper's control."""

    def of(self, prompts: Sequence[Prompt], seed: int) -> list[QueryType | Unscored]:
        """Draw a type per prompt from its id alone, so that every call gives the same."""
        draws = [seeds.generator(0, "query type", p.id).random() for p in prompts]
        return ["open" if draw < 0.5 else "closed" for draw in draws]


class JudgedTypes:
    """Query types from a model's greedy answer, one per prompt, in our own wording."""

    def __init__(self, completer: Completer) -> None:
        self.name = f"{completer.name} on query types"
        self._completer = completer

    def of(self, prompts: Sequence[Prompt], seed: int) -> list[QueryType | Unscored]:
        """Return one type per prompt; Unscored where the reply cannot be read."""
        replies: list[tuple[Reply[QueryType], ...]] = ask_model(
            self._completer,
            [Ask(f"type|{p.id}", judge_prompt("query_type").render_prompt(p)) for p in prompts],
            _read_type,
            sampling=Sampling(temperature=0, top_p=1, max_tokens=32),
            seed=seed,
            unread="no readable query type",
        )
        return [reply.value for (reply,) in replies]


def query_types(spec: str, make_completer: MakeCompleter | None = None) -> QueryTypes:
    """Make a source of types: "label", "random", "llm:ENGINE", or a trained classifier's folder.

    Raises:
        BadInput: there is no classifier in the folder, or no engine can be made here.
    """
    if spec == "label":
        return LabelledTypes()
    if spec == "random":
        return RandomTypes()
    if spec.startswith("llm:"):
        if make_completer is None:
            raise BadInput(f"types={spec}: expected label, random or a classifier's folder here")
        return JudgedTypes(make_completer(spec.removeprefix("llm:")))
    from alignlab.feedback.query_type_classifier import load_classifier

    return load_classifier(spec)


def _read_type(text: str) -> QueryType | None:
    types: dict[str | None, QueryType] = {"open": "open", "closed": "closed"}
    return types.get(parse_choice(text, "type", ("open", "closed")))
