"""Mix records of several sources: distinct ones, by weight, without repeating any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from alignlab.errors import BadInput
from alignlab.specs import split

T = TypeVar("T")
Specs = str | tuple[str, ...]
"""Spec of a data source, or of several."""


@dataclass(frozen=True)
class Weighted:
    """Data source with its weight in a mixture."""

    spec: str
    """Spec without the weight."""
    weight: float | None
    """Share of the mixture, in any unit; None takes all records."""

    @property
    def name(self) -> str:
        """Return the source's name in counts: its spec without folders."""
        head, mark, options = self.spec.partition("?")
        layout, colon, path = head.rpartition(":")
        return f"{layout}{colon}{path.rstrip('/').rpartition('/')[2]}{mark}{options}"


def sources_of(specs: Specs, setting: str) -> tuple[Weighted, ...]:
    """Parse the specs of a role: `SPEC?weight=0.3`, weights on all of several or on none.

    Raises:
        BadInput: a weight that is no number above 0, that only some have, or that one has alone.
    """
    given = [specs] if isinstance(specs, str) else list(specs)
    found = tuple(_weighted(spec, setting) for spec in given if spec)
    with_weight = sum(one.weight is not None for one in found)
    if with_weight and (with_weight < len(found) or len(found) == 1):
        wanted = (
            "no weight on one source" if len(found) == 1 else "a weight on each source, or none"
        )
        raise BadInput(f"setting {setting}: expected {wanted}, found {', '.join(given)}")
    if len({one.spec for one in found}) < len(found):
        raise BadInput(f"setting {setting}: expected different sources, found {', '.join(given)}")
    return found


def _weighted(spec: str, setting: str) -> Weighted:
    parts = split(spec)
    weights = [o.partition("=")[2] for o in parts.options if o.startswith("weight=")]
    if not weights:
        return Weighted(spec, None)
    others = "&".join(o for o in parts.options if not o.startswith("weight="))
    try:
        weight = float(weights[-1])
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise BadInput(
            f"setting {setting}: expected a weight above 0, found weight={weights[-1]} in {spec}"
        )
    return Weighted(f"{parts.head}?{others}" if others else parts.head, weight)


def mixed(parts: Sequence[Sequence[T]], weights: Sequence[float | None]) -> list[T]:
    """Interleave records so that every beginning holds the sources in their shares.

    With weights, the mixture is the largest that has their shares without repeating a record;
    without, all records are taken. Sources without records have no share.
    """
    filled = [(part, w) for part, w in zip(parts, weights, strict=True) if part]
    if not filled:
        return []
    shares = [len(part) if w is None else w for part, w in filled]
    size = min(len(part) * sum(shares) / s for (part, _), s in zip(filled, shares, strict=True))
    taken = [0] * len(filled)
    found: list[T] = []
    for k in range(1, int(size + 1e-9) + 1):
        behind = [k * share / sum(shares) - n for share, n in zip(shares, taken, strict=True)]
        left = [i for i, (part, _) in enumerate(filled) if taken[i] < len(part)]
        chosen = max(left, key=lambda i: (behind[i], -i))
        found.append(filled[chosen][0][taken[chosen]])
        taken[chosen] += 1
    return found
