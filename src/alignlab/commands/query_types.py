"""Train a classifier of open- and closed-ended questions on labelled prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alignlab import configs
from alignlab.data.sources import load
from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import Interval, share_interval
from alignlab.types import Prompt

NAME = "query_types"
"""Name of the classifier in `alignlab train-classifier`."""


@dataclass(frozen=True)
class QueryTypeSettings:
    """Settings of `alignlab train-classifier query_types`."""

    test: str = ""
    """Labelled prompts for testing; the accuracy on them is printed."""


@dataclass(frozen=True)
class TrainedQueryTypes:
    """Trained classifier with its accuracy."""

    folder: str
    """Folder of the classifier, for `r3,types=FOLDER:ENCODER`."""
    trained_on: int
    accuracy: Interval | None
    """Accuracy on the test prompts, with Wilson's bounds."""
    most_common: float | None
    """Accuracy of always predicting the test prompts' most common type."""

    def __str__(self) -> str:
        lines = [f"query types: {self.folder} (learned from {self.trained_on} prompts)"]
        if self.accuracy is not None and self.most_common is not None:
            right = self.accuracy
            lines.append(
                f"held-out accuracy: {right.value:.3f} [{right.low:.3f}, {right.high:.3f}], "
                f"n {right.n}; always the most common type: {self.most_common:.3f}"
            )
        return "\n".join(lines)


def train_query_types(
    *overrides: str, model: str = "minilm", data: str, out: str | Path
) -> TrainedQueryTypes:
    """Train a classifier of query types on labelled prompts.

    Args:
        overrides: "test=DATA", as on the command line.
        model: the sentence encoder: "minilm", a folder or a hub id.
        data: PATH or FORMAT:PATH of prompts with a `query_type`.
        out: folder for the classifier.

    Raises:
        BadInput: prompts without labels, or no such encoder.
    """
    from alignlab.feedback.query_type_classifier import train_classifier

    settings = configs.build(QueryTypeSettings, configs.parse_overrides(overrides))
    test = _labelled(settings.test) if settings.test else []
    trained = train_classifier(_labelled(data), encoder=model)
    trained.save(out)
    if not test:
        return TrainedQueryTypes(str(out), trained.about.trained_on, None, None)
    right = [
        float(found == prompt.query_type)
        for found, prompt in zip(trained.of(test, 0), test, strict=True)
    ]
    [(_, most)] = Counter(p.query_type for p in test).most_common(1)
    return TrainedQueryTypes(
        str(out),
        trained.about.trained_on,
        share_interval(right, [p.cluster for p in test]),
        most / len(test),
    )


def _labelled(data: str) -> Sequence[Prompt]:
    prompts = load(data).prompts
    missing = next((p for p in prompts if p.query_type is None), None)
    if missing is not None:
        raise BadInput(
            f"{data}: prompt {missing.id}: query_type: expected open or closed, found none"
        )
    if not prompts:
        raise BadInput(f"{data}: expected prompts with a query_type, found none")
    return prompts
