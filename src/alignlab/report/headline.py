"""State the result of a study in two sentences, from the win rates alone.

A model is called better or worse only where its interval leaves one half out and the paired
randomisation test, adjusted for the number of comparisons, confirms it; an interval that covers one
half is never called a win or a loss, wherever its middle lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from alignlab.report.labels import benchmark, bounds, metric, number
from alignlab.text import without_folders
from alignlab.types import EvalResult, StudyDescription

Standing = Literal["better", "worse", "not distinguishable"]
CHANCE = 0.5
LEVEL = 0.05
"""Maximum adjusted p-value of a significant finding."""
FEW, FEW_OF_A_KIND = 100, 10
"""Prompts, and wins or losses, below which a win rate has a score interval, as in
`evaluation/metrics/win_rate.py`."""

DETECTED = 1.4294
"""Half-widths of a 95% interval that are found with 80% power: (1.960 + 0.842) / 1.960."""


@dataclass(frozen=True)
class Headline:
    """Two sentences on the result, and the basis of the figures."""

    first: str
    second: str
    basis: str
    """n, seeds and the kind of interval; empty if nothing was compared."""
    options: tuple[str, ...] = ()
    """One sentence per option of the study's question."""


def standing(row: EvalResult, chance: float = CHANCE) -> Standing:
    """Classify a row by its interval."""
    if row.low is not None and row.low > chance:
        return "better"
    if row.high is not None and row.high < chance:
        return "worse"
    return "not distinguishable"


def verdict(row: EvalResult, results: Sequence[EvalResult]) -> Standing | None:
    """Classify a tested row by its adjusted p-value; None for any other row.

    A single comparison needs no adjustment and is classified by its own p-value.
    """
    chance = {"win_rate": CHANCE, "recall_change": 0.0}.get(row.metric)
    if chance is None or row.group is not None or row.value is None:
        return None
    of_row = [
        r
        for r in results
        if (r.model, r.benchmark, r.against) == (row.model, row.benchmark, row.against)
    ]
    p = next(
        (r.value for end in ("_p_holm", "_p") for r in of_row if r.metric == row.metric + end), None
    )
    if p is None:
        return None
    return standing(row, chance) if p <= LEVEL else "not distinguishable"


def decided(row: EvalResult, results: Sequence[EvalResult], chance: float = CHANCE) -> Standing:
    """Return the verdict of headline and plots, by the adjusted p-values if there are any.

    An untested row of a table with tested rows is not distinguishable.
    """
    table = {r.metric for r in results if (r.benchmark, r.against) == (row.benchmark, row.against)}
    untested = f"{row.metric}_p_holm" in table
    found = verdict(row, results)
    return found or ("not distinguishable" if untested else standing(row, chance))


def comparisons(results: Sequence[EvalResult], baseline: str) -> list[EvalResult]:
    """Return the win rates of whole benchmarks against the baseline, of the first that has any."""
    rows = [
        r
        for r in results
        if r.metric == "win_rate"
        and r.group is None
        and r.value is not None
        and (r.against == baseline or not baseline)
    ]
    return [r for r in rows if r.benchmark == rows[0].benchmark and r.against == rows[0].against]


def derive(
    results: Sequence[EvalResult],
    baseline: str,
    options: Mapping[str, Sequence[str]] | None = None,
) -> Headline:
    """State the models better than, worse than and not distinguishable from the baseline.

    Args:
        options: option of the study's question -> its models; given, each gets a sentence first.
    """
    rows = comparisons(results, baseline)
    if not rows:
        return _without_win_rates(results, baseline)
    against = rows[0].against or baseline
    by_standing: dict[Standing, list[EvalResult]] = {
        "better": [],
        "worse": [],
        "not distinguishable": [],
    }
    for row in rows:
        by_standing[decided(row, results)].append(row)
    better = sorted(by_standing["better"], key=lambda r: -(r.value or 0))
    worse = sorted(by_standing["worse"], key=lambda r: r.value or 0)
    open_ = by_standing["not distinguishable"]
    basis = " ".join(filter(None, (_basis(rows), _power(rows), _corrected(rows, results))))
    said = tuple(
        f"{option}: {_option([r for r in rows if r.model in models], results)}"
        for option, models in (options or {}).items()
        if any(r.model in models for r in rows)
    )
    if not said:
        return Headline(_wins(better, len(rows), against), _rest(worse, open_, against), basis)
    named = {model for models in (options or {}).values() for model in models}
    others = [r for r in rows if r.model not in named]
    standings = [f"{_list([r], figures=True)} is {decided(r, results)}" for r in others]
    rest = f"Against {against}, {'; '.join(standings)}." if others else ""
    return Headline(" ".join(said), rest, basis, said)


