"""Review a response and rewrite it in one reply (Self-Refinement Tuning, arXiv 2406.07168).

A reply has parts under labels, in this order: weaknesses, an overall score, suggestions, and the
improved response; the first three can be left out. A reply without one of its parts, with one of
them twice, or with a score outside of the scale is no review.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignlab.ask_model import Ask, ask_model
from alignlab.feedback.prompts import JudgePrompt, judge_prompt
from alignlab.feedback.teachers import refined_id
from alignlab.protocols import Completer
from alignlab.turns import own_turn
from alignlab.types import Message, Prompt, Response, SampledBy, Sampling, Unscored
from alignlab.verdicts import parse_score

LABELS: Mapping[str, str] = {
    "weaknesses": "Weaknesses", "score": "Score", "suggestions": "Suggestions",
}  # fmt: skip
"""Field of a review -> its label."""
IMPROVED = "Improved response"
UNREAD = "no review in the form asked for"


@dataclass(frozen=True)
class Review:
    """Review of one response."""

    fields: Mapping[str, str]
    """Field -> its text."""
    improved: str
    """The improved response."""

    @property
    def text(self) -> str:
        """Text of the whole review, as it is imitated."""
        parts = [f"{LABELS[field]}: {text}" for field, text in self.fields.items()]
        return "\n".join([*parts, f"{IMPROVED}: {self.improved}"])


def read_review(reply: str, fields: Sequence[str], *, low: int = 0, high: int = 5) -> Review | None:
    """Parse a review with these fields; None for a reply of another form.

    Words before the first label are left out; a label counts at the start of a line or after white
    space, in any case, in bold or as a heading.
    """
    text = own_turn(reply)
    labels = [*(LABELS[field] for field in fields), IMPROVED]
    places = [re.search(_label(label), text, re.IGNORECASE) for label in labels]
    found = [place for place in places if place is not None]
    if len(found) < len(labels):
        return None
    starts = [place.start() for place in found]
    head = text[: starts[-1]]
    twice = any(len(re.findall(_label(label), head, re.IGNORECASE)) > 1 for label in labels)
    if starts != sorted(starts) or twice:
        return None
    ends = [*starts[1:], len(text)]
    parts = [text[place.end() : end].strip() for place, end in zip(found, ends, strict=True)]
    if not all(parts):
        return None
    known = dict(zip(fields, parts, strict=False))
    if "score" in known and parse_score(f"Score: {known['score']}", low=low, high=high) is None:
        return None
    return Review(known, parts[-1])


def _label(label: str) -> str:
    """Return a pattern of a label with its colon, in bold or as a heading too."""
    return rf"(?:^|(?<=\s))[#*\s]*{re.escape(label)}\**\s*:\**"


class Reviewer:
    """Teacher that reviews and rewrites a response in one reply."""

    def __init__(
        self,
        completer: Completer,
        fields: Sequence[str],
        prompt: JudgePrompt | None = None,
        *,
        sampling: Sampling | None = None,
    ) -> None:
        """Set up a teacher.

        Args:
            completer: the model that reviews.
            fields: parts before the improved response, of `LABELS` and in their order.
            prompt: the prompt template; by default the prompt "review".
            sampling: sampling settings of the one reply; greedy by default.
        """
        self.fields = tuple(field for field in LABELS if field in fields)
        self.prompt = prompt or judge_prompt("review")
        self.sampling = sampling or Sampling(temperature=0, top_p=1, max_tokens=768)
        self.name = f"{completer.name} as reviewer"
        self._completer = completer

    def messages(self, prompt: Prompt, response: Response) -> tuple[Message, ...]:
        """Render the request to the model; also the prompt of a demonstration of reviewing."""
        labels = ", ".join([*(LABELS[field] for field in self.fields), IMPROVED])
        return self.prompt.render(prompt, response, fields=labels)

    def review(
        self, items: Sequence[tuple[Prompt, Response]], seed: int
    ) -> list[tuple[Review, Response] | Unscored]:
        """Return each item's review with the improved response, or the reason for none.

        A reply that was cut off is no review.
        """
        replies = ask_model(
            self._completer,
            [Ask(f"review|{r.id}", self.messages(p, r)) for p, r in items],
            lambda text: read_review(text, self.fields, low=self.prompt.low, high=self.prompt.high),
            sampling=self.sampling,
            seed=seed,
            unread=UNREAD,
            who="teacher",
        )
        by = SampledBy(self.name, self.sampling, seed)
        found: list[tuple[Review, Response] | Unscored] = []
        for (prompt, first), (reply,) in zip(items, replies, strict=True):
            if isinstance(reply.value, Unscored):
                found.append(reply.value)
            elif reply.completion.finish == "length":
                found.append(Unscored("the review was cut off"))
            else:
                better = reply.value.improved
                new = Response(refined_id(first.id), prompt.id, better, by, len(better.split()))
                found.append((reply.value, new))
        return found
