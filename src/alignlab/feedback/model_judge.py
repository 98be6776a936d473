"""Model as judge (arXiv 2401.10020, section 2.1 and figure 2): sampled judgements, averaged.

`ModelJudge` combines a prompt with a reader of replies; this file registers the sources `llm`,
`reference` and `critique`, other files `principles` and `criteria`. Departure: a sample that cannot
be read is missing, not zero; a response without a readable sample is Unscored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from alignlab.answers.libraries import key_of
from alignlab.ask_model import Ask, Read, Reply, ask_model
from alignlab.at_once import at_once
from alignlab.configs import Bounded, Fraction, NonNegative, PositiveInt, build
from alignlab.errors import BadInput
from alignlab.feedback.prompts import JudgePrompt, judge_prompt
from alignlab.protocols import Completer, MakeCompleter, flatten
from alignlab.registry import register
from alignlab.turns import own_turn
from alignlab.types import (
    Critique,
    Feedback,
    Message,
    Prompt,
    Response,
    Sampling,
    Score,
    Unscored,
    Verdict,
)

Details = Callable[[Prompt, int], Mapping[str, str] | Unscored]
"""Function from prompt and seed to texts for further places of the judge prompt, or to the reason
why the judge is not called."""
Combine = Callable[[Sequence[Reply[Any]]], Verdict]
"""Function that makes one verdict from all replies about a response."""


def mean_score(replies: Sequence[Reply[float]]) -> Verdict:
    """Return the mean of the readable scores."""
    read = [reply.read for reply in replies if reply.read is not None]
    if read:
        return Score(sum(read) / len(read), tuple(reply.read for reply in replies))
    # A failed call explains more than an unreadable reply; reasons are counted, so name one.
    reasons = sorted(r.value.reason for r in replies if isinstance(r.value, Unscored))
    return Unscored(next((why for why in reasons if "call failed" in why), reasons[0]))


def critique_in_words(replies: Sequence[Reply[str]]) -> Verdict:
    """Return the first reply as a critique."""
    value = replies[0].value
    return value if isinstance(value, Unscored) else Critique(value)


def own_words(text: str) -> str | None:
    """Return the stripped text of a reply; None where it is empty."""
    return own_turn(text).strip() or None


MATERIAL = "question|response|critique"
"""Tags around the material of a prompt."""


def own_text(text: str, tag: str) -> str | None:
    """Return the critique or response that a reply writes; None where there is none.

    Small models repeat the material of the prompt with its tags before their own text, or write
    that within the tags as well: it is what follows the last `<tag>`, up to its end, or without
    one what follows the last end of a tag. Replies that start without a tag lose no more than the
    end of one that they did not open.
    """
    words, end = own_turn(text).strip(), re.compile(f"</{tag}(?:>|$)")
    if re.match(f"<(?:{MATERIAL})>", words):
        _, opened, inside = words.rpartition(f"<{tag}>")
        words = inside if opened else re.split(f"</(?:{MATERIAL})>", words)[-1]
        return end.split(words)[0].strip() or None
    last = end.search(words)
    if last and last.end() == len(words) and f"<{tag}>" not in words:
        words = words[: last.start()]
    return words.strip() or None


def show_reference(prompt: Prompt, seed: int) -> Mapping[str, str] | Unscored:
    """Return the prompt's reference answer."""
    if not (reference := key_of(prompt.reference or "")):
        return Unscored("the prompt has no reference answer")
    return {"reference": reference}


def show_nothing_more(prompt: Prompt, seed: int) -> Mapping[str, str] | Unscored:
    """Return no further texts."""
    return {}


