"""Request new prompts from a model (self-instruct, arXiv 2212.10560).

A completion engine continues a list of examples; a chat-only server gets the examples in a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alignlab import seeds
from alignlab.feedback.prompts import judge_prompt
from alignlab.protocols import Completer
from alignlab.turns import strip_thoughts
from alignlab.types import Completion, CompletionRequest, Message, Prompt, Sampling, Unscored
from alignlab.verdicts import parse_question

How = Literal["continuation", "chat"]


@dataclass(frozen=True)
class PromptingMode:
    """Mode of requesting prompts: continuation or chat."""

    how: How


def prompting_mode(completer: Completer) -> PromptingMode:
    """Choose the mode: continuation, or chat for an endpoint that continues no plain text."""
    ask = getattr(completer, "continues_text", None)
    return PromptingMode("continuation" if ask is None or ask() else "chat")


def drawn_examples(examples: Sequence[Prompt], shots: int, draw: np.random.Generator) -> list[str]:
    """Draw at most `shots` different examples, one line each, in random order."""
    shown = draw.choice(len(examples), size=min(shots, len(examples)), replace=False)
    return [" ".join(examples[j].text.split()) for j in shown]


def request(
    way: PromptingMode, number: str, examples: Sequence[str], sampling: Sampling, seed: int
) -> CompletionRequest:
    """Build one request for a new prompt after the examples."""
    lines = [f"Question {i}: {text}" for i, text in enumerate(examples, start=1)]
    if way.how == "chat":
        messages = judge_prompt("propose").fill(examples="\n".join(lines))
        return CompletionRequest(number, messages, sampling, seed)
    stops = Sampling(
        sampling.temperature, sampling.top_p, sampling.max_tokens, stop=("\nQuestion", "\n\n")
    )
    text = "\n".join([*lines, f"Question {len(lines) + 1}:"])
    return CompletionRequest(number, (), stops, seed, prefix=text)


def read_proposal(way: PromptingMode, by: str, completion: Completion) -> Prompt | Unscored:
    """Parse the prompt in a completion; return it, or the reason for none."""
    if completion.finish == "error":
        return Unscored("the call failed")
    continues = way.how == "continuation"
    text = strip_thoughts(completion.text).strip() if continues else parse_question(completion.text)
    if text is None:
        return Unscored("no readable question")
    return Prompt(f"new-{seeds.derive(text):016x}", (Message("user", text),), source=by)
