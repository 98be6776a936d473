"""Sample a model's responses to prompts into a file that `judge`, `data` and `train` read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab import configs
from alignlab.commands._support.file_job import FileWritten, laboratory, workplace
from alignlab.commands._support.prompts_and_responses import prompts_of
from alignlab.context import Hardware
from alignlab.data.convert import write_rows
from alignlab.data.sources import load as load_data
from alignlab.data.writers import WRITERS, Written
from alignlab.files import read_json
from alignlab.limits import at_least
from alignlab.measuring.entrants import entrant
from alignlab.records import to_dict
from alignlab.stages.sample import SampleSettings, sample
from alignlab.types import Corpus, Demonstration, Prompt, Response


@dataclass(frozen=True)
class GenerateSettings:
    """Settings of sampling responses."""

    n: int = 1
    """Responses per prompt."""
    temperature: float = 0.7
    """Sampling temperature; 0 is greedy."""
    top_p: float = 0.9
    """Nucleus mass."""
    max_tokens: int = 256
    """Maximum number of tokens of a response."""
    seed: int = 0
    """Seed of every random draw."""
    limit: int = 0
    """Maximum number of prompts, from the start of the data; 0 uses all."""
    chunk: int = 64
    """Number of prompts answered and written together; a killed command loses at most these."""
    chat_template: str = ""
    """File with a chat template, for a model without one."""
    device: str = "auto"
    """Device: "auto" uses a GPU if there is one; else "cpu", "cuda", "cuda:1", ..."""
    threads: int = 0
    """Torch threads; 0 is one per core."""

    def __post_init__(self) -> None:
        at_least("", self, n=1, temperature=0, max_tokens=1, limit=0, chunk=1)

    def sampling(self) -> SampleSettings:
        return SampleSettings(self.n, self.temperature, self.top_p, self.max_tokens, self.chunk)


def generate(
    *overrides: str,
    model: str,
    prompts: str | Path,
    out: str | Path,
    config: str | Path | None = None,
    **settings: Any,
) -> FileWritten:
    """Implement `alignlab.generate` for a model and prompts given by spec."""
    layers: list[Mapping[str, Any]] = [configs.read_yaml(Path(config))] if config else []
    chosen = configs.build(GenerateSettings, *layers, configs.parse_overrides(overrides), settings)
    path = Path(out)
    workplace(path)
    corpus = load_data(str(prompts))
    asked = prompts_of(corpus)[: chosen.limit or None]
    identity = to_dict(chosen) | {"model": model, "prompts": str(prompts)}
    for without_effect in ("threads", "device"):
        identity.pop(without_effect)
    hardware = Hardware(chosen.device, workers=1, threads=chosen.threads)
    with laboratory(path, "generate", identity, chosen.seed, hardware) as lab:
        lab.run.add_inputs(corpus.files)
        completer = entrant(lab, model).make()
        drawn = sample(lab, completer, asked, chosen.sampling())
        answers = [response for response in drawn if response.text]
        write_rows(path, Written(_rows(asked, answers)))
        lab.run.finish()
        counted: Counter[str] = Counter()
        for count in read_json(lab.run.path / "manifest.json")["counts"]:
            counted.update({**count["dropped"], **count["changed"]})
        if len(answers) < len(drawn):
            counted["without an answer"] += len(drawn) - len(answers)
        note = ", ".join(f"{what} {number}" for what, number in counted.items())
        written = FileWritten(str(path), len(answers), str(lab.run.path), note)
        return written.with_content(len(answers), "response was drawn")


def _rows(prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[dict[str, Any]]:
    by_id = {prompt.id: prompt for prompt in prompts}
    said = [Demonstration(by_id[r.prompt_id], r) for r in responses]
    plain = WRITERS["prompt_completion"](Corpus("generated", tuple(said)), "best_worst").rows
    return [
        {**row, "model": r.sampler.model, "finish": r.finish, "tokens": r.tokens}
        for row, r in zip(plain, responses, strict=True)
    ]
