"""Change demonstrations: references in their place, poor ones among them, cut-off ones noted."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from alignlab import seeds
from alignlab.answers.libraries import key_of
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.types import Count, Demonstration, Response, SampledBy

log = logging.getLogger(__name__)

SWAPPED = "response of another prompt"


def references_as_demonstrations(shown: Sequence[Demonstration]) -> list[Demonstration]:
    """Return the reference answers to the prompts as demonstrations; prompts without are left out.

    Raises:
        BadInput: no prompt has a reference answer.
    """
    found = [
        replace(d, response=Response(f"{d.prompt.id}/key", d.prompt.id, text, SampledBy("key")))
        for d in shown
        if (text := key_of(d.prompt.reference or ""))
    ]
    if not found:
        raise BadInput(f"expected reference answers to {len(shown)} prompts, found none")
    return found


def spoil(
    context: RunContext,
    demonstrations: Sequence[Demonstration],
    share: float,
    *,
    name: str = "demonstrations",
) -> list[Demonstration]:
    """Give a share of the demonstrations, drawn from the seed, the response of another of them.

    Raises:
        BadInput: the share comes to a single demonstration, which has no other to swap with.
    """
    number = round(share * len(demonstrations))
    if number == 1 or (share and not number):
        raise BadInput(
            f"setting bad: expected a share of 2 demonstrations or more of {len(demonstrations)}, "
            f"found {share}"
        )
    with context.run.stage(name, inputs={"bad": f"{share:g}"}) as stage:
        if stage.done:
            return stage.records("demonstrations", Demonstration).read()
        seed = context.seed_for("bad demonstrations")
        order = sorted(
            range(len(demonstrations)),
            key=lambda i: seeds.derive(seed, demonstrations[i].prompt.id),
        )[:number]
        result = list(demonstrations)
        for i, other in zip(order, order[1:] + order[:1], strict=True):
            shown = demonstrations[i]
            own = shown.prompt.id
            wrong = replace(demonstrations[other].response, id=f"{own}/swapped", prompt_id=own)
            result[i] = replace(shown, response=wrong)
        changed = {SWAPPED: number} if number else {}
        stage.count([Count(stage.name, "demonstrations", len(result), {}, changed)])
        return stage.write("demonstrations", Demonstration, result)


def warn_of_cut_off(context: RunContext, answers: Sequence[Response], of: str) -> None:
    """Warn of a teacher's answers that were cut off, and note them: they teach to stop midway.

    Args:
        of: the teacher, for the warning.
    """
    cut = sum(r.finish == "length" for r in answers)
    if not cut:
        return
    context.run.event("cut_off", of=of, answers=len(answers), cut_off=cut)
    log.warning(
        "%s of %s answers of %s are learned though they were cut off: raise sample.max_tokens",
        f"{cut:,}", f"{len(answers):,}", of,
    )  # fmt: skip
