import json

import pytest

from refiner.core.errors import RunError
from refiner.cost.latency import Conditions, Latency
from refiner.cost.latency_table import LatencyTable
from refiner.runs.drawing import Box, Drawing, Edge
from refiner.runs.html_files import Extras, folder_extras
from refiner.runs.run_folder import RunFolder
from refiner.search.pareto import Point, front_to_json

ONE, TWO = (Point(vector=(i,), score=i, macs=5, params=5) for i in (1, 0))


def test_what_is_missing_adds_nothing(tmp_path) -> None:
    assert folder_extras(RunFolder.create(tmp_path / "run", {})) == Extras()


def test_the_files_of_a_run_are_read(tmp_path) -> None:
    config = {"provenance": {"spec": {"source": "timm:resnet18"}}}
    folder = RunFolder.create(tmp_path / "run", config)
    folder.record({"epoch": 1, "loss": 0.5})
    folder.write_json("pareto.json", front_to_json([ONE], {"macs": 9}, "accuracy", [TWO]))
    table = LatencyTable(
        conditions=Conditions(runtime="eager 2", device="a CPU", batch=1, precision="no"),
        model=Latency(median=1.0, noise=0.0),
        slots={},
    )
    folder.write_json("latency.json", table.to_json())
    drawing = Drawing((Box("end", ("x",), "x"), Box("end", ("y",), "y")), (Edge(0, 1, False),))
    folder.write_json("network.json", drawing.to_json())
    assert folder_extras(RunFolder.open(folder.path)) == Extras(
        source="timm:resnet18", front=(ONE,), beaten=(TWO,), original={"macs": 9.0},
        latencies=table, drawing=drawing, records=({"epoch": 1, "loss": 0.5},),
    )  # fmt: skip


def test_a_front_of_old_is_left_out_and_a_damaged_one_refused(tmp_path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    (folder.path / "pareto.json").write_text(json.dumps({"format_version": 1, "front": []}))
    assert folder_extras(folder) == Extras()
    for damaged in ({"format_version": 3}, {"format_version": 2}, {"format_version": "x"}):
        (folder.path / "pareto.json").write_text(json.dumps(damaged))
        with pytest.raises(RunError, match=r"pareto\.json"):
            folder_extras(folder)
