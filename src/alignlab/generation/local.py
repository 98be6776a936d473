"""Local engine: a transformers decoder on this machine, with batched sampling."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alignlab import machine, seeds
from alignlab.configs import PositiveInt
from alignlab.errors import BadInput
from alignlab.generation.choices import choice_logprobs, tokenise_choices
from alignlab.generation.decode import STOP_EVERY, DecodeBatch, Decoded, decode
from alignlab.generation.engines import check_sampling, failed, first_stop
from alignlab.generation.next_token import NextTokenScorer
from alignlab.generation.shared import Reader
from alignlab.generation.token_text import TokenText
from alignlab.models.chat_template import encode_prompt
from alignlab.models.footprint import rows_in_memory
from alignlab.models.load import LanguageModel, context_length, load
from alignlab.registry import register
from alignlab.specs import read_options
from alignlab.types import Completion, CompletionRequest, Finish, Sampling


@dataclass(frozen=True)
class _Row:
    """Sample to draw."""

    request: int
    sample: int
    prompt: tuple[int, ...]
    limit: int


@dataclass(frozen=True)
class Drawn:
    """Sample with its tokens; with an error it has none."""

    text: str
    finish: Finish
    prompt: tuple[int, ...]
    """Token ids of the prompt."""
    tokens: tuple[int, ...]
    """Token ids drawn, the end-of-turn token included; without a stop string and later tokens."""
    logprobs: tuple[float, ...]
    """Log-probability in nats of each token under the model's own distribution."""
    error: str = ""

    def completion(self) -> Completion:
        """Convert to a completion, without token ids."""
        if self.error:
            return failed(self.error, prompt_tokens=len(self.prompt))
        return Completion(
            text=self.text,
            finish=self.finish,
            tokens=len(self.tokens),
            prompt_tokens=len(self.prompt),
            logprob=math.fsum(self.logprobs),
        )


