"""The command line: parses, calls the function of the same name, turns errors into exit codes."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from alignlab.errors import BadInput, RunFailed, unknown_name

if TYPE_CHECKING:
    from alignlab.commands.evaluate import Evaluated

app = typer.Typer(
    name="alignlab",
    help="An alignment laboratory: train language models from feedback of every kind, run whole "
    "studies, and measure what each step did.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Check and convert data files.", no_args_is_help=True)
app.add_typer(data_app, name="data")


class _Benchmarks(TyperGroup):
    """Commands by benchmark; of a name that is not one, the nearest is told."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            raise unknown_name("benchmark of files", args[0], self.commands)
        return super().resolve_command(ctx, args)


evaluate_app = typer.Typer(
    cls=_Benchmarks,
    help="Measure what others produced: files of annotations, or of a judge's scores.",
    epilog="Example: alignlab evaluate judge --scores M1.jsonl.gz --reference reference.jsonl.gz",
    no_args_is_help=True,
)
app.add_typer(evaluate_app, name="evaluate")

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[key=value ...]", help="Settings.")]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a machine to read.")]


@app.command(epilog="Example: alignlab demo --out runs/demo --seed 0")
def demo(
    out: Annotated[str, typer.Option(help="Run directory.")] = "runs/demo",
    seed: Annotated[int, typer.Option(help="Decides every random draw.")] = 0,
) -> None:
    """Run the offline study: seven kinds of feedback against a known truth."""
    from alignlab.commands.run import run as run_recipe

    report = run_recipe("compare", out=out, seed=seed)
    _say_where(report)


@app.command(
    epilog="Example: alignlab run self_rewarding model=./my-model data=oasst:trees.jsonl.gz "
    "iterations=2 out=runs/mine"
)
def run(
    recipe: Annotated[str, typer.Argument(help="A name from `alignlab list recipes`.")],
    overrides: Overrides = None,
    config: Config = None,
    options: Annotated[bool, typer.Option("--options", help="Show every setting.")] = False,
) -> None:
    """Run a recipe, or resume it where it stopped."""
    if options:
        from alignlab.commands.list import show_options

        show_options(recipe)
        return
    from alignlab.commands.run import run as run_recipe

    _say_where(run_recipe(recipe, *(overrides or []), config=config))


