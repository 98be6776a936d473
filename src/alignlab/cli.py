"""Build the command line from the signatures and docstrings of functions."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from alignlab import source
from alignlab.api import settings as known
from alignlab.api.settings import FILES, Settings
from alignlab.errors import BadInput, RunFailed, unknown_name
from alignlab.launched import is_launched, is_worker_rank, world_size
from alignlab.source import Place

BENCHMARK = "NAME"
"""Name in the help of the command that runs any benchmark."""

NO_PROGRESS = ("annotate", "compare", "data convert", "annotations export", "annotations import")
"""Commands that write a file and show no progress."""

OLD_NAMES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("feedback",): ("annotations",),
    ("train", "query_types"): ("train-classifier", "query_types"),
    ("evaluate", "judge"): ("evaluate", "judge_scores"),
    ("evaluate", "audit"): ("judge-card",),
    ("evaluate", "judge-card"): ("judge-card",),
}
"""Commands of version 0.1 -> current commands; to be removed with the next release."""


@dataclass(frozen=True)
class Command:
    """Command and the function behind it."""

    name: str
    """Name of the command, after its group's name if it has one."""
    place: Place
    example: str
    arguments: tuple[str, ...] = ()
    """Positional parameters; others are options."""
    settings: Callable[[Mapping[str, Any]], Settings] | None = None
    """Function that describes the settings for `--options`, by the values given."""
    required: tuple[str, ...] = ()
    """Parameters that only Python may omit."""


def _api(module: str, name: str) -> Place:
    return Place(f"alignlab.api.{module}", name)


def _recipe_or_objective(values: Mapping[str, Any]) -> Settings:
    name = values["recipe"]
    return known.training(name) if known.is_objective(name) else _recipe(values)


def _recipe(values: Mapping[str, Any]) -> Settings:
    given = known.given(values["config"], values["overrides"] or (), {})
    if values["model"]:
        given["model"] = values["model"]
    return known.recipe(values["recipe"], given)


