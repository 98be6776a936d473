"""Judge prompts of benchmarks, in our own wording or in the official one.

Our own wording puts the judged text between tags and removes the angle bracket of these tags, and
of chat markers, inside it, so that a response cannot fake its own end. Official wording is
unchanged to the letter: only figures judged with it are comparable with published ones.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alignlab.errors import BadInput
from alignlab.turns import neutral, tags_of
from alignlab.types import Message

FOLDER = Path(__file__).parent / "benchmarks" / "prompts"
_PLACE = re.compile(r"\{([a-z_0-9]+)\}")
_SYSTEM_END = "\n---\n"


@dataclass(frozen=True)
class Template:
    """Template of a judge's prompt."""

    name: str
    user: str
    system: str = ""
    official: bool = False
    """Flag of the benchmark's own wording, read from a file or a package."""

    def fill(self, **texts: str) -> tuple[Message, ...]:
        """Build the conversation that asks the judge.

        Raises:
            BadInput: the template has a place without a text.
        """
        messages = [Message("system", self.system)] if self.system else []
        return (*messages, Message("user", self._filled(texts)))

    def _filled(self, texts: dict[str, str]) -> str:
        def text(place: re.Match[str]) -> str:
            if place[1] not in texts:
                raise BadInput(
                    f"judge prompt {self.name!r}: expected the places {', '.join(texts)}, "
                    f"found {place[0]}"
                )
            found = texts[place[1]]
            return found if self.official else neutral(found, tags_of(self.user))

        return _PLACE.sub(text, self.user)


@cache
def own_template(name: str) -> Template:
    """Read a judge prompt of our own wording by its file's name in benchmarks/prompts."""
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").strip("\n")
    system, found, user = text.partition(_SYSTEM_END)
    return Template(name, user, system) if found else Template(name, text)