@app.command(
    epilog="Example: alignlab train dpo --model ./my-model --data 'pairs.jsonl?test_share=0.1' "
    "--out runs/dpo lr=1e-6 objective.beta=0.3"
)
def train(
    objective: Annotated[str, typer.Argument(help="A name from `alignlab list objectives`.")],
    overrides: Overrides = None,
    model: Annotated[str, typer.Option(help="Hub id, local folder, or sandbox:NAME.")] = "",
    data: Annotated[str, typer.Option(help="PATH or FORMAT:PATH.")] = "",
    out: Annotated[str, typer.Option(help="Run directory.")] = "",
    config: Config = None,
    options: Annotated[bool, typer.Option("--options", help="Show every setting.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model towards an objective, or resume the training where it stopped."""
    if options:
        from alignlab.commands.list import show_train_options

        show_train_options(objective)
        return
    for name, value in (("--model", model), ("--data", data), ("--out", out)):
        if not value:
            raise BadInput(f"train: {name} is missing")
    from alignlab.commands.train import train as train_model
    from alignlab.records import to_dict

    done = train_model(
        objective, *(overrides or []), model=model, data=data, out=out, config=config
    )
    typer.echo(json.dumps(to_dict(done), indent=1) if as_json else str(done))


@app.command(epilog="Example: alignlab check compare model=./my-model strong=openai:gpt-x@URL")
def check(
    recipe: Annotated[str, typer.Argument(help="A name from `alignlab list recipes`.")],
    overrides: Overrides = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Validate data, model and settings, and say what a run would take; run nothing."""
    from alignlab.commands.check import check as check_recipe
    from alignlab.records import to_dict

    plan = check_recipe(recipe, *(overrides or []), config=config)
    typer.echo(json.dumps(to_dict(plan), indent=1) if as_json else str(plan))


@app.command(epilog="Example: alignlab report runs/demo")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories; several are compared.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables instead.")] = False,
) -> None:
    """Write the report of a run again, or one page that compares several."""
    from alignlab.commands.report import report as make_report
    from alignlab.commands.report import tables

    if markdown:
        typer.echo("\n".join(tables(run) for run in runs))
    else:
        _say_where(make_report(*runs))


@app.command(epilog="Example: alignlab compare runs/seed-0 runs/seed-1")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more run directories.")],
) -> None:
    """Write one page that puts several runs side by side."""
    from alignlab.commands.report import compare as compare_pages

    _say_where(compare_pages(*runs))


@evaluate_app.command(
    "judge",
    epilog="Example: alignlab evaluate judge --scores M1.jsonl.gz --reference reference.jsonl.gz",
)
def evaluate_judge(
    scores: Annotated[Path, typer.Option(help="The judge's scores.")],
    reference: Annotated[Path, typer.Option(help="Reference scores of the same responses.")],
    as_json: AsJson = False,
) -> None:
    """Measure a judge's scores against reference scores."""
    from alignlab.commands.evaluate import judge

    _show(judge(scores, reference), as_json)


@evaluate_app.command(
    "alpaca_eval",
    epilog="Example: alignlab evaluate alpaca_eval --annotations annotations.json "
    "--difficulty difficulty.csv --gamed df_gamed.csv",
)
def evaluate_alpaca_eval(
    annotations: Annotated[Path, typer.Option(help="annotations.json or a CSV, also .gz.")],
    difficulty: Annotated[
        Path | None, typer.Option(help="CSV of difficulties, for length-controlled figures.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="CSV of published weights, with --difficulty.")
    ] = None,
    gamed: Annotated[
        Path | None, typer.Option(help="CSV of gamed baselines for a refit, with --difficulty.")
    ] = None,
    difficulty_by: Annotated[
        Literal["instruction", "row"],
        typer.Option(help="row: as the leaderboard did for models with missing rows."),
    ] = "instruction",
    as_json: AsJson = False,
) -> None:
    """Measure models from AlpacaEval 2.0 annotations: win rates, plain and length-controlled."""
    from alignlab.commands.evaluate import alpaca_eval

    found = alpaca_eval(
        annotations,
        difficulty=difficulty,
        weights=weights,
        gamed=gamed,
        difficulty_by=difficulty_by,
    )
    _show(found, as_json)


@app.command("list", epilog="Example: alignlab list recipes")
def list_(
    what: Annotated[
        str, typer.Argument(help="recipes, objectives, feedback, engines, benchmarks or data.")
    ] = "recipes",
    as_json: AsJson = False,
) -> None:
    """List the parts of a kind."""
    from alignlab.commands.list import list_parts

    parts = list_parts(what)
    if as_json:
        typer.echo(json.dumps(parts, indent=1))
    else:
        width = max(map(len, parts), default=0)
        for name, about in parts.items():
            typer.echo(f"{name:{width}}  {about}")


@app.command(epilog="Example: alignlab doctor")
def doctor(as_json: AsJson = False) -> None:
    """Say what this machine has: versions, cores, GPU, matrix throughput, what is missing."""
    from alignlab.commands.doctor import doctor as examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps(findings, indent=1))
    else:
        for name, value in findings.items():
            typer.echo(f"{name:24}  {value}")


@data_app.command("check", epilog="Example: alignlab data check preferences.jsonl")
def data_check(
    spec: Annotated[str, typer.Argument(help="PATH, FORMAT:PATH, or sandbox.")],
    as_json: AsJson = False,
) -> None:
    """List every bad record of a data file, and describe the good ones."""
    from alignlab.commands.data import check as check_data
    from alignlab.records import to_dict

    found = check_data(spec)
    typer.echo(json.dumps(to_dict(found), indent=1) if as_json else str(found))
    if found.problems:
        raise typer.Exit(2)


@data_app.command("convert", epilog="Example: alignlab data convert oasst:trees.jsonl out.jsonl")
def data_convert(
    source: Annotated[str, typer.Argument(help="PATH or FORMAT:PATH.")],
    out: Annotated[Path, typer.Argument(help="File to write: .jsonl or .parquet.")],
    to: Annotated[str, typer.Option(help="Columns to write; see docs/data.md.")] = "groups",
) -> None:
    """Convert data between formats."""
    from alignlab.commands.data import convert as convert_data

    typer.echo(str(convert_data(source, out, to=to)))


def main() -> None:
    """Entry point; exit code 0 done, 1 the run failed, 2 bad input."""
    try:
        code = app(standalone_mode=False)  # typer.Exit comes back as its code
        _leave(code or 0, "")
    except BadInput as error:
        _leave(2, str(error))
    except RunFailed as error:
        _leave(1, str(error))
    except KeyboardInterrupt:
        _leave(1, "stopped; the same command resumes where it stopped")
    except Exception as error:
        code, message = _translate(error)
        if message is None:
            raise
        _leave(code, message)


def _translate(error: Exception) -> tuple[int, str | None]:
    """Errors of the system and of the argument parser, in one line; None for our own bugs."""
    exit_code = getattr(error, "exit_code", None)
    if exit_code is not None:  # click's own: usage errors, --help, Exit
        if hasattr(error, "format_message"):
            return 2, error.format_message()
        return exit_code, ""
    full = errno.ENOSPC, errno.EDQUOT
    text = str(error)
    if (isinstance(error, OSError) and error.errno in full) or "No space left on device" in text:
        where = getattr(error, "filename", None) or "the output folder"
        return 2, (
            f"{where}: no space left on the device; what was done is kept, free some space and "
            "repeat the command"
        )
    if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS:
        return 2, f"{getattr(error, 'filename', None)}: cannot be written ({text})"
    if isinstance(error, NotADirectoryError | FileExistsError):
        named = Path(error.filename)
        file = next((p for p in (*reversed(named.parents), named) if p.is_file()), named)
        return 2, f"{file}: expected a folder, found a file"
    return 1, None


def _leave(code: int, message: str) -> None:
    if message:
        print(f"alignlab: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _show(found: Evaluated, as_json: bool) -> None:
    from alignlab.commands.tables import show

    if as_json:
        typer.echo(json.dumps({"rows": found.rows}, indent=1))
    else:
        show(found.table)


def _say_where(path: Path) -> None:
    typer.echo(f"report: {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
