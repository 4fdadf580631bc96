"""Makes a command's options from the dataclasses that declare them."""

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer

from refiner.core.options import Option, options_of

from .paths import name_list

_METAVARS: dict[Any, str] = {int: "N", float: "X"}

Given = dict[str, Any]
"""The options that the user gave, by parameter name, as JSON values."""


def declares(*kinds: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of dataclasses; it receives those that were given as ``given=``.

    An option that was not given is left out, so that the dataclass's own default holds.
    """
    found = {
        name: _annotation(plain, declared, shown)
        for name, plain, declared, shown in declared_options(*kinds)
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            given = {name: values.pop(name) for name in found}
            given = {name: value for name, value in given.items() if value is not None}
            command(given=given, **values)

        own = [p for p in inspect.signature(command).parameters.values() if p.name != "given"]
        made = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
            for name, kind in found.items()
        ]
        own = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
        run.__signature__ = inspect.Signature([*own, *made])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in (*own, *made)}
        return run

    return decorate


def declared_options(*kinds: type) -> Iterator[tuple[str, Any, Field[Any], Option]]:
    """Return (parameter, type without None, field, option) of each option of dataclasses."""
    for kind in kinds:
        hints = get_type_hints(kind)
        for name, (declared, shown) in options_of(kind).items():
            yield _parameter(name, shown), _plain(hints[name]), declared, shown


def values_of(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a dataclass that the user gave, by their names.

    Raises:
        ConfigError: a value that is to hold names with commas between them holds none.
    """
    values = {}
    for name, (_, shown) in options_of(kind).items():
        value = given.get(_parameter(name, shown))
        if value is not None:
            values[name] = tuple(value) if isinstance(value, list) else value
            if shown.commas:
                values[name] = name_list(value, _flag(name, shown))
    return values


def _parameter(name: str, shown: Option) -> str:
    """Return the parameter's name: that of the flag."""
    return (shown.flag or name).lstrip("-").replace("-", "_")


def _flag(name: str, shown: Option) -> str:
    """Return what a user types, such as ``--top-k``."""
    return f"--{_parameter(name, shown).replace('_', '-')}"


def _annotation(plain: Any, declared: Field[Any], shown: Option) -> Any:
    """Return the type of a parameter with its typer.Option."""
    flag = _flag(declared.name, shown)
    if plain is bool and declared.default is True:
        flag = f"{flag}/--no-{flag[2:]}"
    if shown.choices:
        plain = Literal[tuple(shown.choices)]
    elif shown.commas:
        plain = str
    option = typer.Option(
        *filter(None, (flag, shown.alias)),
        help=full_help(declared, shown),
        rich_help_panel=shown.panel,
        metavar=shown.metavar or _METAVARS.get(plain, "NAME"),
        show_default=False,
    )
    return Annotated[Union[plain, None], option]  # noqa: UP007


def _plain(kind: Any) -> Any:
    """Return the type without None; a tuple of texts is an option that can be repeated."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(each for each in get_args(kind) if each is not type(None))
    if get_origin(kind) in (tuple, Sequence):
        return list[str]
    return kind


def full_help(declared: Field[Any], shown: Option) -> str:
    """Return the help of an option with its choices and its default."""
    return " ".join([shown.help, *_choices(shown), *_default(declared, shown)])


def _choices(shown: Option) -> list[str]:
    """Return a sentence with the choices, where there are any."""
    return [f"One of: {', '.join(shown.choices)}."] if shown.choices else []


def _default(declared: Field[Any], shown: Option) -> list[str]:
    """Return a sentence with the default, where it has a value to show."""
    value = declared.default
    if shown.shown_default is not None:
        return [f"Default: {shown.shown_default}."]
    if value is MISSING or value is None or isinstance(value, bool | tuple):
        return []
    return [f"Default: {value}."]
