"""Which listener a command takes."""

import io
from dataclasses import replace

import pytest
from refiner.cli.bars import Bars
from refiner.cli.screen import PlainLines, listener, listening, print_report, tracker_names

from refiner.cost.costs import Cost
from refiner.runs.comparison import Baseline
from refiner.runs.report import Report
from refiner.runs.report_data import SlotReport, Trained

SLOT = SlotReport(
    name="a", original="conv3x3 4->4", operation="pool", before=Cost(macs=100, params=10),
    after=Cost(macs=50, params=5),
)  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bars_are_for_terminals(monkeypatch) -> None:
    assert isinstance(listener(), PlainLines)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(listener(), Bars)


def test_the_table_of_scores_has_a_column_for_each_moment(capsys) -> None:
    cost = Cost(macs=100, params=10)
    random = Baseline(
        kind="random", name="random search", vector=(1,), macs=50, params=5, search_score=0.25,
        score=0.375, trained=0.5,
    )  # fmt: skip
    trained = Trained(epochs=2, original=0.875, refined=0.75)
    report = Report(
        vector=(1,), before=cost, after=cost, slots=(SLOT,), frozen=(), metric="hits", search_score=0.5,
        original_score=0.8125, refined_score=0.625, trained=trained, baselines=(random,),
    )  # fmt: skip
    print_report(report)
    shown = capsys.readouterr().out
    table = shown[shown.index("Scores") : shown.index("All scores are of")].splitlines()
    rows = {line.split("  ")[0].strip(): line.split()[-3:] for line in table}
    assert rows["random search"] == ["0.2500", "0.3750", "0.5000"]
    assert rows["refined"] == ["0.5000", "0.6250", "0.7500"]
    assert rows["original"][1:] == ["0.8125", "0.8750"]
    plain = replace(report, search_score=None, trained=None)
    print_report(plain)
    shown = capsys.readouterr().out
    assert "in the search" not in shown[: shown.index("All scores are of")]


def test_a_stopped_run_prints_the_command_that_resumes_it(tmp_path, capsys) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "config.json").touch()
    try:
        with listening(tmp_path, "refine --resume DIR net.py:build", log=["mlflow"]):
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        shown = capsys.readouterr().err
        assert "to go on: refine --resume DIR net.py:build --log mlflow\n" in shown


def test_trackers_are_named_one_by_one_or_with_commas() -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    assert tracker_names(["tensorboard, mlflow", "mlflow"]) == ["tensorboard", "mlflow", "mlflow"]
    assert tracker_names(None) == []
