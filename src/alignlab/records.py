"""Nouns to JSON and back: one line per record, the same bytes for the same record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from alignlab import types
from alignlab.errors import bad_record

T = TypeVar("T")

_VERDICTS: dict[str, type] = {
    "score": types.Score,
    "preference": types.Preference,
    "ranking": types.Ranking,
    "critique": types.Critique,
    "unscored": types.Unscored,
}
_KINDS = {cls: kind for kind, cls in _VERDICTS.items()}


def to_dict(record: Any) -> Any:
    """A record as plain JSON values; a verdict carries its kind."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        plain = {
            f.name: to_dict(getattr(record, f.name))
            for f in dataclasses.fields(record)
            if "left_out_if_none" not in f.metadata or getattr(record, f.name) is not None
        }
        kind = _KINDS.get(type(record))
        return {"kind": kind, **plain} if kind else plain
    if isinstance(record, Mapping):
        return {str(k): to_dict(v) for k, v in record.items()}
    if isinstance(record, tuple | list):
        return [to_dict(v) for v in record]
    return record


def default_keys(record: Any, prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of settings that hold their defaults, nested ones included."""
    if isinstance(record, Mapping):
        for key, value in record.items():
            yield from default_keys(value, f"{prefix}{key}.")
    if not dataclasses.is_dataclass(record) or isinstance(record, type):
        return
    for field in dataclasses.fields(record):
        value, made = getattr(record, field.name), field.default_factory
        default = field.default if made is dataclasses.MISSING else made()
        if default is not dataclasses.MISSING and value == default:
            yield prefix + field.name
        yield from default_keys(value, f"{prefix}{field.name}.")


def from_dict(cls: type[T], plain: Mapping[str, Any]) -> T:
    """A record from plain JSON values.

    Raises:
        pydantic.ValidationError: a field is missing, unknown or of the wrong type.
    """
    if cls is types.Feedback:
        verdict = dict(plain["verdict"])
        made = _VERDICTS[verdict.pop("kind")]
        rest = {k: v for k, v in plain.items() if k != "verdict"}
        rest["verdict"] = from_dict(made, verdict)
        return _adapter(cls).validate_python(rest)
    return _adapter(cls).validate_python(plain)


def to_line(record: Any) -> str:
    """One JSON line, with its newline; NaN and infinity are refused."""
    return json.dumps(to_dict(record), ensure_ascii=False, allow_nan=False) + "\n"


def from_line(cls: type[T], line: str) -> T:
    """Read one JSON line back.

    Raises:
        ValueError: not JSON (NaN and infinity are not), or no such record.
    """
    return from_dict(cls, json.loads(line, parse_constant=_refuse_constant))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"expected a finite number, found {name}")


def read_records(path: Path, cls: type[T]) -> Iterator[T]:
    """Records of one kind from a JSONL file; nothing when there is no such file."""
    if path.exists():
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield from_line(cls, line)


def whole_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that were written to their end; a stage may be in the middle of one, or dead.

    Nothing when there is no such file.
    """
    if not path.exists():
        return
    with path.open("rb") as file:  # half a line may end within a character
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n") and line.strip():
                yield number, line.decode()


def whole_records(path: Path, cls: type[T]) -> Iterator[T]:
    """Records of one kind from a JSONL file of a run that may still be under way.

    Raises:
        BadInput: a line that was written to its end is no such record.
    """
    for number, line in whole_lines(path):
        try:
            yield from_line(cls, line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise bad_record(path, number, where, first["msg"], first["input"]) from None
        except (ValueError, KeyError, TypeError) as error:
            raise bad_record(path, number, None, f"a {cls.__name__}", str(error)) from None


def fingerprint(value: Any) -> str:
    """A short content hash of anything that `to_dict` can write; the same on every machine."""
    text = json.dumps(to_dict(value), ensure_ascii=False, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _adapter(cls: type[T]) -> TypeAdapter[T]:
    if cls not in _adapters:
        _adapters[cls] = TypeAdapter(cls)
    return _adapters[cls]


_adapters: dict[type, TypeAdapter[Any]] = {}
