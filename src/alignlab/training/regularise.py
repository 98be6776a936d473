"""Enable dropout and checkpointed layers during training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from alignlab.errors import BadInput
from alignlab.models.adapters import base_of


@contextmanager
def training_mode(model: Any, *, dropout: float, checkpointing: bool) -> Iterator[None]:
    """Enter train mode with the given dropout instead of that of the model's configuration.

    Dropout inside adapters is a setting of the adapter and stays.

    Raises:
        BadInput: `dropout` is above 0, and the model has no dropout layers.
    """
    base = base_of(model)
    was_training = model.training
    before = [(module, name, getattr(module, name)) for module, name in _dropouts(base)]
    if dropout and not before:
        raise BadInput(f"train: dropout: {type(base).__name__} has no dropout to set")
    try:
        for module, name, _ in before:
            setattr(module, name, dropout)
        if checkpointing:
            _method(base, "enable")({"use_reentrant": False})
        model.train()
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
        if checkpointing:
            _method(base, "disable")()
        model.train(was_training)


def _method(model: Any, what: str) -> Any:
    """Return transformers' switch of checkpointed layers, whose name depends on the version."""
    new = getattr(model, f"activation_checkpointing_{what}", None)
    return new or getattr(model, f"gradient_checkpointing_{what}")


def _dropouts(model: Any) -> list[tuple[Any, str]]:
    """Return the modules and attributes that hold a model's dropout probabilities."""
    found: list[tuple[Any, str]] = []
    for path, module in model.named_modules():
        if "lora_dropout" in path:
            continue
        if isinstance(module, torch.nn.Dropout):
            found.append((module, "p"))
        found.extend(
            (module, name)
            for name, value in vars(module).items()
            if isinstance(value, float) and name.endswith(("dropout", "_pdrop"))
        )
    return found
