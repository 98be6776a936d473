"""Keep of a finished run what the ledger of reproductions needs, small enough for the repository.

    python benchmarks/kept_runs.py RUN docs/runs/NAME [--without DATA] [--commit HASH]

writes `summary.json` (the run's own, on fewer lines, six digits a figure, without the rows by
family of prompts, which are a third of a sandbox study's and which no table reads), `manifest.json`
(command, seeds, versions and the commit, nothing about the machine) and `values.json`: each
model's scores, and its outcomes against the baseline (1 a win, = a tie, 0 a loss, ? no verdict),
prompt by prompt and seed by seed.
Of a benchmark's run, which scores no prompt of a study, the values are empty. Folders of absolute
paths are named MODELS or DATA, a run with models in its stages runs/NAME. No text of a prompt or a
response is kept. `--without` marks prompts whose text is also a test prompt of other data, on which
settings were chosen, say; tables leave them out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

from checked_files import (
    LIST,
    NUMBER,
    OBJECT,
    OUTCOME_OF,
    TEXT,
    by_prompt,
    one_line,
    read_object,
    read_summary,
    read_values,
    stages_named,
    write,
)
from findings import shared_prompts

from alignlab import registry
from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import Floats, Interval, bootstrap_mean
from alignlab.evaluation.metrics.power import crossed_error
from alignlab.evaluation.win_rate_rows import read_outcomes
from alignlab.files import make_folder
from alignlab.runs import slug
from alignlab.types import Feedback, Score

MARKS = {value: mark for mark, value in OUTCOME_OF.items()}
VALUES = {mark: np.nan if value is None else value for value, mark in MARKS.items()}
_DATA = re.compile(r"\.(jsonl?|csv|tsv|parquet|arrow)\b")
MANIFEST = {"recipe": TEXT, "command": TEXT, "seeds": LIST, "created": TEXT,
            "wall_seconds": NUMBER, "sha256": TEXT}  # fmt: skip
"""Fields of a manifest that are kept as they are."""
FILES = ("manifest.json", "summary.json", "values.json")
_COMMIT = re.compile(r"[0-9a-fA-F]{7,40}")
LIBRARIES = ("torch", "transformers", "peft", "numpy")


@dataclass(frozen=True)
class KeptRun:
    """Figures of a finished run."""

    name: str
    manifest: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    """Rows of summary.json."""
    prompts: Sequence[str]
    """Ids of the test prompts, in the order of all values."""
    left_out: frozenset[str]
    """Ids of prompts on which settings were chosen."""
    scores: Mapping[str, Mapping[str, Sequence[float | None]]]
    """Model -> seed -> score by prompt."""
    outcomes: Mapping[str, Mapping[str, Sequence[str]]]
    """Model -> seed -> outcome against the baseline by prompt, one mark each."""

    def outcome_table(self, model: str) -> Floats:
        """Return outcomes against the baseline, NaN where there is no verdict; shape (S, P).

        Raises:
            BadInput: the run compared no such model.
        """
        marks = self._of(self.outcomes, model, "outcomes")
        return self._kept([[VALUES[mark] for mark in line] for line in marks])

    def score_table(self, model: str) -> Floats:
        """Return scores, NaN where there is none; shape (S, P).

        Raises:
            BadInput: the run scored no such model.
        """
        return self._kept(self._of(self.scores, model, "scores"))

    def row(
        self, model: str, benchmark: str, metric: str, against: str | None = None
    ) -> Mapping[str, Any]:
        """Return the row of summary.json over all prompts, against another model if one is named.

        Raises:
            BadInput: there is none.
        """
        wanted = [model, benchmark, metric, against]
        fields = ("model", "benchmark", "metric", "against")
        for row in self.rows:
            if row["group"] is None and [row[field] for field in fields] == wanted:
                return row
        raise BadInput(f"{self.name}: expected a row {wanted}, found none")

    def _of(self, table: Mapping[str, Mapping[str, Any]], model: str, what: str) -> list[Any]:
        if model not in table:
            raise BadInput(f"{self.name}: expected {what} of {model!r}, found {sorted(table)}")
        return list(table[model].values())

    def _kept(self, values_SP: Sequence[Sequence[float | None]]) -> Floats:
        keep = [i for i, prompt in enumerate(self.prompts) if prompt not in self.left_out]
        return np.array(values_SP, dtype=np.float64)[:, keep]


def read(folder: Path) -> KeptRun:
    """Read what was kept of a run.

    Raises:
        BadInput: a file is missing or broken.
    """
    values = read_values(folder)
    return KeptRun(
        name=folder.name,
        manifest=read_object(folder / "manifest.json", MANIFEST | {"commit": TEXT}),
        rows=read_summary(folder)["rows"],
        prompts=values["prompts"],
        left_out=frozenset(values["left_out"]),
        scores=values["scores"],
        outcomes=values["outcomes"],
    )


def pool(runs: Sequence[KeptRun]) -> KeptRun:
    """Return the seeds of several runs of one study as those of one run, without a summary.

    Raises:
        BadInput: the runs answer different prompts.
    """
    first = runs[0]
    for run in runs[1:]:
        if (set(run.prompts), run.left_out) != (set(first.prompts), first.left_out):
            raise BadInput(f"{run.name}: expected the test prompts of {first.name}, found others")
    places = [[run.prompts.index(prompt) for prompt in first.prompts] for run in runs]

    def seeds(table: str) -> dict[str, dict[str, Any]]:
        every: list[Mapping[str, Mapping[str, Any]]] = [getattr(run, table) for run in runs]
        return {
            model: {
                f"{run.name}/{seed}": [values[i] for i in order]
                for run, order, of_run in zip(runs, places, every, strict=True)
                for seed, values in of_run[model].items()
            }
            for model in every[0]
            if all(model in of_run for of_run in every)
        }

    return replace(
        first,
        name="+".join(run.name for run in runs),
        rows=(),
        scores=seeds("scores"),
        outcomes=seeds("outcomes"),
    )


def crossed(values_SP: Floats) -> tuple[Interval, float]:
    """Compute the mean of values by seed and prompt, its interval and its standard error."""
    seed_N, prompt_N = np.nonzero(np.isfinite(values_SP))
    interval = bootstrap_mean(
        values_SP[seed_N, prompt_N],
        prompts_N=prompt_N.tolist(),
        seeds_N=seed_N.tolist() if len(values_SP) > 1 else None,
    )
    return interval, crossed_error(values_SP)


def keep(run: Path, folder: Path, commit: str = "", without: str | None = None) -> None:
    """Write the small files of a run, once all of them are computed.

    Raises:
        BadInput: the run is not finished or broken, nothing names its commit, its seeds answer
            different prompts, or the folder holds other files.
    """
    summary = read_summary(run)
    if commit and not _COMMIT.fullmatch(commit):
        raise BadInput(f"--commit: expected 7 to 40 hexadecimal digits, found {commit!r}")
    if other := sorted({file.name for file in folder.glob("*")} - set(FILES)):
        raise BadInput(f"{folder}: expected a folder of kept files alone, found {other[0]}")
    texts = (_manifest(run, folder.name, commit), _summary(summary), _values(run, without))
    make_folder(folder)
    for name, text in zip(FILES, texts, strict=True):
        write(folder / name, text)


def _manifest(run: Path, name: str, commit: str) -> str:
    fields = MANIFEST | {"versions": OBJECT}
    manifest = read_object(run / "manifest.json", fields)
    command = re.sub(r"(?<=[ -]out[ =])\S+", lambda _: f"runs/{name}", manifest["command"])
    if not (commit := commit or manifest.get("commit", "")):
        raise BadInput(f"{run}: expected a commit in manifest.json or as --commit, found none")
    short = {field: manifest[field] for field in MANIFEST} | {
        "command": without_folders(command),
        "commit": commit,
        "libraries": {name: manifest["versions"].get(name) for name in LIBRARIES},
    }
    return json.dumps(short, indent=1) + "\n"


def _summary(summary: Mapping[str, Any]) -> str:
    rows = [row for row in summary["rows"] if not (row["group"] or "").startswith("family:")]
    lines = without_folders(",\n".join(json.dumps(rounded(row)) for row in rows))
    rest = {name: value for name, value in summary.items() if name != "rows"}
    head = without_folders(json.dumps(rest)[:-1])
    return f'{head}, "rows": [\n{lines}\n]}}\n'


def rounded(value: Any) -> Any:
    """Round every fraction to six significant digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def without_folders(text: str) -> str:
    """Replace the folders of paths by one word: DATA, MODELS where no data file is, or runs."""
    text = re.sub(r"(?<=[=: ])/(?:[^/\s'\"]+/)*(?=[^/\s'\"]+/stages/)", "runs/", text)
    text = re.sub(r"(?<=--run )(?:\S*/)?(?=[^/\s]+)", "runs/", text)
    path = re.compile(r"(?<=[:=\[,\"' ])/(?:[^/\s'\"]+/)+(?P<name>[^/\s'\"?,\]]*)")

    def named(at: re.Match[str]) -> str:
        return f"{'DATA' if _DATA.search(at['name']) else 'MODELS'}/{at['name']}"

    return path.sub(named, text)


