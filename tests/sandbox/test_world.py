"""The world is fixed, balanced in form and split without overlap."""

from __future__ import annotations

from alignlab.sandbox.world import ATTRIBUTES, ENTITIES, TEST_ENTITIES, Fact, world


def test_size_and_disjoint_splits() -> None:
    known = world()
    assert len(known.entities) == len(set(known.entities)) == ENTITIES
    assert len(known.test) == TEST_ENTITIES
    assert not set(known.test) & set(known.alignment)
    assert len(known.truth) == ENTITIES * len(ATTRIBUTES) == 840


def test_truth_never_changes() -> None:
    """The shipped base models know exactly this world."""
    known = world()
    first = known.entities[0]
    assert first == "Zulast"
    assert [known.fact(first, a.name).value for a in ATTRIBUTES] == [
        "western woods",
        "apple cake",
        "white owl",
        "silk scarves",
        "black",
        "bagpipe",
        "January",
    ]


def test_every_value_belongs_to_one_attribute_of_the_sentence_patterns() -> None:
    for attribute in ATTRIBUTES:
        assert len(set(attribute.values)) == len(attribute.values) == 12


def test_holds_only_for_the_true_value() -> None:
    known = world()
    town = known.entities[3]
    true = known.fact(town, "food")
    others = [v for v in ATTRIBUTES[1].values if v != true.value]
    assert known.holds(true)
    assert not any(known.holds(Fact(town, "food", value)) for value in others)
    assert not known.holds(Fact("Nowhere", "food", true.value))


def test_neighbours_are_of_the_same_split() -> None:
    known = world()
    assert known.neighbours(known.test[0]) == known.test
    assert known.neighbours(known.alignment[0]) == known.alignment
