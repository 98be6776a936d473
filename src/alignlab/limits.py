"""Refuse settings below their bounds where they are given, not where they break."""

from __future__ import annotations

from alignlab.errors import BadInput


def at_least(part: str, settings: object, **fewest: float) -> None:
    """Make sure that settings are not too small.

    Args:
        part: what the settings are called on the command line, e.g. "sample".
        settings: a settings record.
        fewest: name of a setting -> its least value.

    Raises:
        BadInput: one is smaller.
    """
    for name, least in fewest.items():
        found = getattr(settings, name)
        if found < least:
            key = f"{part}.{name}".lstrip(".")
            raise BadInput(f"setting {key}: expected {least} or more, found {found!r}")