class ModelJudge:
    """Judge that rates each response by a model's replies."""

    def __init__(
        self,
        completer: Completer,
        prompt: JudgePrompt | None = None,
        *,
        samples: int = 3,
        sampling: Sampling | None = None,
        name: str | None = None,
        details: Details | None = None,
        key: str = "judge",
        read: Read[Any] | None = None,
        combine: Combine = mean_score,
        unread: str = "no readable score in any sample",
    ):
        """Set up a judge.

        Args:
            completer: the model that judges.
            prompt: the judge prompt; by default the additive five-point prompt.
            samples: judgements drawn per response.
            sampling: sampling settings (T 0.7, p 0.9 by default); `n` is 1 or `samples`.
            name: the source's name in records.
            details: further texts; by default the reference where the prompt has its place.
            key: part of request ids; separates the random draws of judges of one response.
            read: reads a reply; by default a score on the prompt's scale.
            combine: makes one verdict of all replies; by default their mean.
            unread: reason given where no reply can be read.
        """
        sampling = sampling or Sampling(temperature=0.7, top_p=0.9, max_tokens=256)
        if sampling.n not in (1, samples):
            raise BadInput(f"judge: expected sampling.n of 1 or {samples}, found {sampling.n}")
        self.prompt = prompt or judge_prompt("additive_five_point")
        self.sampling = replace(sampling, n=samples)
        self.name = name or f"{completer.name} as judge ({self.prompt.name}, {samples} samples)"
        by_default = show_reference if self.prompt.shows("reference") else show_nothing_more
        self._completer, self._key, self.at_once = completer, key, at_once(completer)
        self._details = details or by_default
        self._read, self._combine, self._unread = read or self.prompt.read, combine, unread

    def messages(self, prompt: Prompt, response: Response) -> tuple[Message, ...]:
        """Render the judge prompt for a response, without further details."""
        return self.prompt.render(prompt, response)

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one feedback per response; `raw` holds the text of every sample."""
        pairs = flatten(items)
        shown = [self._details(prompt, seed) for prompt, _ in pairs]
        asks = [
            Ask(f"{self._key}|{response.id}", self.prompt.render(prompt, response, **more))
            for (prompt, response), more in zip(pairs, shown, strict=True)
            if not isinstance(more, Unscored)
        ]
        replies = iter(
            ask_model(
                self._completer,
                asks,
                self._read,
                sampling=self.sampling,
                seed=seed,
                unread=self._unread,
            )
        )
        return [
            Feedback(prompt.id, (response.id,), self.name, more)
            if isinstance(more, Unscored)
            else self._feedback(prompt, response, next(replies))
            for (prompt, response), more in zip(pairs, shown, strict=True)
        ]

    def _feedback(
        self, prompt: Prompt, response: Response, replies: Sequence[Reply[Any]]
    ) -> Feedback:
        verdict = self._combine(replies)
        scored = isinstance(verdict, Score)
        rationale = next((r.text for r in replies if scored and r.read is not None), "")
        raw = tuple(reply.text for reply in replies)
        return Feedback(prompt.id, (response.id,), self.name, verdict, rationale, raw)


def critique_judge(
    completer: Completer, prompt: JudgePrompt | None = None, *, sampling: Sampling | None = None
) -> ModelJudge:
    """Make a judge that criticises a response in words, greedily by default."""
    return ModelJudge(
        completer,
        prompt or judge_prompt("critique"),
        samples=1,
        sampling=sampling or Sampling(temperature=0, top_p=1, max_tokens=256),
        name=f"{completer.name} as critic",
        key="critique",
        read=partial(own_text, tag="critique"),
        combine=critique_in_words,
        unread="an empty critique",
    )


@dataclass(frozen=True)
class ModelJudgeOptions(Bounded):
    """Options of `llm,`."""

    prompt: str = "additive_five_point"
    """Judge prompt, by its file's name in feedback/prompts or by path."""
    samples: PositiveInt = 3
    """Judgements drawn per response."""
    temperature: NonNegative = 0.7
    """Sampling temperature of a judgement; 0 is greedy."""
    top_p: Fraction = 0.9
    """Nucleus mass of a judgement."""
    max_tokens: PositiveInt = 256
    """Most tokens of a judgement."""

    def judge(self, completer: Completer, **more: Any) -> ModelJudge:
        """Build the judge that the options describe."""
        sampling = Sampling(self.temperature, self.top_p, self.max_tokens)
        prompt = judge_prompt(self.prompt)
        return ModelJudge(completer, prompt, samples=self.samples, sampling=sampling, **more)


@dataclass(frozen=True)
class ReferenceOptions(ModelJudgeOptions):
    """Options of `reference,`."""

    prompt: str = "reference"
    """Judge prompt with the place {reference}, by its file's name or by path."""


@dataclass(frozen=True)
class OnceOptions(Bounded):
    """Options of judges and teachers that draw one reply."""

    prompt: str
    """Prompt, by its file's name in feedback/prompts or by path."""
    temperature: NonNegative = 0.0
    """Sampling temperature of a reply; 0 is greedy."""
    max_tokens: PositiveInt = 256
    """Most tokens of a reply."""

    def sampling(self) -> Sampling:
        """Return the sampling settings of a reply."""
        return Sampling(self.temperature, 1.0, self.max_tokens)


@dataclass(frozen=True)
class CritiqueOptions(OnceOptions):
    """Options of `critique,`."""

    prompt: str = "critique"
    """Critique prompt, by its file's name in feedback/prompts or by path."""


@register("feedback", "llm", options=ModelJudgeOptions)
def make_llm_judge(
    rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]
) -> ModelJudge:
    """`llm[,samples=3,prompt=short_score]:ENGINE`: the mean of a model's sampled scores."""
    return build(ModelJudgeOptions, options).judge(make_completer(rest))


@register("feedback", "reference", options=ReferenceOptions)
def make_reference_judge(
    rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]
) -> ModelJudge:
    """`reference[,samples=3]:ENGINE`: scores against the prompt's own reference answer."""
    return build(ReferenceOptions, options).judge(make_completer(rest))


@register("feedback", "critique", options=CritiqueOptions)
def make_critic(rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]) -> ModelJudge:
    """`critique:ENGINE`: no score, but what is wrong with a response, in words."""
    chosen = build(CritiqueOptions, options)
    prompt = judge_prompt(chosen.prompt)
    return critique_judge(make_completer(rest), prompt, sampling=chosen.sampling())
