"""The figures of the page, from result rows: comparisons, scores, parts, judges, the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alignlab.report import forest, labels, reward, tables
from alignlab.report.answer import CHANCE
from alignlab.report.forest import Forest
from alignlab.report.load import RunData
from alignlab.report.plane import Plane, Point, plane
from alignlab.report.tables import Table
from alignlab.types import EvalResult

BOOTSTRAP = "95% bootstrap intervals, prompts resampled"


@dataclass(frozen=True)
class Section:
    """One part of the page: figures with a caption, and the table of what they show."""

    anchor: str
    title: str
    lead: str
    forests: tuple[Forest, ...] = ()
    planes: tuple[Plane, ...] = ()
    shaded: Table | None = None
    caption: str = ""
    table: Table | None = None


def build(run: RunData) -> tuple[Section, ...]:
    """All sections that the run's records can fill, in reading order."""
    order = list(run.study.models)
    results = sorted(run.results, key=lambda r: _place(r.model, order))
    notes = run.study.models
    found = [
        *_comparisons(results, notes),
        *_scores(results, notes, run.study.baseline),
        *_parts(results),
        *_judges(results),
        *_rewards(run),
        *_against_kl(results),
        *_rest(results),
    ]
    return tuple(found)


def basis(rows: Sequence[EvalResult]) -> str:
    """n, seeds and unscored of some rows, as a caption says them."""
    sizes = sorted({r.n for r in rows})
    text = f"n = {sizes[0]:,}" if len(sizes) == 1 else f"n = {sizes[0]:,} to {sizes[-1]:,}"
    seeds = sorted({s for r in rows for s in r.seeds})
    if seeds:
        text += f", {len(seeds)} training seed{'s' if len(seeds) > 1 else ''} ({_listed(seeds)})"
    unscored = sum(r.unscored for r in rows if r.group is None)
    return text + (f", {unscored:,} unscored left out" if unscored else ", none unscored")


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _place(model: str, order: list[str]) -> int:
    return order.index(model) if model in order else len(order)


def _whole(results: Sequence[EvalResult], metric: str) -> list[EvalResult]:
    return [r for r in results if r.metric == metric and r.group is None and r.value is not None]


def _comparisons(results: Sequence[EvalResult], notes: Mapping[str, str]) -> list[Section]:
    """Win rates, one section per benchmark and baseline."""
    wins = _whole(results, "win_rate")
    found = []
    for number, key in enumerate(dict.fromkeys((r.benchmark, r.against) for r in wins)):
        rows = [r for r in wins if (r.benchmark, r.against) == key]
        against = key[1] or "the baseline"
        table = [r for r in results if (r.benchmark, r.against) == key]
        found.append(
            Section(
                anchor="win-rate" if number == 0 else f"win-rate-{number + 1}",
                title=f"Win rate against {against}",
                lead="How often the judge prefers the model's answer; "
                "a tie counts half. Filled marks differ from one half beyond their interval.",
                forests=(
                    forest.single(
                        rows,
                        notes,
                        reference=CHANCE,
                        reference_label=f"{against} = 50%",
                        judged=True,
                    ),
                ),
                caption=f"{labels.benchmark(key[0])}; {basis(rows)}; {BOOTSTRAP}.",
                table=tables.by_metric(table),
            )
        )
    return found


def _scores(
    results: Sequence[EvalResult], notes: Mapping[str, str], baseline: str
) -> list[Section]:
    """Mean score per model, one plot per benchmark that has one."""
    means = _whole(results, "mean")
    if not means:
        return []
    plots = []
    for name in dict.fromkeys(r.benchmark for r in means):
        rows = [r for r in means if r.benchmark == name]
        base = next((r.value for r in rows if r.model == baseline), None)
        plots.append(
            forest.single(
                rows,
                notes,
                reference=base,
                reference_label=baseline if base is not None else "",
                title=labels.benchmark(name),
            )
        )
    return [
        Section(
            anchor="score",
            title="Score per model",
            lead="Mean score of each model's answers to the test prompts.",
            forests=tuple(plots),
            caption=f"{basis(means)}; {BOOTSTRAP}. The line marks {baseline or 'the baseline'}.",
            table=tables.by_metric([r for r in results if r.metric == "mean"]),
        )
    ]


