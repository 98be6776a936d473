"""Former import path of the verdict readers in `alignlab.verdicts`."""

from alignlab.turns import own_turn as own_turn
from alignlab.verdicts import parse_choice as parse_choice
from alignlab.verdicts import parse_question as parse_question
from alignlab.verdicts import parse_score as parse_score
from alignlab.verdicts import parse_winner as parse_winner
