"""Feedback sources by spec: NAME[,option=value...][:REST].

`llm:sandbox:strong`, `llm,samples=5,prompt=short_score:local:FOLDER`, `expected:local:FOLDER`,
`pairwise:openai:MODEL@URL`, `random`, `longer`, `sandbox:oracle?noise=1.5`. REST is parsed by the
source; for judges made of a model it is the engine's spec.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

from alignlab.configs import parse_overrides
from alignlab.errors import BadInput
from alignlab.feedback.conversion import JudgeByScore, ScoreByPairs
from alignlab.protocols import FeedbackSource, MakeCompleter, PairJudge
from alignlab.registry import get
from alignlab.types import Prompt

BY_REFERENCE = ("verifier", "reference", "metric")
"""Sources that compare a response with its prompt's reference answer."""


def judge(spec: str, *, make_completer: MakeCompleter) -> FeedbackSource:
    """Make a source of scores from a spec.

    Raises:
        BadInput: no such source, an option it does not have, or one that only compares.
    """
    part = _make(spec, make_completer)
    if not hasattr(part, "rate"):
        raise BadInput(f"feedback {spec!r}: expected a source of scores, found one that compares")
    source: FeedbackSource = part
    return source


def pair_judge(spec: str, *, make_completer: MakeCompleter) -> PairJudge:
    """Make a judge of pairs from a spec; of a source that only scores, the higher score wins.

    Raises:
        BadInput: no such source, or an option it does not have.
    """
    part = _make(spec, make_completer)
    compares: PairJudge = part if hasattr(part, "compare") else JudgeByScore(part)
    return compares


def rater(spec: str, *, make_completer: MakeCompleter) -> FeedbackSource:
    """Make a source of scores from any spec; one that only compares gives shares of pairs won.

    Raises:
        BadInput: no such source, or an option it does not have.
    """
    part = _make(spec, make_completer)
    rates: FeedbackSource = part if hasattr(part, "rate") else ScoreByPairs(part)
    return rates


def _make(spec: str, make_completer: MakeCompleter) -> Any:
    head, _, rest = spec.partition(":")
    name, *options = head.split(",")
    factory = get("feedback", name)
    accepted = inspect.signature(factory).parameters
    arguments: dict[str, Any] = {}
    if "make_completer" in accepted:
        if not rest:
            raise BadInput(f"feedback {spec!r}: expected {name}:ENGINE, found no engine")
        arguments["make_completer"] = make_completer
    if "options" in accepted:
        given = [option.partition("=")[0].strip() for option in options]
        if twice := next((key for key in given if given.count(key) > 1), None):
            raise BadInput(f"feedback {spec!r}: expected each option once, found {twice!r} twice")
        arguments["options"] = parse_overrides(options)
    elif options:
        raise BadInput(f"feedback {spec!r}: expected no options before the colon, found {options}")
    return factory(rest, **arguments)


def refuse_without_references(setting: str, spec: str, prompts: Sequence[Prompt]) -> None:
    """Refuse a source that compares with reference answers where no prompt has one.

    Args:
        setting: name of the setting that holds the spec.

    Raises:
        BadInput: such a source.
    """
    if re.split("[,:]", spec)[0] in BY_REFERENCE and not any(p.reference for p in prompts):
        raise BadInput(
            f"{setting}={spec}: expected prompts with reference answers (field 'reference'), found "
            f"none among {len(prompts)}; `alignlab data check` names the fields not read"
        )
