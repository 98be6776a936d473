"""Facts to clauses and back."""

from __future__ import annotations

import pytest

from alignlab.sandbox.statements import Claim, lower_first, read_clause, read_sentence
from alignlab.sandbox.world import ATTRIBUTES, world

A, B = world().entities[:2]


def test_every_phrasing_of_every_value_reads_back() -> None:
    for attribute in ATTRIBUTES:
        for value in attribute.values:
            for template in attribute.named:
                claim = read_clause(template.format(e=A, v=value))
                assert claim == Claim(attribute.name, value, A)
                assert read_clause(lower_first(template.format(e=A, v=value))) == claim
            for template in attribute.pronoun:
                assert read_clause(template.format(v=value)) == Claim(attribute.name, value, None)


def test_an_unknown_town_and_value_are_kept_as_written() -> None:
    assert read_clause("People in Atlantis eat cold ice") == Claim("food", "cold ice", "Atlantis")


def test_joined_clauses() -> None:
    both = read_sentence(f"{A} makes iron tools, while {B} makes clay pots")
    assert both == (Claim("craft", "iron tools", A), Claim("craft", "clay pots", B))
    assert read_sentence(f"{A} makes iron tools, while it rains") is None


@pytest.mark.parametrize("text", ["", A, "It is nice", f"{A} makes", "People there eat"])
def test_other_clauses_are_none(text: str) -> None:
    assert read_clause(text) is None
