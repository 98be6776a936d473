"""Judge prompts: text files in this folder, with the reader of the judge's answers.

A file may start with settings between lines of "---" (`low`, `high`, `prefix`). `{prompt}` stands
for the question, `{response}` for the response (`{response_a}`, `{response_b}` in a comparison);
`{reference}`, `{principles}`, `{criterion}`, `{sentence}`, `{critique}`, `{faults}`,
`{other_prompt}`, `{other_response}`, `{examples}` and `{fields}` for further texts of some judges
and teachers.
The judged text stands between tags and cannot close them: tags and chat markers inside it lose
their angle bracket, so a response cannot fake its own end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from alignlab.configs import build
from alignlab.errors import BadInput, unknown_name
from alignlab.text import conversation as question
from alignlab.turns import neutral, strip_thoughts, tags_of
from alignlab.types import Message, Prompt, Response
from alignlab.verdicts import parse_score

_PLACES = (
    "prompt", "response", "response_a", "response_b", "reference", "principles", "criterion",
    "sentence", "critique", "faults", "other_prompt", "other_response", "examples", "fields",
)  # fmt: skip
_PLACE = re.compile(rf"\{{({'|'.join(_PLACES)})\}}")
_SETTINGS = {"low", "high", "prefix"}


@dataclass(frozen=True)
class JudgePrompt:
    """Template of the question to a judge, and the scale of its score."""

    name: str
    template: str
    low: int = 0
    """Lowest score."""
    high: int = 5
    """Highest score."""
    prefix: str = "Score: "
    """Start of the judge's turn, before the score token (expected score)."""

    def render(self, prompt: Prompt, response: Response, **more: str) -> tuple[Message, ...]:
        """Render the question about a response, its thoughts removed; `more` fills other places."""
        return self.fill(prompt=question(prompt), response=strip_thoughts(response.text), **more)

    def render_prompt(self, prompt: Prompt) -> tuple[Message, ...]:
        """Render a judge prompt that shows a prompt without a response."""
        return self.fill(prompt=question(prompt))

    def shows(self, place: str) -> bool:
        """Return True if the template has a place of that name."""
        return f"{{{place}}}" in self.template

    def render_pair(self, prompt: Prompt, a: Response, b: Response) -> tuple[Message, ...]:
        """Render the comparison of two responses, `a` shown first."""
        first, second = strip_thoughts(a.text), strip_thoughts(b.text)
        return self.fill(prompt=question(prompt), response_a=first, response_b=second)

    def target(self, score: float, rationale: str = "") -> str:
        """Format a judge's answer that `read` parses as the given score."""
        return f"{rationale}\n\nScore: {score:g}" if rationale else f"Score: {score:g}"

    def read(self, text: str) -> float | None:
        """Parse the score in a judge's answer; None where it cannot be read."""
        return parse_score(text, low=self.low, high=self.high)

    @property
    def choices(self) -> tuple[str, ...]:
        """Scores as the judge writes them, lowest first."""
        return tuple(str(score) for score in range(self.low, self.high + 1))

    def fill(self, **texts: str) -> tuple[Message, ...]:
        """Fill every place of the template by its name.

        Raises:
            BadInput: the template has a place that is not given.
        """

        def text(place: re.Match[str]) -> str:
            if place[1] not in texts:
                raise BadInput(
                    f"judge prompt {self.name!r}: expected the places "
                    f"{', '.join(texts)}, found {place[0]}"
                )
            return neutral(texts[place[1]], tags_of(self.template))

        return (Message("user", _PLACE.sub(text, self.template)),)


def judge_prompt(name: str) -> JudgePrompt:
    """Load a judge prompt by the name of its file here, or by the path of a text file.

    Raises:
        BadInput: no such prompt, or a file that is no judge prompt.
    """
    return _load(name)


@lru_cache(maxsize=64)
def _load(name: str) -> JudgePrompt:
    own = {f.name.removesuffix(".txt"): f for f in _own_files()}
    if name in own:
        return _parse(name, own[name].read_text(encoding="utf-8"))
    path = Path(name)
    if not path.is_file():
        raise unknown_name("judge prompt", name, own)
    return _parse(path.stem, path.read_text(encoding="utf-8-sig"))


def _own_files() -> list[Path]:
    return [f for f in map(Path, map(str, files(__name__).iterdir())) if f.suffix == ".txt"]


def _parse(name: str, text: str) -> JudgePrompt:
    settings: Any = {}
    if text.startswith("---\n"):
        head, found, text = text[4:].partition("\n---\n")
        try:
            settings = yaml.safe_load(head) if found else None
        except yaml.YAMLError:
            settings = None
        if not isinstance(settings, dict):
            raise BadInput(f"judge prompt {name!r}: expected settings between lines of ---")
    for key in settings:
        if key not in _SETTINGS:
            raise unknown_name(f"setting of judge prompt {name!r}", str(key), _SETTINGS)
    prompt = build(JudgePrompt, {"name": name, "template": text.strip("\n"), **settings})
    if not _PLACE.search(prompt.template):
        raise BadInput(f"judge prompt {name!r}: expected {{prompt}} and {{response}}, found none")
    return prompt
