"""Compare preference pairs with the model's own samples: are they likely under the reference?

DPO on responses that the model would hardly write moves probability to where no pair is
(arXiv 2404.10719, 2404.14367). The scale is the model's own: on-policy responses fall below the
lowest twentieth of its samples, by mean log-probability per token, one time in twenty. Samples are
drawn as studies draw them (temperature 0.7, nucleus 0.9) and scored at temperature 1: plain samples
of a small model drift into text that it gives less probability than any person's.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from alignlab.finding import Finding, judged
from alignlab.generation.local import LocalEngine
from alignlab.models.load import LanguageModel
from alignlab.models.logprobs import response_logprobs
from alignlab.models.packed import TokenGroup
from alignlab.types import CompletionRequest, PreferenceGroup, Sampling

LOWEST = 0.05
"""Quantile of the model's own samples below which a response counts as unlikely."""
LIMIT = 0.5
"""Share of unlikely responses above which pairs are off-policy."""
TOKENS = 128
"""Maximum number of tokens of an own sample."""
FEWEST = 10


def off_policy(
    lm: LanguageModel,
    pairs: Sequence[PreferenceGroup],
    groups: Sequence[TokenGroup],
    seed: int,
    *,
    token_budget: int = 2048,
) -> Finding:
    """Diagnose how unlikely pairs are under a model.

    Args:
        pairs: pairs, for their prompts.
        groups: the same pairs, as training tokenises them.
        seed: seed of the model's samples.
        token_budget: most tokens of one forward pass.
    """
    if len(groups) < FEWEST:
        text = f"{len(groups)} pairs are too few for a figure (at least {FEWEST})"
        return Finding("off-policy", "skipped", text)
    own = own_logprobs(lm, pairs, seed)
    if len(own) < FEWEST:
        return Finding("off-policy", "skipped", f"{len(own)} own samples are too few to compare")
    scored = response_logprobs(lm, groups, token_budget=token_budget)
    means = [[statistics.fmean(t) for t in found.tokens if t] for found in scored]
    chosen, rejected = (statistics.fmean(row[k] for row in means) for k in (0, -1))
    lowest = float(np.quantile(own, LOWEST))
    unlikely = statistics.fmean(value < lowest for row in means for value in row)
    prefers = statistics.fmean(found.sums[0] > found.sums[-1] for found in scored)
    bad = unlikely > LIMIT
    text = (
        f"{chosen:.2f} nats a token for chosen, {rejected:.2f} for rejected responses, "
        f"{statistics.fmean(own):.2f} for the model's own samples; {100 * unlikely:.0f}% of "
        f"{sum(map(len, means))} responses are less likely than 95% of its samples "
        f"(on-policy: 5%); the chosen one is the likelier in {100 * prefers:.0f}% of pairs"
        + bad
        * "; imitate them first (sft), or sample pairs from the model"
    )
    return judged("off-policy", text, unlikely, bad=bad)


def own_logprobs(lm: LanguageModel, pairs: Sequence[PreferenceGroup], seed: int) -> list[float]:
    """Sample the model's answers; return the mean log-probability per token of each, in nats."""
    sampling = Sampling(max_tokens=TOKENS)
    requests = [
        CompletionRequest(str(i), pair.prompt.messages, sampling, seed)
        for i, pair in enumerate(pairs)
    ]
    drawn = [several[0] for several in LocalEngine(lm).complete(requests)]
    return [d.logprob / d.tokens for d in drawn if d.logprob is not None and d.tokens]
