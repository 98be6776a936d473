"""The command line: parses, calls the function of the same name, turns errors into exit codes."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from alignlab.errors import BadInput, RunFailed, unknown_name
from alignlab.launched import is_launched, is_worker_rank, world_size

if TYPE_CHECKING:
    from alignlab.commands.tables import Evaluated

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
feedback_app = typer.Typer(
    help="Feedback of people: sheets for annotators, and what they filled in as data.",
    no_args_is_help=True,
)
app.add_typer(feedback_app, name="feedback")


class _Benchmarks(TyperGroup):
    """Commands by benchmark; one that runs on models goes to the command for all of these."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        runs = any(a.partition("=")[0] in ("--model", "--outputs", "--options") for a in args)
        if args[0] in self.commands and args[0] != RUN and not runs:
            return super().resolve_command(ctx, args)
        from alignlab.commands.benchmark import tasks

        if args[0] not in tasks():
            raise unknown_name("benchmark", args[0], {*self.commands, *tasks()} - {RUN})
        return RUN, self.commands[RUN], args


RUN = "NAME"
evaluate_app = typer.Typer(
    cls=_Benchmarks,
    help="Measure models and judges on benchmarks, or what others produced: files of annotations, "
    "or of a judge's scores. `alignlab list benchmarks` names them; `audit` examines a judge.",
    epilog="Example: alignlab evaluate mt_bench --data question.jsonl --model ./my-model "
    "--judge openai:gpt-4@URL",
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
    "--out runs/dpo lr=1e-6 objective.beta=0.3\n\nOn several GPUs: torchrun --standalone "
    "--nproc-per-node 8 -m alignlab train dpo ..., or accelerate launch -m alignlab train dpo ... "
    "(see docs/distributed.md)"
)
def train(
    objective: Annotated[
        str, typer.Argument(help="A name from `alignlab list objectives`, or query_types.")
    ],
    overrides: Overrides = None,
    model: Annotated[str, typer.Option(help="Hub id, local folder, or sandbox:NAME.")] = "",
    data: Annotated[str, typer.Option(help="PATH or FORMAT:PATH.")] = "",
    out: Annotated[str, typer.Option(help="Run directory.")] = "",
    reward: Annotated[
        str, typer.Option(help="Feedback source of ppo, reinforce, rloo, grpo: sandbox:oracle, ...")
    ] = "",
    config: Config = None,
    options: Annotated[bool, typer.Option("--options", help="Show every setting.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train a model towards an objective, or resume the training where it stopped."""
    if options:
        from alignlab.commands.list import show_train_options

        show_train_options(objective)
        return
    _require("train", model=model, data=data, out=out)
    from alignlab.records import to_dict

    if objective == "query_types":
        from alignlab.commands.query_types import train_query_types

        learned = train_query_types(*(overrides or []), model=model, data=data, out=out)
        typer.echo(json.dumps(to_dict(learned), indent=1) if as_json else str(learned))
        return
    from alignlab.commands.train import train as train_model

    done = train_model(
        objective,
        *(overrides or []),
        model=model,
        data=data,
        out=out,
        reward=reward,
        config=config,
    )
    typer.echo(json.dumps(to_dict(done), indent=1) if as_json else str(done))


@app.command(
    epilog="Example: alignlab generate --model ./my-model --prompts prompts.jsonl "
    "--out answers.jsonl n=4"
)
def generate(
    overrides: Overrides = None,
    model: Annotated[str, typer.Option(help="[NAME=]FOLDER, hub id or engine.")] = "",
    prompts: Annotated[str, typer.Option(help="Data with prompts: PATH or FORMAT:PATH.")] = "",
    out: Annotated[str, typer.Option(help="File to write: .jsonl, .jsonl.gz or .parquet.")] = "",
    config: Config = None,
    options: Annotated[bool, typer.Option("--options", help="Show every setting.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer prompts with a model, or go on where it stopped; its work is kept in OUT.run."""
    from alignlab.commands.generate import GenerateSettings
    from alignlab.commands.generate import generate as answer_prompts

    if options:
        _show_settings(GenerateSettings)
        return
    _require("generate", model=model, prompts=prompts, out=out)
    _say(
        answer_prompts(*(overrides or []), model=model, prompts=prompts, out=out, config=config),
        as_json,
    )


@app.command(
    epilog="Example: alignlab judge --judge llm,samples=3:openai:gpt-x@URL "
    "--responses answers.jsonl --out judged.jsonl to=groups"
)
def judge(
    overrides: Overrides = None,
    judge: Annotated[str, typer.Option(help="From `alignlab list feedback`.")] = "",
    responses: Annotated[str, typer.Option(help="Data with responses: PATH or FORMAT:PATH.")] = "",
    out: Annotated[str, typer.Option(help="File to write: .jsonl, .jsonl.gz or .parquet.")] = "",
    config: Config = None,
    options: Annotated[
        bool, typer.Option("--options", help="Show every setting, and those of the source.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Rate responses with a feedback source, or go on where it stopped."""
    from alignlab.commands.judge import JudgeFileSettings
    from alignlab.commands.judge import judge as judge_responses

    if options:
        _show_settings(JudgeFileSettings, source=judge)
        return
    _require("judge", judge=judge, responses=responses, out=out)
    _say(
        judge_responses(
            *(overrides or []), judge=judge, responses=responses, out=out, config=config
        ),
        as_json,
    )


@app.command(
    epilog="Example: alignlab reward --reward reward_model:./my-reward "
    "--responses answers.jsonl --out scored.jsonl"
)
def reward(
    overrides: Overrides = None,
    reward: Annotated[str, typer.Option(help="From `alignlab list feedback`.")] = "",
    responses: Annotated[str, typer.Option(help="Data with responses: PATH or FORMAT:PATH.")] = "",
    out: Annotated[str, typer.Option(help="File to write: .jsonl, .jsonl.gz or .parquet.")] = "",
    config: Config = None,
    options: Annotated[
        bool, typer.Option("--options", help="Show every setting, and those of the source.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Score responses with a reward, or go on where it stopped."""
    from alignlab.commands.judge import JudgeFileSettings
    from alignlab.commands.reward import reward as score_responses

    if options:
        _show_settings(JudgeFileSettings, source=reward)
        return
    _require("reward", reward=reward, responses=responses, out=out)
    _say(
        score_responses(
            *(overrides or []), reward=reward, responses=responses, out=out, config=config
        ),
        as_json,
    )


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


@app.command(epilog="Example: alignlab report runs/demo --csv > demo.csv")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories; several are compared.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables instead.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print every figure, one a line.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print tables for a paper.")] = False,
) -> None:
    """Write the report of a run again, or one page that compares several."""
    from alignlab.commands.report import print_as, tables
    from alignlab.commands.report import report as make_report

    form = print_as(len(runs), markdown=markdown, csv=csv, latex=latex)
    if form is None:
        _say_where(make_report(*runs))
    else:
        typer.echo("\n".join(tables(run, form) for run in runs))


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
    "reread", epilog="Example: alignlab evaluate reread --scores M1.jsonl.gz --list"
)
def evaluate_reread(
    scores: Annotated[Path, typer.Option(help="Stored judgements with the judge's words.")],
    prompt: Annotated[str, typer.Option(help="Judge prompt whose scale it is.")] = (
        "additive_five_point"
    ),
    every: Annotated[
        bool, typer.Option("--list", help="Also print what reads otherwise than stored.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read stored judgements again: do they give the scores that were stored?"""
    from alignlab.commands.reread import agreement, reread, told

    if every and not as_json:
        for line in told(reread(scores, prompt=prompt)):
            typer.echo(line)
    _show(agreement(scores, prompt=prompt), as_json)


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
    preferences: Annotated[
        Literal["stored", "tokens"],
        typer.Option(help="tokens: compute them again from the judge's log-probabilities."),
    ] = "stored",
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
        preferences=preferences,
    )
    _show(found, as_json)


@evaluate_app.command(
    RUN,
    epilog="Example: alignlab evaluate vicuna_bench --data question.jsonl --model ./my-model "
    "--baseline their_answers.jsonl --judge pairwise:openai:gpt-4@URL --out runs/vicuna",
)
def evaluate_benchmark(
    name: Annotated[str, typer.Argument(metavar="NAME", help="From `alignlab list benchmarks`.")],
    overrides: Overrides = None,
    model: Annotated[
        list[str] | None, typer.Option(help="[NAME=]FOLDER, hub id or engine; may be repeated.")
    ] = None,
    outputs: Annotated[
        list[str] | None, typer.Option(help="[NAME=]FILE of answers given before; repeatable.")
    ] = None,
    judge: Annotated[str, typer.Option(help="An engine or a feedback source.")] = "",
    data: Annotated[str, typer.Option(help="The benchmark's file, or FORMAT:PATH.")] = "",
    out: Annotated[str, typer.Option(help="Run directory; runs/NAME-MODEL if left out.")] = "",
    baseline: Annotated[str, typer.Option(help="A file of answers, or a model.")] = "",
    config: Config = None,
    options: Annotated[bool, typer.Option("--options", help="Show every setting.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a benchmark on models or on a judge, or resume it where it stopped."""
    if options:
        from alignlab.commands.benchmark import show_benchmark_options

        show_benchmark_options(name)
        return
    from alignlab.commands.benchmark import run_benchmark

    found = run_benchmark(
        name,
        *(overrides or []),
        model=model or (),
        outputs=outputs or (),
        judge=judge,
        data=data,
        out=out,
        baseline=baseline,
        config=config,
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


@app.command(epilog="Example: alignlab annotate runs/demo anna.jsonl --format ranking limit=50")
def annotate(
    source: Annotated[str, typer.Argument(help="Run directory, PATH or FORMAT:PATH.")],
    out: Annotated[Path, typer.Argument(help="Sheet to fill in: NAME.jsonl, by annotator.")],
    overrides: Overrides = None,
    format: Annotated[str, typer.Option(help="numerical, ranking, text or labels.")] = "numerical",
    port: Annotated[int, typer.Option(help="Where to listen; 0 takes a free port.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page.")] = True,
) -> None:
    """Rate responses in the browser, blind; every answer is saved at once."""
    from alignlab.commands.annotate import annotate as show_sheet

    show_sheet(
        source, out, *(overrides or []), format=format, port=port, browser=browser, say=typer.echo
    )


@feedback_app.command(
    "export",
    epilog="Example: alignlab feedback export answers.jsonl sheet.csv --format ranking limit=100",
)
def feedback_export(
    source: Annotated[str, typer.Argument(help="Run directory, PATH or FORMAT:PATH.")],
    out: Annotated[Path | None, typer.Argument(help="Sheet to write: .csv or .jsonl.")] = None,
    overrides: Overrides = None,
    format: Annotated[str, typer.Option(help="numerical, ranking, text or labels.")] = "numerical",
    options: Annotated[bool, typer.Option("--options", help="Show every setting.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a blind sheet of responses for annotators; more prompts later add rows to it."""
    from alignlab.commands.feedback import ExportSettings, export

    if options:
        _show_settings(ExportSettings)
        return
    _require("feedback export", out=str(out or ""))
    assert out is not None
    _say(export(source, out, *(overrides or []), format=format), as_json)


@feedback_app.command(
    "import",
    epilog="Example: alignlab feedback import anna.csv ben.csv --key sheet.csv.key.jsonl "
    "--out groups.jsonl",
)
def feedback_import(
    sheets: Annotated[list[Path], typer.Argument(help="Filled copies of one sheet.")],
    key: Annotated[str, typer.Option(help="The sheet's key; the only one beside it.")] = "",
    out: Annotated[str, typer.Option(help="File to write; without it, sheets are checked.")] = "",
    to: Annotated[
        str, typer.Option(help="groups, preference, unpaired, commented or feedback.")
    ] = "",
    bad: Annotated[
        Literal["stop", "drop"], typer.Option(help="drop: count bad rows instead of stopping.")
    ] = "stop",
    seed: Annotated[int, typer.Option(help="Decides the draws of the intervals.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Check filled sheets, print how far annotators agree, and write records to train on."""
    from alignlab.commands.feedback import import_

    found = import_(*sheets, key=key, out=out, to=to, bad=bad, seed=seed)
    for problem in found.problems:
        typer.echo(problem, err=True)
    _show(found.evaluated, as_json)
    if found.written and not as_json:
        typer.echo(found.written)
    if found.problems:
        raise typer.Exit(2)


def main() -> None:
    """Entry point; exit code 0 done, 1 the run failed, 2 bad input."""
    try:
        if is_launched():
            _join_launch(sys.argv[1:])
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


def _join_launch(arguments: list[str]) -> None:
    """Started by torchrun or accelerate: one process speaks, and only what trains is shared."""
    if is_worker_rank():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - to the end of the process
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
    if arguments and arguments[0] not in ("train", "run"):
        raise BadInput(
            f"alignlab {arguments[0]}: expected one process, found {world_size()}; torchrun and "
            "accelerate launch are for train and run"
        )


def _leave(code: int, message: str) -> None:
    if message and not is_worker_rank():
        print(f"alignlab: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _show(found: Evaluated, as_json: bool) -> None:
    from alignlab.commands.tables import show

    if as_json:
        typer.echo(json.dumps({"rows": found.rows}, indent=1))
    else:
        show(found.table)
        if found.report is not None:
            _say_where(found.report)


def _require(command: str, **given: str) -> None:
    """Make sure that options without a default were given."""
    for name, value in given.items():
        if not value:
            raise BadInput(f"{command}: --{name} is missing")


def _show_settings(settings: type, *, source: str = "") -> None:
    from alignlab.commands.list import show_settings, show_source_options
    from alignlab.configs import describe

    show_settings(describe(settings))
    if source:
        show_source_options(source)


def _say(found: Any, as_json: bool) -> None:
    from alignlab.records import to_dict

    typer.echo(json.dumps(to_dict(found), indent=1) if as_json else str(found))


def _say_where(path: Path) -> None:
    typer.echo(f"report: {os.path.relpath(path)}")


if __name__ == "__main__":
    main()
