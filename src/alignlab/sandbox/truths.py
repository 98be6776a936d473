"""Register the offline world's truth as feedback sources: of answers, sentences, single points."""

from __future__ import annotations

from dataclasses import dataclass

from alignlab.errors import BadInput, unknown_name
from alignlab.registry import register
from alignlab.sandbox.oracle import SHARES, Oracle
from alignlab.sandbox.points import PointOracle
from alignlab.sandbox.sentences import SentenceOracle
from alignlab.specs import read_options

SOURCES = ("oracle", *SHARES, "sentences", "points")


@dataclass(frozen=True)
class OracleOptions:
    """Options of `sandbox:oracle`, `sandbox:sentences` and `sandbox:points`."""

    noise: float = 0.0
    """Standard deviation of the error of each score, in points (of each sentence's value, from 0 to
    1); 0 gives the truth."""
    principle: str = ""
    """Principle that `sandbox:points` scores by, such as "nothing false"."""


@register("feedback", "sandbox", options=OracleOptions)
def make_oracle(rest: str) -> Oracle | SentenceOracle | PointOracle:
    """Score by the offline world's truth: `sandbox:oracle[?noise=1.5]`, satisfied, sentences.

    Raises:
        BadInput: another name, noise below 0 or of a yes-or-no truth, or a principle without effect
            or unknown.
    """
    named = read_options(rest, OracleOptions)
    name, noise, principle = named.name, named.options.noise, named.options.principle
    if name not in SOURCES:
        raise unknown_name("sandbox feedback", name, SOURCES)
    if noise < 0 or (noise and name in SHARES):
        raise BadInput(
            f"sandbox:{name} noise: expected 0 or more, 0 of a yes-or-no truth, found {noise:g}"
        )
    if name == "points":
        return PointOracle(principle, noise)
    if principle:
        raise BadInput(f"sandbox:{name} principle: has no effect; leave it out")
    if name == "sentences":
        return SentenceOracle(noise)
    return Oracle(noise, "" if name == "oracle" else name)
