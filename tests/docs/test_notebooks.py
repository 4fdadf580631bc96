"""The notebooks in examples/ run from start to end, at a tiny size, and hold no outputs."""

import ast

import nbformat
import pytest
from docs.reading import ROOT
from nbclient import NotebookClient

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
IDS = [path.stem for path in NOTEBOOKS]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_the_notebook_runs(path, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("REFINER_TINY", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("REFINER_WEIGHTS", "REFINER_DATA"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    printed = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert "search came out ahead of" in printed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_the_notebook_is_stripped(path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=IDS)
def test_the_notebook_searches_with_the_defaults(path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    [refine] = [call for call in calls if ast.unparse(call.func) == "refiner.refine"]
    searches = [ast.unparse(word.value) for word in refine.keywords if word.arg == "search"]
    assert searches == ["tiny_search if TINY else None"]


def test_both_notebooks_are_there() -> None:
    assert IDS == ["segmentation_own_task", "trained_cifar_resnet"]
