"""Win rates of a study repeated over training seeds, with what the seeds themselves vary.

    python benchmarks/findings.py runs/compare [--without sandbox]
    python benchmarks/findings.py runs/offline_rl --claim "return-conditioned > all imitated"

prints a Markdown table: the pooled win rate against the baseline, the rate of every seed, and the
95% interval when prompts and seeds are both resampled, which is what a claim about a method (not
about the models at hand) needs. Three seeds make a rough interval; it is shown all the same.
`--without` leaves out prompts whose text is also a test prompt of the data named, on which
settings were chosen, say. `--claim "A > B"` (repeatable) prints instead the mean difference of the
two models' scores, its interval over prompts and seeds, the verdict on the claim, and the smallest
difference that as many prompts detect at 80% power.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from alignlab.data.sources import load
from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import bootstrap_mean
from alignlab.evaluation.metrics.power import detectable
from alignlab.evaluation.metrics.win_rate import Outcome, win_rate
from alignlab.evaluation.win_rate_rows import read_outcomes
from alignlab.records import from_dict, read_records
from alignlab.runs import read_json, slug
from alignlab.types import Feedback, Prompt, PromptValue, StudyDescription


def outcomes_by_seed(run: Path, model: str) -> dict[int, list[Outcome]]:
    """Training seed -> the model's outcomes against the baseline."""
    found: dict[int, list[Outcome]] = {}
    for scope in sorted(run.glob("stages/seed-*")):
        seed = int(scope.name.removeprefix("seed-"))
        for file in scope.glob(f"[0-9][0-9]-duel-{slug(model)}/feedback.jsonl"):
            found[seed] = read_outcomes(list(read_records(file, Feedback)), training_seed=seed)
    return found


def shared_prompts(run: Path, data: str) -> set[str]:
    """Ids of the run's test prompts whose text is a test prompt of other data too."""
    known = {prompt.text for prompt in load(data).test_prompts}
    return {
        prompt.id
        for file in run.glob("stages/**/01-seed/test_prompts.jsonl")
        for prompt in read_records(file, Prompt)
        if prompt.text in known
    }


def table(run: Path, without: str | None = None) -> str:
    """The Markdown table of a run, prompts that other data shares left out.

    Raises:
        BadInput: the run was not repeated over seeds.
    """
    study = from_dict(StudyDescription, read_json(run / "study.json"))
    left_out = shared_prompts(run, without) if without else set()
    lines = [
        "| model | win rate | by seed | 95% over prompts and seeds | n | |",
        "|---|---|---|---|---|---|",
    ]
    for model in study.models:
        by_seed = {
            seed: [outcome for outcome in outcomes if outcome.prompt_id not in left_out]
            for seed, outcomes in outcomes_by_seed(run, model).items()
        }
        if not by_seed:
            continue
        pooled = [outcome for outcomes in by_seed.values() for outcome in outcomes]
        result = win_rate(pooled, resample_seeds=True)
        each = " / ".join(f"{win_rate(o).rate.value:.3f}" for o in by_seed.values())
        rate = result.rate
        lines.append(
            f"| {model} | {rate.value:.3f} | {each} | [{rate.low:.3f}, {rate.high:.3f}] "
            f"| {rate.n} | {result.verdict} |"
        )
    if len(lines) == 2:
        raise BadInput(f"{run}: expected a run with seeds=2 or more, found none")
    return "\n".join(lines)


def claims(run: Path, said: Sequence[str]) -> str:
    """The Markdown table of claims "A > B" about the scores of two models of a run.

    Raises:
        BadInput: a claim of another form, or about a model without scores.
    """
    known: dict[str, dict[tuple[int, str], float]] = defaultdict(dict)
    for file in sorted((run / "stages").rglob("prompt_values.jsonl")):
        for value in read_records(file, PromptValue):
            if (value.benchmark, value.metric) == ("score", "mean"):
                known[value.model][value.seed, value.prompt] = value.value
    lines = [
        "| claim | difference of scores | 95% over prompts and seeds | n | detectable | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for claim in said:
        better, found, worse = (part.strip() for part in claim.partition(" > "))
        if not found or better not in known or worse not in known:
            raise BadInput(f"--claim: expected A > B of {', '.join(known)}; found {claim!r}")
        lines.append(f"| {claim} | {verdict(known[better], known[worse])} |")
    return "\n".join(lines)


def verdict(better: Mapping[tuple[int, str], float], worse: Mapping[tuple[int, str], float]) -> str:
    """The cells of a claim: difference, interval, n, detectable difference, and verdict.

    The claim held if the interval lies above 0, failed if it lies below, else it is undecided.
    """
    both = [unit for unit in better if unit in worse]
    apart = [better[unit] - worse[unit] for unit in both]
    seeds, prompts = ([unit[i] for unit in both] for i in (0, 1))
    found = bootstrap_mean(apart, prompts_N=prompts, seeds_N=seeds)
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for (_, prompt), value in zip(both, apart, strict=True):
        by_prompt[prompt].append(value)
    means = [statistics.fmean(values) for values in by_prompt.values()]
    least = detectable(len(means), statistics.stdev(means))
    how = "held" if found.low > 0 else "failed" if found.high < 0 else "undecided"
    interval = f"[{found.low:+.3f}, {found.high:+.3f}]"
    return f"{found.value:+.3f} | {interval} | {len(both)} | {least:.3f} | {how}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--without", metavar="DATA", help="data whose test prompts are left out")
    parser.add_argument("--claim", metavar="A > B", action="append", help="models to compare")
    given = parser.parse_args()
    try:
        print(claims(given.run, given.claim) if given.claim else table(given.run, given.without))
    except BadInput as error:
        parser.exit(2, f"{error}\n")
