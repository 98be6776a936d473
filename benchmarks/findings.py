"""Win rates of a study repeated over training seeds, with what the seeds themselves vary.

    python benchmarks/findings.py runs/compare [--without sandbox]

prints a Markdown table: the pooled win rate against the baseline, the rate of every seed, and the
95% interval when prompts and seeds are both resampled, which is what a claim about a method (not
about the models at hand) needs. Three seeds make a rough interval; it is shown all the same.
`--without` leaves out prompts whose text is also a test prompt of the data named, on which
settings were chosen, say. Differences of two models are put to the test by `claims.py`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

from checked_files import OBJECT, by_prompt, one_line, read_all, read_object, stages_named

from alignlab.data.sources import load
from alignlab.errors import BadInput
from alignlab.evaluation.corpus_prompts import held_out_or_all
from alignlab.evaluation.metrics.win_rate import Outcome, win_rate
from alignlab.evaluation.win_rate_rows import read_outcomes
from alignlab.runs import slug
from alignlab.types import Prompt


def outcomes_by_seed(run: Path, model: str) -> dict[int, list[Outcome]]:
    """Training seed -> the model's outcomes against the baseline."""
    found: dict[int, list[Outcome]] = {}
    for scope in sorted(run.glob("stages/seed-*")):
        seed = int(scope.name.removeprefix("seed-"))
        for file in stages_named(scope, f"duel-{slug(model)}"):
            if seed in found:
                raise BadInput(f"{file.parent}: expected one stage of this name, found another")
            found[seed] = read_outcomes(list(by_prompt(file).values()), training_seed=seed)
    return found


def shared_prompts(run: Path, data: str) -> set[str]:
    """Ids of the run's test prompts whose text is a prompt of other data too.

    Of that data the held-out prompts count, or all where it holds none out.

    Raises:
        BadInput: the data or the run's test prompts cannot be read, or there are none.
    """
    known = {prompt.text for prompt in held_out_or_all(load(data))}
    files = sorted(run.glob("stages/**/01-seed/test_prompts.jsonl"))
    if not files:
        raise BadInput(f"{run}: expected test prompts (01-seed/test_prompts.jsonl), found none")
    return {
        prompt.id for file in files for prompt in read_all(file, Prompt) if prompt.text in known
    }


def table(run: Path, without: str | None = None) -> str:
    """The Markdown table of a run, prompts that other data shares left out.

    Raises:
        BadInput: the run was not repeated over seeds.
    """
    models = read_object(run / "study.json", {"models": OBJECT})["models"]
    left_out = shared_prompts(run, without) if without else set()
    lines = [
        "| model | win rate | by seed | 95% over prompts and seeds | n | |",
        "|---|---|---|---|---|---|",
    ]
    for model in models:
        by_seed = {
            seed: [outcome for outcome in outcomes if outcome.prompt_id not in left_out]
            for seed, outcomes in outcomes_by_seed(run, model).items()
        }
        if not by_seed:
            continue
        pooled = [outcome for outcomes in by_seed.values() for outcome in outcomes]
        each = " / ".join(_rate(outcomes) for outcomes in by_seed.values())
        if all(outcome.value is None for outcome in pooled):
            lines.append(f"| {model} | - | {each} | - | 0 | no verdicts |")
            continue
        result = win_rate(pooled, resample_seeds=True)
        rate = result.rate
        lines.append(
            f"| {model} | {rate.value:.3f} | {each} | [{rate.low:.3f}, {rate.high:.3f}] "
            f"| {rate.n} | {result.verdict} |"
        )
    if len(lines) == 2:
        raise BadInput(f"{run}: expected a run with seeds=2 or more, found none")
    return "\n".join(lines)


def _rate(outcomes: list[Outcome]) -> str:
    """Return a seed's win rate for the table, a dash where no comparison has a verdict."""
    value = win_rate(outcomes).rate.value
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--without", metavar="DATA", help="data whose test prompts are left out")
    given = parser.parse_args()
    with one_line():
        print(table(given.run, given.without))
