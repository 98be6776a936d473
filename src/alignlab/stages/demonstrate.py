"""Spoil a share of demonstrations, to try how a training bears poor ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from alignlab import seeds
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.types import Count, Demonstration

SWAPPED = "response of another prompt"


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
