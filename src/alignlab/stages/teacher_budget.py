"""Buy feedback of a teacher until a budget of its tokens is spent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeVar

from alignlab.configs import Bounded, PositiveInt
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.types import Checkpoint, Prompt

T = TypeVar("T")


@dataclass(frozen=True)
class BudgetSettings(Bounded):
    """Settings of a budget of teacher tokens."""

    tokens: PositiveInt = 40_000
    """Tokens of the teacher that each kind of feedback may take, by the student's tokenizer."""
    count: Literal["all", "written"] = "all"
    """Tokens that count: "all", read and written, or "written" alone, which are paid several times
    as much; logits are read off what the student wrote, and cost nothing by "written"."""
    pilot: PositiveInt = 16
    """Number of prompts on which the cost of a prompt is measured first; part of the budget."""


class TeacherTexts(NamedTuple):
    """Texts that a teacher read and wrote."""

    read: tuple[str, ...]
    written: tuple[str, ...] = ()


class Bought(NamedTuple, Generic[T]):
    """Feedback on as many prompts as the budget allowed."""

    records: list[T]
    prompts: list[Prompt]
    tokens: int
    """Tokens spent."""


def within_budget(
    context: RunContext,
    prompts: Sequence[Prompt],
    ask: Callable[[RunContext, Sequence[Prompt]], list[T]],
    spent: Callable[[Sequence[Prompt], Sequence[T]], TeacherTexts],
    count: Callable[[str], int],
    settings: BudgetSettings,
) -> Bought[T]:
    """Ask about prompts in order until the budget is spent; the pilot's mean cost sets how many.

    Args:
        ask: asks the teacher about prompts, in a scope of the run.
        spent: returns the texts that it took.
        count: counts a text's tokens.

    Raises:
        BadInput: the pilot takes more than the budget.
    """

    def cost(asked: Sequence[Prompt], found: Sequence[T]) -> int:
        texts = spent(asked, found)
        counted = texts.written if settings.count == "written" else texts.read + texts.written
        return sum(map(count, counted))

    first = list(prompts[: settings.pilot])
    records = ask(context.scope("pilot"), first)
    tokens = cost(first, records)
    if tokens > settings.tokens:
        raise BadInput(
            f"setting budget.tokens: expected at least the {tokens:,} teacher tokens of "
            f"{len(first)} prompts (budget.pilot), found {settings.tokens:,}"
        )
    left = list(prompts[settings.pilot :])
    more = len(left) if not tokens else (settings.tokens - tokens) * len(first) // tokens
    if rest := left[:more]:
        found = ask(context.scope("rest"), rest)
        records, tokens = [*records, *found], tokens + cost(rest, found)
    return Bought(records, [*first, *rest], tokens)


def token_counter(context: RunContext, student: Checkpoint) -> Callable[[str], int]:
    """Return a function that counts a text's tokens by the student's tokenizer."""
    if context.recorder:
        return context.recorder.tokens
    tokenizer = context.open(student).tokenizer
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))
