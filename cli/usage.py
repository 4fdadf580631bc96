"""The message for a command line that cannot be read."""

import difflib
import re
from typing import Any

_KINDS = {"valid integer": "a whole number", "valid number": "a number"}


def usage_text(error: Any) -> str:
    """Return a usage error of typer, whichever click it carries, in two short sentences."""
    command = getattr(getattr(error, "ctx", None), "command_path", "refine")
    return f"{_fault(error)} `{command} --help` lists all options."


def _fault(error: Any) -> str:
    text = error.format_message().rstrip(".").replace("Value error, ", "")
    name, possible = getattr(error, "option_name", ""), getattr(error, "possibilities", None)
    if text.startswith("No such option"):
        near = difflib.get_close_matches(name, possible or (), n=1)
        return f"there is no option {name}." + (f" Did you mean {near[0]}?" if near else "")
    if "requires an argument" in text:
        return f"{name} wants a value."
    if "does not take a value" in text:
        return f"{name} takes no value. Write it alone."
    extra = re.fullmatch(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", text)
    if extra:
        return f"there are too many arguments: {extra[1]}. Leave out what is no option."
    missing = re.fullmatch(r"Missing argument '(.*)'", text)
    if missing:
        return f"{missing[1].upper()} is missing."
    return _invalid(text)


def _invalid(text: str) -> str:
    """Return what is wrong with the value of an option."""
    found = re.fullmatch(r"Invalid value for '(.*?)': (.*)", text)
    if not found:
        return f"{text}."
    option, fault = found.groups()
    kind = next((said for words, said in _KINDS.items() if words in fault), None)
    if kind is not None:
        return f"{option} wants {kind}."
    choice = re.fullmatch(r"'(.*)' is not one of (.*)", fault)
    if not choice:
        return f"{option}: {fault}."
    return f"{option} is not {choice[1]!r}. Choose one of: {choice[2].replace(chr(39), '')}."
