"""Each package imports only from packages above it, and no package holds an import cycle."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = """
core trackers graph data space training exports faces runtimes cost distill search runs enas
""".split()
"""From the top down, as docs/architecture.md lists them."""
CONTRACT = {f"search/{name}" for name in ("policy_gradient random_search strategy").split()}
"""Strategies are tested by the contract that all of them keep."""
FILES = sorted(path for path in (ROOT / "refiner").glob("*/*.py") if path.stem != "__init__")
IDS = [f"{path.parent.name}/{path.stem}" for path in FILES]


def imported(path: Path) -> set[tuple[str, ...]]:
    """Return the modules of refiner that a file imports anywhere, as parts of their names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {tuple(name.split(".")[1:]) for name in names if name.split(".")[0] == "refiner"}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_only_from_packages_above(path: Path) -> None:
    allowed = PACKAGES[: PACKAGES.index(path.parent.name) + 1]
    assert {parts[0] for parts in imported(path) if parts} <= set(allowed)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_cycle_inside_a_package(package: str) -> None:
    stems = {path.stem for path in FILES if path.parent.name == package}
    graph = {
        path.stem: {p[1] for p in imported(path) if p[:1] == (package,) and len(p) > 1} & stems
        for path in FILES
        if path.parent.name == package
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_every_package_is_named_here_and_installed() -> None:
    folders = {path.parent.name for path in (ROOT / "refiner").glob("*/__init__.py")}
    assert folders == set(PACKAGES)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert all(f'"refiner.{name}"' in project for name in PACKAGES)


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_typer_and_rich_live_in_the_command_alone(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "import typer" not in text
    assert "from rich" not in text


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_every_file_has_its_tests(path: Path) -> None:
    name = "strategies" if f"{path.parent.name}/{path.stem}" in CONTRACT else path.stem
    assert (ROOT / "tests" / path.parent.name / f"test_{name}.py").is_file()
