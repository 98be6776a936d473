"""Register the offline world's truth as feedback sources: of whole answers, and of sentences."""

from __future__ import annotations

from dataclasses import dataclass

from alignlab.errors import BadInput, unknown_name
from alignlab.registry import register
from alignlab.sandbox.oracle import Oracle
from alignlab.sandbox.sentences import SentenceOracle
from alignlab.specs import read_options

SOURCES = {"oracle": Oracle, "sentences": SentenceOracle}


@dataclass(frozen=True)
class OracleOptions:
    """Options of `sandbox:oracle` and `sandbox:sentences`."""

    noise: float = 0.0
    """Standard deviation of the error of each score, in points (of each sentence's value, from 0 to
    1); 0 gives the truth."""


@register("feedback", "sandbox", options=OracleOptions)
def make_oracle(rest: str) -> Oracle | SentenceOracle:
    """Score by the offline world's truth: `sandbox:oracle[?noise=1.5]`, `sandbox:sentences`.

    Raises:
        BadInput: the name is neither "oracle" nor "sentences", or the noise is below 0.
    """
    named = read_options(rest, OracleOptions)
    if named.name not in SOURCES:
        raise unknown_name("sandbox feedback", named.name, SOURCES)
    if named.options.noise < 0:
        raise BadInput(
            f"sandbox:{named.name} noise: expected 0 or more, found {named.options.noise}"
        )
    return SOURCES[named.name](named.options.noise)
