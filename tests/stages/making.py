"""Small records and a context for tests of stages."""

from pathlib import Path

from alignlab.context import Hardware, RunContext
from alignlab.runs import Run, RunIdentity
from alignlab.types import Feedback, Message, Prompt, Response, SampledBy, Score, Verdict


def context(path: Path, seed: int = 0) -> RunContext:
    run = Run.start(path, RunIdentity("test", {}, (seed,)))
    return RunContext(run, seed, Hardware(device="cpu", threads=1))


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
