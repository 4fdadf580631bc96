"""docs/quickstart.md runs as it stands, in an empty folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from docs.reading import ROOT, blocks

QUICKSTART = (ROOT / "docs" / "quickstart.md").read_text("utf-8")
BLOCKS = blocks(QUICKSTART, "sh", "python")


@pytest.mark.slow
def test_the_quickstart_runs_as_it_stands(tmp_path: Path) -> None:
    environment = dict(os.environ)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["OMP_NUM_THREADS"] = "1"  # networks this small gain nothing by more
    printed = []
    for kind, name, text in BLOCKS:
        assert bool(name) == (kind == "python"), "each file has a name"
        if name:
            (tmp_path / name).write_text(text)
            continue
        done = subprocess.run(
            ["bash", "-e", "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True
        )  # fmt: skip
        assert done.returncode == 0, f"{text}{done.stderr}"
        printed.append(done.stdout)
    everything = "".join(printed)
    assert "random search" in everything
    assert "torch.Size([5, 10])" in everything
    assert everything.count("the search came out ahead of") >= 3
