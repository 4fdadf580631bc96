"""``refine recipes``: list, show, copy."""

import ast
from pathlib import Path

from refiner.errors import ConfigError

from .options import check_new_file

HOME = Path(__file__).resolve().parents[1] / "recipes"


def recipes(action: str | None, name: str | None, to: Path | None) -> None:
    """List the recipes, print one, or copy one to a file."""
    known = {path.stem: path for path in sorted(HOME.glob("*.py")) if path.stem != "__init__"}
    if action is None:
        for stem, path in known.items():
            summary = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").splitlines()[0]
            print(f"{stem:20s} {summary}")
        return
    if action not in ("show", "copy"):
        raise ConfigError(f"unknown action {action!r}. Use `refine recipes show NAME` or copy.")
    if name is None or name not in known:
        raise ConfigError(f"there is no recipe {name!r}. Choose from: {', '.join(known)}.")
    text = known[name].read_text("utf-8")
    if action == "show":
        print(text, end="")
        return
    if to is None:
        raise ConfigError("copy wants a file. Write `refine recipes copy NAME FILE`.")
    check_new_file(to)
    to.write_text(text, encoding="utf-8")
    print(f"{to}: use it as {to}:build_model")
