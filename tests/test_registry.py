"""Parts are found by name; a wrong name is answered with the nearest right one."""

import pytest

from alignlab import registry
from alignlab.errors import BadInput


def test_every_kind_has_parts():
    for kind in ("recipe", "objective", "engine", "feedback", "benchmark", "data", "model"):
        assert registry.names(kind), kind


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(
        BadInput, match=r"unknown recipe 'self_rewardin'; did you mean 'self_rewarding'"
    ):
        registry.get("recipe", "self_rewardin")
    with pytest.raises(BadInput, match="unknown kind of part"):
        registry.names("flavour")


def test_a_name_is_given_once():
    def one() -> None: ...

    def two() -> None: ...

    registry.register("objective", "test-only")(one)
    registry.register("objective", "test-only")(one)
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("objective", "test-only")(two)
    registry._parts.pop(("objective", "test-only"))