def _values(run: Path, without: str | None) -> str:
    models = read_object(run / "study.json", {"models": OBJECT})["models"]
    scores = {
        model: {seed: _scores(found) for seed, found in by_seed.items()}
        for model in models
        if (by_seed := _feedback(run, "score", model))
    }
    orders = {tuple(values) for by_seed in scores.values() for values in by_seed.values()}
    recipe = read_object(run / "manifest.json", MANIFEST)["recipe"]
    if not orders and recipe not in registry.names("benchmark"):
        raise BadInput(f"{run}: expected scores of the study's models, found none")
    if len(orders) > 1:
        raise BadInput(f"{run}: expected every seed and model to answer the same prompts")
    prompts = next(iter(orders), ())
    outcomes = {
        model: {seed: _marks(run, found, prompts) for seed, found in by_seed.items()}
        for model in models
        if (by_seed := _feedback(run, "duel", model))
    }
    left_out = shared_prompts(run, without) if without else set()
    parts: dict[str, Any] = {
        "prompts": list(prompts),
        "left_out": sorted(left_out & set(prompts)),
        "scores": {
            model: {seed: rounded(list(values.values())) for seed, values in by_seed.items()}
            for model, by_seed in scores.items()
        },
        "outcomes": outcomes,
    }
    # One line a model keeps changes readable.
    lines = [
        f'"{name}": '
        + (
            json.dumps(part)
            if isinstance(part, list)
            else "{\n" + ",\n".join(f" {json.dumps(k)}: {_tight(v)}" for k, v in part.items()) + "}"
        )
        for name, part in parts.items()
    ]
    return "{" + ",\n".join(lines) + "}\n"


