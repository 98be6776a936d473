"""Import the reader of yes and no by its former place; `alignlab.verdicts` holds it."""

from alignlab.verdicts import yes_or_no as yes_or_no
