"""Each file of the library imports only from floors below its own."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = [
    {"errors", "randomness", "progress", "modes", "layers", "files", "schedules"},
    {
        "inputs",
        "surgery",
        "split",
        "tensor_loader",
        "user_code",
        "recipe",
        "plots",
        "overfitting",
        "feasible",
        "python_layers",
        "verdict",
        "skips",
    },
    {
        "trace_check",
        "account",
        "recording",
        "models",
        "blocks",
        "chains",
        "conv_spec",
        "python_writer",
        "task",
        "export_check",
    },
    {
        "tracing",
        "probe",
        "slots",
        "python_source",
        "operations",
        "image_folder",
        "loaders",
        "arcface",
        "teacher",
    },
    {"architecture", "identities", "candidates", "narrowing", "elimination"},
    {"filling"},
    {"space", "macro", "pareto", "data", "scores"},
    {
        "macro_network",
        "cost",
        "supernet",
        "rewriting",
        "controller",
        "strategy",
        "devices",
        "drawing",
    },
    {
        "strategy_controller",
        "strategy_random",
        "strategy_milp",
        "joint_controller",
        "assigned_reward",
        "latency",
    },
    {
        "strategy_optuna",
        "latency_table",
        "evaluation",
        "strategy_joint",
        "strategy_alternating",
        "overfitting_report",
        "fitting",
        "link_fitting",
    },
    {"budget", "strategies", "training", "verification", "distillation", "scoring"},
    {"search", "report", "exporting", "run_folder", "face_packs"},
    {"latency_check", "result", "search_run", "search_notes", "face_pairs", "seeds"},
    {"controls", "architecture_training"},
    {"api"},
]
FLOOR_OF = {name: i for i, names in enumerate(FLOORS) for name in names}
FILES = sorted(p for p in (ROOT / "refiner").glob("*.py") if p.stem != "__init__")


def imported(path: Path) -> set[str]:
    """Names of the modules of refiner that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {n.split(".")[1] if "." in n else "" for n in names if n.split(".")[0] == "refiner"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_imports_from_floors_below_alone(path: Path) -> None:
    above = {
        name for name in imported(path) if FLOOR_OF.get(name, 99) >= FLOOR_OF[path.stem] or not name
    }
    assert not above


def test_every_file_has_a_floor_and_every_floor_its_files() -> None:
    assert {p.stem for p in FILES} == set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_typer_and_rich_live_in_the_command_alone(path: Path) -> None:
    text = path.read_text("utf-8")
    assert "import typer" not in text
    assert "from rich" not in text


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_file_has_its_tests(path: Path) -> None:
    tests = "test_strategies" if path.stem.startswith("strateg") else f"test_{path.stem}"
    assert (ROOT / "tests" / f"{tests}.py").is_file()
