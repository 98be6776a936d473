"""Sample: a model or teacher answers prompts, several times each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from alignlab import progress
from alignlab.protocols import Completer
from alignlab.runs import Stage
from alignlab.stages import meter
from alignlab.stages.lab import Lab, chunks
from alignlab.stages.limits import at_least
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

THOUGHTS = "thoughts taken off"


@dataclass(frozen=True)
class SampleSettings:
    """How responses are drawn (arXiv 2401.10020: four at T=0.7, p=0.9)."""

    n: int = 4
    """Responses per prompt."""
    temperature: float = 0.7
    """Sampling temperature; 0 is greedy."""
    top_p: float = 0.9
    """Nucleus mass."""
    max_tokens: int = 256
    """Most tokens of a response."""
    chunk: int = 64
    """Prompts per unit of work, generated and written together."""

    def __post_init__(self) -> None:
        at_least("sample", self, n=1, temperature=0, max_tokens=1, chunk=1)

    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_tokens, self.n)


def sample(
    lab: Lab,
    completer: Completer,
    prompts: Sequence[Prompt],
    settings: SampleSettings,
    *,
    name: str = "sample",
    purpose: str = "sample",
) -> list[Response]:
    """Draw responses to every prompt.

    Args:
        purpose: names the random draws; models sampled for the same purpose share their draws.
    """
    with lab.run.stage(name, config=settings, inputs={"by": completer.name}) as stage:
        sample_into(stage, lab, completer, prompts, settings, purpose)
        return stage.records("responses", Response).read()


def sample_into(
    stage: Stage,
    lab: Lab,
    completer: Completer,
    prompts: Sequence[Prompt],
    settings: SampleSettings,
    purpose: str,
) -> None:
    """Draw responses into an open stage; responses that failed are counted, not written."""
    file, thoughts = stage.records("responses", Response), stage.records("thoughts", Count)
    sampling, seed = settings.sampling(), lab.seed_for(purpose)
    todo = [c for c in enumerate(chunks(prompts, settings.chunk)) if str(c[0]) not in file.units]
    if stage.done:
        return
    with progress.task(lab.title(f"{completer.name} answers"), len(prompts)) as bar:
        bar.advance(len(prompts) - sum(len(chunk) for _, chunk in todo))
        for number, chunk in todo:
            requests = [CompletionRequest(p.id, p.messages, sampling, seed) for p in chunk]
            before = meter.mark()
            completions = completer.complete(requests)
            written = [
                _response(completer, prompt, sampling, seed, index, completion)
                for prompt, several in zip(chunk, completions, strict=True)
                for index, completion in enumerate(several)
                if completion.finish != "error"
            ]
            changed = sum(strip_thoughts(r.text) != r.text for r in written)
            # Counted first: what a kill leaves uncommitted is counted the same once more.
            if changed and str(number) not in thoughts.units:
                count = Count(stage.name, "responses", 0, changed={THOUGHTS: changed})
                thoughts.append(str(number), [count])
            written = [replace(r, text=strip_thoughts(r.text)) for r in written]
            file.append(str(number), written, meter.since(before))
            bar.advance(len(chunk))
    expected = len(prompts) * settings.n
    lost = expected - file.count()
    changed = sum(c.changed[THOUGHTS] for c in (thoughts.read() if thoughts.units else ()))
    stage.count(
        [
            Count(
                stage.name,
                "responses",
                expected - lost,
                {"failed": lost} if lost else {},
                {THOUGHTS: changed} if changed else {},
            )
        ]
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
