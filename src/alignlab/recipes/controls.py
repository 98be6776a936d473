"""Name the roles of a study's controls."""

from __future__ import annotations

from collections.abc import Mapping

POSITIVE, NEGATIVE = "control, must help", "control, must not help"
"""Trained on the truth; trained on nothing that tells good from bad."""
EQUAL_COMPUTE = "control at equal compute"
"""Trained for as many responses without what the study tries."""


def with_roles(made: Mapping[str, str], controls: Mapping[str, str]) -> dict[str, str]:
    """Return how models were made, with the role of each control in front.

    Args:
        made: name of a model -> how it was made.
        controls: end of the name of a control -> its role.
    """
    found = dict(made)
    for name, text in made.items():
        for end, role in controls.items():
            if name.endswith(end) and not text.startswith(role):
                found[name] = f"{role}: {text}"
    return found