def _parts(results: Sequence[EvalResult]) -> list[Section]:
    """Mean score by prompt type and family (win rate, where no score was measured)."""
    parts = [r for r in results if r.group is not None and r.metric == "mean"]
    parts = parts or [r for r in results if r.group is not None and r.metric == "win_rate"]
    if not parts:
        return []
    what = labels.metric(parts[0].metric)
    types = [r for r in parts if (r.group or "").startswith("type:") and r.value is not None]
    plots = [
        forest.single(
            [r for r in types if r.group == name],
            {},
            reference=None,
            reference_label="",
            title=labels.group(name),
            beside=types,
        )
        for name in dict.fromkeys(r.group for r in types)
    ]
    return [
        Section(
            anchor="types",
            title=f"{what} by prompt type",
            lead="The same answers, split by what kind of prompt they answer.",
            forests=tuple(plots),
            shaded=tables.by_part(parts),
            caption=f"{basis(parts)} per part; {BOOTSTRAP}; the stronger the tint, the higher.",
        )
    ]


def _judges(results: Sequence[EvalResult]) -> list[Section]:
    """Pairwise accuracy and Spearman of every judge, own samples beside held-out responses."""
    benchmarks = {r.benchmark for r in results if r.metric.startswith("pairwise_accuracy")}
    rows = [r for r in results if r.benchmark in benchmarks]
    plots = []
    for metric, chance in (("pairwise_accuracy_ties_half", CHANCE), ("spearman", 0.0)):
        series = {
            labels.benchmark(name): [r for r in _whole(rows, metric) if r.benchmark == name]
            for name in dict.fromkeys(r.benchmark for r in rows)
        }
        series = {name: some for name, some in series.items() if some}
        if series:
            plots.append(
                forest.several(
                    series,
                    {},
                    reference=chance,
                    reference_label="chance",
                    title=labels.metric(metric),
                )
            )
    if not plots:
        return []
    tabled = [_named(r, len(benchmarks) > 1) for r in rows]
    return [
        Section(
            anchor="judges",
            title="How good the judges are",
            lead="Agreement of each judge's scores with the reference scores. A judge that looks "
            "good on held-out responses can be near chance on the samples it has to judge.",
            forests=tuple(plots),
            caption=f"Pairs of responses: {basis(_whole(rows, 'pairwise_accuracy'))}; "
            f"{BOOTSTRAP}; an unreadable score is missing, never a number.",
            table=tables.by_metric(tabled, corner="Judge"),
        )
    ]


def _named(row: EvalResult, several: bool) -> EvalResult:
    """A judge's row under a name that tells benchmarks apart in one table."""
    if not several:
        return row
    name = f"{row.model} · {labels.benchmark(row.benchmark).lower()}"
    return EvalResult(
        name, row.benchmark, row.metric, row.value, row.low, row.high, row.n, row.unscored
    )


def _rewards(run: RunData) -> list[Section]:
    panels = reward.panels(run.audits)
    if not panels:
        return []
    return [
        Section(
            anchor="reward",
            title="Reward against true score",
            lead="Does more reward mean a better answer? A useful judge's line rises; where it "
            "is flat or falls, training on the reward cannot help.",
            planes=panels,
            caption="Mean true score of the responses in each bin of reward, with 95% normal "
            "intervals over responses; unscored responses left out.",
        )
    ]


def _against_kl(results: Sequence[EvalResult]) -> list[Section]:
    """Score against the distance from the reference model, where a run measured it."""
    kl = {r.model: r.value for r in _whole(results, "kl") if r.value is not None}
    points = (
        sorted(
            (Point(kl[r.model], r.value, r.low, r.high, f"{r.model}: {r.value:.2f}"), r.model)
            for r in _whole(results, "mean")
            if r.model in kl and r.value is not None
        )
        if kl
        else []
    )
    if len(points) < 2:
        return []
    return [
        Section(
            anchor="kl",
            title="Score against distance from the reference",
            lead="Over-optimisation shows as a score that falls while the KL divergence grows.",
            planes=(
                plane(
                    " → ".join(name for _, name in points),
                    [[point for point, _ in points]],
                    x_label="KL divergence (nats)",
                    y_label="score",
                    dots=True,
                ),
            ),
            caption="One dot per model, by rising divergence.",
        )
    ]


def _rest(results: Sequence[EvalResult]) -> list[Section]:
    """Tables of all benchmarks that no figure shows."""
    drawn = {
        r.benchmark
        for r in results
        if r.metric in ("win_rate", "mean") or r.metric.startswith("pairwise_accuracy")
    }
    return [
        Section(
            anchor=f"benchmark-{number}",
            title=labels.benchmark(name),
            lead="",
            caption=f"{basis([r for r in results if r.benchmark == name])}; {BOOTSTRAP}.",
            table=tables.by_metric([r for r in results if r.benchmark == name]),
        )
        for number, name in enumerate(dict.fromkeys(r.benchmark for r in results))
        if name not in drawn
    ]
