"""Evaluate models and judges on benchmarks, and existing annotation files."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from alignlab import configs, registry
from alignlab.api import settings as known
from alignlab.api.folders import RUNS, place_for, writing
from alignlab.api.inputs import (
    DataLike,
    JudgeLike,
    ModelLike,
    data_file,
    data_spec,
    judge_spec,
    model_spec,
    source_spec,
)
from alignlab.api.results import Evaluation
from alignlab.errors import BadInput
from alignlab.files import make_folder

_OLD = {"audit": "judge-card", "judge": "judge_scores"}
"""Benchmark names of version 0.1 -> current names."""


def evaluate(
    benchmark: str,
    model: ModelLike | Sequence[ModelLike] | None = None,
    *overrides: str,
    outputs: DataLike | Sequence[DataLike] | None = None,
    judge: JudgeLike | None = None,
    data: DataLike | None = None,
    out: str | Path | None = None,
    baseline: ModelLike | None = None,
    config: str | Path | None = None,
    repair: bool = False,
    **settings: Any,
) -> Evaluation:
    """Run a benchmark on models or on a judge, or resume it where it stopped.

    Args:
        benchmark: name from `alignlab list benchmarks`.
        model: [NAME=]SPEC: folder, run directory, GGUF file, package:NAME, hub id or engine; may
            be repeated.
        overrides: settings of the run or of the benchmark, such as limit=50.
        outputs: existing answers as [NAME=]FILE, result or rows; a list of several.
        judge: an engine or a feedback source.
        data: the benchmark's file; for judge_quality, qa and reward_accuracy any data, as PATH or
            FORMAT:PATH.
        out: run directory; without it one under `runs/`, which the repeated command resumes; in
            Python a new one each time.
        baseline: a file of answers, or a model.
        config: YAML file of settings, under the others.
        repair: compute the damaged stages of the run in `out` again.
        settings: settings by keyword; for a benchmark of files (alpaca_eval, judge_scores, reread)
            its files.

    Raises:
        BadInput: an unknown benchmark or setting, or something that it needs is missing or bad.
        RunFailed: the work could not be finished; the same call resumes.
    """
    benchmark = _OLD.get(benchmark, benchmark)
    if benchmark == "judge-card":
        return _card(judge, data, *overrides, out=out, config=config, **settings)
    answered = model is not None or outputs is not None
    # Two benchmarks read judgements of others, or run on models.
    if benchmark in known.FILES and not (answered and benchmark in registry.index("benchmark")):
        named = {
            "model": model, "outputs": outputs, "judge": judge_spec(judge) or None, "data": data,
            "out": out, "baseline": baseline, "config": config, "repair": repair or None,
        }  # fmt: skip
        files = {key: value for key, value in named.items() if value is not None}
        return _of_files(benchmark, files | configs.parse_overrides(overrides) | settings)
    values = known.given(config, overrides, settings)
    configs.refuse_unknown(known.evaluation(benchmark).options, values)
    models = tuple(model_spec(one, named=True) for one in _several(model))

    from alignlab.commands.benchmark import Given, find_task, run_benchmark
    from alignlab.runs import slug

    needs = find_task(benchmark).needs
    answers = [_file_of(one) for one in _several(outputs)]
    given: dict[str, Any] = {
        "model": models,
        "outputs": tuple(file for file, _ in answers),
        "judge": _judge_for(needs, judge),
        "baseline": "" if baseline is None else model_spec(baseline),
    }
    title = Given(models, given["outputs"], given["judge"]).title(benchmark)
    place = place_for(out, "-".join(filter(None, map(slug, title))))
    read, text = ("", None) if data is None else _data_for(needs, data)
    new = {Path(file): text for file, text in ((read, text), *answers) if text is not None}
    with writing(place, *new, repair=repair):
        for file, content in new.items():
            make_folder(file.parent)
            file.write_text(content, encoding="utf-8")
        found = run_benchmark(
            benchmark, *overrides, data=read, out=place, config=config, **given, **settings
        )
    return Evaluation(found, benchmark, place)


def _card(judge: JudgeLike | None, data: Any, *overrides: str, **settings: Any) -> Evaluation:
    from alignlab.api.judging import judge_card

    if judge is None or data is None:
        raise BadInput(
            "evaluate judge-card: expected judge and data, found no "
            f"{'judge' if judge is None else 'data'}"
        )
    return judge_card(judge, data, *overrides, **settings)


def _of_files(benchmark: str, files: dict[str, Any]) -> Evaluation:
    module, function = known.FILES[benchmark]
    measure = getattr(import_module(module), function)
    try:
        inspect.signature(measure).bind(**files)
    except TypeError as error:
        raise BadInput(f"evaluate {benchmark}: {error}") from None
    return Evaluation(measure(**files), benchmark, files.get("out"))


def _judge_for(needs: Any, judge: JudgeLike | None) -> str:
    """Return the judge's spec; wrap an engine as the benchmark needs it: plain, pairs, scores."""
    spec = judge_spec(judge)
    if not spec or "model" in needs.judges or not needs.judges:
        return spec
    return source_spec(spec, pairs=needs.judges[0] == "pairs")


def _data_for(needs: Any, data: DataLike) -> tuple[str, str | None]:
    """Return the data as the benchmark reads it, and the text of a file still to be written."""
    return (data_spec(data), None) if needs.corpus else _file_of(data)


def _file_of(data: DataLike) -> tuple[str, str | None]:
    """Return the file that holds the data, and its text if it is still to be written."""
    if isinstance(data, str | Path):
        return str(data), None
    file = data_file(data, RUNS / ".data")
    return str(file.path), file.text


def _several(given: Any) -> Sequence[Any]:
    if given is None:
        return ()
    if isinstance(given, str | Path) or not isinstance(given, Sequence):
        return (given,)
    rows = bool(given) and isinstance(given[0], dict)
    return (given,) if rows else given
