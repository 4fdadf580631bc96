from dataclasses import dataclass

import pytest
import typer
from refiner.cli.declared import declares, values_of
from refiner.cli.help import Command

from refiner.core.errors import ConfigError
from refiner.core.options import option


@dataclass(frozen=True)
class Settings:
    trials: int = option(10, "How many.", panel="Search", metavar="N")
    rate: float = option(0.1, "How fast.", panel="Fine-tuning", flag="--lr")
    names: tuple[str, ...] | None = option(None, "Which.", panel="Search", commas=True)
    budget: tuple[str, ...] = option((), "How much.", panel="Budget")
    kind: str = option("auto", "What.", panel="Search", choices=("auto", "all"))
    larger: bool = option(False, "Larger too.", panel="Search")
    compare: bool = option(True, "Compare.", panel="Search")


def called(*arguments: str) -> dict:
    seen = {}

    @declares(Settings)
    def command(given, model: str = "none") -> None:
        seen.update(given, model=model)

    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command()(command)
    typer.main.get_command(app)(list(arguments), standalone_mode=False)
    return seen


def test_what_was_not_given_is_left_out() -> None:
    assert called() == {"model": "none"}
    assert Settings(**values_of(Settings, {})) == Settings()


def test_given_options_become_the_fields_of_the_dataclass() -> None:
    given = called(
        "--trials", "3", "--lr", "0.5", "--names", "a, b", "--budget", "x=1", "--budget", "y=2",
        "--kind", "all", "--larger", "--no-compare",
    )  # fmt: skip
    assert given["lr"] == 0.5
    assert values_of(Settings, given) == {
        "trials": 3, "rate": 0.5, "names": ("a", "b"), "budget": ("x=1", "y=2"), "kind": "all",
        "larger": True, "compare": False,
    }  # fmt: skip


def test_an_option_of_names_that_holds_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="--names is empty"):
        values_of(Settings, called("--names", " ,"))


def test_choices_are_checked_by_the_command() -> None:
    with pytest.raises(Exception, match="not one of .auto., .all."):
        called("--kind", "some")


def test_help_is_grouped_and_names_choices_and_defaults(capsys) -> None:
    @declares(Settings)
    def command(given) -> None:
        """Do it."""

    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(cls=Command)(command)
    typer.main.get_command(app)(["--help"], standalone_mode=False)
    text = capsys.readouterr().out
    assert text.index("Budget:") < text.index("Search:") < text.index("Fine-tuning:")
    assert "One of: auto, all. Default: auto." in " ".join(text.split())
    assert "--compare / --no-compare" in text
    assert "--trials N" in text
