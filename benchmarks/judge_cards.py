"""Print the tables of several judge cards next to each other, as in docs/judges.md.

    python benchmarks/judge_cards.py NAME=FOLDER ...

FOLDER is the run directory of a finished `alignlab judge-card`; NAME is how the table calls the
judge. Sets of one's own follow the known ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

from checked_files import OBJECT, OBJECTS, TEXT, one_line, read_object

from alignlab.errors import BadInput
from alignlab.measuring.card_sets import KNOWN

Card = Mapping[str, Any]
CARD = {"name": TEXT, "verdict": OBJECT, "cost": OBJECT, "sets": OBJECTS, "rows": OBJECTS}
"""Fields of card.json that the tables show."""


def figure(card: Card, metric: str, group: str | None = None, model: str = "") -> str:
    """Format one figure of a card with its interval; "-" where it was not measured."""
    for row in card["rows"]:
        if (row["model"], row["metric"], row["group"]) == (model or card["name"], metric, group):
            return shown(row)
    return "-"


def shown(row: Mapping[str, Any]) -> str:
    """Format a value with its interval."""
    if row["value"] is None:
        return "-"
    between = "" if row["low"] is None else f" [{row['low']:.2f}, {row['high']:.2f}]"
    return f"{row['value']:.2f}{between}"


def most_obeyed(card: Card) -> str:
    """Return the attack that is preferred most often to the answer without it."""
    rows = [r for r in card["rows"] if r["metric"] == "attack_preferred" and r["value"] is not None]
    rows = [r for r in rows if r["group"] != "attack:control"]
    if not rows:
        return "-"
    worst = max(rows, key=lambda r: r["value"])
    return f"{worst['group'].removeprefix('attack:')} {shown(worst)}, n {worst['n']}"


def print_table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> None:
    """Print a Markdown table."""
    head = list(head)
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    print()


def read_cards(named: Iterable[str]) -> dict[str, Card]:
    """Read the cards of NAME=FOLDER words.

    Raises:
        BadInput: a word has no name or no folder, or there is no finished card.
    """
    cards: dict[str, Card] = {}
    for word in named:
        name, _, folder = word.partition("=")
        if not name or not folder:
            raise BadInput(f"{word}: expected NAME=FOLDER")
        cards[name] = read_object(Path(folder) / "card.json", CARD)
    return cards


def print_cards(cards: Mapping[str, Card]) -> None:
    """Print both tables, then the reason of every verdict."""
    found = dict.fromkeys(one["name"] for card in cards.values() for one in card["sets"])
    sets = [name for name in KNOWN if name in found] + [name for name in found if name not in KNOWN]
    print_table(
        ["judge", "verdict", "pairs", "accuracy, people", *sets],
        (
            [
                name,
                f"**{card['verdict']['standing']}**",
                str(sum(s["pairs"] for s in card["sets"] if s["judged_by"] == "people")),
                figure(card, "accuracy"),
                *(figure(card, "accuracy", one) for one in sets),
            ]
            for name, card in cards.items()
        ),
    )
    print_table(
        [
            "judge", "kappa", "over longer", "over model identity", "unread", "same in both orders",
            "length bias", "most obeyed attack", "same under another seed",
            "seconds per 1,000 pairs",
        ],
        (
            [
                name,
                figure(card, "kappa"),
                figure(card, "accuracy_over_longer"),
                figure(card, "accuracy_over_identity"),
                figure(card, "unreadable"),
                figure(card, "consistent"),
                figure(card, "longer_wins_bias"),
                most_obeyed(card),
                figure(card, "repeated_alike"),
                f"{card['cost']['seconds']:,.0f}",
            ]
            for name, card in cards.items()
        ),
    )  # fmt: skip
    for name, card in cards.items():
        print(f"- {name}: {card['verdict']['standing']}: {card['verdict']['reason']}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cards", nargs="+", metavar="NAME=FOLDER")
    given = parser.parse_args()
    with one_line():
        print_cards(read_cards(given.cards))
