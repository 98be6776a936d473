"""Put claims of the form "this model over that one" to the test in a study.

    python benchmarks/claims.py runs/demonstrations "M2 SPIN > M2 longer SFT" --of score
    python benchmarks/claims.py runs/hybrid "M2 routed labels > M1" --of satisfied
    python benchmarks/claims.py docs/runs/rlvr_real "grpo_checked > M1" --pool docs/runs/rlvr_real_1

prints a Markdown table: the mean paired difference, by seed too, its 95% interval when prompts and
seeds are both resampled (prompts alone, for one seed), the difference that so many prompts and
seeds detect at 80% power, and the verdict: held (the interval lies above 0), failed (below 0) or
undecided.
`--of` names the verdicts: score, or another stage of one verdict per answer (satisfied, right,
harmful, preferred; faults, the F1 of a critique). A preference is against M1, and its claim is
about a win rate above one half. Folders of `docs/runs` keep scores alone; `--pool` adds the seeds
of another run of the same study.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alignlab.errors import BadInput
from alignlab.evaluation.metrics.intervals import Floats, bootstrap_mean
from alignlab.evaluation.metrics.power import crossed_error, detectable
from alignlab.files import read_json
from alignlab.records import read_records
from alignlab.runs import slug
from alignlab.types import Feedback, Preference, Score

Values = dict[tuple[str, str], float]
"""(Training seed, prompt id) -> value of an answer."""


def values(runs: Sequence[Path], model: str, of: str) -> Values:
    """Read a model's verdicts of one kind in the runs of a study; their seeds are kept apart.

    Raises:
        BadInput: a run has none, or the runs answer different prompts.
    """
    found: Values = {}
    asked: set[str] = set()
    for number, run in enumerate(runs):
        read = _kept(run, model, of) if (run / "values.json").exists() else _full(run, model, of)
        if not read:
            raise BadInput(f"{run}: expected verdicts {of} on {model}, found none")
        prompts = {prompt for _, prompt in read}
        if number and not prompts & asked:
            raise BadInput(f"{run}: expected the prompts of {runs[0]}, found others")
        asked |= prompts
        found |= {(f"{number}/{seed}", prompt): value for (seed, prompt), value in read.items()}
    return found


def _full(run: Path, model: str, of: str) -> Values:
    found: Values = {}
    for file in sorted(run.glob(f"stages/**/[0-9]*-{of}-{slug(model)}/feedback.jsonl")):
        scopes = file.relative_to(run).parts
        seed = scopes[1].removeprefix("seed-") if scopes[1].startswith("seed-") else "0"
        for feedback in read_records(file, Feedback):
            value = _value(feedback)
            if value is not None:
                found[seed, feedback.prompt_id] = value
    return found


def _kept(run: Path, model: str, of: str) -> Values:
    if of != "score":
        raise BadInput(f"{run}: expected --of score, as kept folders hold no other, found {of}")
    kept = read_json(run / "values.json")
    return {
        (seed, prompt): value
        for seed, several in kept["scores"].get(model, {}).items()
        for prompt, value in zip(kept["prompts"], several, strict=True)
        if value is not None
    }


def _value(feedback: Feedback) -> float | None:
    verdict = feedback.verdict
    if isinstance(verdict, Score):
        return verdict.value
    if isinstance(verdict, Preference):
        return 0.5 if verdict.winner is None else float(verdict.winner == 0)
    return None


def line(runs: Sequence[Path], claim: str, of: str) -> str:
    """Test one claim, and return its row."""
    model, sign, other = claim.partition(" > ")
    if not sign:
        raise BadInput(f"claim {claim!r}: expected MODEL > MODEL")
    own = values(runs, model, of)
    base = dict.fromkeys(own, 0.5) if of == "preferred" else values(runs, other, of)
    keys = [key for key in own if key in base]
    if len({prompt for _, prompt in keys}) < 2:
        raise BadInput(f"{claim}: expected 2 prompts or more that both answered, found fewer")
    apart = np.array([own[key] - base[key] for key in keys])
    seeds, prompts = [seed for seed, _ in keys], [prompt for _, prompt in keys]
    found = bootstrap_mean(apart, prompts_N=prompts, seeds_N=seeds)
    each = " / ".join(
        f"{np.mean([a for a, s in zip(apart, seeds, strict=True) if s == one]):+.3f}"
        for one in dict.fromkeys(seeds)
    )
    least = detectable(1, crossed_error(by_seed_and_prompt(keys, apart.tolist())))
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    verdict = "held" if found.low > 0 else "failed" if found.high < 0 else "undecided"
    return (
        f"| {claim} | {found.value:+.3f} | {each} | [{found.low:+.3f}, {found.high:+.3f}] "
        f"| {len(set(prompts))} | {least:.3f} | {verdict} |"
    )


def by_seed_and_prompt(keys: Sequence[tuple[str, str]], values: Sequence[float]) -> Floats:
    """Return values in a table of seeds and prompts, NaN where there is none; shape (S, P)."""
    seeds, prompts = ({key[i]: None for key in keys} for i in (0, 1))
    rows, columns = ({key: i for i, key in enumerate(some)} for some in (seeds, prompts))
    table = np.full((len(rows), len(columns)), np.nan)
    for (seed, prompt), value in zip(keys, values, strict=True):
        table[rows[seed], columns[prompt]] = value
    return table


def table(runs: Sequence[Path], claims: Sequence[str], of: str) -> str:
    """Return the Markdown table of some claims."""
    head = [
        f"| {of} | difference | by seed | 95% over prompts and seeds | prompts | detectable | |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(line(runs, claim, of) for claim in claims)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("claims", nargs="+", metavar="CLAIM")
    parser.add_argument("--of", default="score")
    parser.add_argument("--pool", type=Path, action="append", default=[], metavar="RUN")
    given = parser.parse_args()
    try:
        print(table([given.run, *given.pool], given.claims, given.of))
    except BadInput as error:
        parser.exit(2, f"{error}\n")
