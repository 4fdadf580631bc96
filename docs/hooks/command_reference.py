"""A mkdocs hook: writes the reference of the ``refine`` command from its own parameters.

A page that holds ``<!-- command reference -->`` shows every command with its arguments and options,
grouped by the panels that ``--help`` has.
"""

import importlib
from typing import Any

import typer
from refiner.cli.app import app

MARK = "<!-- command reference -->"


def on_page_markdown(markdown: str, /, **_: Any) -> str:
    """Put the reference in the place of its mark."""
    return markdown.replace(MARK, reference()) if MARK in markdown else markdown


def commands() -> dict[str, Any]:
    """Return the click command of each subcommand, by name.

    A command that hands its arguments on declares its options in ``refiner.cli.commands``.
    """
    found = dict(typer.main.get_command(app).commands)
    for name, command in found.items():
        if command.context_settings.get("allow_extra_args"):
            inner = typer.Typer(add_completion=False)
            module = importlib.import_module("refiner.cli.commands")
            inner.command(name)(getattr(module, f"{name}_command"))
            found[name] = typer.main.get_command(inner)
    return found


def flags(command: Any) -> set[str]:
    """Return the options that a command takes, such as ``--data``."""
    declared = {flag for each in command.params for flag in (*each.opts, *each.secondary_opts)}
    return {flag for flag in declared if flag.startswith("-")} | {"--help"}


def reference() -> str:
    """Return the reference in Markdown."""
    return "\n\n".join(section(name, command) for name, command in commands().items())


def section(name: str, command: Any) -> str:
    """Return the part of one command: usage, purpose, and a table for each panel."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    shown = " ".join(_placeholder(each) for each in arguments)
    usage = " ".join(filter(None, ["refine", name, shown, "[OPTIONS]"]))
    parts = [f"## `refine {name}`", f"```\n{usage}\n```", (command.help or "").strip()]
    panels: dict[str, list[str]] = {}
    for each in command.params:
        if each.name == "help":
            continue
        panel = "Arguments" if each in arguments else _panel(each)
        panels.setdefault(panel, []).append(_row(each, is_argument=each in arguments))
    for panel, rows in panels.items():
        head = f"| {panel} | |\n| --- | --- |"
        parts.append("\n".join([head, *rows]))
    return "\n\n".join(parts)


def _panel(option: Any) -> str:
    return getattr(option, "rich_help_panel", None) or "Options"


def _placeholder(argument: Any) -> str:
    text = argument.metavar or argument.name.upper()
    text = f"{text}..." if argument.nargs == -1 else text
    return text if argument.required else f"[{text.strip('[]')}]"


def _row(parameter: Any, *, is_argument: bool) -> str:
    """Return a table's row: the flags with what they take, and the help with the default."""
    if is_argument:
        left = _placeholder(parameter)
    else:
        left = " / ".join((*parameter.opts, *parameter.secondary_opts))
        if not parameter.is_flag:
            left += f" {parameter.metavar or parameter.name.upper()}"
    text = (parameter.help or "").replace("|", "\\|").replace("*", "\\*").replace("<", "&lt;")
    shown = getattr(parameter, "show_default", False)
    if shown and not is_argument and parameter.default not in (None, False, True, ()):
        text += f" Default: `{parameter.default}`."
    return f"| `{left}` | {text} |"
