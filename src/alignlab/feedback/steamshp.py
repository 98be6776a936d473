"""SteamSHP: text-to-text model that names the better of two responses (arXiv 2110.08420).

`steamshp:FOLDER`. Two responses are compared in both orders; one that wins in both is better, else
it is a tie. A single response is scored as in the authors' code: the probability of "A" against the
empty response "." as B, from 0 to 1. A post too long for the model is cut at its end, responses are
not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alignlab.errors import BadInput
from alignlab.feedback.conversion import feedback_on
from alignlab.protocols import flatten
from alignlab.registry import register
from alignlab.specs import read_options
from alignlab.types import Feedback, Preference, Prompt, Response, Score, Unscored, Verdict
from alignlab.verdicts import LEAST_MASS

if TYPE_CHECKING:
    from alignlab.models.which_better import Choice, WhichBetter

NOTHING = "."
"""Empty response that a single one is compared with."""


class SteamSHP:
    """Judge that scores and compares responses by the verdict tokens of a text-to-text model."""

    def __init__(self, model: WhichBetter, name: str, *, least_mass: float = LEAST_MASS) -> None:
        self._model = model
        self.name = name
        self._least_mass = least_mass

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return P("A") for each response against an empty one; nothing is sampled."""
        choices = self._choices([(_post(p), r.text, NOTHING) for p, r in flatten(items)])
        return feedback_on(items, self.name, map(_score, choices))

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Return one verdict per item, from both orders; nothing is sampled."""
        both = [(p, *pair) for p, a, b in items for pair in ((a, b), (b, a))]
        found = self._choices([(_post(p), one.text, other.text) for p, one, other in both])
        return [
            Feedback(p.id, (a.id, b.id), self.name, _preference(shown, swapped))
            for (p, a, b), shown, swapped in zip(items, found[::2], found[1::2], strict=True)
        ]

    def _choices(self, triples: Sequence[tuple[str, str, str]]) -> list[Choice | Unscored]:
        """Return the choices; Unscored where both letters together have too little probability."""
        weak = Unscored(f"the letters hold less than {self._least_mass:g} of probability")
        return [
            weak if not isinstance(c, Unscored) and c.a + c.b < self._least_mass else c
            for c in self._model.choices(triples)
        ]


@dataclass(frozen=True)
class SteamSHPOptions:
    """Options after `steamshp:FOLDER?`."""

    max_tokens: int = 512
    """Longest question in tokens, as in training of these models."""
    least_mass: float = LEAST_MASS
    """Least probability of both letters together; below it the response is Unscored."""
    device: str = "auto"
    """Device: "auto" takes a GPU where there is one; else "cpu", "cuda", "cuda:1", ..."""


@register("feedback", "steamshp", options=SteamSHPOptions)
def make_steamshp(rest: str) -> SteamSHP:
    """`steamshp:FOLDER[?max_tokens=512]`: a seq2seq preference model's choice of two."""
    from alignlab.models.which_better import open_which_better

    named = read_options(rest, SteamSHPOptions)
    if not named.name:
        raise BadInput("steamshp: expected steamshp:FOLDER, found no folder")
    model = open_which_better(
        named.name, max_tokens=named.options.max_tokens, device=named.options.device
    )
    return SteamSHP(model, f"steamshp:{named.name}", least_mass=named.options.least_mass)


def _post(prompt: Prompt) -> str:
    return "\n".join(message.content for message in prompt.messages)


def _score(choice: Choice | Unscored) -> Verdict:
    return choice if isinstance(choice, Unscored) else Score(choice.a, (choice.a,))


def _preference(shown: Choice | Unscored, swapped: Choice | Unscored) -> Verdict:
    """Return the winner in both orders; None is a tie."""
    if isinstance(shown, Unscored):
        return shown
    if isinstance(swapped, Unscored):
        return swapped
    first = None if shown.a == shown.b else int(shown.a < shown.b)
    second = None if swapped.a == swapped.b else int(swapped.a > swapped.b)
    return Preference(first if first == second else None, (first, second))  # type: ignore[arg-type]
