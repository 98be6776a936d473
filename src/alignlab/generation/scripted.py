"""Engine that answers from a script: a function, or a JSONL file keyed by request id."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from alignlab.errors import bad_record
from alignlab.generation.engines import check_sampling, failed
from alignlab.registry import register
from alignlab.types import Completion, CompletionRequest

Answer = Callable[[CompletionRequest, int], str | None]
"""Function from a request and a sample's index to its text; None where the script has none."""


class ScriptedEngine:
    """A `Completer` with scripted answers; words count as tokens."""

    def __init__(self, answer: Answer, *, name: str = "scripted"):
        self._answer = answer
        self.name = name

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request; a sample without an answer is an error."""
        return [
            tuple(self._one(request, k) for k in range(check_sampling(request.sampling).n))
            for request in requests
        ]

    def _one(self, request: CompletionRequest, sample: int) -> Completion:
        prompt_tokens = sum(len(m.content.split()) for m in request.messages)
        text = self._answer(request, sample)
        if text is None:
            reason = f"the script has no sample {sample} for request {request.id!r}"
            return failed(reason, prompt_tokens=prompt_tokens)
        return Completion(text, "stop", len(text.split()), prompt_tokens)


@register("engine", "scripted")
def scripted_engine(rest: str) -> ScriptedEngine:
    """`scripted:FILE`: lines `{"id": REQUEST, "texts": [SAMPLE, ...]}`.

    Raises:
        BadInput: the file cannot be read, or a line is not of that form.
    """
    answers: dict[str, list[str]] = {}
    path = Path(rest)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise bad_record(path, None, None, "a JSONL file in UTF-8", str(error)) from error
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise bad_record(path, number, None, "a JSON object", line) from error
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise bad_record(path, number, "id", "a string", row)
        texts = row.get("texts")
        if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts):
            raise bad_record(path, number, "texts", "a list of strings", texts)
        answers[row["id"]] = texts

    def answer(request: CompletionRequest, sample: int) -> str | None:
        texts = answers.get(request.id, [])
        return texts[sample] if sample < len(texts) else None

    return ScriptedEngine(answer, name=f"scripted:{path.name}")
