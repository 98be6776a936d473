"""Judge prompts of the sandbox: write them, recognise them, and word the judgement."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_SCALE = re.compile(r"\bfrom (\d+)\b[^.\d]{0,40}\bto (\d+)\b")
_PAIR = re.compile(
    r"<answer_a>\s*(.*)\s*</answer_a>\s*<answer_b>\s*(.*)\s*</answer_b>",
    re.DOTALL | re.IGNORECASE,
)
_QUESTION = re.compile(r"<question>\s*(.*?)\s*</question>", re.DOTALL | re.IGNORECASE)
_RESPONSE = re.compile(r"<response>\s*(.*)\s*</response>", re.DOTALL | re.IGNORECASE)
_CRITIQUE = re.compile(r"<critique>\s*(.*?)\s*</critique>", re.DOTALL | re.IGNORECASE)
_CRITIQUE_WANTED = re.compile(r"\bwrite the critique\b", re.IGNORECASE)
_CORRECTION_WANTED = re.compile(r"\bcorrect it sentence by sentence\b", re.IGNORECASE)
_PROBLEMS_WANTED = re.compile(r"\bname the problems\b", re.IGNORECASE)
_SENTENCE = re.compile(r"<sentence>\s*(.*?)\s*</sentence>", re.DOTALL | re.IGNORECASE)
_SENTENCES = re.compile(r"<sentences>\s*(.*?)\s*</sentences>", re.DOTALL | re.IGNORECASE)
_FAULTS = re.compile(r"<faults>\s*(.*?)\s*</faults>", re.DOTALL | re.IGNORECASE)
_TYPE_WANTED = re.compile(r"\bopen-ended or closed-ended\b", re.IGNORECASE)
_PROMPT_WANTED = re.compile(r"one line of the form \"Question: \.\.\.\"\.?\s*$")
_REVIEW_WANTED = re.compile(r"\b((?:(?:Weaknesses|Score|Suggestions), )*)Improved response\s*$")

Task = Literal[
    "judge",
    "problems",
    "critique",
    "refine",
    "review",
    "correct",
    "instruct",
    "sentence",
    "sentences",
    "type",
    "faults",
]


@dataclass(frozen=True)
class JudgeRequest:
    """Parsed judge prompt.

    Tasks: rate one response or compare two ("judge"), criticise ("critique" in full, "problems" in
    short), "refine", "review" and rewrite in one reply, "correct" sentence by sentence, ask a new
    question ("instruct"), rate the relevance of a "sentence", value numbered "sentences", classify
    the question's "type", or judge numbered "faults" that critics named.
    """

    question: str
    responses: tuple[str, ...]
    low: int = 0
    """Lowest score of the requested scale."""
    high: int = 5
    """Highest score of the requested scale."""
    task: Task = "judge"
    critique: str = ""
    """Critique of the response to refine."""
    fields: tuple[str, ...] = ()
    """Labels of a review before the improved response, for task "review"; lines of "faults"."""


def judgement(problems: str, score: int) -> str:
    """Format a judgement: the problems, then the score."""
    return f"Problems: {problems}. Score: {score}"


def read_judge_request(text: str) -> JudgeRequest | None:
    """Parse a judge prompt of any wording; None for other texts.

    Question and responses are between tags; the first question and the longest response count, so
    that a response cannot close its own tag. The scale is the last "from L to H" outside the tags,
    0 to 5 without one.
    """
    question = _QUESTION.search(text)
    if question is None:
        return None
    pair = _PAIR.search(text, question.end())
    if pair is not None:
        return JudgeRequest(question[1], (pair[1].strip(), pair[2].strip()))
    response = _RESPONSE.search(text, question.end())
    sentence = _SENTENCE.search(text, question.end())
    several = _SENTENCES.search(text, question.end())
    if response is None and several is not None:
        return JudgeRequest(question[1], tuple(several[1].splitlines()), task="sentences")
    if response is None and sentence is not None:
        return JudgeRequest(question[1], (sentence[1],), task="sentence")
    if response is None and _PROMPT_WANTED.search(text):
        return JudgeRequest(question[1], (), task="instruct")
    if response is None:
        asked = _TYPE_WANTED.search(text[: question.start()])
        return None if asked is None else JudgeRequest(question[1], (), task="type")
    after = text[response.end() :]
    if (named := _FAULTS.search(after)) is not None:
        faults = tuple(named[1].splitlines())
        return JudgeRequest(question[1], (response[1].strip(),), task="faults", fields=faults)
    if (wanted := _REVIEW_WANTED.search(after)) is not None:
        fields = tuple(label for label in wanted[1].split(", ") if label)
        return JudgeRequest(question[1], (response[1].strip(),), task="review", fields=fields)
    task: Task = "judge"
    critique = _CRITIQUE.search(after)
    if _PROMPT_WANTED.search(text):
        task = "instruct"
    elif critique is not None:
        task = "refine"
    elif _CORRECTION_WANTED.search(after):
        task = "correct"
    elif _CRITIQUE_WANTED.search(after):
        task = "critique"
    elif _PROBLEMS_WANTED.search(text[: question.start()]):
        task = "problems"
    around = text[: question.start()] + after
    scales = [(int(low), int(high)) for low, high in _SCALE.findall(around)]
    low, high = scales[-1] if scales and scales[-1][0] < scales[-1][1] else (0, 5)
    words = "" if critique is None else critique[1]
    return JudgeRequest(question[1], (response[1].strip(),), low, high, task, words)
