"""Show a source of scores the principles to score by (SALMON, arXiv 2310.05910, section 3.3).

A reward model that was trained with principles in the prompt follows those that it is shown: other
principles change the reward without training. They follow the user's last turn as a list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alignlab import seeds
from alignlab.at_once import at_once
from alignlab.configs import Bounded, NonNegativeInt, build
from alignlab.errors import BadInput
from alignlab.feedback.principles import read_principles
from alignlab.protocols import FeedbackSource, MakeCompleter
from alignlab.registry import register
from alignlab.types import Feedback, Prompt, Response

HEADING = "Judge by:"
"""Line before the list of principles."""


def with_principles(prompt: Prompt, principles: Sequence[str]) -> Prompt:
    """Return a prompt with principles after the user's last turn; without any, the prompt."""
    if not principles:
        return prompt
    last = prompt.messages[-1]
    shown = "\n".join(["", "", HEADING, *(f"- {text}" for text in principles)])
    turn = replace(last, content=last.content + shown)
    return replace(prompt, messages=(*prompt.messages[:-1], turn))


class Principled:
    """Feedback source that shows another the principles to score by."""

    def __init__(self, source: FeedbackSource, principles: Sequence[str], count: int = 0) -> None:
        """Set up the source.

        Args:
            source: scores responses to prompts with principles in them.
            principles: texts to show.
            count: number of them to draw for each prompt by the seed; 0 shows all.

        Raises:
            BadInput: fewer principles than are to be drawn.
        """
        if not 0 <= count <= len(principles):
            raise BadInput(f"principled: count: expected 0 to {len(principles)}, found {count}")
        self._source, self._principles, self._count = source, tuple(principles), count
        self.at_once = at_once(source)
        shown = f"{count} of " if count else ""
        self.name = f"{source.name} by {shown}{', '.join(principles) or 'no principle'}"
        self.files = getattr(source, "files", {})

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return the source's feedback on every response."""
        shown = [(with_principles(p, self._drawn(p, seed)), several) for p, several in items]
        return [replace(f, source=self.name) for f in self._source.rate(shown, seed)]

    def _drawn(self, prompt: Prompt, seed: int) -> Sequence[str]:
        if not self._count:
            return self._principles
        order = seeds.generator(seed, "principled", prompt.id).permutation(len(self._principles))
        return [self._principles[i] for i in order[: self._count]]


@dataclass(frozen=True)
class PrincipledOptions(Bounded):
    """Options of `principled,`."""

    file: str = ""
    """Text file with one principle a line; a negation after "|||" is left out."""
    count: NonNegativeInt = 0
    """Principles shown for each prompt, drawn by the seed; 0 shows all."""


@register("feedback", "principled", options=PrincipledOptions)
def make_principled(
    rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]
) -> Principled:
    """`principled,file=PATH[,count=3]:SPEC`: a source that reads principles with the prompt."""
    from alignlab.feedback.specs import judge  # which imports all sources by name

    chosen = build(PrincipledOptions, options)
    if not chosen.file:
        raise BadInput("principled: expected principled,file=PATH:SPEC, found no file")
    source = judge(rest, make_completer=make_completer)
    return Principled(source, read_principles(Path(chosen.file)), chosen.count)
