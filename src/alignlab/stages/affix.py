"""Draw responses to prompts that ask for a good or a bad one, and pair them (arXiv 2307.12950)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from alignlab.configs import Bounded
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.protocols import Completer
from alignlab.stages.pair import demonstration_pairs
from alignlab.stages.sample import SampleSettings, sample
from alignlab.types import Demonstration, Message, PreferenceGroup, Prompt, Response


@dataclass(frozen=True)
class AffixSettings(Bounded):
    """Texts that ask for a good and for a bad response."""

    positive: str = "(Give a helpful, correct and complete answer.)"
    """Text with a prompt that asks for a good response."""
    negative: str = "(Give an unhelpful, incorrect and incomplete answer.)"
    """Text with a prompt that asks for a bad response."""
    place: Literal["user", "system"] = "user"
    """Place of the text: behind the last turn of the user, or a first turn of the system."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.positive.strip() or self.positive == self.negative:
            raise BadInput(
                "settings affix.positive and affix.negative: expected two different texts, the "
                f"first not empty; found {self.positive!r} and {self.negative!r}"
            )

    def positively(self, prompt: Prompt) -> Prompt:
        """Return a prompt with the positive text, of the same id."""
        return self._with(prompt, self.positive)

    def negatively(self, prompt: Prompt) -> Prompt:
        """Return a prompt with the negative text, of the same id."""
        return self._with(prompt, self.negative)

    def _with(self, prompt: Prompt, text: str) -> Prompt:
        if not text.strip():
            return prompt
        if self.place == "system":
            return replace(prompt, messages=(Message("system", text), *prompt.messages))
        last = prompt.messages[-1]
        asked = replace(last, content=f"{last.content}\n{text}")
        return replace(prompt, messages=(*prompt.messages[:-1], asked))


def contrast_pairs(
    context: RunContext,
    completer: Completer,
    prompts: Sequence[Prompt],
    affix: AffixSettings,
    settings: SampleSettings,
) -> list[PreferenceGroup]:
    """Draw a response with either text to every prompt; prefer the positive one, unjudged.

    Equal responses form no pair, and are counted. The pairs hold the prompts without the texts.
    """
    once = replace(settings, n=1)

    def drawn(asked: Sequence[Prompt], how: str) -> list[Response]:
        return sample(context, completer, asked, once, name=f"sample-{how}", purpose=f"{how} affix")

    better = drawn([affix.positively(p) for p in prompts], "positive")
    worse = drawn([affix.negatively(p) for p in prompts], "negative")
    return demonstration_pairs(context, prompts, better, worse, source="affixes")


def affix_lessons(groups: Sequence[PreferenceGroup], affix: AffixSettings) -> list[Demonstration]:
    """Build demonstrations of both texts from ranked responses: the best and the worst of each.

    For a base model that follows no instructions; groups of equal scores give none.
    """
    lessons = []
    for group in groups:
        if (ends := group.best_and_worst()) is None:
            continue
        best, worst = ends.responses
        good = replace(affix.positively(group.prompt), id=f"{group.prompt.id}/positive")
        bad = replace(affix.negatively(group.prompt), id=f"{group.prompt.id}/negative")
        lessons += [
            Demonstration(good, replace(best, prompt_id=good.id), "positive affix"),
            Demonstration(bad, replace(worst, prompt_id=bad.id), "negative affix"),
        ]
    return lessons
