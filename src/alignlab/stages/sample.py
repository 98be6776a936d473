"""Sample responses to prompts from a model or teacher, several each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from alignlab.at_once import at_once
from alignlab.configs import Bounded, Fraction, NonNegative, PositiveInt
from alignlab.context import RunContext
from alignlab.protocols import Completer
from alignlab.runs import Changed, slug
from alignlab.turns import strip_thoughts
from alignlab.types import (
    Completion,
    CompletionRequest,
    Count,
    Prompt,
    Response,
    SampledBy,
    Sampling,
)

log = logging.getLogger(__name__)

THOUGHTS = "thoughts taken off"


@dataclass(frozen=True)
class SampleSettings(Bounded):
    """Settings of sampling (arXiv 2401.10020: four at T=0.7, p=0.9)."""

    n: PositiveInt = 4
    """Responses per prompt."""
    temperature: NonNegative = 0.7
    """Sampling temperature; 0 is greedy."""
    top_p: Fraction = 0.9
    """Nucleus mass."""
    max_tokens: PositiveInt = 256
    """Maximum number of tokens of a response."""
    chunk: PositiveInt = 64
    """Prompts per unit of work, generated and written together."""

    def sampling(self) -> Sampling:
        """Return the sampling of `n` responses."""
        return Sampling(self.temperature, self.top_p, self.max_tokens, self.n)


def sample(
    context: RunContext,
    completer: Completer,
    prompts: Sequence[Prompt],
    settings: SampleSettings,
    *,
    name: str = "sample",
    purpose: str = "sample",
) -> list[Response]:
    """Sample responses to every prompt; failed ones are counted, not written.

    Args:
        purpose: names the random draws; models sampled for the same purpose share their draws.
    """
    sampling, seed = settings.sampling(), context.seed_for(purpose)

    def draw(some: Sequence[Prompt]) -> list[Response | Changed[Response]]:
        asked = [CompletionRequest(p.id, p.messages, sampling, seed) for p in some]
        completed = completer.complete(asked)
        failures = [one.error for several in completed for one in several if one.finish == "error"]
        if failures:
            log.warning(
                "%s: no answer to %d of %d requests, the first: %s",
                completer.name, len(failures), len(some) * sampling.n, failures[0],
            )  # fmt: skip
        return [
            _without_thoughts(_response(completer, prompt, sampling, seed, index, completion))
            for prompt, several in zip(some, completed, strict=True)
            for index, completion in enumerate(several)
            if completion.finish != "error"
        ]

    with context.run.stage(name, config=settings, inputs={"by": completer.name}) as stage:
        title = context.title(f"{completer.name} answers")
        found = stage.map(
            "responses",
            Response,
            prompts,
            draw,
            chunk=settings.chunk,
            title=title,
            at_once=lambda: at_once(completer),
        )
        if not stage.done:
            lost = len(prompts) * settings.n - len(found)
            dropped = {"failed": lost} if lost else {}
            stage.count([Count(stage.name, "responses", len(found), dropped, stage.changed())])
        return found


def _without_thoughts(response: Response) -> Response | Changed[Response]:
    """Strip thoughts from a response; a response that held any is counted as changed."""
    text = strip_thoughts(response.text)
    return response if text == response.text else Changed(replace(response, text=text), THOUGHTS)


def answer(
    context: RunContext, completer: Completer, prompts: Sequence[Prompt], settings: SampleSettings
) -> list[Response]:
    """Sample one response per held-out prompt, with draws shared by models compared pairwise."""
    return sample(
        context,
        completer,
        prompts,
        replace(settings, n=1),
        name=f"answer-{slug(completer.name)}",
        purpose="held-out answers",
    )


def _response(
    completer: Completer,
    prompt: Prompt,
    sampling: Sampling,
    seed: int,
    index: int,
    completion: Completion,
) -> Response:
    return Response(
        id=f"{prompt.id}/{completer.name}/{seed % 10**6}.{index}",
        prompt_id=prompt.id,
        text=completion.text,
        sampler=SampledBy(completer.name, sampling, seed),
        tokens=completion.tokens,
        finish=completion.finish,
    )
