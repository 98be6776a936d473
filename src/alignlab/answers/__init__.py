"""Final answers: find them in responses, and check them against references.

One reader serves the feedback source `verifier` and the benchmark `qa`. It reads what a reader
would take as the answer (the last marker, else the last number or the option named), compares it
with the reference after normalisation, and never guesses: an answer that states two values is no
answer. The table in tests/answers/test_cases.py lists accepted and refused forms.
"""

from alignlab.answers.checking import EXTRACTORS, AnswerOptions, CheckResult, check, reference_kind

__all__ = ["EXTRACTORS", "AnswerOptions", "CheckResult", "check", "reference_kind"]