COMMANDS = (
    Command("demo", _api("studies", "demo"), "demo --out runs/demo --seed 0"),
    Command(
        "run", _api("studies", "run"),
        "run self_rewarding model=./my-model data=oasst:trees.jsonl.gz iterations=2 out=runs/mine",
        ("recipe",), _recipe,
    ),
    Command(
        "check", _api("studies", "check"),
        "check compare_feedback model=./my-model strong=openai:gpt-x@URL "
        "measure.judge=llm:openai:gpt-y@URL",
        ("recipe",), _recipe_or_objective,
    ),
    Command(
        "train", _api("training", "train"),
        "train dpo --model ./my-model --data 'pairs.jsonl?test_share=0.1' --out runs/dpo lr=1e-6 "
        "objective.beta=0.3",
        ("objective",), lambda values: known.training(values["objective"]),
    ),
    Command(
        "generate", _api("generating", "generate"),
        "generate --model ./my-model --prompts prompts.jsonl --out answers.jsonl n=4",
        settings=lambda values: known.generation(),
    ),
    Command(
        "judge", _api("judging", "judge"),
        "judge --judge llm,samples=3:openai:gpt-x@URL --responses answers.jsonl "
        "--out judged.jsonl to=groups",
        settings=lambda values: known.judging(values["judge"] or ""), required=("responses",),
    ),
    Command(
        "reward", _api("judging", "reward"),
        "reward --reward reward_model:./my-reward --responses answers.jsonl --out scored.jsonl",
        settings=lambda values: known.judging(values["reward"] or ""), required=("responses",),
    ),
    Command(
        "judge-card", _api("judging", "judge_card"),
        "judge-card pairwise:openai:gpt-4@URL --data people.jsonl --out runs/card n=100",
        ("judge",), lambda values: known.judge_card(),
    ),
    Command(
        "train-classifier", _api("training", "train_classifier"),
        "train-classifier query_types --model minilm --data labelled.jsonl --out types "
        "test=more.jsonl",
        ("what",), lambda values: Settings(source.describe(known.QUERY_TYPES)),
    ),
    Command(
        "export", _api("exporting", "export"), "export runs/dpo my-model --dtype bfloat16",
        ("model", "out"),
    ),
    Command("report", _api("studies", "print_report"), "report runs/demo --csv > demo.csv"),
    Command(
        "compare", _api("studies", "compare"),
        "compare runs/demo runs/idea --map 'M2 self-reward (expected score):M2'",
    ),
    Command("view", Place("alignlab.commands.view", "view"), "view runs --port 8000", ("folder",)),
    Command(
        "annotate", Place("alignlab.commands.annotate", "annotate"),
        "annotate runs/demo anna.jsonl --format ranking limit=50",
        ("source", "out"), lambda values: known.sheet(),
    ),
    Command("list", Place("alignlab.commands.list", "list_parts"), "list recipes", ("what",)),
    Command("doctor", Place("alignlab.commands.doctor", "doctor"), "doctor"),
    Command(
        "data check", _api("data", "check_data"), "data check preferences.jsonl", ("spec",)
    ),
    Command(
        "data convert", _api("data", "convert_data"),
        "data convert oasst:trees.jsonl out.jsonl", ("source", "out"),
    ),
    Command(
        "annotations export", Place("alignlab.commands.feedback", "export"),
        "annotations export answers.jsonl sheet.csv --format ranking limit=100",
        ("source", "out"), lambda values: known.sheet(),
    ),
    Command(
        "annotations import", Place("alignlab.commands.feedback", "import_"),
        "annotations import anna.csv ben.csv --key sheet.csv.key.jsonl --out groups.jsonl",
    ),
    Command(
        "evaluate judge_scores", Place(*FILES["judge_scores"]),
        "evaluate judge_scores --scores M1.jsonl.gz --reference reference.jsonl.gz",
    ),
    Command(
        "evaluate reread", Place(*FILES["reread"]),
        "evaluate reread --scores M1.jsonl.gz --list",
    ),
    Command(
        "evaluate alpaca_eval", Place(*FILES["alpaca_eval"]),
        "evaluate alpaca_eval --annotations annotations.json --difficulty difficulty.csv "
        "--gamed df_gamed.csv",
    ),
    Command(
        "evaluate arena_hard", Place(*FILES["arena_hard"]),
        "evaluate arena_hard --annotations model_judgment/gpt-4.1/my-model.jsonl",
    ),
    Command(
        "evaluate human_eval", Place(*FILES["human_eval"]),
        "evaluate human_eval --annotations eval_annotations.xlsx",
    ),
    Command(
        "evaluate win_rates", Place(*FILES["win_rates"]),
        "evaluate win_rates --run runs/demo --people people.jsonl",
    ),
    Command(
        f"evaluate {BENCHMARK}", _api("evaluating", "evaluate"),
        "evaluate vicuna_bench --data question.jsonl --model ./my-model --baseline "
        "their_answers.jsonl --judge pairwise:openai:gpt-4@URL --out runs/vicuna",
        ("benchmark",), lambda values: known.evaluation(values["benchmark"]),
    ),
)  # fmt: skip


