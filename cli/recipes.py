"""``refine recipes``: list, show, copy; and ``refine --recipe``: run."""

import ast
from dataclasses import dataclass
from pathlib import Path

from refiner.core.errors import ConfigError, RunError, one_line
from refiner.core.files import read_text
from refiner.core.printable import printable
from refiner.core.randomness import seeded
from refiner.core.records import checked_record
from refiner.core.types import JsonDict
from refiner.core.user_code import load_function
from refiner.runs.recipe import RecipeSettings, Scale
from refiner.runs.run_folder import RunFolder, check_free

from .compare import compare
from .consent import Consent, again
from .paths import absolute, check_new_file, free_folder
from .screen import listening

HOME = Path(__file__).resolve().parents[1] / "recipes"


def recipes(action: str | None, name: str | None, to: Path | None) -> None:
    """List the recipes, print one, or copy one to a file."""
    known = known_recipes()
    if action is None:
        for stem, path in known.items():
            summary = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").splitlines()[0]
            print(f"{stem:26s} {summary}")
        return
    if action not in ("show", "copy"):
        raise ConfigError(f"unknown action {action!r}. Use `refine recipes show NAME` or copy.")
    if name is None:
        raise ConfigError(f"{action} wants a name. Choose from: {', '.join(known)}.")
    name = name.replace("_", "-")
    if name not in known:
        raise ConfigError(f"there is no recipe {name!r}. Choose from: {', '.join(known)}.")
    text = known[name].read_text("utf-8")
    if action == "show":
        print(text, end="")
        return
    if to is None:
        raise ConfigError("copy wants a file. Write `refine recipes copy NAME FILE`.")
    check_new_file(to)
    to.write_text(text, encoding="utf-8")
    runs = any(isinstance(n, ast.FunctionDef) and n.name == "run" for n in ast.parse(text).body)
    use = f"run it by `refine --recipe {to}`" if runs else f"use it as {to}:build_model"
    print(f"{to}: change what you like, and {use}")


def known_recipes() -> dict[str, Path]:
    """Return the files of the recipes by name."""
    files = sorted(HOME.glob("*.py"))
    return {path.stem.replace("_", "-"): path for path in files if path.stem != "__init__"}


def run_recipe(
    recipe: str,
    *,
    data: str | None,
    data_root: Path,
    scale: float,
    pretrain: bool,
    seed: int,
    device: str,
    precision: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Begin the experiment of a recipe in a new folder."""
    kept = {
        "recipe": str(Path(recipe).resolve())
        if recipe.endswith(".py")
        else recipe.replace("_", "-"),
        "data": None if data is None else absolute(data),
        "data_root": str(data_root.resolve()),
        "scale": scale,
        "pretrain": pretrain,
        "seed": seed,
        "device": device,
        "precision": precision,
    }
    folder = free_folder(Path(recipe).stem.replace("_", "-")) if out is None else out
    check_free(folder)
    _run(kept, folder, resume=False, as_json=as_json)


def kept_recipe(folder: Path) -> JsonDict | None:
    """Return the settings of the recipe whose folder this is, None where it is none's.

    A recipe of several runs keeps them in folders of their own.
    """
    files = [folder / "config.json", *sorted(folder.glob("*/config.json"))]
    for file in files:
        if file.is_file():
            kept = (RunFolder.open(file.parent).config().get("provenance") or {}).get("recipe")
            if isinstance(kept, dict):
                return kept
    return None


def resume_recipe(kept: JsonDict, folder: Path, *, consent: Consent, as_json: bool) -> None:
    """Go on with the experiment of a recipe, with the settings that its folder keeps.

    Raises:
        RunError: these are damaged, or the recipe is a file that the user did not name again.
    """
    try:
        checked_record(_Kept(**kept))
    except TypeError as error:
        raise RunError(
            f"{folder} holds a damaged config.json: {one_line(error, 150)}. Begin a new run."
        ) from error
    sources = _sources(kept)
    with consent.given(folder, sources, f"refine --resume {folder}"):
        _run(kept, folder, resume=True, as_json=as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What a folder keeps of a recipe."""

    recipe: str
    data: str | None
    data_root: str
    scale: float
    pretrain: bool
    seed: int
    device: str
    precision: str


def _sources(kept: JsonDict) -> dict[str, object]:
    """Return what may be the user's own code, by the option that names it."""
    return {"--recipe": kept["recipe"], "--data": kept["data"]}


def _run(kept: JsonDict, folder: Path, *, resume: bool, as_json: bool) -> None:
    name = kept["recipe"]
    file = Path(name) if name.endswith(".py") else known_recipes().get(name)
    if file is None:
        raise ConfigError(
            f"there is no recipe {name!r}. Choose from: {', '.join(known_recipes())}; or name a "
            "FILE.py."
        )
    # Of the package where it is one of ours: its file may import another by that name.
    source = str(file) if name.endswith(".py") else f"refiner.recipes.{file.stem}"
    run = load_function(f"{source}:run", ConfigError)
    with listening(folder, f"refine --resume {folder}{again(_sources(kept))}") as progress:
        settings = RecipeSettings(
            out=folder,
            data=kept["data"],
            data_root=kept["data_root"],
            scale=Scale(kept["scale"]),
            pretrain=kept["pretrain"],
            seed=kept["seed"],
            device=kept["device"],
            precision=kept["precision"],
            resume=resume,
            progress=progress,
            provenance={"recipe": dict(kept)},
        )
        with seeded(kept["seed"]):  # a resumed run builds the same models
            run(settings)
    show_recipe(folder, as_json=as_json)


def show_recipe(folder: Path, *, as_json: bool) -> None:
    """Print what a recipe left: its runs side by side and, where it wrote one, its own report."""
    compare([folder], as_json=as_json)
    own = folder / "report.md"
    if not as_json and own.is_file() and not (folder / "config.json").is_file():
        files = " ".join(sorted(p.name for p in folder.iterdir() if p.is_file()))
        try:
            print(printable(f"\n{read_text(own)}\n{folder}: {files}"))
        except ValueError as error:
            raise RunError(f"{own} is damaged: {one_line(error)}") from error
