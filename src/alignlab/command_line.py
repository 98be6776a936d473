"""Refuse options that are given twice, or written as settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.core import TyperCommand

from alignlab.command_table import BENCHMARK, Command
from alignlab.errors import BadInput


class OnceCommand(TyperCommand):
    """Command that refuses an option given twice, unless it takes several values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command.

        Raises:
            BadInput: an option of one value is given twice.
        """
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for at, option in enumerate(given):
            several = option.multiple or option.nargs != 1 or getattr(option, "is_flag", False)
            if option in given[:at] and not several:
                raise BadInput(f"{option.opts[0]}: expected one value, found it given twice")
        return super().parse_args(ctx, args)


def refuse_options_as_settings(command: Command, values: Mapping[str, Any]) -> None:
    """Check that no option of a command is written as a setting (`out=x` for `--out x`).

    A group of settings may share an option's name (`check --sample 20 'sample={n: 4}'`).

    Raises:
        BadInput: one is, and the command has no setting of that name; or both are given.
    """
    given = [override.partition("=") for override in values.get("overrides") or ()]
    options = values.keys() - {*command.arguments}
    if command.settings is None or options.isdisjoint(name for name, _, _ in given):
        return
    settings = {setting.key for setting in command.settings(values).options}
    groups = {key.partition(".")[0] for key in settings if "." in key}
    command_title = title(command, values)
    for name, _, value in given:
        option = f"--{name.replace('_', '-')}"
        if name in options - settings - groups:
            flag = isinstance(values[name], bool)
            wanted = option if flag else f"{option} {value}"
            raise BadInput(f"{command_title}: expected {wanted}, found {name}={value}")
        if name in options & settings and values[name]:
            raise BadInput(f"{command_title}: expected {option} or {name}=, found both")


def title(command: Command, values: Mapping[str, Any]) -> str:
    """Return a command's name, with the chosen benchmark in place of NAME."""
    chosen = values.get(command.arguments[0]) if command.arguments else None
    return command.name.replace(BENCHMARK, str(chosen)) if chosen else command.name
