from models import TinyResNet, images

import refiner
from refiner.runs import result_view
from refiner.runs.report import Report
from refiner.runs.result import Result
from refiner.search.pareto import Point


def test_a_result_shows_itself_and_exports(report: Report, tmp_path) -> None:
    model, x = TinyResNet().eval(), images()
    result = Result(
        model=model, architecture=refiner.search_space(model, x).architecture((1, 0, 0, 2)),
        report=report, search=None, example_input=x,
        points=(Point(vector=(1, 0, 0, 2), score=0.5, macs=50_000, params=400),),
    )  # fmt: skip
    assert repr(result) == str(result) == result_view.as_text("TinyResNet", report)
    assert len(repr(result)) < 300
    assert result._repr_html_() == result_view.as_html("TinyResNet", report, result.points)
    assert result.export(tmp_path / "model.ts").startswith("TorchScript")
