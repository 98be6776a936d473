"""Answer: a model answers the held-out prompts, once each, with draws shared by all models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from alignlab.protocols import Completer
from alignlab.stages.lab import Lab
from alignlab.stages.sample import SampleSettings, sample
from alignlab.stages.train import slug
from alignlab.types import Prompt, Response


def answer(
    lab: Lab, completer: Completer, prompts: Sequence[Prompt], settings: SampleSettings
) -> list[Response]:
    """One response per held-out prompt; models compared pairwise share their random draws."""
    return sample(
        lab,
        completer,
        prompts,
        replace(settings, n=1),
        name=f"answer-{slug(completer.name)}",
        purpose="held-out answers",
    )
