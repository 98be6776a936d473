"""Former import path of the reader of yes and no in `alignlab.verdicts`."""

from alignlab.verdicts import yes_or_no as yes_or_no
