"""Measure the KL divergence of a model from another, in nats per response.

The estimate is the mean of log pi(y|x) - log pi_ref(y|x) over responses y drawn from pi at
temperature 1 from the whole vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from alignlab.context import RunContext
from alignlab.errors import RunFailed
from alignlab.generation.local import LocalEngine
from alignlab.measuring.measure import PerPromptMetric
from alignlab.models.chat_template import encode_prompt
from alignlab.models.logprobs import response_logprobs
from alignlab.models.packed import TokenGroup
from alignlab.runs import slug
from alignlab.training.conditioning import FILE, load_bins
from alignlab.types import Checkpoint, CompletionRequest, Prompt, Sampling

BENCHMARK = "divergence"


def divergence(
    context: RunContext,
    model: Checkpoint,
    reference: Checkpoint,
    prompts: Sequence[Prompt],
    max_tokens: int,
) -> PerPromptMetric:
    """Return one log-ratio per prompt, in nats; condition a reward-conditioned model on its best.

    Raises:
        RunFailed: a prompt could not be answered.
    """
    inputs = {"model": model.name, "reference": reference.name, "prompts": str(len(prompts))}
    with context.run.stage(f"divergence-{slug(model.name)}", inputs=inputs) as stage:
        return stage.once(
            "values",
            PerPromptMetric,
            lambda: [_measured(context, model, reference, prompts, max_tokens)],
            title=context.title(f"divergence of {model.name}"),
        )[0]


def _measured(
    context: RunContext,
    model: Checkpoint,
    reference: Checkpoint,
    prompts: Sequence[Prompt],
    max_tokens: int,
) -> PerPromptMetric:
    if context.recorder:
        context.recorder.sample_policy(model, prompts, 2, max_tokens)  # drawn, then read again
        return PerPromptMetric(model.name, BENCHMARK, "kl", (), (), against=reference.name)
    sampling, seed = Sampling(1.0, 1.0, max_tokens, 1), context.seed_for("divergence")
    conditioned = (Path(model.path) / FILE).is_file()
    best = load_bins(model.path).best if conditioned else ""
    requests = [CompletionRequest(p.id, p.messages, sampling, seed, prefix=best) for p in prompts]
    drawn = [several[0] for several in LocalEngine(context.open(model)).draw(requests)]
    failed = next((d.error for d in drawn if d.error), None)
    if failed is not None:
        raise RunFailed(f"divergence of {model.name}: a prompt could not be answered: {failed}")
    other = context.open(reference)
    groups = [
        TokenGroup(p.id, tuple(encode_prompt(other, p.messages)), (d.tokens,))
        for p, d in zip(prompts, drawn, strict=True)
    ]
    found = response_logprobs(other, groups)
    ratios = [math.fsum(d.logprobs) - r.sums[0] for d, r in zip(drawn, found, strict=True)]
    ids = tuple(p.id for p in prompts)
    return PerPromptMetric(model.name, BENCHMARK, "kl", ids, tuple(ratios), against=reference.name)
