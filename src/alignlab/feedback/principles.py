"""Judge that rates by given principles (SALMON, arXiv 2310.05910, section 3.2).

The principles are a text file, one a line, each optionally with its negation after "|||". With
`count`, so many are drawn for each prompt; a reward trained on these scores then follows the
principles shown and not one fixed taste.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from alignlab import seeds
from alignlab.configs import build
from alignlab.errors import BadInput
from alignlab.feedback.model_judge import Details, ModelJudge, ModelJudgeOptions
from alignlab.protocols import MakeCompleter
from alignlab.registry import register
from alignlab.types import Prompt, Unscored


@dataclass(frozen=True)
class PrinciplesOptions(ModelJudgeOptions):
    """Options of `principles,`."""

    prompt: str = "principles"
    """Judge prompt with the place {principles}, by its file's name or by path."""
    file: str = ""
    """Text file with one principle a line; empty lines and lines after # are left out."""
    text: str = ""
    """One principle, instead of a file."""
    count: int = 0
    """Principles shown for each prompt, drawn by the seed; 0 shows all."""


NEGATION = "|||"
"""Mark between a principle and its negation."""


class Principle(NamedTuple):
    """Principle of judging, and the opposite wish in words."""

    text: str
    negated: str


def drawn_principles(principles: Sequence[str], count: int = 0) -> Details:
    """Make details that show all principles, or `count` of them in an order drawn for the prompt.

    Raises:
        BadInput: there are none, or fewer than are to be drawn.
    """
    if not principles or not 0 <= count <= len(principles):
        raise BadInput(
            f"principles: expected count from 0 to {len(principles)} of at least 1 principle, "
            f"found {count}"
        )

    def details(prompt: Prompt, seed: int) -> Mapping[str, str] | Unscored:
        chosen = list(principles)
        if count:
            draw = seeds.generator(seed, "principles", prompt.id)
            chosen = [principles[i] for i in draw.permutation(len(principles))[:count]]
        return {"principles": "\n".join(f"- {principle}" for principle in chosen)}

    return details


def read_principles(path: Path) -> list[str]:
    """Read principles from a text file, without their negations.

    Raises:
        BadInput: no such file, none in it, or one twice.
    """
    return [text for _, text, _ in _read(path)]


def read_negated(path: Path) -> list[Principle]:
    """Read principles with their negations from a text file of lines "text ||| negation".

    Raises:
        BadInput: no such file, none in it, one twice, or a line without both.
    """
    found = []
    for place, text, negations in _read(path):
        if len(negations) != 1 or negations[0] in ("", text):
            line = f" {NEGATION} ".join([text, *negations])
            raise BadInput(f'{place}: expected "principle ||| its negation", found {line!r}')
        found.append(Principle(text, negations[0]))
    return found


def _read(path: Path) -> list[tuple[str, str, list[str]]]:
    """Return file and line, text, and the parts after it of every principle."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: expected a text file of principles, found: {error}") from None
    found: dict[str, tuple[str, str, list[str]]] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.removeprefix("- ").startswith("#"):
            continue
        text, *rest = (part.strip() for part in line.removeprefix("- ").split(NEGATION))
        place = f"{path}, line {number}"
        if not text or text in found:
            what = f"{text!r} again" if text else f"{line!r}"
            raise BadInput(f"{place}: expected a principle, each once, found {what}")
        found[text] = (place, text, rest)
    if not found:
        raise BadInput(f"{path}: expected one principle a line, found none")
    return list(found.values())


@register("feedback", "principles", options=PrinciplesOptions)
def make_principles_judge(
    rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]
) -> ModelJudge:
    """`principles,file=PATH[,count=3]:ENGINE`: scores by principles given as text."""
    chosen = build(PrinciplesOptions, options)
    if bool(chosen.file) == bool(chosen.text):
        found = "both" if chosen.file else "no file"
        raise BadInput(f"principles: expected principles,file=PATH:ENGINE or text=, found {found}")
    path = Path(chosen.file)
    shown = [chosen.text] if chosen.text else read_principles(path)
    completer = make_completer(rest)
    return chosen.judge(
        completer,
        name=f"{completer.name} as judge ({chosen.text or path.stem}, {chosen.samples} samples)",
        details=drawn_principles(shown, chosen.count),
    )
