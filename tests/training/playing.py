"""A sampler for tests of rollout training: the local generator."""

from __future__ import annotations

from collections.abc import Callable

from alignlab.generation.local import LocalEngine
from alignlab.training.environment import Sample, SampledGroup
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import CompletionRequest, Sampling


def sampler(config: RolloutConfig) -> Callable[..., list[SampledGroup]]:
    """Draws responses with their tokens from the model as it is."""
    sampling = Sampling(1.0, 1.0, config.max_tokens, config.responses)

    def sample(lm, prompts, seed):
        requests = [CompletionRequest(p.id, p.messages, sampling, seed) for p in prompts]
        return [
            SampledGroup(
                p,
                d[0].prompt,
                tuple(Sample(x.text, x.tokens, x.finish == "stop", logprobs=x.logprobs) for x in d),
            )
            for p, d in zip(prompts, LocalEngine(lm).draw(requests), strict=True)
        ]

    return sample