class _Benchmarks(TyperGroup):
    """Group of benchmarks; those that run on models share one command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        runs = any(a.partition("=")[0] in ("--model", "--outputs", "--options") for a in args)
        if args[0] in self.commands and args[0] != BENCHMARK and not runs:
            return super().resolve_command(ctx, args)
        names = known.benchmarks()
        if args[0] not in names:
            raise unknown_name("benchmark", args[0], names)
        return BENCHMARK, self.commands[BENCHMARK], args


def build() -> typer.Typer:
    """Build the command line of all commands."""
    options: dict[str, Any] = {"no_args_is_help": True, "add_completion": False}
    app = typer.Typer(
        name="alignlab",
        help="An alignment laboratory: train language models from feedback of every kind, run "
        "whole studies, and measure what each step did.",
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        **options,
    )
    groups = {
        "data": typer.Typer(help="Check and convert data files.", **options),
        "annotations": typer.Typer(
            help="Sheets for annotators, and their answers as data.", **options
        ),
        "evaluate": typer.Typer(
            cls=_Benchmarks,
            help="Measure models and judges on benchmarks, or files of others: annotations, a "
            "judge's scores. `alignlab list benchmarks` names them.",
            epilog="Example: alignlab evaluate mt_bench --data question.jsonl --model ./my-model "
            "--judge openai:gpt-4@URL",
            **options,
        ),
    }
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        app_ = groups[group] if group else app
        text, _ = _documented(command.place)
        app_.command(name, help=_escaped(text), epilog=f"Example: alignlab {command.example}")(
            _callback(command)
        )
    for name, group_app in groups.items():
        app.add_typer(group_app, name=name)
    return app


def _callback(command: Command) -> Callable[..., None]:
    """Build a function with typer's parameters that calls the command's function."""
    parameters = source.signature(command.place)
    _, about = _documented(command.place)
    shown = {p.name: _parameter(p, command, about.get(p.name, "")) for p in parameters}
    if command.settings:
        shown["options"] = _flag("options", "Show every setting with its default.")
    if "as_json" not in shown and command.name not in ("demo", "report", "compare", "annotate"):
        shown["as_json"] = _flag("json", "Print JSON for a machine to read.", "as_json")
    if "out" in {p.name for p in parameters} and command.name not in NO_PROGRESS:
        shown["quiet"] = _flag("quiet", "Show no progress, and of a study its report's path only.")

    def callback(**values: Any) -> None:
        options, as_json = values.pop("options", False), values.pop("as_json", False)
        quiet = values.pop("quiet", False)
        if options and command.settings:
            from alignlab.commands.list import show_settings

            show_settings(command.settings(values))
            return
        try:
            if quiet:
                _silence()
            _print(_call(command, parameters, values), as_json, quiet)
        except KeyboardInterrupt as stopped:
            raise RunFailed(_stopped(stopped)) from None

    callback.__signature__ = Signature([p for p in shown.values() if p])  # type: ignore[attr-defined]
    callback.__annotations__ = {name: p.annotation for name, p in shown.items() if p}
    return callback


def _call(command: Command, parameters: Sequence[Parameter], values: Mapping[str, Any]) -> Any:
    positional: list[Any] = []
    named: dict[str, Any] = {}
    several = any(p.kind is Parameter.VAR_POSITIONAL for p in parameters)
    for p in parameters:
        value = values.get(p.name)
        needed = p.default is Parameter.empty or p.name in command.required
        if value is None and needed and p.name in values and p.name != "overrides":
            raise BadInput(f"{command.name}: --{p.name.replace('_', '-')} is missing")
        if p.kind is Parameter.VAR_POSITIONAL:
            positional += value or ()
        elif p.kind is Parameter.VAR_KEYWORD or p.name not in values:
            continue
        elif several and p.kind is Parameter.POSITIONAL_OR_KEYWORD:
            positional.append(value or None)
        elif p.name == "out" and value is None:
            named["out"] = ""  # the same place in every call, so that a repeated command resumes
        elif value is not None and value != []:
            named[p.name] = value
    function = getattr(import_module(command.place.module), command.place.name)
    return function(*positional, **named)


def _parameter(p: Parameter, command: Command, about: str) -> Parameter | None:
    """Convert a parameter for typer; None for one that only Python can pass."""
    text, required = str(p.annotation), p.default is Parameter.empty
    if p.kind is Parameter.VAR_KEYWORD or "Callable" in text:
        return None
    kind = _type(text)
    help_ = _escaped(about)
    if p.kind is Parameter.VAR_POSITIONAL:
        if p.name == "overrides":
            made = typer.Argument(metavar="[key=value ...]", help=help_)
            return _shown(p.name, Annotated[list[str] | None, made], None)
        return _shown(p.name, Annotated[list[str], typer.Argument(help=help_)], Parameter.empty)
    default = None if required else p.default
    if p.name in command.arguments:
        argument = Annotated[kind, typer.Argument(help=help_)]  # type: ignore[valid-type]
        late = required and command.settings and p.name != command.arguments[0]
        if late:  # `--options` needs no more than the first
            return _shown(p.name, Annotated[kind | None, typer.Argument(help=help_)], None)
        return _shown(p.name, argument, Parameter.empty if required else default)
    if kind is bool and not default:
        return _flag(p.name, help_)
    if "Sequence[" in text:
        kind, default = list[str], None
    option = typer.Option(help=help_)
    return _shown(p.name, Annotated[kind if default is not None else kind | None, option], default)


def _type(text: str) -> Any:
    if "Literal[" in text:
        inside = text[text.index("Literal[") :].split("]")[0] + "]"
        return eval(inside, {"Literal": Literal})
    return {"int": int, "float": float, "bool": bool}.get(text, str)


def _flag(name: str, about: str, parameter: str = "") -> Parameter:
    option = typer.Option(f"--{name.replace('_', '-')}", help=about)
    return _shown(parameter or name, Annotated[bool, option], False)


def _shown(name: str, annotation: Any, default: Any) -> Parameter:
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _documented(place: Place) -> tuple[str, dict[str, str]]:
    """Split a function's docstring into its text and a sentence on each parameter."""
    text, _, rest = source.docstring(*place, whole=True).partition("\nArgs:\n")
    about: dict[str, str] = {}
    name = ""
    for line in rest.split("\n\n")[0].splitlines():
        if line.startswith("    ") and not line.startswith("     "):
            name, _, sentence = line.strip().partition(": ")
            about[name] = sentence
        elif name:
            about[name] += f" {line.strip()}"
    body = text.partition("\nRaises:")[0].partition("\nReturns:")[0].strip()
    # What only Python can give stands behind a semicolon.
    here = {key: re.sub(r"; in Python.*", ".", value) for key, value in about.items()}
    return body, {key: value[:1].upper() + value[1:] for key, value in here.items()}


