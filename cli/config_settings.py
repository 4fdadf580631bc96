"""The settings that a config file may hold: their defaults, their help, and values of YAML."""

from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from typing import Any, get_args

from refiner.core.errors import ConfigError
from refiner.trackers.choice import TRACKERS

from .declared import declared_options, full_help
from .help import PANELS
from .request import RUN_RECORDS
from .run_arguments import Distill, Log, Unlabelled

COMMAND_LINE_ONLY = frozenset(
    "model config out resume trust trust_weights force json seeds recipe scale pretrain".split()
)
"""What no file sets: what is done and where, and whether code of others is trusted."""

_WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting of ``refine MODEL``."""

    name: str
    """Of the parameter: ``batch_size``."""
    kind: type
    """bool, int, float or str; of each value, where there may be several."""
    default: Any
    """As YAML holds it; None where it depends on other settings."""
    help: str
    panel: str
    choices: tuple[str, ...] = ()
    many: bool = False
    """Whether the option can be repeated."""
    commas: bool = False
    """Whether one value of the option holds several, separated by commas."""

    @property
    def shown(self) -> str:
        """The name as on the command line, without its dashes in front."""
        return self.name.replace("_", "-")

    def value(self, found: Any) -> Any:
        """Return a value of a file as the command line would give it.

        Raises:
            ConfigError: it is of another type, or none of the choices.
        """
        if self.many or self.commas:
            texts = [self._one(each) for each in (found if isinstance(found, list) else [found])]
            return ",".join(texts) if self.commas else texts
        return self._one(found)

    def _one(self, found: Any) -> Any:
        if self.choices and found is False and "no" in self.choices:
            found = "no"  # which YAML reads as false
        if self.kind is float and isinstance(found, str):
            found = _number(found)  # YAML reads 1e-3 as a text
        allowed = {float: (int, float), str: (str, int, float)}.get(self.kind, (self.kind,))
        fits = isinstance(found, allowed) and isinstance(found, bool) == (self.kind is bool)
        if self.choices and (not fits or found not in self.choices):
            raise ConfigError(f"{self._fault(found)}. Choose one of: {', '.join(self.choices)}.")
        if not fits:
            several = f", or a list with {_WANTED[self.kind]} in each place"
            listed = several if self.many or self.commas else ""
            raise ConfigError(f"{self._fault(found)}. Give {_WANTED[self.kind]}{listed}.")
        return self.kind(found)

    def _fault(self, found: Any) -> str:
        return f"{self.shown} is {found!r:.60}"


def _number(text: str) -> Any:
    """Return the number in a text, or the text itself."""
    try:
        return float(text)
    except ValueError:
        return text


def settings() -> dict[str, Setting]:
    """Return all settings by name, grouped as ``--help`` groups them."""
    found = [*_declared(), *_own()]
    return {each.name: each for panel in PANELS for each in found if each.panel == panel}


def _declared() -> Iterator[Setting]:
    """Return the settings that the library's records declare."""
    for name, kind, declared, shown in declared_options(*RUN_RECORDS):
        if name in COMMAND_LINE_ONLY:
            continue
        default = None if declared.default is MISSING or shown.shown_default else declared.default
        many = kind == list[str] and not shown.commas
        yield Setting(
            name=name,
            kind=str if shown.choices or kind == list[str] else kind,
            default=list(default) if isinstance(default, tuple) else default,
            help=full_help(declared, shown),
            panel=shown.panel,
            choices=shown.choices,
            many=many,
            commas=shown.commas,
        )


def _own() -> Iterator[Setting]:
    """Return the settings that only the command has."""
    rows: tuple[tuple[str, Any, type, Any, bool], ...] = (
        ("distill", Distill, bool, None, False),
        ("unlabelled", Unlabelled, bool, False, False),
        ("log", Log, str, [], True),
    )
    for name, annotated, kind, default, many in rows:
        option = get_args(annotated)[1]
        yield Setting(
            name=name, kind=kind, default=default, help=option.help,
            panel=option.rich_help_panel, many=many, choices=TRACKERS if name == "log" else (),
        )  # fmt: skip
