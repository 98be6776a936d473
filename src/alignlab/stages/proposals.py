"""How a model is asked for a new prompt: a list of examples that it continues (self-instruct,
arXiv 2212.10560), or, of a server that only chats, a request that shows the same examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alignlab import seeds
from alignlab.feedback.prompts import judge_prompt
from alignlab.protocols import Completer
from alignlab.types import Completion, CompletionRequest, Message, Prompt, Sampling, Unscored
from alignlab.verdicts import parse_question

How = Literal["continuation", "chat"]


@dataclass(frozen=True)
class Way:
    """How a model was asked for prompts."""

    how: How


def way_to_ask(completer: Completer) -> Way:
    """By continuation, but by chat of an endpoint that says that it continues no plain text."""
    ask = getattr(completer, "continues_text", None)
    return Way("continuation" if ask is None or ask() else "chat")


def drawn_examples(examples: Sequence[Prompt], shots: int, draw: np.random.Generator) -> list[str]:
    """At most `shots` different examples, one line each, in an order that is drawn."""
    shown = draw.choice(len(examples), size=min(shots, len(examples)), replace=False)
    return [" ".join(examples[j].text.split()) for j in shown]


def request(
    way: Way, number: str, examples: Sequence[str], sampling: Sampling, seed: int
) -> CompletionRequest:
    """One request for a new prompt after the examples."""
    lines = [f"Question {i}: {text}" for i, text in enumerate(examples, start=1)]
    if way.how == "chat":
        messages = judge_prompt("propose").fill(examples="\n".join(lines))
        return CompletionRequest(number, messages, sampling, seed)
    stops = Sampling(
        sampling.temperature, sampling.top_p, sampling.max_tokens, stop=("\nQuestion", "\n\n")
    )
    text = "\n".join([*lines, f"Question {len(lines) + 1}:"])
    return CompletionRequest(number, (), stops, seed, prefix=text)


def read_proposal(way: Way, by: str, completion: Completion) -> Prompt | Unscored:
    """The prompt in a completion, or why there is none."""
    if completion.finish == "error":
        return Unscored("the call failed")
    text = completion.text.strip() if way.how == "continuation" else parse_question(completion.text)
    if text is None:
        return Unscored("no readable question")
    return Prompt(f"new-{seeds.derive(text):016x}", (Message("user", text),), source=by)
