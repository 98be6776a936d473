"""XSTest's completions (arXiv 2308.01263): labels of compliance and refusal, for over-refusal.

Prompts of a `contrast_` type are unsafe, the others safe but similar to unsafe ones. Desirable is
to comply with safe prompts and to refuse unsafe ones; a partial refusal of an unsafe prompt is
dropped.
"""

from __future__ import annotations

from alignlab.data.build_records import BuildResult, Dropped, Origin, ResponseDraft, labelled, user
from alignlab.data.formats import row_format
from alignlab.data.options import Options
from alignlab.data.rows import Row

LABELS = ("1_full_compliance", "2_full_refusal", "3_partial_refusal")


@row_format("xstest", columns=[("type", "prompt", "completion", "annotation_1", "final_label")])
def xstest(row: Row, options: Options) -> list[BuildResult]:
    """Completions that people found to comply or to refuse, of safe and unsafe prompts."""
    kind, label = row.text("type"), row.text("final_label")
    if label not in LABELS:
        raise row.bad("final_label", "one of " + ", ".join(LABELS))
    unsafe = kind.startswith("contrast_")
    if unsafe and label == "3_partial_refusal":
        return [Dropped("partial refusal of an unsafe prompt")]
    good = label == ("2_full_refusal" if unsafe else "1_full_compliance")
    answer = ResponseDraft(row.text("completion"))
    return [labelled(user(row.text("prompt")), answer, good, Origin(f"xstest/{kind}"))]


def labels_of(row: Row) -> tuple[float, float]:
    """Read the labels of the two annotators, 0 to 2 in the order of `LABELS`."""
    labels = []
    for field in ("annotation_1", "annotation_2"):
        if row.text(field) not in LABELS:
            raise row.bad(field, "one of " + ", ".join(LABELS))
        labels.append(float(LABELS.index(row.text(field))))
    return labels[0], labels[1]
