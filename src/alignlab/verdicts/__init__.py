"""Read the verdict in a judge's reply: a score, a rating, a winner or a choice; or none.

One rule for all judges and benchmarks: only the judge's own words count (`alignlab.turns`), the
last verdict in them decides, and it must be whole and on the judge's scale. A range, a sum, a list,
a verdict that is taken back, another maximum: unreadable, never a guess. Which forms are verdicts
and which are not is the table in tests/test_verdicts.py.
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
"""Least probability of all choices together; below it a model is not about to choose."""

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
