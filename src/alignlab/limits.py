"""Check lower bounds of settings."""

from __future__ import annotations

from alignlab.errors import BadInput


def at_least(part: str, settings: object, **fewest: float) -> None:
    """Check lower bounds of settings.

    Args:
        part: key of the settings on the command line, e.g. "sample".
        settings: a settings record.
        fewest: name of a setting -> its minimum.

    Raises:
        BadInput: a value is below its minimum.
    """
    for name, least in fewest.items():
        found = getattr(settings, name)
        if found < least:
            key = f"{part}.{name}".lstrip(".")
            raise BadInput(f"setting {key}: expected {least} or more, found {found!r}")
