"""Check that a file is whole: JSON, YAML, weights, and mappings that hold their own hash."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def seal(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with a SHA-256 of its other values, by which a change is found."""
    rest = {key: value for key, value in plain.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False)
    return {**rest, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def torn(file: Path) -> tuple[None, str] | None:
    """Return what is wrong with the length of a weight file; None for other files."""
    if file.suffix != ".safetensors":
        return None
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > size:
                raise ValueError
            head = json.loads(stream.read(length))
        ends = [v["data_offsets"][1] for k, v in head.items() if k != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None, f"weights in safetensors, found {size} bytes without a readable head"
    return None if size == expected else (None, f"{expected} bytes of weights, found {size}")


def read_mapping(file: Path) -> tuple[dict[str, Any], str]:
    """Read a JSON or YAML file that must hold a mapping; a problem instead of an exception."""
    kind = "YAML" if file.suffix == ".yaml" else "JSON"
    try:
        text = file.read_text(encoding="utf-8")
        plain = yaml.safe_load(text) if kind == "YAML" else json.loads(text)
    except FileNotFoundError:
        return {}, f"a {kind} file, found none"
    except (ValueError, yaml.YAMLError):
        plain = None
    return (plain, "") if isinstance(plain, dict) else ({}, f"{kind}, found something else")


def json_problem(file: Path) -> str:
    """Return what is wrong with a JSON file; empty for none."""
    try:
        json.loads(file.read_bytes())
    except ValueError:
        return "JSON, found something else"
    return ""
