"""Settings that make every study a matter of seconds."""

from __future__ import annotations

SMALL = (
    "hardware.workers=1",
    "corpus.demonstrations=24",
    "corpus.groups=12",
    "corpus.test_prompts=8",
    "corpus.test_groups=6",
    "eft.limit=24",
    "eft.minimum=4",
    "sft.epochs=1",
    "preference.epochs=1",
    "propose.n=12",
    "sample.max_tokens=24",
    "sample.chunk=4",
    "judge.samples=2",
    "judge.max_tokens=16",
    "critic.samples=2",
    "critic.max_tokens=16",
    "measure.examples=3",
)
"""For models of the sandbox."""


def once(*settings: str) -> tuple[str, ...]:
    """Settings of which the last of a name counts, each once, as the command line wants them."""
    return tuple({setting.partition("=")[0]: setting for setting in settings}.values())
