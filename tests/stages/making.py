"""Small records and a lab for tests of stages."""

from pathlib import Path

from alignlab.runs import Run, RunIdentity
from alignlab.stages.lab import Hardware, Lab
from alignlab.types import Feedback, Message, Prompt, Response, SampledBy, Score, Verdict


def lab(path: Path, seed: int = 0) -> Lab:
    run = Run.start(path, RunIdentity("test", {}, (seed,)))
    return Lab(run, seed, Hardware(device="cpu", threads=1))


def prompt(n: int, text: str | None = None) -> Prompt:
    return Prompt(f"p{n}", (Message("user", text or f"What is question {n}?"),), source="test/what")


def responses(asked: Prompt, *texts: str, by: str = "M1") -> list[Response]:
    return [
        Response(f"{asked.id}/{by}/{i}", asked.id, text, SampledBy(by))
        for i, text in enumerate(texts)
    ]


def rated(response: Response, verdict: float | Verdict, *raw: str) -> Feedback:
    said = Score(verdict, (verdict,)) if isinstance(verdict, int | float) else verdict
    return Feedback(response.prompt_id, (response.id,), "judge", said, raw=raw)
