"""Declares an option once: its default, its help and where the command shows it.

The fields of a settings dataclass are declared with :func:`option`. ``refiner.refine`` takes them
as keyword arguments, ``config.json`` keeps their values, and the command makes its options of them.
"""

from collections.abc import Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal

Panel = Literal["Model", "Data", "Budget", "Search", "Fine-tuning", "Output", "Paper"]
"""A group of options in the command's help."""

_KEY = "refiner.option"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What the command shows of a field."""

    help: str
    panel: Panel
    flag: str | None = None
    """Name on the command line, such as ``--lr``; None takes the field's own name."""
    alias: str | None = None
    """A second name on the command line, such as ``--ckpt``."""
    choices: tuple[str, ...] = ()
    """Every value that the option takes; empty where there are too many to list."""
    metavar: str | None = None
    """What stands for the value in the help, such as ``N``."""
    commas: bool = False
    """Whether one value holds several, separated by commas."""
    shown_default: str | None = None
    """The default as the help words it, where that depends on other options."""


def option(
    default: Any,
    help: str,  # noqa: A002
    *,
    panel: Panel,
    flag: str | None = None,
    alias: str | None = None,
    choices: Sequence[str] = (),
    metavar: str | None = None,
    commas: bool = False,
    shown_default: str | None = None,
) -> Any:
    """Return a dataclass field that is also an option of the command.

    Args:
        default: of the field.
        help: one sentence for ``--help``.
        panel: group of options in the help.
        flag: name on the command line; by default the field's name with dashes.
        alias: a second name on the command line.
        choices: every value that is allowed.
        metavar: what stands for the value in the help, such as ``N``.
        commas: whether one value holds several, separated by commas.
        shown_default: the default as the help words it, where that depends on other options.
    """
    shown = Option(
        help=help,
        panel=panel,
        flag=flag,
        alias=alias,
        choices=tuple(choices),
        metavar=metavar,
        commas=commas,
        shown_default=shown_default,
    )
    return field(default=default, metadata={_KEY: shown})


def option_of(declared: Field[Any]) -> Option | None:
    """Return what the command shows of a field; None for a field that is not an option."""
    found = declared.metadata.get(_KEY)
    return found if isinstance(found, Option) else None


def options_of(kind: type) -> dict[str, tuple[Field[Any], Option]]:
    """Return the fields of a dataclass that are options, by name, in their order."""
    found = {declared.name: (declared, option_of(declared)) for declared in fields(kind)}
    return {name: (declared, shown) for name, (declared, shown) in found.items() if shown}
