"""Command whose options are given once, where the last of several would win in silence."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

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
