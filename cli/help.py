"""Help that is good to read on 80 columns: options grouped by panel, without boxes."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

WIDTH = 100
"""Help never grows wider, whatever the terminal."""
PANELS = ("Model", "Data", "Budget", "Search", "Fine-tuning", "Output", "Paper", "Options")
_FIRST_COLUMN = 26


class Command(TyperCommand):
    """A command whose help lists its options by panel."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, a section a panel."""
        write_options(self, ctx, formatter)


class Group(TyperGroup):
    """A group of commands with help of the same form."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the options."""
        rows = [(name, self.commands[name].help or "") for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        write_options(self, ctx, formatter)


def write_options(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the arguments and the options of a command, a section a panel."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for param in command.get_params(ctx):
        if param.param_type_name == "argument":
            panel, left = "Arguments", (param.metavar or param.name).upper()
        else:
            panel = getattr(param, "rich_help_panel", None) or "Options"
            left = _flags(param)
        panels.setdefault(panel, []).append((left, _text(param)))
    widest = max(len(left) for rows in panels.values() for left, _ in rows)
    width = min(widest, _FIRST_COLUMN)
    for panel in ("Arguments", *PANELS):
        if panel in panels:
            with formatter.section(panel):
                rows = [(left.ljust(width), text) for left, text in panels[panel]]
                formatter.write_dl(rows, col_max=_FIRST_COLUMN)


def _flags(param: Any) -> str:
    """Return ``--trials N`` or ``--distill / --no-distill``."""
    flags = " / ".join([*param.opts, *param.secondary_opts])
    return flags if param.is_flag else f"{flags} {param.metavar or param.name.upper()}"


def _text(param: Any) -> str:
    """Return the help of a parameter, with its default."""
    text = param.help or ""
    if getattr(param, "show_default", False) and param.default not in (None, False):
        text += f" Default: {param.default}."
    return text
