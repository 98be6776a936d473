"""Routed feedback: another source for every kind of prompt (HRLAIF, arXiv 2403.08309).

`routed:closed=verifier|open=llm:ENGINE` sends closed-ended prompts to one source and open-ended
ones to another; `routed,by=source:gsm8k=verifier|other=SPEC` goes by the prompts' origin. Scores of
two routes have no common scale: compare responses to one prompt only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from alignlab.configs import Bounded, build
from alignlab.errors import BadInput, unknown_name
from alignlab.feedback.conversion import JudgeByScore, feedback_on
from alignlab.feedback.query_types import LabelledTypes, QueryTypes, query_types
from alignlab.protocols import FeedbackSource, MakeCompleter, flatten
from alignlab.registry import register
from alignlab.types import Feedback, Prompt, QueryType, Response, Unscored

OTHER = "other"
"""Route of prompts that no other route takes, and of those of an unknown type."""
_ROUTE = re.compile(r"(?:^|\|)([\w./ -]+)=")


@dataclass(frozen=True)
class RoutedOptions(Bounded):
    """Options of `routed,`."""

    by: Literal["type", "source"] = "type"
    """Key of the routes: the prompt's type (open, closed), or its source as the data names it, or
    the part of that before a slash."""
    types: str = "label"
    """Source of query types: label (the data's), random, or a trained classifier's folder."""


class Routed:
    """Feedback source that asks another source for every kind of prompt.

    A response to a prompt without a route is unscored; the reason names the prompt's type or
    source.
    """

    def __init__(
        self,
        routes: Mapping[str, FeedbackSource],
        *,
        by: Literal["type", "source"] = "type",
        types: QueryTypes | None = None,
    ) -> None:
        """Set up the routes.

        Args:
            routes: type or source of prompts, or "other" -> source of feedback.
            types: source of query types; by default the data's labels.

        Raises:
            BadInput: no route, or one of a type that does not exist.
        """
        if not routes:
            raise BadInput("routed: expected KIND=SPEC|KIND=SPEC, found no route")
        known = {*get_args(QueryType), OTHER}
        for name in routes:
            if by == "type" and name not in known:
                raise unknown_name("routed: type", name, known)
        self._routes, self._by, self._types = dict(routes), by, types or LabelledTypes()
        shown = " | ".join(f"{name}: {source.name}" for name, source in routes.items())
        self.name = f"routed ({shown})"
        self.files = {
            k: v for source in routes.values() for k, v in getattr(source, "files", {}).items()
        }

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response, with its route's rationale and words."""
        taken = self.routes_of([prompt for prompt, _ in items], seed)
        found: dict[str, Feedback] = {}
        for name, source in self._routes.items():
            some = [item for item, route in zip(items, taken, strict=True) if route == name]
            found |= {f.response_ids[0]: f for f in source.rate(some, seed)} if some else {}
        for (prompt, responses), route in zip(items, taken, strict=True):
            if isinstance(route, Unscored):
                lost = feedback_on([(prompt, responses)], self.name, [route] * len(responses))
                found |= {f.response_ids[0]: f for f in lost}
        return [replace(found[r.id], source=self.name) for _, r in flatten(items)]

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Prefer the response that the prompt's route scores higher."""
        return JudgeByScore(self, name=self.name).compare(items, seed)

    def routes_of(self, prompts: Sequence[Prompt], seed: int) -> list[str | Unscored]:
        """Return the route of each prompt; Unscored where there is none."""
        if self._by == "source":
            return [self._of_source(prompt) for prompt in prompts]
        return [self._of_type(kind) for kind in self._types.of(prompts, seed)]

    def _of_type(self, kind: QueryType | Unscored) -> str | Unscored:
        if isinstance(kind, Unscored):
            return OTHER if OTHER in self._routes else kind
        return self._chosen((kind,), f"{kind}-ended prompts")

    def _of_source(self, prompt: Prompt) -> str | Unscored:
        names = (prompt.source, prompt.source.partition("/")[0])
        return self._chosen(names, f"prompts of {prompt.source or 'an unknown source'}")

    def _chosen(self, names: Sequence[str], what: str) -> str | Unscored:
        """Return the first name that has a route."""
        found = next((n for n in (*names, OTHER) if n in self._routes), None)
        return Unscored(f"no route for {what}") if found is None else found


@register("feedback", "routed", options=RoutedOptions)
def make_routed(rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]) -> Routed:
    """`routed[,by=source,types=FOLDER]:closed=SPEC|open=SPEC[|other=SPEC]`: a source by prompt."""
    from alignlab.feedback.specs import rater  # which imports all sources by name

    chosen = build(RoutedOptions, options)
    if chosen.by == "source" and chosen.types != "label":
        raise BadInput("routed: types: has no effect with by=source; leave it out")
    specs = read_routes(rest)
    routes = {name: rater(spec, make_completer=make_completer) for name, spec in specs.items()}
    types = None if chosen.by == "source" else query_types(chosen.types)
    return Routed(routes, by=chosen.by, types=types)


def read_routes(text: str) -> dict[str, str]:
    """Split `closed=SPEC|open=SPEC` into kind -> spec; a spec may hold `|`, as an ensemble does.

    Raises:
        BadInput: no route, a route without a source, or one that is given twice.
    """
    starts = list(_ROUTE.finditer(text))
    if not starts or starts[0].start():
        raise BadInput(f"routed: expected KIND=SPEC|KIND=SPEC, found {text!r}")
    ends = [m.start() for m in starts[1:]] + [len(text)]
    routes: dict[str, str] = {}
    for match, end in zip(starts, ends, strict=True):
        name, spec = match[1], text[match.end() : end]
        if not spec or name in routes:
            raise BadInput(f"routed: {name}: expected one source, found {spec or 'none'}")
        routes[name] = spec
    return routes