def _tight(value: Any) -> str:
    return json.dumps(value, separators=(",", ":")).replace(".0,", ",").replace(".0]", "]")


def _feedback(run: Path, kind: str, model: str) -> dict[str, list[Feedback]]:
    """Return training seed -> feedback; a run of one seed has no folder for it.

    Raises:
        BadInput: a seed has two stages of that name, or one that cannot be read.
    """
    found: dict[str, list[Feedback]] = {}
    for scope in sorted((run / "stages").glob("seed-*")) or [run / "stages"]:
        seed = scope.name.removeprefix("seed-").replace("stages", "0")
        for file in stages_named(scope, f"{kind}-{slug(model)}"):
            if seed in found:
                raise BadInput(f"{file.parent}: expected one stage of this name, found another")
            found[seed] = list(by_prompt(file).values())
    return found


def _scores(found: Sequence[Feedback]) -> dict[str, float | None]:
    return {f.prompt_id: f.verdict.value if isinstance(f.verdict, Score) else None for f in found}


def _marks(run: Path, found: Sequence[Feedback], prompts: Sequence[str]) -> str:
    if other := {feedback.prompt_id for feedback in found} - set(prompts):
        raise BadInput(f"{run}: expected outcomes on prompts with scores, found {min(other)!r}")
    outcomes = {outcome.prompt_id: outcome.value for outcome in read_outcomes(found)}
    return "".join(MARKS[outcomes.get(prompt)] for prompt in prompts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commit", default="", help="commit of the code that made the run")
    parser.add_argument("--without", metavar="DATA", help="data whose test prompts are left out")
    given = parser.parse_args()
    with one_line():
        keep(given.run, given.folder, given.commit, given.without)
