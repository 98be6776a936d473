"""WMT's expert translation errors (MQM, arXiv 2104.14478): systems' translations of a segment.

A row is one error that a rater marked (between <v> and </v>), or that there was none. An error
weighs 5 if major, 1 if minor, 0.1 if a minor one of punctuation, and 25 for a non-translation
(table 4 there); a translation's score is minus the mean over its raters of the sum.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from alignlab.data.build_records import Origin, ResponseDraft, user
from alignlab.data.group_rows import Rated, grouped_format
from alignlab.data.options import Options
from alignlab.data.rows import Row

_MARK = re.compile(r"</?v>")
_WEIGHTS = {"No-error": 0.0, "Neutral": 0.0, "Minor": 1.0, "Major": 5.0}
_FIELDS = ("system", "rater", "source", "target", "category", "severity")


@dataclass(frozen=True)
class MqmOptions(Options):
    """Options of MQM ratings."""

    instruction: str = ""
    """Text put before the source, such as "Translate into German."; left out, the source alone is
    the prompt."""


@grouped_format("wmt_mqm", columns=[_FIELDS], options=MqmOptions)
def wmt_mqm(row: Row, options: MqmOptions) -> Rated:
    """Translations of a segment by several systems, ordered by experts' error marks (MQM)."""
    source = _MARK.sub("", row.text("source"))
    asked = f"{options.instruction}\n\n{source}" if options.instruction else source
    return Rated(
        user(asked),
        ResponseDraft(_MARK.sub("", row.text("target")), -weight(row), row.text("system")),
        Origin("wmt_mqm"),
        # The same sentence of two documents is one prompt, and was rated twice.
        " ".join(str(row.get(field)) for field in ("doc", "seg_id", "rater")),
    )


def weight(row: Row) -> float:
    """What a marked error costs.

    Raises:
        BadInput: a severity that MQM does not have.
    """
    severity, category = row.text("severity"), row.text("category")
    if severity not in _WEIGHTS:
        raise row.bad("severity", "one of " + ", ".join(_WEIGHTS))
    if category.startswith("Non-translation") and _WEIGHTS[severity]:
        return 25.0
    if severity == "Minor" and category == "Fluency/Punctuation":
        return 0.1
    return _WEIGHTS[severity]
