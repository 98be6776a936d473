"""Put claims of the form "this model over that one" to the test in a study.

    python benchmarks/claims.py runs/demonstrations "M2 SPIN > M2 longer SFT" --of score
    python benchmarks/claims.py runs/hybrid "M2 routed labels > M1" --of satisfied
    python benchmarks/claims.py docs/runs/rlvr_real "grpo_checked > M1" --pool docs/runs/rlvr_real_1

prints a Markdown table: the mean paired difference, by seed too, its 95% interval when prompts and
seeds are both resampled (prompts alone, for one seed), the difference that so many prompts and
seeds detect at 80% power, and the verdict: held (the interval lies above 0), failed (below 0) or
undecided.
`--of` names the verdicts: score, or another stage of one verdict per answer (satisfied, right,
harmful, preferred; duel, wins over the baseline; faults, the F1 of a critique). A preference is
against M1, and its claim is about a win rate above one half, as that of a duel is where the other
model is the baseline. Folders of `docs/runs` keep scores
and duels, and name prompts that tables leave out; `--pool` adds the seeds of another run of one
study. `--without` leaves out the test prompts of a run that are prompts of other data too, which a
judge has learned from, say.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

from checked_files import (
    OBJECT,
    OUTCOME_OF,
    TEXT,
    by_prompt,
    one_line,
    read_object,
    read_summary,
    read_values,
    stages_named,
)
from findings import shared_prompts

from alignlab.errors import BadInput, bad_record
from alignlab.evaluation.metrics.intervals import Floats, bootstrap_mean
from alignlab.evaluation.metrics.power import crossed_error, detectable
from alignlab.runs import slug
from alignlab.types import Feedback, Preference, Score

Values = dict[tuple[str, str], float]
"""(Training seed, prompt id) -> value of an answer."""


def values(runs: Sequence[Path], model: str, of: str) -> Values:
    """Read a model's verdicts of one kind in the runs of a study; their seeds are kept apart.

    Raises:
        BadInput: a run has no such model or no verdicts on it, or the runs answer different
            prompts.
    """
    if not re.fullmatch("[a-z_-]+", of):
        raise bad_record("--of", None, None, "the name of verdicts, such as score", repr(of))
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
    refuse_unknown(run / "study.json", model)
    found: Values = {}
    read: dict[str, Path] = {}
    for file in stages_named(run / "stages", f"{of}-{slug(model)}", deep=True):
        scopes = file.relative_to(run).parts
        seed = scopes[1].removeprefix("seed-") if scopes[1].startswith("seed-") else "0"
        if seed in read:
            raise BadInput(f"{file.parent}: expected one stage of this name, found {read[seed]}")
        read[seed] = file.parent
        for feedback in by_prompt(file).values():
            value = _value(feedback)
            if value is not None:
                found[seed, feedback.prompt_id] = value
    return found


def refuse_unknown(study: Path, model: str) -> None:
    """Refuse a model that the study does not name exactly so; stages are named by its slug.

    Raises:
        BadInput: the study has no such model.
    """
    if study.exists():  # not in a folder of stages alone
        models = read_object(study, {"models": OBJECT})["models"]
        if model not in models:
            raise bad_record(study, None, "models", f"one of {', '.join(models)}", repr(model))


def _kept(run: Path, model: str, of: str) -> Values:
    if of not in (tables := {"score": "scores", "duel": "outcomes"}):
        raise BadInput(
            f"{run}: expected --of score or duel, as kept folders hold no other, found {of}"
        )
    kept = read_values(run)
    table = kept[tables[of]]
    if model not in table:
        models = ", ".join(table)
        raise bad_record(run / "values.json", None, tables[of], f"one of {models}", repr(model))
    return {
        (seed, prompt): value
        for seed, several in table[model].items()
        for prompt, one in zip(kept["prompts"], several, strict=True)
        if prompt not in kept["left_out"]
        and (value := OUTCOME_OF[one] if of == "duel" else one) is not None
    }


def _value(feedback: Feedback) -> float | None:
    verdict = feedback.verdict
    if isinstance(verdict, Score):
        return verdict.value
    if isinstance(verdict, Preference):
        return 0.5 if verdict.winner is None else float(verdict.winner == 0)
    return None


def line(runs: Sequence[Path], claim: str, of: str, left_out: Collection[str] = ()) -> str:
    """Test one claim without the prompts that are left out, and return its row."""
    model, sign, other = claim.partition(" > ")
    if not sign:
        raise BadInput(f"claim {claim!r}: expected MODEL > MODEL")
    if slug(model) == slug(other):
        raise BadInput(f"claim {claim!r}: expected two models, found one")
    own = values(runs, model, of)
    if of == "preferred":
        refuse_other_baseline(runs, other)
    if of == "preferred" or (of == "duel" and all(is_baseline(run, other) for run in runs)):
        base = dict.fromkeys(own, 0.5)
    else:
        base = values(runs, other, of)
    keys = [key for key in own if key in base and key[1] not in left_out]
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


def is_baseline(run: Path, model: str) -> bool:
    """Return whether a study compared its models' answers with this model's."""
    if (run / "values.json").exists():
        rows = [row for row in read_summary(run)["rows"] if row["metric"] == "win_rate"]
        compared = model in {row["against"] for row in rows}
        return compared and model not in read_values(run)["outcomes"]
    study = run / "study.json"
    return study.exists() and read_object(study, {"baseline": TEXT})["baseline"] == model


def refuse_other_baseline(runs: Sequence[Path], model: str) -> None:
    """Refuse a claim over a model that preferences were not given against.

    Raises:
        BadInput: a study has another baseline.
    """
    for study in (run / "study.json" for run in runs):
        if study.exists():
            baseline = read_object(study, {"baseline": TEXT})["baseline"]
            if model != baseline:
                raise bad_record(study, None, "baseline", f"{baseline} in the claim", repr(model))


def by_seed_and_prompt(keys: Sequence[tuple[str, str]], values: Sequence[float]) -> Floats:
    """Return values in a table of seeds and prompts, NaN where there is none; shape (S, P)."""
    seeds, prompts = ({key[i]: None for key in keys} for i in (0, 1))
    rows, columns = ({key: i for i, key in enumerate(some)} for some in (seeds, prompts))
    table = np.full((len(rows), len(columns)), np.nan)
    for (seed, prompt), value in zip(keys, values, strict=True):
        table[rows[seed], columns[prompt]] = value
    return table


def table(runs: Sequence[Path], claims: Sequence[str], of: str, without: str | None = None) -> str:
    """Return the Markdown table of some claims.

    Args:
        without: data whose prompts are left out; the runs must hold the texts of theirs.

    Raises:
        BadInput: a run is given twice, or a claim cannot be tested.
    """
    for number, run in enumerate(runs):
        if not run.is_dir():
            raise BadInput(f"{run}: expected the folder of a run, found none")
        if run.resolve() in [before.resolve() for before in runs[:number]]:
            raise BadInput(f"{run}: expected different runs, found this one twice")
    head = [
        f"| {of} | difference | by seed | 95% over prompts and seeds | prompts | detectable | |",
        "|---|---|---|---|---|---|---|",
    ]
    left_out = (
        {prompt for run in runs for prompt in shared_prompts(run, without)} if without else ()
    )
    return "\n".join([*head, *(line(runs, claim, of, left_out) for claim in claims)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("claims", nargs="+", metavar="CLAIM")
    parser.add_argument("--of", default="score")
    parser.add_argument("--pool", type=Path, action="append", default=[], metavar="RUN")
    parser.add_argument("--without", metavar="DATA", help="data whose prompts are left out")
    given = parser.parse_args()
    with one_line():
        print(table([given.run, *given.pool], given.claims, given.of, given.without))
