"""Sample a model's responses to prompts into a file that `judge`, `data` and `train` read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignlab import configs
from alignlab.at_once import at_once
from alignlab.commands._support.file_job import FileWritten, open_file_run, run_folder, types_of
from alignlab.commands._support.job import part_of, setting_layers
from alignlab.commands._support.prompts_and_responses import dropped, prompts_of
from alignlab.configs import NonNegativeInt, PositiveInt, Seed
from alignlab.context import Hardware
from alignlab.data.convert import write_rows
from alignlab.data.sources import load as load_data
from alignlab.data.writers import WRITERS, Written
from alignlab.errors import BadInput
from alignlab.files import read_json
from alignlab.measuring.entrants import entrant
from alignlab.records import to_dict
from alignlab.stages.sample import SampleSettings, sample
from alignlab.types import Corpus, Demonstration, Prompt, Response


@dataclass(frozen=True)
class GenerateSettings(SampleSettings):
    """Settings of sampling responses."""

    n: PositiveInt = 1
    """Responses per prompt."""
    chunk: PositiveInt = 64
    """Number of prompts answered and written together; a killed command loses at most these."""
    seed: Seed = 0
    """Seed of every random draw."""
    limit: NonNegativeInt = 0
    """Maximum number of prompts, from the start of the data; 0 uses all."""
    chat_template: str = ""
    """Chat template for models without one, or instead of their own: chatml, plain, zephyr, or a
    file."""
    device: str = "auto"
    """Device: "auto" uses a GPU if there is one; else "cpu", "cuda", "cuda:1", ..."""
    dtype: str = "auto"
    """Type of models: "float32", "bfloat16", or "auto" (bfloat16 from 10 million parameters on a
    GPU, or a CPU fast in it; else float32; see `alignlab doctor`)."""
    threads: NonNegativeInt = 0
    """Torch threads, of each engine; 0 shares the cores."""
    engines: PositiveInt = 1
    """Processes that sample from the model at once, a GPU each where there are GPUs; each draws
    whole chunks, with the texts of a single one."""


def generate(
    *overrides: str,
    model: str,
    prompts: str | Path,
    out: str | Path,
    config: str | Path | None = None,
    **settings: Any,
) -> FileWritten:
    """Implement `alignlab.generate` for a model and prompts given by spec."""
    layers = setting_layers(config, overrides, settings)
    chosen = configs.build(GenerateSettings, *layers)
    path = Path(out)
    run_folder(path)
    corpus = load_data(str(prompts))
    taken = prompts_of(corpus)[: chosen.limit or None]
    identity = to_dict(chosen) | {"model": model, "prompts": str(prompts)}
    for without_effect in ("threads", "device", "engines"):
        identity.pop(without_effect)
    hardware = Hardware(
        chosen.device, chosen.dtype, workers=1, threads=chosen.threads, engines=chosen.engines
    )
    with open_file_run(path, "generate", identity, chosen.seed, hardware) as context:
        context.run.add_inputs(corpus.files)
        completer = entrant(context, model).make()
        if chosen.engines > 1 and not at_once(completer):
            raise BadInput(f"setting engines: has no effect on {model}, which is no local model")
        drawn = sample(context, completer, taken, part_of(SampleSettings, chosen))
        answers = [response for response in drawn if response.text]
        write_rows(path, Written(_rows(taken, answers)))
        context.run.finish()
        note = _left_out(context.run.path, corpus, len(drawn) - len(answers))
        written = FileWritten(
            str(path), len(answers), str(context.run.path), note, types_of(context.run)
        )
        return written.with_content(len(answers), "response was drawn")


def _left_out(run: Path, corpus: Corpus, empty: int) -> str:
    """Return the counts of dropped and changed records and prompts, and of empty answers."""
    lost = dropped(corpus)
    counted = Counter({f"records dropped: {reason}": number for reason, number in lost.items()})
    for count in read_json(run / "manifest.json")["counts"]:
        counted.update({**count["dropped"], **count["changed"]})
    if empty:
        counted["without an answer"] += empty
    return ", ".join(f"{reason} {number}" for reason, number in counted.items())


def _rows(prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[dict[str, Any]]:
    by_id = {prompt.id: prompt for prompt in prompts}
    answered = tuple(Demonstration(by_id[r.prompt_id], r) for r in responses)
    plain = WRITERS["prompt_completion"](Corpus("generated", answered), "best_worst").rows
    return [
        {**row, "model": r.sampler.model, "finish": r.finish, "tokens": r.tokens}
        for row, r in zip(plain, responses, strict=True)
    ]
