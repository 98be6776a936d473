"""Classifier of query types: logistic regression on sentence embeddings.

The paper distils GPT-4's labels into a 7B model (arXiv 2402.03469, appendix); this one trains on
such labels in seconds. It is saved as weights (safetensors) with a description (JSON).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alignlab import files
from alignlab.configs import build
from alignlab.errors import BadInput
from alignlab.types import Prompt, QueryType, Unscored

WEIGHTS = "query_type.safetensors"
ABOUT = "query_type.json"
PENALTIES = (10.0, 3.0, 1.0, 0.3, 0.1)
"""Strengths of the L2 penalty that cross-validation compares."""


@dataclass(frozen=True)
class About:
    """Description of a trained classifier."""

    encoder: str
    """"minilm", or an encoder's folder or hub id."""
    trained_on: int
    """Number of labelled prompts."""
    penalty: float = 1.0
    """Strength of the L2 penalty (1 / C), chosen by cross-validation."""


@dataclass(frozen=True)
class QueryTypeClassifier:
    """Linear classifier: P(open-ended) = sigmoid(w e(x) + b), e(x) the last turn's embedding."""

    about: About
    weight_d: np.ndarray
    bias: float
    encoder: Any = field(repr=False, compare=False)

    def of(self, prompts: Sequence[Prompt], seed: int) -> list[QueryType | Unscored]:
        """Return the likelier type of each prompt; nothing is sampled."""
        return ["open" if p > 0.5 else "closed" for p in self.open_probabilities(prompts)]

    def open_probabilities(self, prompts: Sequence[Prompt]) -> list[float]:
        """Return P(open-ended) of each prompt."""
        if not prompts:
            return []
        from alignlab.feedback.relevance_encoder import embed

        logits = embed(self.encoder, [p.text for p in prompts], True) @ self.weight_d + self.bias
        return [float(1 / (1 + np.exp(-z))) for z in logits]

    def save(self, folder: str | Path) -> None:
        """Save the classifier to a folder."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        files.make_folder(folder)
        tensors = {"weight": self.weight_d, "bias": np.array([self.bias], dtype=np.float32)}
        save_file(tensors, folder / WEIGHTS)
        files.write_json(folder / ABOUT, asdict(self.about))


def train_classifier(prompts: Sequence[Prompt], *, encoder: str = "minilm") -> QueryTypeClassifier:
    """Train on labelled prompts; 5-fold cross-validation chooses the penalty.

    Raises:
        BadInput: a prompt without a label, or too few of a type.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    from alignlab.feedback.relevance_encoder import embed, load_encoder

    for prompt in prompts:
        if prompt.query_type is None:
            raise BadInput(f"prompt {prompt.id}: query_type: expected open or closed, found none")
    is_open = np.array([p.query_type == "open" for p in prompts])
    if min(is_open.sum(), (~is_open).sum()) < 5:
        raise BadInput(
            f"query types: expected at least 5 prompts of each type, found {int(is_open.sum())} "
            f"open and {int((~is_open).sum())} closed"
        )
    model = load_encoder(encoder)
    features = embed(model, [p.text for p in prompts], True)

    def learner(penalty: float) -> LogisticRegression:
        return LogisticRegression(C=1 / penalty, max_iter=5000)

    def accuracy(penalty: float) -> float:
        return float(cross_val_score(learner(penalty), features, is_open, cv=5).mean())

    penalty = max(PENALTIES, key=accuracy)
    found = learner(penalty).fit(features, is_open)
    about = About(encoder, len(prompts), penalty)
    return QueryTypeClassifier(
        about, found.coef_[0].astype(np.float32), float(found.intercept_[0]), model
    )


def load_classifier(folder: str | Path) -> QueryTypeClassifier:
    """Load a classifier from a folder.

    Raises:
        BadInput: there is none in the folder.
    """
    from safetensors.numpy import load_file

    from alignlab.feedback.relevance_encoder import load_encoder

    folder = Path(folder)
    if not (folder / ABOUT).is_file() or not (folder / WEIGHTS).is_file():
        raise BadInput(
            f"{folder}: expected a query-type classifier ({ABOUT}, {WEIGHTS}), found none"
        )
    about = build(About, files.read_json(folder / ABOUT))
    tensors = load_file(folder / WEIGHTS)
    return QueryTypeClassifier(
        about, tensors["weight"], float(tensors["bias"][0]), load_encoder(about.encoder)
    )
