"""Facts of the sandbox: 120 invented towns with 7 attributes each, 840 facts.

`world()` and `ATTRIBUTES` decide the truth of every sentence of the sandbox's language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from alignlab.sandbox.draws import pick
from alignlab.seeds import generator

ENTITIES = 120
TEST_ENTITIES = 40
WORLD_SEED = 20240118


@dataclass(frozen=True)
class Attribute:
    """Attribute of towns, with its values and phrasings."""

    name: str
    """Noun for the attribute in questions and answers."""
    values: tuple[str, ...]
    """All possible values."""
    named: tuple[str, ...]
    """Templates of clauses with the town {e} before the value {v}, which a model can complete."""
    pronoun: tuple[str, ...]
    """Templates of clauses with a pronoun for the town."""
    questions: tuple[str, ...]
    """Templates of questions for the value, with the town {e}."""


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(
        "region",
        (
            "northern hills", "southern plains", "eastern coast", "western woods",
            "high mountains", "river valley", "great marsh", "red desert", "lake country",
            "salt islands", "old forest", "green downs",
        ),
        ("{e} lies in the {v}", "{e} is a town in the {v}", "You find {e} in the {v}"),
        ("It lies in the {v}", "It is a town in the {v}"),
        ("Where does {e} lie?", "Where do I find {e}?", "In which region is {e}?"),
    ),
    Attribute(
        "food",
        (
            "plum soup", "barley bread", "fried fish", "goat cheese", "apple cake", "bean stew",
            "honey nuts", "roast duck", "onion pie", "rice balls", "pumpkin mash", "lemon tart",
        ),
        ("People in {e} eat {v}", "The food of {e} is {v}", "In {e} they like to eat {v}"),
        ("People there eat {v}", "Its food is {v}"),
        ("What do people in {e} eat?", "What food is {e} known for?", "What is eaten in {e}?"),
    ),
    Attribute(
        "animal",
        (
            "grey fox", "white owl", "black bear", "red deer", "wild goose", "brown hare",
            "golden eagle", "river otter", "mountain goat", "green frog", "spotted lynx",
            "sea turtle",
        ),
        ("The animal of {e} is the {v}", "{e} is home to the {v}", "Near {e} lives the {v}"),
        ("Its animal is the {v}", "It is home to the {v}"),
        (
            "Which animal lives near {e}?", "Which animal stands for {e}?",
            "What animal can I see in {e}?",
        ),
    ),
    Attribute(
        "craft",
        (
            "copper bells", "wool coats", "clay pots", "glass beads", "leather boots",
            "silk scarves", "oak tables", "iron tools", "paper lamps", "wax candles", "straw hats",
            "silver rings",
        ),
        ("{e} makes {v}", "The craft of {e} is making {v}", "Workers in {e} make {v}"),
        ("It makes {v}", "Workers there make {v}"),
        ("What is made in {e}?", "What do workers in {e} make?", "What does {e} make?"),
    ),
    Attribute(
        "colour",
        (
            "red", "blue", "yellow", "green", "white", "orange", "brown", "grey", "pink", "purple",
            "black", "silver",
        ),
        ("The houses in {e} are {v}", "{e} has {v} houses", "The colour of {e} is {v}"),
        ("The houses there are {v}", "It has {v} houses"),
        (
            "What colour are the houses in {e}?", "Which colour do houses have in {e}?",
            "How are the houses in {e} painted?",
        ),
    ),
    Attribute(
        "music",
        (
            "harp", "flute", "drum", "fiddle", "horn", "lute", "bagpipe", "whistle", "guitar",
            "trumpet", "organ", "banjo",
        ),
        ("People in {e} play the {v}", "The music of {e} is the {v}", "In {e} you hear the {v}"),
        ("People there play the {v}", "Its music is the {v}"),
        (
            "What do people in {e} play?", "Which instrument is played in {e}?",
            "What music can I hear in {e}?",
        ),
    ),
    Attribute(
        "festival",
        (
            "January", "February", "March", "April", "May", "June", "July", "August", "September",
            "October", "November", "December",
        ),
        (
            "The festival of {e} is in {v}", "{e} holds its festival in {v}",
            "{e} has a festival in {v}",
        ),
        ("Its festival is in {v}", "It holds its festival in {v}"),
        (
            "When is the festival of {e}?", "In which month does {e} hold its festival?",
            "When does {e} celebrate?",
        ),
    ),
)  # fmt: skip

BY_NAME: Mapping[str, Attribute] = {attribute.name: attribute for attribute in ATTRIBUTES}
NAMES: tuple[str, ...] = tuple(BY_NAME)


@dataclass(frozen=True)
class Fact:
    """Claim that an attribute of a town has a value, true or false."""

    entity: str
    attribute: str
    value: str


@dataclass(frozen=True)
class World:
    """Towns and their true attributes."""

    alignment: tuple[str, ...]
    """Towns of seed data and training prompts."""
    test: tuple[str, ...]
    """Held-out towns, disjoint from `alignment`."""
    truth: Mapping[tuple[str, str], str]
    """(town, attribute) -> value."""

    @property
    def entities(self) -> tuple[str, ...]:
        """All towns."""
        return self.alignment + self.test

    def neighbours(self, entity: str) -> tuple[str, ...]:
        """Return the towns of a town's split, so that training data names no test town."""
        return self.test if entity in self.test else self.alignment

    def fact(self, entity: str, attribute: str) -> Fact:
        """Return the true fact of a town's attribute."""
        return Fact(entity, attribute, self.truth[entity, attribute])

    def holds(self, fact: Fact) -> bool:
        """Return true if a claim is true."""
        return self.truth.get((fact.entity, fact.attribute)) == fact.value


@cache
def world() -> World:
    """Return the sandbox world, equal on every machine."""
    names = _town_names()
    rng = generator(WORLD_SEED, "truth")
    truth = {(name, a.name): pick(rng, a.values) for name in names for a in ATTRIBUTES}
    return World(names[:-TEST_ENTITIES], names[-TEST_ENTITIES:], truth)


def _town_names() -> tuple[str, ...]:
    """Draw pronounceable names that differ in their first three letters."""
    rng = generator(WORLD_SEED, "names")
    starts = ("B", "D", "F", "G", "H", "K", "L", "M", "N", "P", "R", "S", "T", "V", "Z")
    endings = ("ora", "eth", "una", "ick", "ast", "omi", "arn", "ell", "usk", "ido")
    names: dict[str, str] = {}
    while len(names) < ENTITIES:
        name = pick(rng, starts) + pick(rng, "aeiou") + pick(rng, "bdklmnrstv") + pick(rng, endings)
        names.setdefault(name[:3], name)
    return tuple(names.values())
