"""Teachers that rewrite a response by its critique, or write new prompts from errors.

`Refiner` is the refinement of Self-Refine (arXiv 2303.17651) and Self-Refinement Tuning
(arXiv 2406.07168). `Instructor` (LLMs-as-Instructors, arXiv 2407.00497) writes a prompt from an
error alone, from its contrast with similar questions answered well, or from a question alone;
similarity is cosine of TF-IDF vectors (the paper uses embeddings).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from alignlab.ask_model import Ask, Reply, ask_model
from alignlab.feedback.model_judge import own_text
from alignlab.feedback.prompts import JudgePrompt, judge_prompt
from alignlab.protocols import Completer
from alignlab.text import conversation as question
from alignlab.types import Message, Prompt, Response, SampledBy, Sampling, Unscored
from alignlab.verdicts import parse_question


class Criticised(NamedTuple):
    """Response with its critique."""

    prompt: Prompt
    response: Response
    critique: str


class Refiner:
    """Teacher that rewrites a response with a model."""

    def __init__(
        self,
        completer: Completer,
        prompt: JudgePrompt | None = None,
        *,
        sampling: Sampling | None = None,
    ) -> None:
        """Set up a teacher.

        Args:
            completer: the model that rewrites.
            prompt: the prompt template; by default the prompt "refine".
            sampling: sampling settings of the one reply; greedy by default.
        """
        self.prompt = prompt or judge_prompt("refine")
        self.sampling = sampling or Sampling(temperature=0, top_p=1, max_tokens=512)
        self.name = f"{completer.name} as refiner"
        self._completer = completer

    def messages(self, one: Criticised) -> tuple[Message, ...]:
        """Render the request to the model; also the prompt of a demonstration of refining."""
        return self.prompt.render(one.prompt, one.response, critique=one.critique)

    def refine(self, items: Sequence[Criticised], seed: int) -> list[Response | Unscored]:
        """Return one response per item to its prompt, or the reason why there is none.

        A reply that was cut off is no refinement: whoever imitates it learns to stop early.
        """
        replies = ask_model(
            self._completer,
            [Ask(f"refine|{one.response.id}", self.messages(one)) for one in items],
            partial(own_text, tag="response"),
            sampling=self.sampling,
            seed=seed,
            unread="an empty refinement",
            who="teacher",
        )
        return [
            self._response(one, reply, seed) for one, (reply,) in zip(items, replies, strict=True)
        ]

    def _response(self, one: Criticised, reply: Reply[str], seed: int) -> Response | Unscored:
        if isinstance(reply.value, Unscored):
            return reply.value
        if reply.completion.finish == "length":
            return Unscored("the refinement was cut off")
        return Response(
            refined_id(one.response.id),
            one.prompt.id,
            reply.value,
            SampledBy(self.name, self.sampling, seed),
            reply.completion.tokens,
        )


class Instructor:
    """Teacher that writes one new prompt per error with a model."""

    def __init__(
        self, completer: Completer, *, sampling: Sampling | None = None, neighbours: int = 0
    ) -> None:
        """Set up a teacher.

        Args:
            completer: the model that writes.
            sampling: sampling settings of the one reply (T 0.7, p 0.9 by default).
            neighbours: similar questions answered well that a contrast shows, without their answers
                (3 in the paper); 0 shows the most similar one with its answer.
        """
        self.sampling = sampling or Sampling(temperature=0.7, top_p=0.9, max_tokens=256)
        self.name = f"{completer.name} as instructor"
        self._completer = completer
        self._neighbours = neighbours
        self._error = judge_prompt("instruct_error")
        self._contrast = judge_prompt("instruct_contrast" if not neighbours else
                                      "instruct_neighbours")  # fmt: skip
        self._mimic = judge_prompt("instruct_mimic")

    def from_errors(self, errors: Sequence[Criticised], seed: int) -> list[Prompt | Unscored]:
        """Write one prompt per error; Unscored where the reply cannot be read."""
        requests = [self._error.render(e.prompt, e.response, critique=e.critique) for e in errors]
        return self._write(errors, requests, seed)

    def from_contrast(
        self,
        errors: Sequence[Criticised],
        successes: Sequence[tuple[Prompt, Response]],
        seed: int,
    ) -> list[Prompt | Unscored]:
        """Write one prompt per error, contrasted with the success of the most similar question."""
        if not successes:
            return [Unscored("no success to contrast with") for _ in errors]
        known = [prompt for prompt, _ in successes]
        near = _nearest([e.prompt for e in errors], known, self._neighbours or 1)
        requests = [
            self._contrast.render(
                error.prompt,
                error.response,
                critique=error.critique,
                other_prompt=question(known[places[0]]),
                other_response=successes[places[0]][1].text,
                examples="\n".join(f"- {question(known[at])}" for at in places),
            )
            for error, places in zip(errors, near, strict=True)
        ]
        return self._write(errors, requests, seed)

    def from_questions(self, items: Sequence[Criticised], seed: int) -> list[Prompt | Unscored]:
        """Write one prompt per item, shown its question alone; the control of errors."""
        return self._write(items, [self._mimic.render_prompt(one.prompt) for one in items], seed)

    def _write(
        self, errors: Sequence[Criticised], requests: Sequence[tuple[Message, ...]], seed: int
    ) -> list[Prompt | Unscored]:
        replies = ask_model(
            self._completer,
            [Ask(f"instruct|{e.response.id}", m) for e, m in zip(errors, requests, strict=True)],
            parse_question,
            sampling=self.sampling,
            seed=seed,
            unread="no readable question",
            who="teacher",
        )
        return [
            reply.value
            if isinstance(reply.value, Unscored)
            else Prompt(
                f"instruct/{error.response.id}", (Message("user", reply.value),), source=self.name
            )
            for error, (reply,) in zip(errors, replies, strict=True)
        ]


def refined_id(response_id: str) -> str:
    """Return the id of a response's rewritten version."""
    return f"{response_id}/refined"


def _nearest(prompts: Sequence[Prompt], among: Sequence[Prompt], k: int) -> list[list[int]]:
    """Return, for each prompt, the positions of the k most similar ones; the first of equals."""
    if not prompts:
        return []
    from sklearn.feature_extraction.text import TfidfVectorizer  # takes half a second

    texts = [question(prompt) for prompt in (*prompts, *among)]
    vectors = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b").fit_transform(texts)
    products = (vectors[: len(prompts)] @ vectors[len(prompts) :].T).toarray()
    return [(-row).argsort(kind="stable")[:k].tolist() for row in products]
