"""WMT's expert translation errors (MQM, arXiv 2104.14478): systems' translations of a segment.

A row is one error marked by a rater (between <v> and </v>), or the absence of errors. Weights
(table 4 of the paper): major 5, minor 1, minor punctuation 0.1, non-translation 25. The score of a
translation is minus the sum of weights, averaged over its raters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from alignlab.data.build_records import Origin, ResponseDraft, user
from alignlab.data.group_rows import Rated, grouped_format
from alignlab.data.options import Options
from alignlab.data.rows import Row
from alignlab.text import trimmed

_MARK = re.compile(r"</?v>")
_WEIGHTS = {"No-error": 0.0, "Neutral": 0.0, "Minor": 1.0, "Major": 5.0}
_FIELDS = ("system", "rater", "source", "target", "category", "severity")


@dataclass(frozen=True)
class MqmOptions(Options):
    """Options of MQM ratings."""

    instruction: str = ""
    """Text before the source, such as "Translate into German."; by default the source alone is the
    prompt."""


@grouped_format("wmt_mqm", columns=[_FIELDS], options=MqmOptions)
def wmt_mqm(row: Row, options: MqmOptions) -> Rated:
    """Translations of a segment by several systems, ordered by experts' error marks (MQM)."""
    source = _MARK.sub("", row.text("source"))
    instructed = options.instruction and trimmed(source)  # an empty prompt is dropped and counted
    asked = f"{options.instruction}\n\n{source}" if instructed else source
    return Rated(
        user(asked),
        ResponseDraft(_MARK.sub("", row.text("target")), -weight(row), row.text("system")),
        Origin("wmt_mqm"),
        # Equal sentences of two documents are one prompt, rated twice.
        " ".join(str(row.get(field)) for field in ("doc", "seg_id", "rater")),
    )


def weight(row: Row) -> float:
    """Return the weight of a marked error.

    Raises:
        BadInput: the severity is unknown.
    """
    severity, category = row.text("severity"), row.text("category")
    if severity not in _WEIGHTS:
        raise row.bad("severity", "one of " + ", ".join(_WEIGHTS))
    if category.startswith("Non-translation") and _WEIGHTS[severity]:
        return 25.0
    if severity == "Minor" and category == "Fluency/Punctuation":
        return 0.1
    return _WEIGHTS[severity]
