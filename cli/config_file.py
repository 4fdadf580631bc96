"""``refine config`` and ``refine MODEL --config FILE``: the settings of a run as a YAML file."""

import difflib
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from refiner.core.errors import ConfigError, one_line
from refiner.core.files import read_text

from .config_settings import COMMAND_LINE_ONLY, Setting, settings
from .consent import names_code
from .declared import Given
from .request import RunRequest, kept_request

_HEAD = """\
# Settings for `refine MODEL --config FILE`. Options on the command line win over this file.
# null leaves a setting to the default that its comment names. Paths are those of the command line.
"""
_WIDTH = 98
_CODE = ("data", "test_data", "task")
"""Settings that may name code."""


def print_config(folder: Path | None) -> None:
    """Print all settings with their defaults, or with the values of a run."""
    given = {} if folder is None else kept_request(RunRequest, folder).given
    print(config_text(given), end="")


def config_text(given: Mapping[str, Any]) -> str:
    """Return the settings as YAML, each with its help as a comment.

    A value of a run's folder that names code becomes a comment, so that the user decides.

    Args:
        given: values that replace the defaults.
    """
    parts, panel = [_HEAD], ""
    for each in settings().values():
        if each.panel != panel:
            panel = each.panel
            parts.append(f"\n# ---- {panel} ----\n")
        value = given.get(each.name, each.default)
        text = "".join(
            f"# {line}\n" for line in textwrap.wrap(each.help, _WIDTH, break_on_hyphens=False)
        )
        if each.name in given and each.name in _CODE and names_code(str(value)):
            text += f"# The run had this code: {_entry(each, value)}"
            value = each.default
        parts.append(f"\n{text}{_entry(each, value)}")
    return "".join(parts)


def _entry(setting: Setting, value: Any) -> str:
    entry = {setting.shown: value}
    return str(yaml.safe_dump(entry, default_flow_style=False, width=float("inf")))


def read_config(path: Path) -> Given:
    """Return what a config file sets, as if it were given on the command line.

    A value that is null or the default counts as not given.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or has a wrong value.
    """
    known, given = settings(), {}
    for key, found in _document(path).items():
        name = str(key).replace("-", "_")
        setting = known.get(name)
        if setting is None:
            raise ConfigError(f"{path}: {_unknown(str(key), name, known)}")
        if found is None:
            continue
        try:
            value = setting.value(found)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        if value != setting.default:
            given[name] = value
    return given


def _document(path: Path) -> dict[Any, Any]:
    """Return the mapping in a YAML file.

    Raises:
        ConfigError: there is none.
    """
    try:
        document = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        fault = getattr(error, "problem", None) or one_line(error, 100)
        raise ConfigError(f"{path} is no YAML: {fault}{where}. Correct it.") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {one_line(error)}.") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds no settings. Write lines such as `trials: 40`.")
    return document


def _unknown(key: str, name: str, known: Mapping[str, Setting]) -> str:
    """Return what is wrong with a name that is no setting."""
    if name in COMMAND_LINE_ONLY:
        return f"{key} belongs on the command line. Leave it out of the file."
    near = difflib.get_close_matches(name, known, n=1)
    advice = f"Did you mean {known[near[0]].shown}?" if near else "`refine config` lists them all."
    return f"there is no setting {key!r:.60}. {advice}"
