"""Parse the verdict in a judge's reply: a score, a rating, a winner or a choice.

One rule for all judges and benchmarks: only the judge's final text counts (`alignlab.turns`), its
last verdict decides, and it must be complete and on the judge's scale. A range, a sum, a list, a
retracted verdict or another maximum is unreadable (None), never guessed. The table in
tests/test_verdicts.py lists accepted and refused forms.
"""

from alignlab.verdicts.choices import (
    parse_choice,
    parse_list,
    parse_question,
    parse_token,
    yes_or_no,
)
from alignlab.verdicts.scores import parse_rating, parse_score
from alignlab.verdicts.winners import Side, parse_winner

LEAST_MASS = 0.1
"""Minimum total probability of all choices; below it the model is not about to choose."""

__all__ = [
    "LEAST_MASS",
    "Side",
    "parse_choice",
    "parse_list",
    "parse_question",
    "parse_rating",
    "parse_score",
    "parse_token",
    "parse_winner",
    "yes_or_no",
]
