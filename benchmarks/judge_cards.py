"""Print the tables of several judge cards next to each other, as in docs/judges.md.

    python benchmarks/judge_cards.py NAME=FOLDER ...

FOLDER is the run directory of `alignlab judge-card`; NAME is how the table calls the judge.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alignlab.files import read_json
from alignlab.measuring.card_sets import KNOWN

Card = Mapping[str, Any]


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


def main() -> None:
    """Print both tables, then the reason of every verdict."""
    named = [word.partition("=") for word in sys.argv[1:]]
    cards = {name: read_json(Path(folder) / "card.json") for name, _, folder in named}
    sets = [
        name for name in KNOWN if any(name == s["name"] for c in cards.values() for s in c["sets"])
    ]
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
    main()
