"""R3, the regularised relevance reward (arXiv 2402.03469, section 3): no preference data.

A good answer to an open-ended question is about the question, long, and does not repeat itself:

    r = LI(y) * Rel(x, y) * RP(y)

and one to a closed-ended question is about the reference answer, at any length:

    r = interp(Rel(reference, y)) * RP(y)

LI = tokens / 100 (words and punctuation), RP = distinct / all trigrams, Rel = dot product of
embeddings, interp linear from [0, 3.5] to [0, max_response_tokens / 100].

Departure: raw terms of an encoder other than Contriever are on other scales, so with `ranges` (see
r3_ranges.py) LI and both relevances are mapped from their range on samples to [0, 1]; the two kinds
of questions then have rewards on one scale.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from alignlab.answers.libraries import key_of
from alignlab.configs import Bounded, PositiveInt, build
from alignlab.errors import BadInput
from alignlab.feedback.query_types import QueryTypes, query_types
from alignlab.feedback.r3_ranges import Range, Ranges, read_ranges
from alignlab.feedback.relevance import Relevance, relevance_model
from alignlab.protocols import flatten
from alignlab.registry import register
from alignlab.text import distinct_share, words
from alignlab.types import Feedback, Prompt, QueryType, Response, Score, Unscored

ROLE_MARKER = re.compile(
    r"(?:^|\n)\s*(?:#+\s*)?(?:human|user|assistant|instruction|input|question)\s*:"
    r"|<\|(?:user|assistant|system|im_start|im_end|endoftext)\|>",
    re.IGNORECASE,
)
"""Start of another speaker's turn inside a response."""


@dataclass(frozen=True)
class R3Options(Bounded):
    """Options of `r3,`: the paper's ablations, query types and scales."""

    relevance: bool = True
    """Multiply by relevance; off, it is 1."""
    length: bool = True
    """Multiply by the length incentive; off, it is 1."""
    repetition: bool = True
    """Multiply by the repetition penalty; off, it is 1."""
    branch: bool = True
    """Reward answers to closed-ended questions by the reference; off, all count as open-ended."""
    types: str = "label"
    """Source of query types: "label" (the data's), "random", or a classifier's folder."""
    normalise: bool = False
    """Give embeddings length 1 before their product."""
    max_response_tokens: PositiveInt = 512
    """Longest response in tokens; a closed-ended answer earns at most a hundredth of it."""
    ranges: str = ""
    """File of the terms' ranges on samples (`r3_ranges.json`); empty uses raw terms."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.branch and self.types != "label":
            raise BadInput("r3: types: has no effect with branch=false; leave it out")
        if not (self.relevance or self.length or self.repetition):
            raise BadInput("r3: expected at least one of relevance, length and repetition")


@dataclass(frozen=True)
class Terms:
    """Terms of the reward of one response."""

    query_type: QueryType
    relevance: float | None
    """Relevance to the question, or to the reference where the question is closed-ended."""
    length: float
    """Words and runs of punctuation, in hundreds."""
    unrepeated: float
    """Distinct / all trigrams."""

    def rationale(self) -> str:
        """Format the terms for the rationale of a feedback record."""
        relevance = "" if self.relevance is None else f"relevance {self.relevance:.3f}, "
        return (
            f"{self.query_type}-ended; {relevance}length {self.length:.2f}, "
            f"distinct trigrams {self.unrepeated:.3f}"
        )


@dataclass
class R3:
    """Feedback source of the R3 reward, without sampling."""

    model: Relevance
    options: R3Options = R3Options()
    types: QueryTypes = field(default_factory=lambda: query_types("label"))
    ranges: Ranges | None = None

    name: str = field(init=False)

    def __post_init__(self) -> None:
        changed = [
            f"{key}={value}"
            for key, value in vars(self.options).items()
            if value != getattr(R3Options(), key) and key != "ranges"
        ]
        self.name = ",".join(["r3", *changed]) + f":{self.model.name}"

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one score per response; Unscored if empty, or of unknown type or reference."""
        rated = flatten(items)
        return [
            Feedback(prompt.id, (response.id,), self.name, found)
            if isinstance(found, Unscored)
            else self._feedback(prompt, response, found)
            for (prompt, response), found in zip(rated, self.terms(items, seed), strict=True)
        ]

    def terms(
        self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int
    ) -> list[Terms | Unscored]:
        """Return the terms of each response, before ranges and products."""
        kinds = self._kinds([prompt for prompt, _ in items], seed)
        found: list[Terms | Unscored] = []
        pairs: list[tuple[str, str]] = []
        for (prompt, responses), kind in zip(items, kinds, strict=True):
            for response in responses:
                text = cut_at_role_marker(response.text)
                seen = _look(prompt, kind, text)
                if isinstance(seen, Terms) and self.options.relevance:
                    target = key_of(prompt.reference or "") if kind == "closed" else prompt.text
                    pairs.append((target, text))
                found.append(seen)
        values = iter(self.model.products(pairs))
        if not self.options.relevance:
            return found
        return [
            replace(each, relevance=next(values)) if isinstance(each, Terms) else each
            for each in found
        ]

    def reward(self, terms: Terms) -> float:
        """Return the product of the terms."""
        options, ranges = self.options, self.ranges
        value = terms.unrepeated if options.repetition else 1.0
        if terms.query_type == "closed":
            relevance = 1.0 if terms.relevance is None else terms.relevance
            if ranges is None:
                top = options.max_response_tokens / 100
                return value * float(np.interp(relevance, [0, 3.5], [0, top]))
            return value * (ranges.closed.share(relevance) if options.relevance else 1.0)
        if options.length:
            value *= terms.length if ranges is None else ranges.length.share(terms.length)
        if terms.relevance is not None:
            value *= terms.relevance if ranges is None else ranges.open.share(terms.relevance)
        return value

    def _kinds(self, prompts: Sequence[Prompt], seed: int) -> list[QueryType | Unscored]:
        if not self.options.branch:
            return ["open" for _ in prompts]
        return self.types.of(prompts, seed)

    def _feedback(self, prompt: Prompt, response: Response, terms: Terms) -> Feedback:
        value = self.reward(terms)
        return Feedback(
            prompt.id,
            (response.id,),
            self.name,
            Score(value, (value,)),
            rationale=terms.rationale(),
        )


