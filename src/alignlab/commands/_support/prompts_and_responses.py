"""Extract prompts to answer and responses to judge from data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from alignlab.errors import BadInput
from alignlab.types import (
    Corpus,
    Count,
    CritiquedResponse,
    Demonstration,
    Prompt,
    Response,
    UnpairedPreference,
)


class ReadResponses(NamedTuple):
    """Responses with the prompts that they answer."""

    prompts: list[Prompt]
    """Each prompt once, in the order of the data."""
    responses: list[Response]
    tally: Count
    """Number of responses, and of repeated texts left out."""


def prompts_of(corpus: Corpus) -> list[Prompt]:
    """Return the data's prompts for sampling, or else those of its other records.

    Raises:
        BadInput: the data holds no prompts.
    """
    held = (corpus.demonstrations, corpus.groups, corpus.labelled, corpus.commented)
    found = corpus.prompts or tuple(record.prompt for records in held for record in records)
    if not found:
        raise BadInput(f"{corpus.name}: expected prompts to answer, found none{left_out(corpus)}")
    return list({prompt.cluster: prompt for prompt in found}.values())


def left_out(corpus: Corpus) -> str:
    """Return the reasons why records of the data were dropped, for a message; empty without any."""
    reasons = ", ".join(f"{reason} {number}" for reason, number in dropped(corpus).most_common())
    return f" (dropped: {reasons})" if reasons else ""


def dropped(corpus: Corpus) -> Counter[str]:
    """Count the dropped records of the data by reason."""
    found: Counter[str] = Counter()
    for count in corpus.counts:
        if count.what == "records":
            found.update(count.dropped)
    return found


def responses_of(corpus: Corpus, limit: int = 0) -> ReadResponses:
    """Return every response in the data, of any kind of record.

    Records of the same conversation are one prompt, so that no text is judged or shown twice.

    Args:
        limit: maximum number of prompts, from the start of the data; 0 uses all.

    Raises:
        BadInput: the data holds no responses.
    """
    prompts: dict[str, Prompt] = {}
    responses: dict[tuple[str, str], Response] = {}
    seen = 0
    for prompt, response in _pairs(corpus):
        if limit and len(prompts) >= limit and prompt.cluster not in prompts:
            continue
        seen += 1
        asked = prompts.setdefault(prompt.cluster, prompt)
        answer = replace(response, prompt_id=asked.id)
        responses.setdefault((asked.id, response.text), answer)
    if not responses:
        raise BadInput(f"{corpus.name}: expected responses to judge, found none{left_out(corpus)}")
    repeated = seen - len(responses)
    tally = Count(
        "data", "responses", len(responses), {"repeated response": repeated} if repeated else {}
    )
    return ReadResponses(list(prompts.values()), list(responses.values()), tally)


def _pairs(corpus: Corpus) -> Iterator[tuple[Prompt, Response]]:
    for group in corpus.groups:
        for response in group.responses:
            yield group.prompt, response
    singles: tuple[Demonstration | UnpairedPreference | CritiquedResponse, ...] = (
        *corpus.demonstrations,
        *corpus.labelled,
        *corpus.commented,
    )
    for one in singles:
        yield one.prompt, one.response
