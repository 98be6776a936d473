"""What is read from source files is what the imported code says."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Any

import pytest

from alignlab import registry, source


def _default(field: dataclasses.Field[Any], given: Any) -> Any:
    if given is not None:
        return getattr(given, field.name)
    if field.default is not dataclasses.MISSING:
        return field.default
    made = field.default_factory
    return None if made is dataclasses.MISSING else made()


def _values(cls: type, prefix: str = "", given: Any = None) -> dict[str, Any]:
    """Settings and defaults of a class as they are when it is imported."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        value = _default(field, given)
        if dataclasses.is_dataclass(value):
            found |= _values(type(value), f"{prefix}{field.name}.", value)
        else:
            found[prefix + field.name] = value
    return found


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple | frozenset) else value


@pytest.mark.parametrize("kind", ["recipe", "objective", "benchmark", "feedback", "data", "engine"])
def test_parts_found_in_the_source_are_those_that_register(kind: str):
    for package in (registry.PACKAGES[kind], registry.PACKAGES["sandbox"]):
        loaded = importlib.import_module(package)
        for module in pkgutil.iter_modules(loaded.__path__):
            importlib.import_module(f"{package}.{module.name}")
    registered = {
        name
        for (a_kind, name), part in registry._parts.items()
        if a_kind == kind
        and name != "python_rows"
        and getattr(part, "__module__", "alignlab").startswith("alignlab")
    }
    assert registry.index(kind).keys() == registered
    assert all(part.about for part in registry.index(kind).values())


@pytest.mark.parametrize("kind", ["recipe", "objective", "benchmark", "feedback"])
def test_settings_read_from_the_source_are_those_of_the_classes(kind: str):
    for name, part in registry.index(kind).items():
        if part.options is None:
            continue
        cls = getattr(importlib.import_module(part.options.module), part.options.name)
        described = {o.key: o for o in source.describe(part.options)}
        values = _values(cls)
        assert values.keys() <= described.keys(), name
        for key, value in values.items():
            if described[key].default != _plain(value):
                assert isinstance(described[key].default, str), (name, key)  # only running it tells
        assert kind == "benchmark" or all(option.doc for option in described.values()), name


def test_true_defaults_of_nested_settings_are_shown():
    compare = registry.find("recipe", "compare").options
    assert compare is not None
    shown = {o.key: o.default for o in source.describe(compare)}
    assert shown["expected.method"] == "expected"
    assert shown["judge.method"] == "samples"
    assert shown["preference.lora.r"] == 16


def test_a_recipe_defined_in_a_cell_is_found_and_its_settings_are_left_to_the_run(monkeypatch):
    from alignlab.api.studies import _values

    @dataclasses.dataclass(frozen=True)
    class Cell:
        config: type
        question: str = "Does it work?"

    class Config:
        __module__ = "<cell>"

    monkeypatch.setitem(registry._parts, ("recipe", "mine"), Cell(Config))
    assert registry.find("recipe", "mine").options == source.Place("<cell>", "Config")
    assert _values("mine", ("extra=2",), None) == {"extra": 2}


def test_constants_are_followed_through_imports():
    assert source.evaluate(
        "alignlab.measuring.judge_audit", source.find("alignlab.measuring.judge_audit", "NAME")[1]
    )
    with pytest.raises(source.NotStatic):
        source.find("alignlab.registry", "ast")