def cut_at_role_marker(text: str) -> str:
    """Cut a text where another speaker's turn begins."""
    found = ROLE_MARKER.search(text)
    return (text[: found.start()] if found else text).strip()


def measure_ranges(
    source: R3, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int
) -> Ranges:
    """Measure the range of each term on samples, from its 2nd to its 98th percentile.

    Raises:
        BadInput: a kind of question has too few samples, or a term is the same in all.
    """
    seen = [t for t in source.terms(items, seed) if isinstance(t, Terms)]
    of_open = [t for t in seen if t.query_type == "open"]
    of_closed = [t for t in seen if t.query_type == "closed"]
    whole = Range(0.0, 1.0)

    def relevance(terms: Sequence[Terms], what: str) -> Range:
        values = [t.relevance for t in terms if t.relevance is not None]
        return Range.of(values, what) if source.options.relevance else whole

    return Ranges(
        length=Range.of([t.length for t in of_open], "the length of open-ended answers"),
        open=relevance(of_open, "relevance to open-ended questions"),
        closed=relevance(of_closed, "relevance to references") if of_closed else whole,
    )


@register("feedback", "r3", options=R3Options)
def make_r3(rest: str, *, options: dict[str, Any]) -> R3:
    """`r3[,branch=false,ranges=FILE]:minilm|tfidf|FOLDER`: relevance, length and variety (R3)."""
    chosen = build(R3Options, options)
    model = relevance_model(rest or "minilm", normalise=chosen.normalise)
    ranges = read_ranges(Path(chosen.ranges)) if chosen.ranges else None
    return R3(model, chosen, query_types(chosen.types), ranges)


def _look(prompt: Prompt, kind: QueryType | Unscored, text: str) -> Terms | Unscored:
    """Measure length and repetition of a response; relevance is filled in for all at once."""
    if isinstance(kind, Unscored):
        return kind
    if not text:
        return Unscored("the response is empty")
    if kind == "closed" and not key_of(prompt.reference or ""):
        return Unscored("the question is closed-ended and has no reference answer")
    tokens = words(text)
    return Terms(kind, None, len(tokens) / 100, distinct_share(tokens, 3))
