"""Turn requests into token ids for vLLM, and what it draws into completions.

Prompts are tokenised as in the local engine, so that both continue the same tokens. Each sample is
a request of its own to vLLM, with a seed derived from the request's seed and id and the sample's
index: its text does not depend on what is drawn next to it (up to rounding).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from transformers import GenerationConfig

from alignlab import seeds
from alignlab.generation.choices import ChoiceTokens, tokenise_choices, without_longer
from alignlab.generation.engines import check_sampling, failed, first_stop
from alignlab.models.chat_template import encode_prompt, stop_tokens
from alignlab.models.folders import fingerprint
from alignlab.models.load import LanguageModel, tokenizer_of
from alignlab.models.locate import locate, short_name
from alignlab.types import Completion, CompletionRequest


class SampleSpec(NamedTuple):
    """Sample to draw."""

    prompt: list[int]
    """Token ids of the prompt."""
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    stop: list[str]
    """Texts that end the sample."""


class DrawnSample(NamedTuple):
    """Sample that vLLM drew."""

    tokens: Sequence[int]
    """Token ids drawn, the end-of-turn token included."""
    finish_reason: str
    """"stop", or "length" for one that was cut off."""
    logprob: float
    """Log-probability in nats under the model's own distribution (temperature 1)."""


class ScoredTail(NamedTuple):
    """Tokens whose last ones are scored."""

    tokens: list[int]
    last: int
    """Number of last tokens."""


@dataclass(frozen=True)
class ServedModel:
    """Tokenizer and limits of a model whose weights vLLM has."""

    lm: LanguageModel
    """The model without weights."""
    context: int
    """Longest prompt with its answer, in tokens."""
    end: tuple[int, ...]
    """Tokens that end an answer."""


class VllmCompleter(ABC):
    """A `Completer` and `ChoiceScorer` over a model that vLLM runs."""

    name: str
    """Name in records."""
    model: ServedModel

    @abstractmethod
    def draw(self, samples: Sequence[SampleSpec]) -> list[DrawnSample]:
        """Draw samples, in the order given."""

    @abstractmethod
    def score(self, tails: Sequence[ScoredTail]) -> list[Sequence[float]]:
        """Return the log-probability in nats of each of the last tokens."""

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request `sampling.n` times, in the order given.

        A prompt that is empty or leaves no room in the model's context gives completions with an
        error. `Completion.logprob` is under the model's own distribution (temperature 1).
        """
        results: list[list[Completion]] = [[] for _ in requests]
        owner: list[int] = []
        samples: list[SampleSpec] = []
        lm, context = self.model.lm, self.model.context
        for index, request in enumerate(requests):
            sampling = check_sampling(request.sampling)
            prompt = encode_prompt(lm, request.messages, request.prefix.rstrip(" "))
            room = context - len(prompt)
            if room < 1 or not prompt:
                reason = f"the prompt fills the model's context of {context} tokens"
                results[index] = [failed(reason, prompt_tokens=len(prompt))] * sampling.n
                continue
            for number in range(sampling.n):
                owner.append(index)
                samples.append(_spec(request, prompt, number, min(sampling.max_tokens, room)))
        drawn = self.draw(samples) if samples else []
        for index, sample, found in zip(owner, samples, drawn, strict=True):
            results[index].append(self._completion(requests[index], sample, found))
        return [tuple(completions) for completions in results]

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        """Return the log-probability in nats of each choice as a continuation of messages + prefix.

        The requests' sampling is not used. NaN where the prompt is empty or does not fit the
        model's context, in which vLLM needs room for one more token.
        """
        results = [(math.nan,) * len(choices)] * len(requests)
        items: dict[int, ChoiceTokens] = {}
        for index, request in enumerate(requests):
            item = tokenise_choices(self.model.lm, request, choices, context=self.model.context - 1)
            if item is not None:
                items[index] = item
        tails = [(index, tail) for index, item in items.items() for tail in sorted(set(item.tails))]
        asked = [ScoredTail([*items[index].shared, *tail], len(tail)) for index, tail in tails]
        found = self.score(asked) if asked else []
        logps: dict[int, dict[tuple[int, ...], float]] = {index: {} for index in items}
        for (index, tail), of_tokens in zip(tails, found, strict=True):
            logps[index][tail] = math.fsum(of_tokens)
        for index, item in items.items():
            results[index] = without_longer(item, logps[index])
        return results

    def _completion(
        self, request: CompletionRequest, sample: SampleSpec, drawn: DrawnSample
    ) -> Completion:
        """Decode as in the local engine; vLLM's own text lacks half characters at the end."""
        ids = list(drawn.tokens)
        text: str = self.model.lm.tokenizer.decode(
            ids[:-1] if ids and ids[-1] in self.model.end else ids,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        healed = len(request.prefix) - len(request.prefix.rstrip(" "))
        return Completion(
            text=text[: first_stop(text, request.sampling.stop)].removeprefix(" " * healed),
            finish="length" if drawn.finish_reason == "length" else "stop",
            tokens=len(ids),
            prompt_tokens=len(sample.prompt),
            logprob=float(drawn.logprob),
        )


def _spec(request: CompletionRequest, prompt: list[int], number: int, limit: int) -> SampleSpec:
    sampling = request.sampling
    return SampleSpec(
        prompt,
        sampling.temperature,
        sampling.top_p,
        limit,
        seeds.derive(request.seed, request.id, number),
        list(sampling.stop),
    )


def served_model(
    spec: str, whole: Path, context: int = 0, chat_template: str | None = None
) -> ServedModel:
    """Load tokenizer and end tokens of a model, leaving its weights to vLLM.

    Args:
        spec: spec of the model, perhaps of an adapter.
        whole: folder of the whole model.
        context: longest prompt with its answer, in tokens, where it is known.
        chat_template: template instead of the tokenizer's own.
    """
    folder = locate(spec)
    tokenizer = tokenizer_of(whole, chat_template).tokenizer
    file = whole / "generation_config.json"
    generation = GenerationConfig.from_pretrained(whole) if file.is_file() else None
    lm = LanguageModel(
        SimpleNamespace(generation_config=generation),
        tokenizer,
        short_name(spec, folder),
        str(folder),
        fingerprint(folder),
        torch.device("cpu"),
    )
    return ServedModel(lm, context, tuple(sorted(stop_tokens(lm))))
