"""Purpose of a run directory, and the files that state it."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from alignlab.errors import BadInput
from alignlab.records import to_dict
from alignlab.redo import timestamp

_SECRET = re.compile(r"://[^/\s@]+@(?!https?://)|[?&,](api_?key|password)=", re.IGNORECASE)
"""A user or a password (not the next of several MODEL@URL), or a key among an address's options."""

VERSIONED = ("alignlab", "torch", "transformers", "tokenizers", "peft", "numpy", "accelerate")


@dataclass(frozen=True)
class RunIdentity:
    """Purpose of a run directory; a resumed run must have the same."""

    recipe: str
    config: Mapping[str, Any]
    seeds: tuple[int, ...]
    settings: Any = None
    """The settings record that `config` was made of: settings that a run of an earlier version
    did not have yet must hold their defaults."""
    given: tuple[str, ...] | None = None
    """Dotted names of the settings that the user chose; of those that changed they come first."""


def config_text(identity: RunIdentity) -> str:
    """Return the text of config.yaml.

    Raises:
        BadInput: a password or a key in the settings.
    """
    config = yaml.safe_dump(to_dict(identity.config), sort_keys=False, allow_unicode=True)
    if _SECRET.search(config) or any(map(_SECRET.search, sys.argv)):
        raise BadInput(
            "settings: expected no password or key (settings are written to files; the key of "
            "an endpoint comes from its environment variable), found one in an address"
        )
    return config


def new_manifest(identity: RunIdentity) -> dict[str, Any]:
    """Return the manifest of a run that begins."""
    return {
        "recipe": identity.recipe,
        "command": shlex.join(["alignlab", *sys.argv[1:]]),
        "seeds": list(identity.seeds),
        "versions": {name: metadata.version(name) for name in VERSIONED},
        "commit": commit(),
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "inputs": {},
        "counts": [],
        "created": timestamp(),
    }


def commit(root: Path = Path(__file__).parents[2]) -> str:
    """Return the commit of this code, with `-dirty` if files differ from it.

    Args:
        root: root of a clone; an installed package has none, which gives an empty text.
    """
    if not (root / ".git").exists():
        return ""
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}  # other programs may hold the index
    try:
        found = subprocess.run(
            [*words, "--exclude=*"], env=environment, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
