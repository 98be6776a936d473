"""Build the command line from the signatures and docstrings of functions."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from inspect import Parameter, Signature
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from alignlab import configs, source
from alignlab.api import settings as known
from alignlab.command_line import OnceCommand, refuse_options_as_settings, title
from alignlab.command_table import BENCHMARK, COMMANDS, Command
from alignlab.errors import BadInput, RunFailed, unknown_name
from alignlab.files import FULL, UNWRITABLE, reason_of
from alignlab.launched import is_launched, is_worker_rank, world_size
from alignlab.source import Place

STUDIES = ("demo", "run")
"""Commands whose result is a report, of which `--quiet` prints the path alone."""

NO_PROGRESS = ("annotate", "compare", "data convert", "annotations export", "annotations import")
"""Commands that write a file and show no progress."""

INPUTS = ("data", "responses", "prompts", "outputs")
"""Options that name what a command reads; an unknown one is answered by the command's own."""

OLD_NAMES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("feedback",): ("annotations",),
    ("train", "query_types"): ("train-classifier", "query_types"),
    ("evaluate", "judge"): ("evaluate", "judge_scores"),
    ("evaluate", "audit"): ("judge-card",),
    ("evaluate", "judge-card"): ("judge-card",),
}
"""Commands of version 0.1 -> current commands; to be removed with the next release."""


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
        example = f"Example: alignlab {command.example}"
        app_.command(name, cls=OnceCommand, help=_escaped(text), epilog=example)(_callback(command))
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
        shorter = "; print the report's path alone" if command.name in STUDIES else ""
        shown["quiet"] = _flag("quiet", f"Show no progress{shorter}.")

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
    refuse_options_as_settings(command, values)
    for p in parameters:
        value = values.get(p.name)
        needed = p.default is Parameter.empty or p.name in command.required
        if value is None and needed and p.name in values and p.name != "overrides":
            option = f"--{p.name.replace('_', '-')}"
            raise BadInput(f"{title(command, values)}: {option} is missing")
        if p.kind is Parameter.VAR_POSITIONAL:
            positional += value or ()
            if p.name == "overrides":
                configs.parse_overrides(value or (), warn=True)
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
    if out is None:
        return "stopped; the same command resumes where it stopped"
    kept = kept_in(out)
    if not kept:
        return "stopped; nothing was written"
    return f"stopped; {kept} is kept, and the same command resumes where it stopped"


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
            return 2, error.format_message() + _as_setting(error)
        return exit_code, ""
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number in FULL or "No space left on device" in text:
        where = getattr(error, "filename", None) or "the output folder"
        return 2, (
            f"{where}: no space left on the device; what was done is kept, free some space and "
            "repeat the command"
        )
    unwritable = PermissionError, NotADirectoryError, FileExistsError
    if "File too large" in text and number is None:  # as safetensors words it
        return 2, "the output folder: cannot be written (file too large)"
    if isinstance(error, unwritable) or number in UNWRITABLE:
        assert isinstance(error, OSError)
        return 2, reason_of(error)
    return 1, None


def _as_setting(error: Any) -> str:
    """Return a hint for an unknown option of a command that takes settings, else nothing."""
    option = getattr(error, "option_name", "")
    command = getattr(getattr(error, "ctx", None), "command", None)
    names = [p.name for p in getattr(command, "params", ())]
    if not isinstance(option, str) or "overrides" not in names:
        return ""
    name = option.lstrip("-").replace("-", "_")
    own = [known for known in names if known in INPUTS]
    if name in INPUTS and own:
        return f"; did you mean --{own[0]}?"
    return (
        f"; settings are given without dashes, as {name}=VALUE (--options lists them)"
        if name
        else ""
    )


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
