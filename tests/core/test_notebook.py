import sys

import pytest

from refiner.core.notebook import in_notebook

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")


def test_this_is_no_notebook(monkeypatch) -> None:
    assert not in_notebook()
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()


def test_progress_leaves_one_line_with_a_bar_for_each_phase() -> None:
    code = """
from refiner.training.devices import Devices, make_listener
bars = make_listener(True, Devices.choose("cpu"))
bars.interval = 0.0
bars.plan(["a <b>", "search"])
bars.begin("a <b>", 4)
bars.advance(3, loss=0.5)
bars.advance(1)
bars.end()
bars.begin("search", 2)
bars.advance(1)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    first, second = (each["data"] for each in outputs if "data" in each)
    assert not any("search" in each.get("text", "") for each in outputs), "no plain lines"
    assert first["text/plain"] == "[1/2] a <b>  4/4  100 %  took 0:00  loss 0.5"
    assert '<progress value="4" max="4"></progress>' in first["text/html"]
    assert "a &lt;b&gt;" in first["text/html"]
    assert second["text/plain"].startswith("[2/2] search  1/2  50 %  left 0:00, run 0:00")
