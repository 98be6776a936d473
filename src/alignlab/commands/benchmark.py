"""Run a benchmark on models or on a judge: answers, judgements, figures, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from rich.table import Table

from alignlab import configs, registry
from alignlab.commands._support.job import open_run, setting_layers
from alignlab.commands._support.tables import Evaluated, empty_table, figure_cells
from alignlab.context import Hardware
from alignlab.data.sources import load as load_data
from alignlab.errors import BadInput, RunFailed, unknown_name
from alignlab.evaluation.attempts import refuse_temperature
from alignlab.evaluation.tasks import BenchmarkTask, Needs, refuse_source
from alignlab.files import file_digest
from alignlab.measuring.entrants import Entrants, entrant, is_answer_file, read_given
from alignlab.measuring.evaluate import EvaluateSettings, MeasuredBenchmark
from alignlab.measuring.evaluate import evaluate as evaluate_stage
from alignlab.records import to_dict
from alignlab.report import write_report
from alignlab.runs import RunIdentity, slug
from alignlab.types import Corpus, EvalResult, StudyDescription

Several = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Given:
    """Models, judge and data of a benchmark, as given on the command line."""

    models: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    judge: str = ""
    data: str = ""
    baseline: str = ""

    def check(self, name: str, needs: Needs) -> None:
        """Check that a benchmark has everything that it needs, and nothing without effect.

        Raises:
            BadInput: something is missing or has no effect.
        """
        entrants = self.models + self.outputs
        missing = {
            f"--data PATH: {needs.data}": bool(needs.data) and not self.data,
            "--model MODEL or --outputs FILE": needs.models == "needed" and not entrants,
            "--model FOLDER": needs.models == "itself" and not self.models,
            "--judge SPEC": bool(needs.judges) and not (self.judge or needs.judge_optional),
        }
        for what, is_missing in missing.items():
            if is_missing:
                raise BadInput(f"evaluate {name}: expected {what}, found none")
        if not all(one.strip() for one in entrants):
            raise BadInput(f"evaluate {name}: expected a model or a file, found an empty name")
        idle = {
            "--data": bool(self.data) and not needs.data,
            "--model and --outputs": bool(entrants) and needs.models == "none",
            "--outputs": bool(self.outputs) and needs.models == "itself",
            "--judge": bool(self.judge) and not needs.judges,
            "--baseline": bool(self.baseline) and (needs.baseline == "none" or not entrants),
        }
        for what, without_effect in idle.items():
            if without_effect:
                raise BadInput(f"evaluate {name}: {what} has no effect here; leave it out")
        refuse_source(name, needs, self.judge)
        if needs.data and not needs.corpus and not Path(self.data).exists():
            raise BadInput(f"--data {self.data}: no such file; expected {needs.data}")

    def title(self, benchmark: str) -> list[str]:
        """Return the parts of a run directory's name."""
        who = [*self.models, *self.outputs] or [self.judge]
        names = [one.partition("=")[0] if "=" in one else Path(one).name for one in who]
        return [benchmark, *(name.split(".")[0] for name in names)]


def run_benchmark(
    name: str,
    *overrides: str,
    model: Several = (),
    outputs: Several = (),
    judge: str = "",
    data: str | Path = "",
    out: str | Path = "",
    baseline: str | Path = "",
    config: str | Path | None = None,
    **settings: Any,
) -> Evaluated:
    """Implement `alignlab.evaluate` for a benchmark of models or judges given by spec.

    Raises:
        BadInput: an unknown benchmark or setting, or something that it needs is missing or bad.
        RunFailed: the work could not be finished; the same call resumes.
    """
    kind = find_task(name)
    chosen, task = _split(kind, setting_layers(config, overrides, settings))
    who = Given(_several(model), _several(outputs), str(judge), str(data), str(baseline))
    who.check(name, task.needs)
    chosen.sampling(task.needs.sampling)  # refuses bad values before anything is written
    folder = Path(out) if out else Path("runs") / "-".join(filter(None, map(slug, who.title(name))))
    inputs = _load(task.needs, who.data)
    questions = task.questions(inputs)
    refuse_temperature(chosen.temperature, questions)
    # A bad file of answers is refused before anything is written.
    files = [*who.outputs, *filter(is_answer_file, [who.baseline])]
    given = [read_given(file, questions) for file in files]
    identity = to_dict(chosen) | {"options": repr(task), **to_dict(who)}
    for without_effect in ("threads", "device"):
        identity.pop(without_effect)
    hardware = Hardware(chosen.device, chosen.dtype, workers=1, threads=chosen.threads)
    run_identity = RunIdentity(name, identity, (chosen.seed,))
    with open_run(folder, run_identity, hardware, chosen.chat_template) as context:
        context.run.add_inputs(_digests(inputs, who, task))
        models = tuple(entrant(context, m) for m in who.models)
        entrants = Entrants(models, who.outputs, who.baseline)
        context.run.describe(_study(name, kind, entrants, who.judge))
        found = evaluate_stage(context, task, inputs, entrants, who.judge, chosen)
        context.run.finish()
        report = write_report(folder)
        if who.judge:
            _refuse_unscored(name, found, report)
    table = rows_table(name, found.rows)
    table.caption = "\n".join(
        f"{answers.model}: {n} rows left out, {reason}"
        for answers in given
        for reason, n in answers.left_out.items()
    )
    return Evaluated(as_json(found.rows), table, report)


