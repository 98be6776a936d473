"""One side of `judge_local.py`: a process that loads a model once and judges when it is told to.

python benchmarks/judge_local_side.py alignlab|transformers WORK.json
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from pathlib import Path

import torch
from judge_local import ANSWERS, Work
from sides import Turns

from alignlab.api.data import load_data
from alignlab.commands._support.prompts_and_responses import responses_of
from alignlab.errors import BadInput
from alignlab.feedback.prompts import judge_prompt
from alignlab.generation.choices import tokenise_choices
from alignlab.generation.local import LocalEngine
from alignlab.models.load import LanguageModel, load
from alignlab.types import CompletionRequest, Sampling

JUDGE = "additive_five_point"


def requests_of(work: Work) -> list[list[CompletionRequest]]:
    """Requests of every turn: prompts with so many answers, the first ones of the data."""
    answered = responses_of(load_data(work.data).corpus)
    by_prompt = defaultdict(list)
    for response in answered.responses:
        by_prompt[response.prompt_id].append(response)
    chosen = [p for p in answered.prompts if len(by_prompt[p.id]) >= ANSWERS]
    if len(chosen) < work.prompts * work.turns:
        raise BadInput(
            f"{work.data}: expected {work.prompts * work.turns} prompts with {ANSWERS} answers, "
            f"found {len(chosen)}"
        )
    prompt = judge_prompt(JUDGE)
    made = [
        [
            CompletionRequest(
                f"{asked.id}|{k}", prompt.render(asked, response), Sampling(max_tokens=1), 0,
                prompt.prefix,
            )
            for k, response in enumerate(by_prompt[asked.id][:ANSWERS])
        ]
        for asked in chosen[: work.prompts * work.turns]
    ]  # fmt: skip
    return [
        [request for several in made[k : k + work.prompts] for request in several]
        for k in range(0, len(made), work.prompts)
    ]


def expected(logprobs: list[float]) -> float:
    probs = [math.exp(x) for x in logprobs]
    return sum(k * p for k, p in enumerate(probs)) / sum(probs)


def by_loop(lm: LanguageModel, requests: list[CompletionRequest]) -> list[float]:
    found = []
    for request in requests:
        item = tokenise_choices(lm, request, judge_prompt(JUDGE).choices, context=2**31)
        assert item is not None
        assert all(len(tail) == 1 for tail in item.tails)
        with torch.inference_mode():
            logits = lm.model(torch.tensor([item.shared])).logits[0, -1]
        logps = logits.float().log_softmax(-1)
        found.append(expected([float(logps[tail[0]]) for tail in item.tails]))
    return found


def main(side: str, work_file: str) -> None:
    work = Work(**json.loads(Path(work_file).read_text()))
    lm = load(work.model, dtype=work.dtype)
    turns_of = requests_of(work)
    choices = judge_prompt(JUDGE).choices
    engine = LocalEngine(lm) if side == "alignlab" else None
    tokens = [
        sum(len(tokenise_choices(lm, r, choices, context=2**31).shared) for r in requests)
        for requests in turns_of
    ]
    turns = Turns()
    for requests, read in zip(turns_of, tokens, strict=True):
        if engine is not None:
            scores = [expected(list(x)) for x in engine.choice_logprobs(requests, choices)]
        else:
            scores = by_loop(lm, requests)
        turns.end(expected=scores, tokens=read)
        turns.begin()


if __name__ == "__main__":
    main(*sys.argv[1:])