def brief(
    results: Sequence[EvalResult],
    baseline: str,
    options: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """State the answer in one short line per option, with its best model; empty without results."""
    rows = comparisons(results, baseline)
    of = [(f"{name}: ", models) for name, models in (options or {}).items()]
    lines = []
    for option, models in of or [("", [r.model for r in rows])]:
        some = [r for r in rows if r.model in models]
        if some:
            top = max(some, key=lambda r: (decided(r, results) == "better", r.value or 0.0))
            word = {"better": "yes", "worse": "worse"}.get(decided(top, results), "not shown")
            lines.append(f"{option}{word}, {top.model} {number(top.value, top.metric)}")
    if lines:
        return lines
    found = derive(results, baseline, options)
    return [found.first] if found.basis else []


def _without_win_rates(results: Sequence[EvalResult], baseline: str) -> Headline:
    """State the figures of the first metric of a benchmark or an audit."""
    whole = [
        r
        for r in results
        if r.group is None and r.value is not None and r.benchmark != "judge_checks"
    ]
    if baseline or not whole:
        return Headline(
            f"This run holds no win rate against {baseline or 'a baseline'}.",
            "It cannot say which model is better.",
            "",
        )
    key = whole[0].benchmark, whole[0].metric, whole[0].against
    rows = [r for r in whole if (r.benchmark, r.metric, r.against) == key]
    against = f" against {key[2]}" if key[2] else ""
    name = f"{benchmark(key[0])}, {metric(key[1]).lower()}{against}"
    sizes = sorted({r.n for r in rows})
    size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    unscored = sum(r.unscored for r in rows)
    basis = f"n = {size}, {f'{unscored:,} unscored left out' if unscored else 'none unscored'}."
    ranked = sorted(rows, key=lambda r: -(r.value or 0))
    return Headline(f"{name}: {_list(ranked, figures=True)}.", "", basis)


def _option(rows: Sequence[EvalResult], results: Sequence[EvalResult]) -> str:
    """State in one sentence whether an option's models are better, best first."""
    ranked = sorted(rows, key=lambda r: -(r.value or 0))
    kinds: dict[Standing, list[EvalResult]] = {"better": [], "not distinguishable": [], "worse": []}
    for row in ranked:
        kinds[decided(row, results)].append(row)
    better, open_, worse = kinds.values()
    parts = []
    if better:
        parts.append(f"yes, {_list(better, figures=True)}")
    if open_:
        start = "not shown for" if better else "not shown,"
        parts.append(f"{start} {_list(open_, figures=True)}")
    if worse:
        start = "worse with" if better or open_ else "no, worse with"
        parts.append(f"{start} {_list(worse, figures=True)}")
    return f"{'; '.join(parts)}."


def with_judge(answer: Headline, study: StudyDescription) -> Headline:
    """Add the sentences on the judge's fitness, in front if unfit, and on branches left out."""
    fitness = without_folders(study.fitness)
    if study.left_out:
        second = f"{answer.second} {without_folders(study.left_out)}".strip()
        answer = replace(answer, second=second)
    if study.recipe == "judge_card":
        return Headline(fitness, "", "")
    if fitness.startswith("The judge is unfit"):
        options = (fitness, *answer.options) if answer.options else ()
        return replace(answer, first=f"{fitness} {answer.first}", options=options)
    return replace(answer, second=f"{answer.second} {fitness}".strip())


def _corrected(rows: Sequence[EvalResult], results: Sequence[EvalResult]) -> str:
    """Name intervals that exclude one half without a significant test; empty if none does."""
    apart = [r for r in rows if standing(r) != "not distinguishable"]
    lost = [r for r in apart if decided(r, results) == "not distinguishable"]
    key = (rows[0].benchmark, rows[0].against)
    several = any(
        r.metric == "win_rate_p_holm" and (r.benchmark, r.against) == key for r in results
    )
    how = "the paired randomisation test"
    if several:
        how = f"corrected for {len(rows)} comparisons (Holm, paired randomisation test)"
    if not lost:
        return f"Every finding stands when {how}." if several and apart else ""
    be = "is" if len(lost) == 1 else "are"
    when = f"When {how}" if several else f"By {how}"
    return f"{when}, {_list(lost, figures=False)} {be} not distinguishable."


def _wins(better: list[EvalResult], compared: int, against: str) -> str:
    if not better:
        who = "the one model" if compared == 1 else f"none of the {compared} models"
        return (
            f"Compared with {against}, {who} is not shown to be better."
            if compared == 1
            else f"Compared with {against}, {who} is shown to be better."
        )
    names = _list(better, figures=True)
    if compared == 1:
        return f"{names} is better than {against}."
    if len(better) == compared:
        return f"All {compared} models compared are better than {against}: {names}."
    be = "is" if len(better) == 1 else "are"
    return f"{len(better)} of {compared} models {be} better than {against}: {names}."


def _rest(worse: list[EvalResult], open_: list[EvalResult], against: str) -> str:
    undecided = f"not distinguishable from {_list(open_, figures=False)}" if open_ else ""
    if worse:
        beats = f"{against} is better than {_list(worse, figures=True)}"
        return f"{beats}, and {undecided}." if undecided else f"{beats}."
    if undecided:
        return f"{against} is {undecided}."
    return f"No model is worse than {against}, and no comparison is undecided."


def _list(rows: list[EvalResult], *, figures: bool) -> str:
    """Join the first few names, with their win rates."""
    named = [
        f"{r.model} ({', '.join(filter(None, (number(r.value, r.metric), bounds(r))))})"
        if figures
        else r.model
        for r in rows
    ]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def _basis(rows: Sequence[EvalResult]) -> str:
    """Describe n, seeds and the kind of interval of win rates."""
    sizes = sorted({r.n for r in rows})
    size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    seeds = max((len(r.seeds) for r in rows), default=0)
    pooled = f" pooled over {seeds} training seeds" if seeds > 1 else ""
    return (
        f"Win rate = (wins + ties/2) / judged; {size} judged comparisons per model{pooled}; "
        f"{_intervals(rows)}."
    )


def _power(rows: Sequence[EvalResult]) -> str:
    """Name the difference that would have been found where an interval covers one half."""
    widths = [
        100 * DETECTED * (row.high - row.low) / 2
        for row in rows
        if row.low is not None and row.high is not None and row.low <= CHANCE <= row.high
    ]
    if not widths:
        return ""
    least, most = f"{min(widths):.1f}", f"{max(widths):.1f}"
    size = most if least == most else f"{least} to {most}"
    return f"Where the interval covers 50%, {size} points of win rate would be found (80% power)."


def _is_few(row: EvalResult) -> bool:
    """Return True if prompts, wins or losses are too few for a bootstrap of a win rate."""
    prompts, rate = row.n / max(1, len(row.seeds)), row.value
    return prompts < FEW or rate is None or prompts * min(rate, 1 - rate) < FEW_OF_A_KIND


def _intervals(rows: Sequence[EvalResult]) -> str:
    """Name the kind of interval of win rates."""
    few = {_is_few(r) for r in rows}
    bootstrap = "95% bootstrap intervals over prompts"
    if few == {True}:
        return "95% score intervals with variance by prompt, as prompts, wins or losses are few"
    if True in few:
        return f"{bootstrap}, or score intervals where prompts, wins or losses are few"
    return bootstrap