def _refuse_unscored(name: str, found: MeasuredBenchmark, report: Path) -> None:
    """Refuse a benchmark whose judge scored nothing.

    Raises:
        RunFailed: no verdict holds a score.
    """
    if found.unscored and not found.scored:
        raise RunFailed(
            f"{name}: no answer was scored ({found.unscored} unscored, with their reasons in "
            f"{report})"
        )


def find_task(name: str) -> Any:
    """Return a benchmark by name.

    Raises:
        BadInput: no benchmark has the name.
    """
    known = tasks()
    if name not in known:
        raise unknown_name("benchmark", name, known)
    return registry.get("benchmark", name)


def tasks() -> list[str]:
    """Return the names of the benchmarks that can be run."""
    return sorted(registry.names("benchmark"))


def as_json(rows: Sequence[EvalResult]) -> tuple[dict[str, Any], ...]:
    """Return one object per model: metrics by name, with bounds, and parts' metrics by part."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        model = found.setdefault(row.model, {"model": row.model, "benchmark": row.benchmark})
        place = model
        if row.group is not None:
            place = model.setdefault("parts", {}).setdefault(row.group, {})
        place[row.metric] = row.value
        if row.low is not None:
            place[f"{row.metric}_low"], place[f"{row.metric}_high"] = row.low, row.high
        for key in ("n", "unscored"):
            # A metric on fewer answers than the first one has a count of its own.
            if place.setdefault(key, getattr(row, key)) != getattr(row, key):
                place[f"{row.metric}_{key}"] = getattr(row, key)
        if row.against is not None:
            model.setdefault("against", row.against)
        if row.comparable is not None:
            model["comparable"] = row.comparable
    return tuple(found.values())


def rows_table(name: str, rows: Sequence[EvalResult]) -> Table:
    """Tabulate the rows, with a note if some are not comparable with published figures."""
    compared = any(r.comparable is not None for r in rows)
    parts = any(r.group is not None for r in rows)
    heads = ["model", "metric", *(["part"] if parts else [])]
    heads += ["value", "95% interval", "n", "unscored", *(["comparable"] if compared else [])]
    against = next((r.against for r in rows if r.against), None)
    table = empty_table(name + (f", against {against}" if against else ""), heads)
    for r in rows:
        cells = [r.model, r.metric, *([r.group or ""] if parts else [])]
        cells += [*figure_cells(r.value, r.low, r.high), f"{r.n:,}", f"{r.unscored:,}"]
        if compared:
            cells.append({True: "yes", False: "no", None: ""}[r.comparable])
        table.add_row(*cells)
    return table


def _several(given: Several) -> tuple[str, ...]:
    return (str(given),) if isinstance(given, str | Path) else tuple(map(str, given))


def _split(
    kind: Any, layers: Sequence[Mapping[str, Any]]
) -> tuple[EvaluateSettings, BenchmarkTask]:
    """Split settings into those of the run and the benchmark's own options; build the benchmark.

    Raises:
        BadInput: an unknown setting.
    """
    run_keys = {f.name for f in fields(EvaluateSettings)}
    own_keys = {f.name for f in fields(kind)}
    for layer in layers:
        for key in layer:
            if key not in run_keys | own_keys:
                raise unknown_name("setting", key, run_keys | own_keys)
    chosen = configs.build(EvaluateSettings, *(_only(layer, run_keys) for layer in layers))
    task: BenchmarkTask = configs.build(
        kind, *(_only(layer, own_keys - run_keys) for layer in layers)
    )
    return chosen, task


def _only(layer: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in layer.items() if key in keys}


def _load(needs: Needs, data: str) -> Corpus | Path | None:
    """Load the data as the benchmark reads it."""
    if not needs.data:
        return None
    return load_data(data) if needs.corpus else Path(data)


def _digests(inputs: Corpus | Path | None, who: Given, task: BenchmarkTask) -> dict[str, str]:
    """Return every file that the figures depend on, with its digest."""
    if isinstance(inputs, Corpus):
        found = dict(inputs.files)
    else:
        found = {} if inputs is None or inputs.is_dir() else {str(inputs): ""}
    options = [getattr(task, f.name) for f in fields(task)]  # type: ignore[arg-type]
    named = [one.partition("=")[2] or one for one in (*who.outputs, who.baseline)]
    for file in (*map(Path, named), *(o for o in options if isinstance(o, Path))):
        if file.is_file():
            found[str(file)] = ""
    return {file: digest or file_digest(Path(file)) for file, digest in found.items()}


def _study(name: str, kind: Any, entrants: Entrants, judge: str) -> StudyDescription:
    """Describe the run for its report."""
    models = {m.name: m.spec for m in entrants.models}
    about = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
    question = f"{name.replace('_', ' ')}: {about}"
    return StudyDescription(name, question, "", models | ({"judge": judge} if judge else {}))