class LocalEngine:
    """A `Completer` and `ChoiceScorer` over a model held in memory.

    Each sample draws its random numbers from the request's seed and id and the sample's index, so
    that its text does not depend on its batch (up to rounding).
    """

    at_once = 1
    """Chunks that it takes at once; see `at_once`."""

    def __init__(self, lm: LanguageModel, *, batch_size: int = 256, name: str | None = None):
        if batch_size < 1:
            raise BadInput(f"batch_size: expected at least 1, found {batch_size}")
        self.lm = lm
        self.name = name or lm.name
        self.batch_size = batch_size
        self._text = TokenText(lm)
        self._end = torch.tensor(sorted(self._text.end), device=lm.device)
        self._context = context_length(lm)
        self._reader = Reader(lm.model, lm.tokenizer, lm.through)
        self._next_token: NextTokenScorer | None = None

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request `sampling.n` times, in the order given.

        A prompt that is empty or leaves no room in the model's context gives completions with an
        error. `Completion.logprob` is under the model's own distribution (temperature 1).
        """
        return [tuple(d.completion() for d in several) for several in self.draw(requests)]

    def draw(self, requests: Sequence[CompletionRequest]) -> list[tuple[Drawn, ...]]:
        """Draw samples with the token ids of prompts and samples; `complete` returns texts."""
        results: list[list[Drawn]] = [[] for _ in requests]
        kinds: dict[tuple[float, float, tuple[str, ...]], list[_Row]] = defaultdict(list)
        for index, request in enumerate(requests):
            sampling = check_sampling(request.sampling)
            prompt = tuple(encode_prompt(self.lm, request.messages, request.prefix.rstrip(" ")))
            limit = min(sampling.max_tokens, self._context - len(prompt))
            if limit < 1 or not prompt:
                reason = f"the prompt fills the model's context of {self._context} tokens"
                results[index] = [Drawn("", "error", prompt, (), (), reason)] * sampling.n
                continue
            kind = (sampling.temperature, sampling.top_p, sampling.stop)
            kinds[kind] += [_Row(index, k, prompt, limit) for k in range(sampling.n)]
        with _inference(self.lm):
            for rows in kinds.values():
                rows.sort(key=lambda row: len(row.prompt))
                limit = max(row.limit for row in rows)
                size = rows_in_memory(
                    self.lm.model, len(rows[-1].prompt), limit, min(self.batch_size, len(rows))
                )
                for start in range(0, len(rows), size):
                    chunk = rows[start : start + size]
                    for row, drawn in zip(chunk, self._run(requests, chunk), strict=True):
                        results[row.request].append(drawn)
        return [tuple(several) for several in results]

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        """Return the log-probability in nats of each choice as a continuation of messages + prefix.

        The requests' sampling is not used. NaN where the prompt is empty or does not fit the
        model's context.
        """
        results = [(math.nan,) * len(choices)] * len(requests)
        fitting, items = [], []
        for index, request in enumerate(requests):
            item = tokenise_choices(self.lm, request, choices, context=self._context)
            if item is not None:
                fitting.append(index)
                items.append(item)
        if items:
            if self._next_token is None:
                self._next_token = NextTokenScorer(
                    self.lm.model, through=self.lm.through, tokenizer=self.lm.tokenizer
                )
            found = choice_logprobs(self._next_token, items)
        else:
            found = []
        for index, logprobs in zip(fitting, found, strict=True):
            results[index] = logprobs
        return results

    def _run(self, requests: Sequence[CompletionRequest], rows: Sequence[_Row]) -> Iterator[Drawn]:
        """Draw one batch of samples that share temperature, nucleus and stop strings."""
        sampling = requests[rows[0].request].sampling
        prompts = {row.prompt: None for row in rows}
        place = {prompt: k for k, prompt in enumerate(prompts)}
        device = self.lm.device
        batch = DecodeBatch(
            prompts=tuple(prompts),
            prompt_of_B=torch.tensor([place[row.prompt] for row in rows], device=device),
            uniform_BT=_uniforms(requests, rows).to(device),
            limit_B=torch.tensor([row.limit for row in rows], device=device),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
        )
        stopped = self._stop_check(sampling) if sampling.stop else None
        sharded = self.lm.through is not None
        drawn = decode(self._reader, batch, self._end, stopped, trains=sharded)
        machine.trim_heap()
        return self._read(requests, rows, drawn)

    def _read(
        self, requests: Sequence[CompletionRequest], rows: Sequence[_Row], drawn: Decoded
    ) -> Iterator[Drawn]:
        """Decode tokens to texts and cut them at stop strings."""
        end = self._text.end
        tokens = [
            ids[:length]
            for ids, length in zip(drawn.tokens_BT.tolist(), drawn.length_B.tolist(), strict=True)
        ]
        texts = self._text.responses(tokens)
        opened = {p: self._text.opened(p) for p in {row.prompt for row in rows}}
        logprobs_BT = drawn.logprobs_BT.cpu().double()
        for k, row in enumerate(rows):
            request = requests[row.request]
            text, used = texts[k], len(tokens[k])
            finish: Finish = "stop" if tokens[k][-1] in end else "length"
            cut = first_stop(text, request.sampling.stop)
            if cut is not None:
                used = self._tokens_until(tokens[k], request.sampling.stop)
                text, finish = text[:cut], "stop"
            healed = len(request.prefix) - len(request.prefix.rstrip(" "))
            yield Drawn(
                text=opened[row.prompt] + text.removeprefix(" " * healed),
                finish=finish,
                prompt=row.prompt,
                tokens=tuple(tokens[k][:used]),
                logprobs=tuple(logprobs_BT[k, :used].tolist()),
            )

    def _stop_check(self, sampling: Sampling) -> Callable[[Tensor], Tensor]:
        # A character takes at most four tokens (its bytes); one more for a dropped first space.
        tail = STOP_EVERY + 1 + 4 * max(len(stop) for stop in sampling.stop)

        def stopped(tokens_LT: Tensor) -> Tensor:
            texts = self._text.texts(tokens_LT[:, -tail:].tolist())
            found = [first_stop(text, sampling.stop) is not None for text in texts]
            return torch.tensor(found, dtype=torch.bool, device=tokens_LT.device)

        return stopped

    def _tokens_until(self, tokens: Sequence[int], stop: tuple[str, ...]) -> int:
        """Return the fewest tokens whose text holds a stop string."""
        texts = self._text.texts([tokens[:k] for k in range(1, len(tokens) + 1)])
        found = [first_stop(text, stop) is not None for text in texts]
        return found.index(True) + 1


@dataclass(frozen=True)
class LocalOptions:
    """Options of a spec, after `local:FOLDER?`."""

    batch_size: PositiveInt = 256
    """Samples per batch; memory grows with it."""
    dtype: str = "auto"
    """Type: "float32", "bfloat16", "float16", or "auto" (the command's own; see `alignlab
    doctor`)."""
    device: str = "auto"
    """Device: "auto" (the command's own), "cpu", "cuda", "cuda:1", ..."""
    name: str | None = None
    """Name of the engine in records; by default from the folder's name and content."""
    chat_template: str | None = None
    """Chat template for a model without one: chatml, plain, zephyr, or a file."""


@register("engine", "local")
def local_engine(rest: str) -> LocalEngine:
    """`local:MODEL[?batch_size=256&dtype=bfloat16&name=M1&chat_template=chatml]`.

    MODEL is a folder, run directory, GGUF file, package:NAME or hub id.
    """
    named = read_options(rest, LocalOptions)
    folder, options = named.name, named.options
    lm = load(
        folder,
        dtype=options.dtype,
        device=options.device,
        chat_template=options.chat_template,
    )
    return LocalEngine(
        lm, batch_size=options.batch_size, name=options.name or engine_name(lm, folder)
    )


def engine_name(lm: LanguageModel, folder: str) -> str:
    """Return the name in records of the engine of a model: its folder's name and content."""
    return f"local:{Path(folder).name}@{lm.fingerprint[:8]}"


@contextmanager
def _inference(lm: LanguageModel) -> Iterator[None]:
    """Turn dropout off while it lasts, so that a model in training answers as a saved one."""
    training = lm.model.training
    lm.model.eval()
    try:
        yield
    finally:
        lm.model.train(training)


def _uniforms(requests: Sequence[CompletionRequest], rows: Sequence[_Row]) -> Tensor:
    steps = max(row.limit for row in rows)
    uniform_BT = np.zeros((len(rows), steps))
    if requests[rows[0].request].sampling.temperature > 0:
        for k, row in enumerate(rows):
            request = requests[row.request]
            draws = seeds.generator(request.seed, request.id, row.sample)
            uniform_BT[k, : row.limit] = draws.random(row.limit)
    return torch.from_numpy(uniform_BT)