def _escaped(text: str) -> str:
    """Escape square brackets, which are markup."""
    return text.replace("[", r"\[")


def _silence() -> None:
    """Show no progress in this process."""
    from alignlab import progress

    progress.use(progress.Silent())


def _print(found: Any, as_json: bool, quiet: bool = False) -> None:
    """Print a function's result; exit with code 2 on bad records."""
    from alignlab.api.results import Evaluation, Result, StudyResult

    if hasattr(found, "notes"):  # files that others wrote
        if not as_json and found.notes:
            typer.echo("\n".join(found.notes))
        found = Evaluation(found, "", None)
    problems = getattr(found, "problems", ())
    if isinstance(found, Result) or hasattr(found, "as_json"):
        if not isinstance(found, Result):
            for problem in problems:
                typer.echo(problem, err=True)
        table = found.table()
        if as_json:
            typer.echo(json.dumps(found.as_json(), indent=1))
        else:
            if table is not None:
                from alignlab.commands._support.tables import show

                show(table)
            text = str(found.report) if quiet and isinstance(found, StudyResult) else str(found)
            if text:
                typer.echo(text)
    elif isinstance(found, Mapping):
        width = max(map(len, found), default=0)
        lines = [f"{name:{width}}  {value}" for name, value in found.items()]
        typer.echo(json.dumps(found, indent=1) if as_json else "\n".join(lines))
    elif as_json:
        from alignlab.records import to_dict

        typer.echo(json.dumps(to_dict(found), indent=1))
    elif found is not None and not isinstance(found, int):
        typer.echo(str(found))
    if problems:
        raise typer.Exit(2)
    if getattr(found, "failed", False):
        raise typer.Exit(1)


def _stopped(error: KeyboardInterrupt) -> str:
    from alignlab.api.folders import kept_in

    out = getattr(error, "out", None)
    if out is not None and not kept_in(out):
        return "stopped; nothing was written"
    kept = f"{out} is kept, and " if out is not None else ""
    return f"stopped; {kept}the same command resumes where it stopped"


app = build()


def main() -> None:
    """Run the command line; exit code 0: done, 1: the run failed, 2: bad input."""
    # Threads of OpenMP that wait by spinning would take cores from other work; read by torch's
    # library when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.argv[1:] = _judge_first(_renamed(sys.argv[1:]))
    try:
        if is_launched():
            _join_launch(sys.argv[1:])
        code = app(standalone_mode=False)  # typer.Exit comes back as its code
        _leave(code or 0, "")
    except BadInput as error:
        _leave(2, str(error))
    except RunFailed as error:
        _leave(1, str(error))
    except KeyboardInterrupt as error:
        _leave(1, _stopped(error))
    except Exception as error:
        code, message = _translate(error)
        if message is None:
            raise
        _leave(code, message)


def _renamed(arguments: list[str]) -> list[str]:
    """Replace a command's name of version 0.1 in the arguments."""
    for length in (2, 1):
        new = OLD_NAMES.get(tuple(arguments[:length]))
        if new:
            return [*new, *arguments[length:]]
    return arguments


def _judge_first(arguments: list[str]) -> list[str]:
    """Turn `judge-card --judge SPEC`, of earlier versions, into `judge-card SPEC`."""
    if arguments[:1] != ["judge-card"]:
        return arguments
    for at, word in enumerate(arguments):
        if word.startswith("--judge="):
            return ["judge-card", word.partition("=")[2], *arguments[1:at], *arguments[at + 1 :]]
        if word == "--judge" and at + 1 < len(arguments):
            return ["judge-card", arguments[at + 1], *arguments[1:at], *arguments[at + 2 :]]
    return arguments


def _translate(error: Exception) -> tuple[int, str | None]:
    """Convert errors of the system and the argument parser to one line; None for bugs."""
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
    """Join a launch by torchrun or accelerate: one process prints; only training is shared."""
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


if __name__ == "__main__":
    main()
